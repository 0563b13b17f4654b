"""Scorer files on disk: sealed, whole, and put in place at the end."""

from __future__ import annotations

from pathlib import Path

import onnx

from anogan import __version__
from anogan.errors import StorageError
from anogan.station.manifest import ScorerManifest
from anogan.station.sealed import MANIFEST_KEY, seal


def serialised(model: onnx.ModelProto, manifest: ScorerManifest, **properties: str) -> bytes:
    """The sealed bytes of a model with its manifest and further properties."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.producer_version = __version__
    for key, value in {MANIFEST_KEY: manifest.model_dump_json(), **properties}.items():
        copy.metadata_props.add(key=key, value=value)
    return seal(copy.SerializeToString(deterministic=True))


def write_file(path: Path, content: bytes) -> None:
    """Writes it whole; StorageError if it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise _storage_error(path, error, len(content)) from error


def replace_file(temporary: Path, out: Path) -> None:
    """Puts a finished file in its place; StorageError if it cannot be."""
    try:
        temporary.replace(out)
    except OSError as error:
        raise _storage_error(out, error, temporary.stat().st_size) from error


def _storage_error(path: Path, error: OSError, n_bytes: int) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error.strerror or error} (the file needs {n_bytes / 1e6:.1f} MB); what "
        "was there before is unchanged: free space or permit writing there, or give another -o."
    )
