"""What tests of fits share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import load_bundle
from anogan.errors import AnoganError
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


def same_weights(first: Path, second: Path) -> bool:
    """Whether two model folders hold equal networks."""
    a, b = _weights(first), _weights(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    arrays = load_bundle(path).weights
    return {f"{net}.{name}": array for net, tensors in arrays.items() for name, array in tensors.items()}


def refused(kind: type[AnoganError], words: str, call: Callable[[], object]) -> str:
    """The one sentence with these words that the call ends with."""
    with pytest.raises(kind, match=words) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)
