"""The loop that every training stage runs in: checkpoints, resume, progress, alarms and repair."""

from __future__ import annotations

import math
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn, optim

from anogan.config import AlarmPolicy
from anogan.errors import TrainingError
from anogan.files import replacing
from anogan.gan import ranks
from anogan.gan.alarms import OF_THE_DATA, Alarm, AlarmRecord, Points
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

    def keep(self, points: Points) -> None:
        """Remembers the present weights if the figures, (step, value) each, say they are the best yet."""
        ...

    def ends_early(self, points: Points) -> bool:
        """Whether the figures say that more steps would not help."""
        ...


@dataclass
class History:
    """What a stage logged: (step, value) per figure, in order, every alarm, and the kinds that are up now."""

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    alarms: list[AlarmRecord] = field(default_factory=list)
    up: list[str] = field(default_factory=list)

    def add(self, step: int, metrics: Metrics) -> None:
        """Appends one value per figure; what is not finite is a gap in a curve, not a point."""
        for name, value in metrics.items():
            if math.isfinite(value):
                self.points.setdefault(name, []).append((step, value))


Judge = Callable[[History], Sequence[Alarm]]


@dataclass(frozen=True)
class LoopSettings:
    """How a stage is run.

    Attributes:
        monitor_interval: Steps between two looks.
        checkpoint_interval: Steps between two checkpoints.
        checkpoint_path: The file to resume from; the last healthy state lies beside it.
        on_progress: Told (stage, steps done, steps in all, figures) after each step.
        on_event: Told in words what a person should know.
        on_look: Told (steps done, history) at each look.
        judge: Reads the history after each look and says what is wrong.
        stop_when_non_finite: Give up at once instead of restoring.
    """

    monitor_interval: int
    checkpoint_interval: int
    checkpoint_path: Path
    on_progress: Callable[[str, int, int, Metrics], None] = lambda *_: None
    on_event: Callable[[str], None] = lambda *_: None
    on_look: Callable[[int, History], None] = lambda *_: None
    judge: Judge = lambda _: ()
    stop_when_non_finite: bool = False


def run_stage(stage: Stage, settings: LoopSettings, *, resume: bool) -> History:
    """Trains a stage to its end and leaves a checkpoint of the finished state.

    Args:
        stage: Changed in place.
        settings: Intervals, where to keep the checkpoint, whom to tell.
        resume: Go on from the checkpoint if there is one.

    Raises:
        TrainingError: Values became non-finite again after several restores, or an alarm says stop.
        KeyboardInterrupt: Passed on after the state was saved.
    """
    run = _Run(stage, settings, resume=resume)
    with _Interrupts() as interrupts:
        try:
            while not run.ended:
                _advance(run, stage, settings)
                interrupts.heed()
        except KeyboardInterrupt:
            if not interrupts.in_a_hurry:
                run.write()
            raise
    return run.history


def _advance(run: _Run, stage: Stage, settings: LoopSettings) -> None:
    """One step with what is due after it."""
    metrics = stage.step(run.step)
    due = (run.step + 1) % settings.monitor_interval == 0 or run.step + 1 == stage.total_steps
    if due or run.step == 0:
        metrics |= _look(stage, run.step)
    if not all(math.isfinite(value) for value in metrics.values()):
        run.repair_non_finite(metrics)
        return
    run.step += 1
    if due or run.step == 1:
        run.look_at(metrics)
    settings.on_progress(stage.name, run.step, stage.total_steps, metrics)
    if run.step % settings.checkpoint_interval == 0 or run.ended:
        run.save_or_repair()


class _Interrupts:
    """Holds Ctrl-C back until a step is whole: nothing could go on bit for bit from a half one.

    The second Ctrl-C acts at once; the state is not saved then, and the last checkpoint stays.
    """

    def __init__(self) -> None:
        self.in_a_hurry = self._asked = self._taken = False

    def __enter__(self) -> Self:
        # A program that handles the signal itself, or runs this in a thread, keeps its way.
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._taken = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._taken:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, *_: object) -> None:
        self.in_a_hurry = self._asked
        self._asked = True
        if self.in_a_hurry:
            raise KeyboardInterrupt

    def heed(self) -> None:
        """Raises what was held back."""
        if self._asked:
            raise KeyboardInterrupt


def _look(stage: Stage, step: int) -> Metrics:
    """The first rank's figures, on every rank: all must come to the same decisions."""
    figures: Metrics = {}
    if ranks.is_first():
        with ranks.alone():
            figures = stage.look(step)
    return ranks.agreed(figures)


