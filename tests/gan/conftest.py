"""A GAN small enough to train in a test, on drawn boards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from anogan.config import Config, config_from_dict
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from anogan.images.sample_board import draw_board

TINY: dict[str, Any] = {
    "tiles": {"size": 32, "overlap": 8},
    "network": {"latent_dim": 8, "latent_grid": 1, "width": 4},
    "gan": {"steps": 6, "batch_size": 8},
    "encoder": {"mode": "none"},
    "monitor": {"interval": 2, "checkpoint_interval": 2},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if nested else value
    return out


@pytest.fixture(scope="session")
def boards() -> list[np.ndarray]:
    """Good boards, 96 x 96 colour."""
    return [draw_board(seed, 96)[0] for seed in range(10)]


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """The tiny config with sections changed: tiny_config(gan={"loss": "hinge"})."""
    return lambda **changes: config_from_dict(merged(TINY, changes), "the test")


@pytest.fixture
def tiny_stage(boards: list[np.ndarray], tiny_config: Callable[..., Config]) -> Callable[..., GanStage]:
    """A GAN stage of the tiny config; `images` replaces the training boards."""

    def build(images: list[np.ndarray] | None = None, **changes: Any) -> GanStage:
        config = tiny_config(**changes)
        train = TileSource(boards[:7] if images is None else images, config, 0)
        return GanStage(config, train, TileSource(boards[7:], config, 1), torch.device("cpu"))

    return build
