from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anogan.config import AlarmKind
from anogan.errors import BundleError, StorageError, TrainingError
from anogan.gan import checkpoint as checkpoint_module
from anogan.gan.alarms import Alarm
from anogan.gan.loop import History, LoopSettings, run_stage
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage

Build = Callable[..., GanStage]
STEPS = 9


def settings(folder: Path, **changes: Any) -> LoopSettings:
    return LoopSettings(2, 3, folder / "gan.safetensors", **changes)


def weights(stage: GanStage) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in stage.modules().items()
        for key, value in module.state_dict().items()
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def build(tiny_stage: Build) -> Build:
    return lambda **changes: tiny_stage(**{"gan": {"steps": STEPS}, **changes})


@pytest.fixture
def uninterrupted(build: Build, tmp_path: Path) -> tuple[dict[str, Tensor], History]:
    stage = build()
    history = run_stage(stage, settings(tmp_path / "uninterrupted"), resume=False)
    return weights(stage), history


def test_same_seed_gives_the_same_weights_and_another_seed_others(
    build: Build, tmp_path: Path, uninterrupted: tuple[dict[str, Tensor], History]
) -> None:
    for seed, equal in ((0, True), (1, False)):
        stage = build(seed=seed)
        run_stage(stage, settings(tmp_path / str(seed)), resume=False)
        assert same(weights(stage), uninterrupted[0]) is equal


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder": {"mode": "joint"}},
        {"gan": {"steps": STEPS, "dropout": 0.4, "instance_noise": 0.1, "minibatch": "discrimination"}},
        {"gan": {"steps": STEPS, "diffaugment": ["color", "translation"], "ada_target": 0.6, "packing": 2}},
        {"gan": {"steps": STEPS, "discriminators": 2, "spectral_norm": True, "n_critic": 2}},
        {"gan": {"steps": STEPS, "unroll_steps": 1, "pause_above": 0.6, "loss": "wgan"}},
    ],
)
def test_interrupted_and_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
    changes: dict[str, Any], build: Build, tmp_path: Path
) -> None:
    whole = build(**changes)
    history = run_stage(whole, settings(tmp_path / "whole"), resume=False)
    for stop_at in (1, 3, 7):

        def interrupt(_: str, step: int, __: int, ___: dict[str, float], stop_at: int = stop_at) -> None:
            if step == stop_at:
                raise KeyboardInterrupt

        folder = tmp_path / str(stop_at)
        with pytest.raises(KeyboardInterrupt):
            run_stage(build(**changes), settings(folder, on_progress=interrupt), resume=False)
        stage = build(**changes)
        torch.manual_seed(999)  # Whatever was drawn before must not matter.
        resumed = run_stage(stage, settings(folder), resume=True)
        assert same(weights(stage), weights(whole))
        assert resumed.points == history.points


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_in_the_middle_of_a_step_leaves_whole_steps_only(
    presses: int,
    build: Build,
    tmp_path: Path,
    uninterrupted: tuple[dict[str, Tensor], History],
    request: pytest.FixtureRequest,
) -> None:
    stage, done = build(), []
    judge = stage.adversary.judge
    # A test run that a shell put into the background inherits an ignored Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def press(step: int, *rest: Any) -> Tensor:
        for _ in range(presses if step == 4 else 0):
            signal.raise_signal(signal.SIGINT)  # D has learned, G has not.
        return judge(step, *rest)

    stage.adversary.judge = press  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, settings(tmp_path, on_progress=lambda _, step, *__: done.append(step)), resume=False)
    assert done[-1] == (5 if presses == 1 else 4)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = build()
    run_stage(resumed, settings(tmp_path), resume=True)
    assert same(weights(resumed), uninterrupted[0])


def killed_run(stage: GanStage, loop: LoopSettings, *, after_s: float | None = None) -> None:
    """Trains in a child process, which is killed after a time if it does not kill itself."""
    child = os.fork()
    if child == 0:
        try:
            run_stage(stage, loop, resume=False)
        finally:
            os._exit(0)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="kills a forked process")


@needs_fork
@pytest.mark.parametrize("moment", ["step 2", "step 5", "write of checkpoint 1", "rename of checkpoint 2"])
def test_killed_and_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
    moment: str,
    build: Build,
    tmp_path: Path,
    uninterrupted: tuple[dict[str, Tensor], History],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    loop, stage = settings(tmp_path), build()
    with monkeypatch.context() as patch:
        if moment.startswith("step"):
            wanted = int(moment[-1])
            loop = settings(tmp_path, on_progress=lambda _, step, *__: die() if step == wanted else None)
        else:
            remaining = [int(moment[-1])]  # Checkpoint 0 is that of the untrained state.

            def count_down(call: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*arguments: Any) -> Any:
                    if remaining[0] == 0:
                        die()
                    remaining[0] -= 1
                    return call(*arguments)

                return counted

            if moment.startswith("write"):
                patch.setattr(checkpoint_module.os, "fsync", count_down(os.fsync))
            else:
                patch.setattr(Path, "replace", count_down(Path.replace))
        killed_run(stage, loop)
    resumed = build()
    history = run_stage(resumed, settings(tmp_path), resume=True)
    assert same(weights(resumed), uninterrupted[0])
    assert history.points == uninterrupted[1].points