class _Run:
    """Where one stage stands, on disk and in memory."""

    def __init__(self, stage: Stage, settings: LoopSettings, *, resume: bool) -> None:
        self._stage, self._settings = stage, settings
        self.history, self.step, self.restores = History(), 0, 0
        self._rate_scale = 1.0  # What restores have multiplied the learning rates with.
        self._clean_since_save = self._early = False
        self._path = settings.checkpoint_path
        self._healthy_path = self._path.with_name(f"{self._path.stem}.healthy{self._path.suffix}")
        if ranks.agreed(resume and self._path.exists()):
            self._load(self._path)
        else:
            if ranks.is_first():
                self._healthy_path.unlink(missing_ok=True)
            self.save()

    @property
    def ended(self) -> bool:
        """Whether no step is left to do."""
        return self._early or self.step >= self._stage.total_steps

    def save(self) -> None:
        """Writes the checkpoint once, and goes on when it is there for every rank."""
        if ranks.is_first():
            self.write()
        ranks.wait()
        self._clean_since_save = False

    def write(self) -> None:
        """Writes the checkpoint; the one before becomes the healthy one if looks since found nothing."""
        if self._clean_since_save:
            with replacing(self._healthy_path) as partial:
                shutil.copyfile(self._path, partial)
        save_checkpoint(
            self._path,
            modules=self._stage.modules(),
            optimisers=self._stage.optimisers(),
            state={
                "step": self.step,
                "restores": self.restores,
                "rate_scale": self._rate_scale,
                "history": self.history.points,
                "alarms": self.history.alarms,
                "up": self.history.up,
            },
        )

    def save_or_repair(self) -> None:
        """Saves, unless a weight is not finite: such a checkpoint could never be repaired from."""
        if ranks.agreed(_all_finite(self._stage)):
            self.save()
        else:
            self.repair_non_finite({"weights": math.nan})

    def look_at(self, metrics: Metrics) -> None:
        """Logs a look and does what the policies of new alarms ask for."""
        self.history.add(self.step, metrics)
        alarms = self._settings.judge(self.history)
        new = [alarm for alarm in alarms if alarm.kind not in self.history.up]
        self.history.up = sorted({alarm.kind for alarm in alarms})
        self._clean_since_save = all(alarm.kind in OF_THE_DATA for alarm in alarms)
        with ranks.alone():
            self._settings.on_look(self.step, self.history)
        for alarm in sorted(new, key=lambda alarm: alarm.policy == "restore"):
            if self._heed(alarm):
                return  # What follows belongs to a state that is gone.
        self._stage.keep(self.history.points)
        self._early = self._stage.ends_early(self.history.points)

    def _heed(self, alarm: Alarm) -> bool:
        """Warns, restores or stops; returns whether an older state was restored."""
        restore = alarm.policy == "restore" and self.restores < MAX_RESTORES
        action: AlarmPolicy = "restore" if restore else "stop" if alarm.policy == "stop" else "warn"
        self.history.alarms.append(alarm.record(self.step, action))
        if action == "stop":
            self.save()
            raise TrainingError(
                f"Stage '{self._stage.name}' was stopped at step {self.step}: {alarm.message}"
            )
        if not restore:
            self._settings.on_event(f"Stage '{self._stage.name}', step {self.step}: {alarm.message}")
            return False
        path = self._healthy_path if self._healthy_path.exists() else self._path
        self._restore(path, alarm.message, alarm.rate_factor)
        return True

    def repair_non_finite(self, metrics: Metrics) -> None:
        """Goes back to the last checkpoint, which is finite, with all learning rates halved."""
        names = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        if self.restores >= MAX_RESTORES or self._settings.stop_when_non_finite:
            raise TrainingError(
                f"Stage '{self._stage.name}' became non-finite at step {self.step} after {self.restores} "
                "restores with lower learning rates; lower the learning rates in the config or set "
                "runtime.precision: fp32."
            )
        message = f"{', '.join(names)} became non-finite."
        alarm = Alarm("non-finite", message, "restore")
        self.history.alarms.append(alarm.record(self.step, "restore"))
        self._restore(self._path, message, alarm.rate_factor)

    def _restore(self, path: Path, reason: str, rate_factor: float) -> None:
        failed, restores, alarms = self.step, self.restores + 1, self.history.alarms
        rate_scale = self._rate_scale * rate_factor
        self._load(path)
        ranks.wait()  # Before it is overwritten below.
        self.restores, self.history.alarms = restores, alarms
        # The file may be older than an earlier restore, whose lower rates must not be lost.
        self._multiply_rates(rate_scale / self._rate_scale)
        self._rate_scale = rate_scale
        self._draw_anew()
        # A killed run must not go through the same failure again.
        self.save()
        self._settings.on_event(
            f"Stage '{self._stage.name}', step {failed}: {reason} Restored step {self.step} with learning "
            f"rates times {rate_factor:.2g}."
        )

    def _multiply_rates(self, factor: float) -> None:
        for optimiser in self._stage.optimisers().values():
            for group in optimiser.param_groups:
                for rate in ("lr", "base_lr"):
                    if rate in group:
                        group[rate] *= factor

    def _load(self, path: Path) -> None:
        state: dict[str, Any] = load_checkpoint(
            path, modules=self._stage.modules(), optimisers=self._stage.optimisers()
        )
        self.history = History(
            {name: [(int(s), float(v)) for s, v in points] for name, points in state["history"].items()},
            list(state.get("alarms", [])),
            list(state.get("up", [])),
        )
        self.step, self.restores = int(state["step"]), int(state["restores"])
        self._rate_scale = float(state.get("rate_scale", 1.0))
        self._early = self._stage.ends_early(self.history.points)
        self._draw_anew()

    def _draw_anew(self) -> None:
        # A batch that broke the training would break it again: after a restore other batches are drawn.
        if hasattr(self._stage, "attempt"):
            self._stage.attempt = self.restores


def _all_finite(stage: Stage) -> bool:
    tensors: list[Tensor] = [t for module in stage.modules().values() for t in module.state_dict().values()]
    for optimiser in stage.optimisers().values():
        tensors += [value for moments in optimiser.state.values() for value in moments.values()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
