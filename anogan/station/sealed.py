"""A scorer file and its seal: a SHA-256 over all bytes before it, checked before anything is parsed.

The seal is the last `metadata_props` entry of the ONNX file. Protocol buffers may be concatenated, so it
is appended as bytes of fixed length: any ONNX tool reads the file, and neither sealing nor checking needs
a parser. It finds damage, not forgery.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from anogan.errors import BundleError

SEAL_KEY = "anogan.sha256"
MANIFEST_KEY = "anogan.manifest"
PIECE_KEY = "anogan.piece"

_DIGITS = 64
_PRODUCER = b"\x12\x06anogan"  # Field 2 of the model, within the first bytes of each file of ours.
_AGAIN = "copy the file again, or export the model anew"


def _entry(digest: str) -> bytes:
    """ModelProto.metadata_props (field 14) holding key (field 1) and value (field 2)."""
    key = SEAL_KEY.encode()
    pair = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([_DIGITS]) + digest.encode()
    return b"\x72" + bytes([len(pair)]) + pair


_LENGTH = len(_entry("0" * _DIGITS))


def seal(model: bytes) -> bytes:
    """The model's bytes with their seal."""
    return model + _entry(hashlib.sha256(model).hexdigest())


def read_sealed(path: Path) -> bytes:
    """The verified bytes of a scorer file: read once, so that what is verified is what is used.

    Raises:
        BundleError: The file is missing, cut off, changed, or not a scorer.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist; name a file that `anogan export` wrote.") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}; {_AGAIN}.") from error
    check_seal(content, str(path))
    return content


def check_seal(content: bytes, where: str) -> None:
    """Refuses bytes that are not exactly what `seal` returned; `where` names them in the message."""
    body, end = content[:-_LENGTH], content[-_LENGTH:]
    if end[:-_DIGITS] == _entry("0" * _DIGITS)[:-_DIGITS]:
        if end != _entry(hashlib.sha256(body).hexdigest()):
            raise BundleError(
                f"{where} is damaged or was changed after its export (its SHA-256 is not the stored "
                f"one); {_AGAIN}."
            )
        return
    if _PRODUCER in content[:_LENGTH]:
        raise BundleError(f"{where} is cut off or damaged ({len(content)} bytes without a seal); {_AGAIN}.")
    raise BundleError(f"{where} is not a scorer of this package; name a file that `anogan export` wrote.")
