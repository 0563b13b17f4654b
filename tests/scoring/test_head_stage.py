"""The head learns what scoring will ask of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anogan.gan.checkpoint import load_checkpoint, save_checkpoint
from anogan.gan.keeping import best_head_look
from anogan.gan.loop import LoopSettings, run_stage
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from anogan.scoring.head import HeadStage, fixed_from, segmentation_loss
from anogan.scoring.inverter import Inverter
from tests.tiny import part, tiny_config

CPU = torch.device("cpu")


def _stage(steps: int = 6, ema_decay: float = 0) -> HeadStage:
    head = {"steps": steps, "width": 8, "batch_size": 2, "ema_decay": ema_decay}
    config = tiny_config(head=head, search={"steps": 1})
    # Light differs from part to part, so that tiles beside each other matter.
    parts = [(part(seed) * light).astype(np.uint8) for seed, light in enumerate((1, 0.1, 0.5, 0.9, 0.2, 0.7))]
    source, held_out = TileSource(parts[:4], config, 0), TileSource(parts[4:], config, 1)
    inverter = Inverter(config, GanStage(config, source, held_out, CPU).finish(), torch.ones(3))
    return HeadStage(config, source, held_out, inverter, CPU)


def _statistics(stage: HeadStage) -> list[torch.Tensor]:
    norms = [module for module in stage.head.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]


def _same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_last_third_learns_with_the_statistics_that_scoring_uses() -> None:
    stage, seen = _stage(), []
    for step in range(6):
        before = [parameter.detach().clone() for parameter in stage.head.parameters()]
        stage.step(step)
        stage.look(step)  # In between, as training does it.
        seen.append(_statistics(stage))
        assert not _same(before, list(stage.head.parameters()))
    assert not _same(seen[2], seen[3])
    assert not _same(seen[3], seen[4])  # Measured anew when they are fixed.
    assert _same(seen[4], seen[5])


def test_what_the_last_steps_minimise_is_the_loss_of_scoring() -> None:
    stage = _stage()
    for step in range(5):
        stage.step(step)
    stage.config = stage.config.model_copy(
        update={"head": stage.config.head.model_copy(update={"image_weight": 0})}
    )
    x, mask = stage._evidence(stage._source, 5, 2)
    with torch.no_grad():
        alone = segmentation_loss(torch.cat([stage.head.eval()(tile[None]) for tile in x]), mask)
    assert stage.step(5)["head_loss"] == pytest.approx(float(alone), rel=1e-5)


def test_scoring_gets_the_average_of_the_steps_with_its_statistics() -> None:
    stage, plain = _stage(9, ema_decay=0.9), _stage(9)
    average: list[torch.Tensor] = []
    for step in range(9):
        assert stage.step(step) == plain.step(step)  # It changes no step.
        now = [parameter.detach().clone() for parameter in stage.head.parameters()]
        averaged = step - fixed_from(stage.config)
        if averaged <= 0:
            average = now
        else:
            decay = (1 + averaged) / (10 + averaged)  # Not yet 0.9, so that the start is soon forgotten.
            average = [torch.lerp(a, b, 1 - decay) for a, b in zip(average, now, strict=True)]
        assert (stage.look(step + 1) == plain.look(step + 1)) == (averaged <= 0)
    finished = stage.finish()

    for got, want in zip(finished.parameters(), average, strict=True):
        torch.testing.assert_close(got, want)
    assert not _same(list(finished.parameters()), list(plain.finish().parameters()))
    assert _same(_statistics(stage), _statistics(plain))


@pytest.mark.parametrize("ema_decay", [0, 0.9])
def test_training_goes_on_with_the_fixed_statistics_after_an_interruption(
    ema_decay: float, tmp_path: Path
) -> None:
    straight, first, second = (_stage(ema_decay=ema_decay) for _ in range(3))
    for step in range(6):
        straight.step(step)
    for step in range(5):
        first.step(step)
    path = tmp_path / "head.safetensors"
    save_checkpoint(path, modules=first.modules(), optimisers=first.optimisers(), state={})
    load_checkpoint(path, modules=second.modules(), optimisers=second.optimisers())
    second.step(5)
    assert _same(list(straight.head.parameters()), list(second.head.parameters()))
    assert _same(list(straight.finish().parameters()), list(second.finish().parameters()))
    assert _same(_statistics(straight), _statistics(second))


@pytest.mark.parametrize("width", [8, 12, 20])
def test_every_width_learns_in_half_precision(width: int) -> None:
    """Kernels for dilated convolutions of 24 channels once gave gradients that were not finite."""
    config = tiny_config(
        tiles={"size": 128, "overlap": 8},
        head={"steps": 1, "width": width, "batch_size": 2},
        search={"steps": 0},
        runtime={"device": "cpu", "precision": "bf16", "threads": 1},
    )
    source = TileSource([part(seed, size=(128, 128)) for seed in range(2)], config, 0)
    inverter = Inverter(config, GanStage(config, source, source, CPU).finish(), torch.ones(5))
    stage = HeadStage(config, source, source, inverter, CPU)
    stage.step(0)
    assert all(bool(parameter.isfinite().all()) for parameter in stage.head.parameters())


def test_a_look_at_weights_that_are_not_finite_says_so() -> None:
    """The loop goes back to the last checkpoint then; it must live to see it."""
    stage = _stage()
    with torch.no_grad():
        next(stage.head.parameters()).fill_(float("nan"))
    assert np.isnan(stage.look(0)["head_held_out_loss"])


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([0.5, 0.3, 0.6, 0.7], 10),
        ([0.5, 0.3, 0.305, 0.306], 12),  # As good as the lowest: the later one has learned longer.
        ([0.5, 0.3, 0.32, 0.29], 12),
    ],
)
def test_drawn_defects_on_held_out_images_pick_the_weights(
    losses: list[float], kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, seen = _stage(steps=12), {}
    # Looks with the batch norm of before are lower here, and do not count.
    script = iter([*[0.1] * 8, *losses])
    monkeypatch.setattr(stage, "look", lambda _: {"head_held_out_loss": next(script)})

    def note(step: int, _: object) -> None:
        seen[step] = {name: value.clone() for name, value in stage.head.state_dict().items()}

    loop = LoopSettings(1, 5, tmp_path / "head.safetensors", on_look=note)
    history = run_stage(stage, loop, resume=False)
    finished = stage.finish().state_dict()

    assert all(torch.equal(value, seen[kept][name]) for name, value in finished.items())
    assert kept == 12 or not all(torch.equal(value, seen[12][name]) for name, value in finished.items())
    assert best_head_look(history.points, fixed_from(stage.config)) == kept


def test_a_head_that_was_never_looked_at_keeps_its_last_weights() -> None:
    stage = _stage()
    stage.step(0)
    last = {name: value.clone() for name, value in stage.head.state_dict().items()}

    assert all(torch.equal(value, last[name]) for name, value in stage.finish().state_dict().items())
