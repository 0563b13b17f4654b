"""A folder replaced as a whole: completed beside its place, flushed to the disk, renamed into it.

Between the two renames of a replacement there is, for some microseconds, nothing at the place; the
former folder then lies beside it under the name that `moved_aside` finds.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

_NAME_LENGTH = 40  # A file name may have 255 bytes, and one character may take four of them.


def replace_folder(target: Path, files: Mapping[str, bytes], listed: Callable[[Path], Iterable[str]]) -> None:
    """Puts a folder of `files` in the place of `target`: all of them, or what was there before.

    Args:
        target: An absolute path without links. An existing folder there is replaced; parents are made.
        files: Plain file name -> content.
        listed: Names the files in the replaced folder that are to go; the others, which somebody else
            put there, move to the new folder.

    Raises:
        OSError: The disk is full, the folder is read-only, or the like; nothing half-written stays.
    """
    staging = target.with_name(f".{target.name[:_NAME_LENGTH]}.{uuid.uuid4().hex}.partial")
    try:
        _write_folder(staging, files)
        if not target.exists():
            staging.replace(target)
            _flush_quietly(target.parent)
            return
        aside = staging.with_suffix(".old")
        _swap(staging, target, aside)
    finally:
        # After a success there is nothing of this name; after Ctrl-C too, nothing half-written stays.
        shutil.rmtree(staging, ignore_errors=True)
    _clear(aside, target, {*listed(aside)})


def probe_writable(target: Path) -> None:
    """Raises the OSError that making a folder beside `target` would meet."""
    parent = next(folder for folder in target.parents if folder.exists())
    probe = parent / f".{uuid.uuid4().hex}.partial"
    probe.mkdir()
    probe.rmdir()


def moved_aside(target: Path) -> Path | None:
    """The former folder of a replacement that is between its two renames, or was cut short there."""
    name = re.compile(re.escape(f".{target.name[:_NAME_LENGTH]}.") + r"[0-9a-f]{32}\.old")
    with suppress(OSError):
        return next((entry for entry in target.parent.iterdir() if name.fullmatch(entry.name)), None)
    return None


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    for name, content in files.items():
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _flush_folder(folder)


def _swap(staging: Path, target: Path, aside: Path) -> None:
    target.replace(aside)
    try:
        staging.replace(target)
    except BaseException:
        aside.replace(target)
        raise
    _flush_quietly(target.parent)


def _clear(aside: Path, target: Path, ours: set[str]) -> None:
    """Removes the replaced folder; the new one is in place, so litter is no reason to fail."""
    for entry in [*aside.iterdir()]:
        with suppress(OSError):
            if entry.name in ours:
                entry.unlink()
            elif not os.path.lexists(target / entry.name):
                entry.replace(target / entry.name)
    with suppress(OSError):
        aside.rmdir()


def _flush_quietly(folder: Path) -> None:
    # The renames have happened: what a failing flush puts at risk is only that they outlive a power cut.
    with suppress(OSError):
        _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot open a folder to flush it.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
