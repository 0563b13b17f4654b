"""Folders to write to, made before the work: what cannot be written is told at once, not after an hour."""

from __future__ import annotations

from pathlib import Path

from anogan.errors import StorageError


def make_folder(folder: Path, what: str, advice: str) -> None:
    """Makes a folder, and the folders above it.

    Args:
        folder: Where `what` will lie.
        what: `Heatmaps`, as the sentence of a failure begins.
        advice: How that sentence ends.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{what} cannot be written to {folder} ({error.strerror or error}); {advice}."
        ) from error
