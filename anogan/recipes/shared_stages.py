"""Finished stages of training that several models have in common: a comparison trains each of them once."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from anogan import __version__
from anogan.config import Config
from anogan.files import replacing, write_json
from anogan.recipes.training import Run
from anogan.recipes.work_folder import AFTER_TRAINING, run_digest

# What a stage does not read. A section that it might read counts as read: sharing too little costs time only.
_UNREAD: dict[str, tuple[str, ...]] = {
    "gan": ("head", "search", *AFTER_TRAINING),
    "encoder": ("head", "search", *AFTER_TRAINING),
    "head": AFTER_TRAINING,
}
_SUFFIX = ".safetensors"
Hashes = Mapping[str, Sequence[str]]


@contextlib.contextmanager
def shared(stages: SharedStages | None, run: Run, hashes: Hashes) -> Iterator[float]:
    """Around a training: takes its finished stages from `stages`, and adds those that it trains.

    Args:
        stages: None trains everything.
        run: Its folder gets the checkpoints; it resumes where there are any.
        hashes: Of its images, see `hashes_of`.

    Yields:
        The seconds that the stages taken had cost.
    """
    if stages is None:
        yield 0.0
        return
    taken = stages.fetch(run.config, hashes, run.work)
    run.resume = run.resume or bool(taken)
    yield sum(taken.values())
    stages.keep(run.config, hashes, run.work, run.seconds)


class SharedStages:
    """A folder of checkpoints of finished stages, each under a digest of all that it depends on."""

    def __init__(self, folder: Path) -> None:
        """Nothing is created before the first `keep`."""
        self._folder = folder

    def fetch(self, config: Config, hashes: Hashes, work: Path) -> dict[str, float]:
        """Puts finished stages into the work folder of a fit, which goes on from them as if resumed.

        Args:
            config: The fit's.
            hashes: Of its images, see `hashes_of`.
            work: Where its checkpoints lie; a stage that was begun there is left alone.

        Returns:
            The seconds that each of these stages took when it was trained.
        """
        found = {}
        for stage in _UNREAD:
            kept, target = self._path(stage, config, hashes), work / f"{stage}{_SUFFIX}"
            if kept.is_file() and not target.exists():
                shutil.copyfile(kept, target)
                found[stage] = float(json.loads(kept.with_suffix(".json").read_text())["seconds"])
        return found

    def keep(self, config: Config, hashes: Hashes, work: Path, seconds: Mapping[str, float]) -> None:
        """Takes in the finished stages of a fit's work folder.

        Args:
            config: The fit's.
            hashes: Of its images.
            work: Where its checkpoints lie.
            seconds: That each stage took, for those that the fit went through.

        Raises:
            StorageError: The disk is full or read-only.
        """
        for stage, took in seconds.items():
            kept = self._path(stage, config, hashes)
            if kept.is_file():
                continue
            write_json(kept.with_suffix(".json"), {"seconds": round(took, 1)})
            with replacing(kept) as partial:  # Last: what lies there can be used.
                shutil.copyfile(work / f"{stage}{_SUFFIX}", partial)

    def _path(self, stage: str, config: Config, hashes: Hashes) -> Path:
        digest = run_digest(config, hashes, without=_UNREAD[stage])
        return self._folder / f"{stage}-{__version__}-{digest[:16]}{_SUFFIX}"
