"""The loop that every training stage runs in: checkpoints, resume, progress, non-finite repair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import nn, optim

from anogan.errors import TrainingError
from anogan.gan.checkpoint import load_checkpoint, save_checkpoint

MAX_RESTORES = 3
Metrics = dict[str, float]


class Stage(Protocol):
    """One thing to train: it owns its networks and optimisers and knows one step of them."""

    name: str
    total_steps: int

    def modules(self) -> Mapping[str, nn.Module]:
        """Everything whose weights a checkpoint holds."""
        ...

    def optimisers(self) -> Mapping[str, optim.Optimizer]:
        """Everything whose moments a checkpoint holds."""
        ...

    def step(self, step: int) -> Metrics:
        """Does step number `step` (from 0) and returns its losses."""
        ...

    def look(self, step: int) -> Metrics:
        """Slower figures, measured at the monitor's interval."""
        ...


@dataclass
class History:
    """What a stage logged: (step, value) per figure, in order."""

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, step: int, metrics: Metrics) -> None:
        """Appends one value per figure; what is not finite is a gap in a curve, not a point."""
        for name, value in metrics.items():
            if math.isfinite(value):
                self.points.setdefault(name, []).append((step, value))

    def cut(self, step: int) -> None:
        """Forgets everything after `step`, as when an older checkpoint is restored."""
        self.points = {name: [p for p in points if p[0] <= step] for name, points in self.points.items()}


@dataclass(frozen=True)
class LoopSettings:
    """How a stage is run."""

    monitor_interval: int
    checkpoint_interval: int
    checkpoint_path: Path
    on_progress: Callable[[str, int, int, Metrics], None] = lambda *_: None
    on_event: Callable[[str], None] = lambda *_: None


def run_stage(stage: Stage, settings: LoopSettings, *, resume: bool) -> History:
    """Trains a stage to its end and leaves a checkpoint of the finished state.

    Args:
        stage: Changed in place.
        settings: Intervals, where to keep the checkpoint, whom to tell.
        resume: Go on from the checkpoint if there is one.

    Raises:
        TrainingError: Losses became non-finite again after several restores.
        KeyboardInterrupt: Passed on after the state was saved.
    """
    history, step, restores = History(), 0, 0
    if resume and settings.checkpoint_path.exists():
        step, restores = _restore(stage, settings, history)
    else:
        _save(stage, settings, history, 0, 0)
    try:
        while step < stage.total_steps:
            metrics = stage.step(step)
            due = (step + 1) % settings.monitor_interval == 0 or step + 1 == stage.total_steps
            if due or step == 0:
                metrics |= stage.look(step)
            if not all(math.isfinite(value) for value in metrics.values()):
                step, restores = _repair(stage, settings, history, step, restores)
                continue
            step += 1
            if due or step == 1:
                history.add(step, metrics)
            settings.on_progress(stage.name, step, stage.total_steps, metrics)
            if step % settings.checkpoint_interval == 0:
                _save(stage, settings, history, step, restores)
    except KeyboardInterrupt:
        _save(stage, settings, history, step, restores)
        raise
    _save(stage, settings, history, step, restores)
    return history


def _save(stage: Stage, settings: LoopSettings, history: History, step: int, restores: int) -> None:
    save_checkpoint(
        settings.checkpoint_path,
        modules=stage.modules(),
        optimisers=stage.optimisers(),
        state={"step": step, "restores": restores, "history": history.points},
    )


def _restore(stage: Stage, settings: LoopSettings, history: History) -> tuple[int, int]:
    state = load_checkpoint(
        settings.checkpoint_path, modules=stage.modules(), optimisers=stage.optimisers()
    )
    history.points = {
        name: [(int(step), float(value)) for step, value in points]
        for name, points in state["history"].items()
    }
    return int(state["step"]), int(state["restores"])


def _repair(
    stage: Stage, settings: LoopSettings, history: History, step: int, restores: int
) -> tuple[int, int]:
    """Goes back to the last checkpoint with all learning rates halved."""
    if restores >= MAX_RESTORES:
        raise TrainingError(
            f"Stage '{stage.name}' became non-finite at step {step} after {restores} restores with lower "
            "learning rates; lower the learning rates in the config or set runtime.precision: fp32."
        )
    restored, _ = _restore(stage, settings, history)
    for optimiser in stage.optimisers().values():
        for group in optimiser.param_groups:
            # From the checkpoint's rate: each further restore halves once more.
            for rate in ("lr", "base_lr"):
                if rate in group:
                    group[rate] *= 0.5 ** (restores + 1)
    settings.on_event(
        f"Stage '{stage.name}': non-finite values at step {step}; restored step {restored} with learning "
        f"rates times {0.5 ** (restores + 1):g}."
    )
    return restored, restores + 1
