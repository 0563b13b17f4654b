"""Where files go by default, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anogan.errors import StorageError

DEFAULT_MODEL = Path("anogan-model")
DEFAULT_REPORT = Path("anogan-report")


@contextlib.contextmanager
def replacing(path: Path, advice: str = "free space or permit writing there") -> Iterator[Path]:
    """A name beside `path` to write to: at the end of the block that file takes the place of `path`.

    No reader ever sees half of it, and when the block fails, what was at `path` is unchanged.

    Args:
        path: The file to be.
        advice: How the sentence of a failure ends.

    Yields:
        The name to write to, in the same folder.

    Raises:
        StorageError: The disk is full, or the folder is missing or not writable.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror or error}); {advice}.") from error
    finally:
        with contextlib.suppress(OSError):  # The first error, if any, is the one to tell.
            partial.unlink(missing_ok=True)


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a tree as indented JSON, and the folders above it.

    Raises:
        StorageError: It cannot be written.
    """
    with replacing(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
        # A file name that is no UTF-8 holds lone surrogates: as JSON's own escapes they can be written.
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