@needs_fork
@pytest.mark.slow
def test_run_killed_at_any_moment_resumes_bit_for_bit(build: Build, tmp_path: Path) -> None:
    long = {"gan": {"steps": 60}}
    whole, started = build(**long), time.monotonic()
    run_stage(whole, settings(tmp_path / "whole"), resume=False)
    duration, chance = time.monotonic() - started, random.Random(5)
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        killed_run(build(**long), settings(folder), after_s=chance.random() * duration)
        stage = build(**long)
        run_stage(stage, settings(folder), resume=True)
        assert same(weights(stage), weights(whole))


class BrokenOnce(TileSource):
    """A source whose batch of step 4 holds one NaN."""

    def batch(self, step: int, n: int) -> Tensor:
        x = super().batch(step, n)
        if step == 4:
            x[1, 0, 3, 3] = float("nan")
        return x


def test_nan_in_a_batch_is_repaired_at_once_with_lower_rates(
    tiny_config: Callable[..., Any], boards: list[np.ndarray], tmp_path: Path
) -> None:
    config = tiny_config(gan={"steps": STEPS})
    stage = GanStage(config, BrokenOnce(boards, config), TileSource(boards, config, 1), torch.device("cpu"))
    events: list[str] = []
    history = run_stage(stage, settings(tmp_path, on_event=events.append), resume=False)
    assert [(a["kind"], a["step"], a["action"]) for a in history.alarms] == [("non-finite", 4, "restore")]
    assert "d_loss" in events[0]
    assert "step 4" in events[0]
    assert all(torch.isfinite(value).all() for value in weights(stage).values())
    for optimiser in stage.optimisers().values():
        assert optimiser.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_weights_that_are_not_finite_never_reach_a_checkpoint(build: Build, tmp_path: Path) -> None:
    stage = build()

    def poison(_: str, step: int, *__: object) -> None:
        # After the last figures before checkpoint 3: no loss shows it yet.
        if step == 3 and stage.attempt == 0:
            with torch.no_grad():
                stage.networks.generator[0].weight[0, 0, 0, 0] = float("inf")

    history = run_stage(stage, settings(tmp_path, on_progress=poison), resume=False)
    assert history.alarms[0]["kind"] == "non-finite"
    assert all(torch.isfinite(value).all() for value in weights(stage).values())


def test_training_that_stays_non_finite_stops_with_the_remedy(build: Build, tmp_path: Path) -> None:
    stage = build(gan={"steps": STEPS, "discriminator_learning_rate": 1e30})
    with pytest.raises(TrainingError, match="lower the learning rates in the config"):
        run_stage(stage, settings(tmp_path), resume=False)


def alarm_at(steps: Sequence[int], policy: Any) -> Callable[[History], list[Alarm]]:
    def judge(history: History) -> list[Alarm]:
        step = history.points["g_loss"][-1][0]
        return [Alarm("collapse", "All images are alike; try packing.", policy)] if step in steps else []

    return judge


def test_warning_tells_once_per_period_and_changes_nothing(
    build: Build, tmp_path: Path, uninterrupted: tuple[dict[str, Tensor], History]
) -> None:
    stage, events = build(), []
    loop = settings(tmp_path, judge=alarm_at([2, 4, 8], "warn"), on_event=events.append)
    history = run_stage(stage, loop, resume=False)
    assert [a["step"] for a in history.alarms] == [2, 8]
    assert len(events) == 2
    assert "try packing" in events[0]
    assert same(weights(stage), uninterrupted[0])


def test_stop_ends_the_training_in_words(build: Build, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"stopped at step 4: All images are alike; try packing\."):
        run_stage(build(), settings(tmp_path, judge=alarm_at([4], "stop")), resume=False)


