"""Each failure that is put into a training must be caught by the right alarm within a number of steps.

The numbers stand in `docs/training.md`. A look is taken every 10 steps here (every 100 by default).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anogan.config import Config
from anogan.errors import TrainingError
from anogan.gan.alarms import judge_gan
from anogan.gan.loop import History, LoopSettings, run_stage
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage

INTERVAL = 10


def train(
    config: Config, images: Sequence[np.ndarray], held_out: Sequence[np.ndarray], folder: Path, **loop: Any
) -> tuple[GanStage, History]:
    stage = GanStage(
        config, TileSource(images, config, 0), TileSource(held_out, config, 1), torch.device("cpu")
    )
    settings = LoopSettings(
        INTERVAL,
        2 * INTERVAL,
        folder / "gan.safetensors",
        judge=lambda history: judge_gan(config, history.points),
        **loop,
    )
    return stage, run_stage(stage, settings, resume=False)


def first(history: History, kind: str) -> int:
    """Step at which the alarm began; fails when it never did."""
    return next(alarm["step"] for alarm in history.alarms if alarm["kind"] == kind)


@pytest.mark.parametrize("mode", ["none", "joint"])
def test_learning_rate_100_times_too_high_is_caught_at_the_second_look_and_mended(
    mode: str, boards: list[np.ndarray], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    rates = {"generator_learning_rate": 2e-2, "discriminator_learning_rate": 2e-2}
    config = tiny_config(gan={"steps": 60, **rates}, encoder={"mode": mode})
    stage, history = train(config, boards[:7] + boards[7:] * 2, boards[7:], tmp_path)
    assert first(history, "learning-rate") <= 2 * INTERVAL
    assert next(a["action"] for a in history.alarms if a["kind"] == "learning-rate") == "restore"
    assert stage.optimisers()["generator"].param_groups[0]["lr"] < 5e-3
    assert "learning-rate" not in history.up


def test_frozen_discriminator_is_caught_at_the_first_look_and_stops_the_run(
    boards: list[np.ndarray], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    # A rate that rounds to nothing beside the weights is a frozen network.
    config = tiny_config(gan={"steps": 60, "discriminator_learning_rate": 1e-15})
    with pytest.raises(TrainingError, match=rf"stopped at step {INTERVAL}: The discriminator is dead"):
        train(config, boards[:7], boards[7:], tmp_path)


def test_discriminator_that_is_too_strong_is_caught_after_four_looks(
    boards: list[np.ndarray], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    strong = {"loss": "minimax", "discriminator_learning_rate": 2e-3, "n_critic": 5}
    config = tiny_config(gan={"steps": 60, **strong}, network={"width": 8})
    _, history = train(config, boards[:7], boards[7:], tmp_path)
    assert first(history, "discriminator-wins") <= 4 * INTERVAL


@pytest.mark.parametrize(("copies", "kind"), [(1, "few-images"), (5, "identical-images")])
def test_too_few_or_identical_images_are_told_at_the_first_step(
    copies: int,
    kind: str,
    boards: list[np.ndarray],
    tiny_config: Callable[..., Config],
    tmp_path: Path,
) -> None:
    images = boards[:5] if copies == 1 else boards[:1] * copies
    _, history = train(tiny_config(gan={"steps": 1}), images, boards[7:], tmp_path)
    assert first(history, kind) == 1
    assert history.up == [kind]


def test_memorised_images_are_caught_within_nine_looks_and_enough_images_raise_nothing(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images = [
        cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
        for _ in range(30)
    ]
    config = tiny_config(gan={"steps": 120, "batch_size": 16}, network={"width": 8})
    alarms = {}
    for n in (5, 20):
        _, history = train(config, images[:n], images[20:], tmp_path / str(n))
        alarms[n] = {alarm["kind"]: alarm["step"] for alarm in history.alarms}
    assert alarms[5]["memorised"] <= 9 * INTERVAL
    assert "memorised" not in alarms[20]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "joint"])
@pytest.mark.parametrize("seed", range(10))
def test_healthy_run_on_the_sample_set_raises_nothing(
    seed: int, mode: str, repository: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    paths = sorted((repository / "datasets" / "pcb" / "good").iterdir())
    images = [cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB) for path in paths]
    config = tiny_config(
        seed=seed, gan={"steps": 300, "batch_size": 16}, encoder={"mode": mode}, network={"width": 8}
    )
    _, history = train(config, images[:-20], images[-20:], tmp_path)
    assert history.alarms == []
