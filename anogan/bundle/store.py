"""Writes and reads the model folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialise_tensors

from anogan import __version__
from anogan.bundle.folder import moved_aside, probe_writable, replace_folder
from anogan.bundle.manifest import (
    DIGEST,
    MANIFEST,
    MODEL_VARIABLE,
    listed_files,
    manifest_bytes,
    read_manifest_once,
    refuse_unsafe_name,
    sha256,
)
from anogan.config import Config, config_of_model, config_to_dict
from anogan.errors import BundleError, ConfigError, StorageError
from anogan.files import DEFAULT_MODEL

_T = TypeVar("_T")
_TENSORS = ".safetensors"
_CALIBRATION = "calibration" + _TENSORS
_SWAP_S = 2.0  # Two renames take milliseconds; a reader who meets them waits for at most this long.


@dataclass(frozen=True)
class Bundle:
    """A trained model, as arrays and plain values.

    Attributes:
        config: The settings it was trained with.
        weights: Network name -> tensor name -> array (float32 as a rule; every dtype comes back as is).
        calibration: Threshold and what belongs to it, plain JSON types.
        calibration_arrays: Its arrays, such as the map statistics.
        metadata: Image size, data hash, split, seeds, metrics, health verdict; plain JSON types.
        attachments: File name -> bytes, such as `training_curves.png`.
    """

    config: Config
    weights: Mapping[str, Mapping[str, NDArray[Any]]] = field(repr=False)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    calibration_arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    attachments: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def default_model_path(explicit: Path | None = None) -> Path:
    """The model to use: the one named, else `$ANOGAN_MODEL`, else `anogan-model` here."""
    if explicit is not None:
        return explicit
    named = os.environ.get(MODEL_VARIABLE, "").strip()
    return Path(named) if named else DEFAULT_MODEL


def check_save_target(path: Path) -> None:
    """Refuses a place that `save_bundle` would refuse; ask before hours of training, not after.

    Raises:
        BundleError: `path` is a file, or a folder with something else than a model in it.
        StorageError: Nothing can be written beside `path`.
    """
    advice = "give --out another folder, or move this one away"
    try:
        probe_writable(path.resolve())
        if not os.path.lexists(path):
            return
        if not path.is_dir() or not path.resolve().name:
            raise BundleError(f"{path} is a file or a whole drive; a model is saved as a folder: {advice}.")
        if not any(path.iterdir()):
            return
        if not (path / MANIFEST).is_file():
            raise BundleError(f"{path} holds files but no {MANIFEST}, so it is not a model: {advice}.")
        if listed_files(path) is None:
            raise BundleError(f"{path / MANIFEST} is not the manifest of a model: {advice}.")
    except OSError as error:
        raise _storage_error(path, error) from error


def save_bundle(path: Path, bundle: Bundle) -> Path:
    """Writes a model folder: all of it, or nothing.

    The new folder is completed and flushed to the disk beside `path` before two renames put it in the
    place of the old model. Files that the old model does not list (a user's notes) move to the new one.

    Args:
        path: The model's folder; parents are made. An older model there is replaced.
        bundle: What to write.

    Returns:
        `path`.

    Raises:
        BundleError: `path` holds something else than a model, or `bundle` cannot be written as plain data.
        StorageError: The disk is full, the folder is read-only, or the like; what was there is unchanged.
    """
    check_save_target(path)
    files = _serialise(bundle)
    files[MANIFEST] = manifest_bytes(
        config=config_to_dict(bundle.config),
        metadata=bundle.metadata,
        calibration=bundle.calibration,
        files=files,
    )
    try:
        # Through a link, so that `current -> models/3` stays a link.
        replace_folder(path.resolve(), files, listed=_written_by_a_save)
    except OSError as error:
        raise _storage_error(path, error, sum(map(len, files.values()))) from error
    return path


def load_bundle(path: Path) -> Bundle:
    """Reads and verifies a model folder; files that its manifest does not list are ignored.

    Raises:
        BundleError: There is no model, it is damaged, or a newer anogan wrote it.
    """
    return _patiently(path, _load_once)


def read_manifest(path: Path) -> dict[str, Any]:
    """The verified manifest of a model folder, without its weights.

    Returns:
        Keys: format, schema_version, package_version, created, config, metadata, calibration,
        files (name -> {sha256, bytes}), manifest_sha256.

    Raises:
        BundleError: There is no model, its manifest is damaged, or a newer anogan wrote it.
    """
    return _patiently(path, read_manifest_once)


def bundle_digest(path: Path) -> str:
    """SHA-256 that names this model: of its manifest, which holds the hash of every file.

    Raises:
        BundleError: As `read_manifest`.
    """
    return str(read_manifest(path)[DIGEST])


def _serialise(bundle: Bundle) -> dict[str, bytes]:
    networks = {f"{name}{_TENSORS}": tensors for name, tensors in bundle.weights.items()}
    if _CALIBRATION in networks:
        raise BundleError("A network cannot be named calibration; that file holds the calibration's arrays.")
    files = {name: _tensor_bytes(name, tensors) for name, tensors in networks.items()}
    files[_CALIBRATION] = _tensor_bytes(_CALIBRATION, bundle.calibration_arrays)
    for name, content in bundle.attachments.items():
        if name.lower().endswith(_TENSORS) or name.lower() == MANIFEST:
            raise BundleError(f"An attachment cannot be named {name}; that name belongs to the model itself.")
        files[name] = bytes(content)
    for name in files:
        refuse_unsafe_name(name, "the model to save")
    if len({name.lower() for name in files}) < len(files):
        raise BundleError(
            f"Two of {sorted(files)} differ only in upper and lower case, which is one file on Windows; "
            "rename one."
        )
    return files


def _tensor_bytes(name: str, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    # safetensors writes an array's memory as it lies: transposed or big-endian ones must be laid out first.
    arrays = {
        key: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        for key, array in tensors.items()
    }
    try:
        return bytes(serialise_tensors(arrays))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        kinds = sorted({str(array.dtype) for array in arrays.values()})
        raise BundleError(
            f"{name} cannot hold arrays of type {', '.join(kinds)}; give numbers such as float32."
        ) from error


def _written_by_a_save(folder: Path) -> set[str]:
    with suppress(OSError):  # An empty folder has no manifest.
        return {MANIFEST, *(listed_files(folder) or ())}
    return set()


def _load_once(path: Path) -> Bundle:
    manifest = read_manifest_once(path)
    try:
        config = config_of_model(manifest["config"], where=str(path / MANIFEST))
    except ConfigError as error:
        raise BundleError(
            f"{path} was written by anogan {manifest['package_version']} and its settings do not fit this "
            f"anogan {__version__} ({str(error).rstrip('.')}); install that version, or train the model anew."
        ) from error
    contents = {name: _read_file(path / name, entry) for name, entry in manifest["files"].items()}
    tensors = {
        name.removesuffix(_TENSORS): _parse_tensors(path / name, content)
        for name, content in contents.items()
        if name.endswith(_TENSORS)
    }
    calibration_arrays = tensors.pop(_CALIBRATION.removesuffix(_TENSORS), {})
    attachments = {name: content for name, content in contents.items() if not name.endswith(_TENSORS)}
    return Bundle(
        config, tensors, manifest["calibration"], calibration_arrays, manifest["metadata"], attachments
    )


def _read_file(where: Path, entry: Mapping[str, Any]) -> bytes:
    """The bytes of a listed file: read once, so that what is verified is what is used."""
    again = "copy the model folder again, or train it anew"
    try:
        size = where.stat().st_size  # Before reading: a wrong file may be larger than the memory.
        content = where.read_bytes() if size == entry["bytes"] else b""
    except FileNotFoundError:
        raise BundleError(f"{where} is missing from the model; {again}.") from None
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error.strerror or error}; {again}.") from error
    if size != entry["bytes"]:
        raise BundleError(f"{where} has {size} bytes, expected {entry['bytes']}; {again}.")
    if sha256(content) != entry["sha256"]:
        raise BundleError(f"{where} is damaged (its SHA-256 is not the manifest's); {again}.")
    return content


def _parse_tensors(where: Path, content: bytes) -> dict[str, NDArray[Any]]:
    try:
        return dict(parse_tensors(content))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{where} is not a safetensors file that NumPy can hold; train it anew.") from error


def _patiently(path: Path, read: Callable[[Path], _T]) -> _T:
    """What `read` finds, again where a save swapped the folder while it looked."""
    deadline = time.monotonic() + _SWAP_S
    while True:
        before = _stamp(path)
        try:
            return read(path)
        except BundleError:
            swapping = not path.exists() and moved_aside(path.resolve()) is not None
            if (_stamp(path) == before and not swapping) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = (path / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _storage_error(path: Path, error: OSError, n_bytes: int = 0) -> StorageError:
    needs = f" (the model needs {n_bytes / 1e6:.1f} MB)" if n_bytes else ""
    return StorageError(
        f"The model cannot be saved to {path}: {error.strerror or error}{needs}; what was there before is "
        "unchanged: free space or permit writing there, or give --out another folder."
    )
