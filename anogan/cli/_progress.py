"""Progress on stderr: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from anogan.cli._terminal import print_note, stderr

_WORDS = {
    "gan": "training GAN",
    "encoder": "training encoder",
    "head": "training residual head",
    "calibrate": "calibrating",
}
_FIGURES = 3
_FIRST_FIGURES = ("g_loss", "d_loss", "reconstruction")
_LINES_PER_STAGE = 10
_QUIET_S = 2.0


class Display(Protocol):
    """Where progress is shown."""

    def show(self, stage: str, done: int, total: int, figures: str) -> None:
        """`done` of `total` steps of a stage."""
        ...

    def close(self) -> None:
        """Leaves the terminal as it was."""
        ...


class LiveBar:
    """One bar per stage with the time left."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=stderr(),
        )
        self._task: TaskID | None = None
        self._stage, self._done = "", 0
        self._progress.start()

    def show(self, stage: str, done: int, total: int, figures: str) -> None:
        """Starts a new bar with each stage, and when a stage counts from the start again."""
        if self._task is None or stage != self._stage or done <= self._done:
            words = _WORDS.get(stage, stage)
            self._task = self._progress.add_task(words, total=total, completed=done - 1, figures="")
        self._stage, self._done = stage, done
        self._progress.update(self._task, completed=done, figures=figures)

    def close(self) -> None:
        """Shows the last state and the cursor."""
        self._progress.stop()


class LogLines:
    """About ten lines per stage."""

    def __init__(self) -> None:
        self._stage, self._done = "", 0
        self._start, self._first, self._printed = 0.0, 0, 0.0

    def show(self, stage: str, done: int, total: int, figures: str) -> None:
        """Prints when another tenth of the stage is done."""
        if stage != self._stage or done <= self._done:
            self._start, self._first = time.monotonic(), done
        elif self._is_due(done, total):
            self._printed = time.monotonic()
            seconds = (time.monotonic() - self._start) / (done - self._first) * (total - done)
            left = f", {duration(seconds)} left" if done < total else ""
            line = f"{_WORDS.get(stage, stage)}: {done} of {total}{left}"
            stderr().print(f"{line}; {figures}" if figures else line)
        self._stage, self._done = stage, done

    def _is_due(self, done: int, total: int) -> bool:
        """At the end, and at each tenth unless the last line is only just printed."""
        tenth = done * _LINES_PER_STAGE // total > self._done * _LINES_PER_STAGE // total
        return done == total or (tenth and time.monotonic() - self._printed > _QUIET_S)

    def close(self) -> None:
        """Nothing is open."""


class TrainingProgress:
    """Shows a fit and remembers how far it came.

    Attributes:
        last: (stage, done, total) of the last report; None before the first.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.last: tuple[str, int, int] | None = None
        self._quiet = quiet
        self._display: Display | None = None

    def __enter__(self) -> Self:
        if not self._quiet:
            self._display = _display()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.close()

    def on_progress(self, stage: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """For `Reporter.progress`."""
        self.last = (stage, done, total)
        if self._display is not None:
            self._display.show(stage, done, total, figures_text(metrics))

    def on_event(self, message: str) -> None:
        """For `Reporter.event`."""
        print_note(message)

    def where(self) -> str:
        """`at step 120 of 500 (training GAN)`, or that nothing has begun."""
        if self.last is None:
            return "before the training began"
        stage, done, total = self.last
        return f"at step {done} of {total} ({_WORDS.get(stage, stage)})"


@contextmanager
def counted(words: str) -> Iterator[Callable[[str, int, int], None]]:
    """Shows work on images while the context is open; gives a callback (path, done, total)."""
    display = _display()
    try:
        yield lambda _, done, total: display.show(words, done, total, "")
    finally:
        display.close()


def _display() -> Display:
    return LiveBar() if stderr().is_terminal else LogLines()


def figures_text(metrics: Mapping[str, float]) -> str:
    """The most telling few figures of a step: `g_loss 0.693  d_loss 1.386`."""
    ordered = [name for name in _FIRST_FIGURES if name in metrics]
    ordered += [name for name in metrics if name not in ordered]
    return "  ".join(f"{name} {metrics[name]:.3f}" for name in ordered[:_FIGURES])


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
