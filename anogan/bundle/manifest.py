"""The manifest of a model: its schema, its own digest, and the file names that it may list."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anogan import __version__
from anogan.bundle.folder import moved_aside
from anogan.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MODEL_VARIABLE = "ANOGAN_MODEL"
DIGEST = "manifest_sha256"

_FORMAT = "anogan-model"
_NO_DIGEST = "0" * 64
_UNSAFE_NAME = re.compile(r'[<>:"/\\|?*]|^\.|[. ]$|^$')
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)


class _FileEntry(BaseModel):
    model_config = ConfigDict(strict=True)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class _Manifest(BaseModel):
    """What a manifest of this schema must hold."""

    model_config = ConfigDict(strict=True)
    format: Literal["anogan-model"]
    schema_version: Literal[1]
    package_version: str
    created: str
    config: dict[str, Any]
    metadata: dict[str, Any]
    calibration: dict[str, Any]
    files: dict[str, _FileEntry]
    manifest_sha256: str


def manifest_bytes(
    *,
    config: Mapping[str, Any],
    metadata: Mapping[str, Any],
    calibration: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> bytes:
    """The manifest that vouches for `files`, digest included.

    Raises:
        BundleError: A value is not plain JSON.
    """
    tree = {
        "format": _FORMAT,
        "schema_version": SCHEMA_VERSION,
        "package_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": dict(config),
        "metadata": dict(metadata),
        "calibration": dict(calibration),
        "files": {
            name: {"sha256": sha256(content), "bytes": len(content)} for name, content in files.items()
        },
        DIGEST: _NO_DIGEST,
    }
    try:
        text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # A file name that is no UTF-8 holds lone surrogates: written as JSON's own escapes they come back.
        raw = text.encode("utf-8", "backslashreplace")
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"The model's metadata or calibration is not plain JSON ({error}); "
            "give numbers, text, lists and null instead of arrays, NaN and infinity."
        ) from error
    return raw.replace(_quoted(_NO_DIGEST), _quoted(_digest_of_manifest(raw, tree)))


def read_manifest_once(path: Path) -> dict[str, Any]:
    """The verified manifest in the folder `path`; see `read_manifest`."""
    where = path / MANIFEST
    raw = _read_manifest_bytes(path)
    tree = _parse_json(raw, where)
    _refuse_other_schema(tree, where)
    if _digest_of_manifest(raw, tree) != tree.get(DIGEST):
        raise BundleError(
            f"{where} was changed after it was written; copy the model folder again, or train it anew."
        )
    try:
        _Manifest.model_validate(tree)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BundleError(f"{where} does not hold a valid {key}; copy the model folder again.") from error
    for name in tree["files"]:
        refuse_unsafe_name(name, where)
    return tree


def listed_files(folder: Path) -> set[str] | None:
    """The files that a manifest lists, damaged as it may be; None if it is not ours at all."""
    try:
        tree = json.loads((folder / MANIFEST).read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
        return None
    files = tree.get("files")
    return set(files) if isinstance(files, dict) else set()


def refuse_unsafe_name(name: str, where: object) -> None:
    """Raises a BundleError for names that leave the folder or that some system cannot write."""
    if _UNSAFE_NAME.search(name) or _WINDOWS_DEVICE.match(name) or not name.isprintable():
        raise BundleError(
            f"{where} lists a file named {name!r}, which is not a plain file name on every system; "
            "use letters, digits, '-', '_' and '.' alone, and load only models that anogan wrote."
        )


def sha256(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def _read_manifest_bytes(path: Path) -> bytes:
    where = path / MANIFEST
    try:
        return where.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error.strerror or error}; permit reading it.") from error


def _missing(path: Path) -> BundleError:
    if path.is_dir():
        what = f"{path} holds no {MANIFEST}, so it is not a model"
    elif path.exists():
        what = f"{path} is a file; a model is the folder that holds {MANIFEST}"
    elif left := moved_aside(path.resolve()):
        return BundleError(f"There is no model at {path}: a save was cut short; rename {left} to {path}.")
    else:
        what = f"There is no model at {path}"
    return BundleError(
        f"{what}; train one with `anogan fit --data DIR`, or name one by --model or ${MODEL_VARIABLE}."
    )


def _parse_json(raw: bytes, where: Path) -> dict[str, Any]:
    try:
        tree = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is damaged (not valid JSON); copy the model folder again.") from error
    if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
        raise BundleError(f"{where} is not the manifest of a model; name a folder that `anogan fit` wrote.")
    return tree


def _refuse_other_schema(tree: Mapping[str, Any], where: Path) -> None:
    version = tree.get("schema_version")
    if type(version) is not int or version < 1:
        raise BundleError(f"{where} holds no valid schema_version (got {version!r}); copy the folder again.")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{where} has schema {version}, written by anogan {tree.get('package_version')}; this anogan "
            f"{__version__} reads up to schema {SCHEMA_VERSION}: upgrade anogan."
        )


def _digest_of_manifest(raw: bytes, tree: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's bytes with its own digest as zeros, so that no byte of it can change."""
    return sha256(raw.replace(_quoted(str(tree.get(DIGEST))), _quoted(_NO_DIGEST)))


def _quoted(digest: str) -> bytes:
    # With its indentation: text in a JSON string holds no raw line feed, so this is the top level's own.
    return f'\n  "{DIGEST}": "{digest}"'.encode(errors="replace")