def test_restore_goes_back_to_the_last_state_that_later_looks_found_healthy(
    build: Build, tmp_path: Path
) -> None:
    # Checkpoints at 3 and 6, looks at 1, 2, 4, 6, 8. At 8 the state of 6 is not proven yet, that of 3 is.
    stage, events, alarmed = build(), [], []

    def judge(history: History) -> list[Alarm]:
        found = alarm_at([8], "restore")(history) if not alarmed else []
        alarmed.extend(found)
        return found

    history = run_stage(stage, settings(tmp_path, judge=judge, on_event=events.append), resume=False)
    assert "Restored step 3" in events[0]
    assert [a["action"] for a in history.alarms] == ["restore"]
    steps = [step for step, _ in history.points["g_loss"]]
    assert steps == [1, 2, 4, 6, 8, 9]
    assert stage.optimisers()["generator"].param_groups[0]["lr"] == pytest.approx(1e-4)


@pytest.mark.parametrize(("kind", "step"), [("few-images", 3), ("collapse", 6)])
def test_a_warning_about_the_data_does_not_keep_states_from_being_healthy(
    kind: AlarmKind, step: int, build: Build, tmp_path: Path
) -> None:
    events: list[str] = []

    def judge(history: History) -> list[Alarm]:
        constant, once = Alarm(kind, "Up all the time.", "warn"), history.points["g_loss"][-1][0] == 8
        restored = any("Restored" in event for event in events)
        return [constant, Alarm("learning-rate", "Fast.", "restore")] if once and not restored else [constant]

    run_stage(build(), settings(tmp_path, judge=judge, on_event=events.append), resume=False)
    assert [f"Restored step {step} " in event for event in events].count(True) == 1


def test_each_restore_lowers_the_rates_whatever_state_it_goes_back_to(build: Build, tmp_path: Path) -> None:
    stage, factors, seen = build(), [0.04, 0.25, 0.25], []
    rates = stage.optimisers()["generator"].param_groups[0]
    first = rates["lr"]

    def judge(history: History) -> list[Alarm]:
        # Comes back before a newer state was found healthy, so that all three go back to one and the same.
        if len(seen) == 3 or not alarm_at([4], "restore")(history):
            return []
        seen.append(rates["lr"])
        return [Alarm("learning-rate", "Too fast.", "restore", factors[len(seen) - 1])]

    run_stage(stage, settings(tmp_path, judge=judge), resume=False)
    group = stage.optimisers()["generator"].param_groups[0]
    assert group["lr"] == pytest.approx(first * 0.04 * 0.25 * 0.25)


def test_alarm_that_restores_cannot_cure_ends_as_a_warning(build: Build, tmp_path: Path) -> None:
    stage = build()
    history = run_stage(stage, settings(tmp_path, judge=alarm_at([4], "restore")), resume=False)
    assert [a["action"] for a in history.alarms] == ["restore"] * 3 + ["warn"]


def test_repaired_run_that_is_killed_resumes_with_its_lowered_rates(build: Build, tmp_path: Path) -> None:
    def run(folder: Path, *, stop: bool) -> GanStage:
        def interrupt(_: str, step: int, *__: object) -> None:
            if stop and stage.attempt == 1 and step == 5:
                raise KeyboardInterrupt

        judge = alarm_at([4], "restore")
        stage = build()
        loop = settings(folder, judge=lambda h: judge(h) if stage.attempt == 0 else [], on_progress=interrupt)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                run_stage(stage, loop, resume=False)
            stop, stage = False, build()
            history = run_stage(stage, loop, resume=True)
            assert len(history.alarms) == 1
        else:
            run_stage(stage, loop, resume=False)
        return stage

    whole, resumed = run(tmp_path / "whole", stop=False), run(tmp_path / "killed", stop=True)
    assert same(weights(whole), weights(resumed))
    assert resumed.optimisers()["generator"].param_groups[0]["lr"] == pytest.approx(1e-4)


def test_damaged_checkpoint_is_refused_in_one_sentence(build: Build, tmp_path: Path) -> None:
    run_stage(build(), settings(tmp_path), resume=False)
    path = tmp_path / "gan.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BundleError, match=r"cannot be read .*train from the start"):
        run_stage(build(), settings(tmp_path), resume=True)


def test_checkpoint_of_other_networks_is_refused(build: Build, tmp_path: Path) -> None:
    run_stage(build(), settings(tmp_path), resume=False)
    with pytest.raises(BundleError, match="belongs to other networks"):
        run_stage(build(network={"width": 8}), settings(tmp_path), resume=True)


def test_full_disk_leaves_the_last_checkpoint_to_resume_from(
    build: Build,
    tmp_path: Path,
    uninterrupted: tuple[dict[str, Tensor], History],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full_from_the_third(_: int, count: list[int] = [0]) -> None:  # noqa: B006
        count[0] += 1
        if count[0] >= 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module.os, "fsync", full_from_the_third)
        with pytest.raises(StorageError, match="No space left on device"):
            run_stage(build(), settings(tmp_path), resume=False)
    stage = build()
    run_stage(stage, settings(tmp_path), resume=True)
    assert same(weights(stage), uninterrupted[0])
