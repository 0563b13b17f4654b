"""What a fit tells, kept for the tests that look at it."""

from __future__ import annotations

from anogan.gan.loop import Metrics
from anogan.recipes.training import Reporter


class Listener:
    """Keeps what a fit says, and may interrupt it."""

    def __init__(self, stop_at: tuple[str, int] | None = None) -> None:
        self.events: list[str] = []
        self.stages: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self._stop_at = stop_at

    def progress(self, stage: str, done: int, total: int, metrics: Metrics) -> None:
        self.steps.append((stage, done, total))
        if stage not in self.stages:
            self.stages.append(stage)
        if (stage, done) == self._stop_at:
            raise KeyboardInterrupt

    @property
    def reporter(self) -> Reporter:
        return Reporter(self.progress, self.events.append)
