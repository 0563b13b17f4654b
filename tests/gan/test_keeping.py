from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anogan.gan.keeping import INVERSION_ERROR, best_look, kept_record, kept_sentence
from anogan.gan.loop import History, LoopSettings, run_stage
from anogan.gan.networks import Networks
from anogan.gan.training import GanStage

Build = Callable[..., GanStage]


def points(errors: Sequence[float]) -> dict[str, list[tuple[int, float]]]:
    """A look at step 1, then one every 10 steps."""
    return {INVERSION_ERROR: [(1, 0.01), *((10 * (i + 1), error) for i, error in enumerate(errors))]}


@pytest.mark.parametrize(
    ("errors", "step", "looks_since"),
    [
        ([0.4, 0.3, 0.2, 0.1], 40, 0),
        ([0.4, 0.2, 0.2, 0.4, 0.4], 30, 2),
        ([0.4, 0.2, 0.2, 0.2005, 0.201], 50, 2),  # Within 1 % the later one.
        ([0.4, 0.3, 0.1, 0.5, 0.16, 0.16], 60, 0),  # One lucky look does not win.
        ([0.4], 10, 0),
    ],
)
def test_best_look_is_the_latest_of_the_lowest_smoothed_errors(
    errors: list[float], step: int, looks_since: int
) -> None:
    best = best_look(points(errors))
    assert best is not None
    assert (best.step, best.looks_since) == (step, looks_since)


def test_look_at_the_untrained_networks_is_never_the_best() -> None:
    assert best_look(points([])) is None


def scripted(stage: GanStage, errors: Sequence[float]) -> GanStage:
    """The stage with the inversion error of look i replaced by errors[i]; all else is real."""
    real, remaining = stage.look, iter(errors)
    stage.look = lambda step: real(step) | {INVERSION_ERROR: next(remaining)}  # type: ignore[method-assign]
    return stage


def weights(networks: Networks) -> dict[str, Tensor]:
    """Parameters only: buffers are recalibrated at the end."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, module in networks.modules().items()
        for key, value in module.named_parameters()
    }


@pytest.mark.parametrize(
    ("keep", "mode", "kept"), [(None, "joint", 4), ("last", "joint", 8), (None, "none", 8)]
)
def test_finished_networks_are_those_of_the_best_look_where_that_is_kept(
    keep: str | None, mode: str, kept: int, tiny_stage: Build, tmp_path: Path
) -> None:
    stage = tiny_stage(gan={"steps": 8, "keep": keep}, encoder={"mode": mode})
    scripted(stage, [0.9, 0.5, 0.2, 0.6, 0.6])
    seen: dict[int, dict[str, Tensor]] = {}
    loop = LoopSettings(
        2,
        3,
        tmp_path / "gan.safetensors",
        on_look=lambda step, _: seen.update({step: weights(stage.averaged())}),
    )
    history = run_stage(stage, loop, resume=False)
    finished = weights(stage.finish())
    assert all(torch.equal(finished[name], seen[kept][name]) for name in finished)
    assert not all(torch.equal(finished[name], seen[6][name]) for name in finished)
    record = kept_record(stage.config, history.points)
    assert (record["step"], record["last_step"], record["of"]) == (kept, 8, 8)
    assert f"of step {kept} of 8" in kept_sentence(record)


def state(stage: GanStage) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in stage.modules().items()
        for key, value in module.state_dict().items()
    }


def test_training_ends_when_the_error_has_not_fallen_for_so_many_looks_however_often_it_is_resumed(
    tiny_stage: Build, tmp_path: Path
) -> None:
    errors = [0.9, 0.5, 0.3, 0.3, 0.4, 0.4]  # At steps 1, 2, 4, 6, 8, 10.

    def run(
        folder: str, errors: Sequence[float], *, resume: bool, stop_at: int = 0
    ) -> tuple[GanStage, History]:
        def interrupt(_: str, step: int, *__: object) -> None:
            if step == stop_at:
                raise KeyboardInterrupt

        stage = tiny_stage(gan={"steps": 20, "early_stop_patience": 2}, encoder={"mode": "joint"})
        loop = LoopSettings(2, 5, tmp_path / folder / "gan.safetensors", on_progress=interrupt)
        return stage, run_stage(scripted(stage, errors), loop, resume=resume)

    whole, history = run("whole", errors, resume=False)
    assert history.points[INVERSION_ERROR][-1][0] == 10
    with pytest.raises(KeyboardInterrupt):
        run("stopped", errors, resume=False, stop_at=7)
    for left in ([0.4, 0.4], []):  # After the interrupt, and after the end.
        resumed, points = run("stopped", left, resume=True)
        assert points.points == history.points
        wanted, got = state(whole), state(resumed)
        assert all(torch.equal(wanted[key], got[key]) for key in wanted)
    record = kept_record(whole.config, history.points)
    assert (record["step"], record["last_step"]) == (6, 10)
    assert "training ended early at step 10" in kept_sentence(record)
