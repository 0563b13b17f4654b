"""A training run on disk while it goes on: TensorBoard event files and a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from anogan.files import replacing
from anogan.gan.loop import History


class Logbook:
    """Writes what a stage logs below `folder`; watch it with `tensorboard --logdir`."""

    def __init__(self, folder: Path, stage: str, pictures: Callable[[], Mapping[str, Tensor]] | None) -> None:
        """Opens nothing yet; `pictures` gives images (N, C, t, t) in [-1, 1] of the present state."""
        self._folder, self._stage, self._pictures = folder, stage, pictures
        self._writer: SummaryWriter | None = None
        self._step, self._looks = 0, 0

    def add(self, step: int, history: History) -> None:
        """Writes the figures of the look at `step`; steps that a restore took back are marked as void."""
        if self._writer is None or step <= self._step:
            self.close()
            self._writer = SummaryWriter(
                str(self._folder), purge_step=step, filename_suffix=f".{self._stage}"
            )
        self._step = step
        for name, points in history.points.items():
            if points[-1][0] == step:
                self._writer.add_scalar(f"{self._stage}/{name}", points[-1][1], step)
        self._looks += 1
        # At looks 1, 2, 4, 8, ...: enough to see it grow, and the file stays small.
        if self._pictures is not None and self._looks & (self._looks - 1) == 0:
            for name, images in self._pictures().items():
                self._writer.add_images(f"{self._stage}/{name}", images.clamp(-1, 1) / 2 + 0.5, step)
        self._writer.flush()
        with replacing(self._folder / f"{self._stage}.csv") as partial:
            partial.write_bytes(history_csv({self._stage: history}))

    def close(self) -> None:
        """Ends the event file; `add` begins another one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def history_csv(histories: Mapping[str, History]) -> bytes:
    """One line per figure and step: stage, figure, step, value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "figure", "step", "value"])
    for stage, history in histories.items():
        for name, points in history.points.items():
            writer.writerows([stage, name, step, f"{value:.6g}"] for step, value in points)
    return text.getvalue().encode()


def event_files(folder: Path) -> dict[str, bytes]:
    """Stage's event file name -> content; the files of an interrupted run follow each other in one stream."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("events.out.tfevents.*"), key=_opened):
        name = f"events.out.tfevents.{path.suffix.removeprefix('.')}"
        found[name] = found.get(name, b"") + path.read_bytes()
    return found


def _opened(path: Path) -> tuple[int, int]:
    """The second, and the file's number in its process: as words, the tenth would come before the ninth."""
    words = path.name.split(".")
    return int(words[3]), int(words[-2])
