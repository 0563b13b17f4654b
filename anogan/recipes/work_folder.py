"""Where a fit keeps its checkpoints, and whether an interrupted one may go on."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anogan.bundle import MANIFEST, read_manifest
from anogan.config import Config, config_to_dict
from anogan.errors import BundleError, StorageError
from anogan.recipes.training import Reporter

AFTER_TRAINING = ("memory", "score", "calibration")  # Sections that no checkpoint depends on.
RUN = "run_sha256"  # In a model's metadata: which run it is of.
_NOTE = "run.sha256"  # Says which run the checkpoints beside it belong to.


@contextmanager
def sole_fit(out: Path) -> Iterator[None]:
    """Keeps other fits away from a model's place while the context is open.

    Two at once would overwrite each other's checkpoints, and one go on from the other's.

    Raises:
        BundleError: Another fit on this machine is writing there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BundleError(
            f"Another fit is writing to {out}; wait until it ends, or give --out another folder."
        ) from None
    except OSError:
        pass  # A file system without locks; whether anything can be written there is told soon.
    try:
        yield
    finally:
        if lock.is_locked:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def work_folder(out: Path, digest: str, resume: bool, reporter: Reporter) -> Path:
    """Checkpoints' folder beside the model, emptied unless this run goes on with it.

    Raises:
        BundleError: The checkpoints there were made with another config or other images, what lies there are
            no checkpoints, or the run to go on with is finished.
        StorageError: The disk is full or read-only.
    """
    work = out.with_name(out.name + ".checkpoints")
    note = work / _NOTE
    if os.path.lexists(work) and not note.is_file() and not _is_empty_folder(work):
        raise BundleError(
            f"{work} is in the place of the checkpoints but holds none; move it away, or give --out another "
            "folder."
        )
    if resume and note.is_file() and note.read_text(encoding="ascii").strip() != digest:
        raise BundleError(
            f"{work} belongs to another config or other images; resume with those, or leave out --resume."
        )
    if resume and not note.is_file():
        if _made(out) == digest:
            raise BundleError(
                f"{out} is finished: it holds the model of these images and settings, and no checkpoint is "
                "left; leave out --resume to train it anew."
            )
        reporter.event(f"{work} holds no checkpoint to go on from, so training starts at the beginning.")
    try:
        if not resume and work.is_dir():
            if _is_unfinished(work, digest):
                _put_aside(work, reporter)
            else:
                shutil.rmtree(work)
        work.mkdir(parents=True, exist_ok=True)
        note.write_text(digest, encoding="ascii")
    except OSError as error:
        raise StorageError(
            f"Checkpoints cannot be written to {work} ({error.strerror or error}); free space or permit "
            "writing there, or give --out another folder."
        ) from error
    return work


def _made(out: Path) -> str | None:
    """The run that the model at `out` is of, if one lies there and tells."""
    return read_manifest(out)["metadata"].get(RUN) if (out / MANIFEST).is_file() else None


def _is_unfinished(work: Path, digest: str) -> bool:
    """Whether a run of these images and settings left something to go on from; a finished one leaves none."""
    note = work / _NOTE
    of_this = note.is_file() and note.read_text(encoding="ascii").strip() == digest
    return of_this and any(work.glob("*.safetensors"))


def _put_aside(work: Path, reporter: Reporter) -> None:
    """Hours of training are not thrown away because somebody forgot --resume."""
    numbers = itertools.count(1)
    previous = next(path for n in numbers if not os.path.lexists(path := work.with_name(f"{work.name}.{n}")))
    work.rename(previous)
    reporter.event(
        f"An unfinished run of the same settings was found; its checkpoints are now in {previous}. To go on "
        f"from them stop this run, delete {work}, rename {previous.name} to {work.name} and give --resume."
    )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def run_digest(config: Config, hashes: Mapping[str, Sequence[str]], without: Collection[str] = ()) -> str:
    """SHA-256 of what is trained on what: images and settings, `without` some sections and the machine's."""
    return hashlib.sha256(repr((deciding_settings(config, without), hashes)).encode()).hexdigest()


def deciding_settings(config: Config, without: Collection[str] = ()) -> dict[str, Any]:
    """The sections that decide what a model becomes; the machine may change between start and resume."""
    settings = {k: v for k, v in config_to_dict(config).items() if k != "runtime" and k not in without}
    return settings | {"runtime": {"precision": config.runtime.precision}}  # Half precision, other weights.
