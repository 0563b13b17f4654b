"""Folders to write to, made before the work: what cannot be written is told at once, not after an hour."""

from __future__ import annotations

import tempfile
from pathlib import Path

from anogan.errors import StorageError


def make_folder(folder: Path, what: str, advice: str) -> None:
    """Makes a folder, and the folders above it.

    Args:
        folder: Where `what` will lie.
        what: `Heatmaps`, as the sentence of a failure begins.
        advice: How that sentence ends.

    Raises:
        StorageError: It cannot be made, or nothing can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # It may have been there, and be another person's.
    except OSError as error:
        raise StorageError(
            f"{what} cannot be written to {folder} ({error.strerror or error}); {advice}."
        ) from error
