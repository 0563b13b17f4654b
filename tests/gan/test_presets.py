from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anogan.config import config_from_dict, config_to_dict, load_config
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage


@pytest.mark.parametrize("name", ["anogan-2017", "f-anogan", "small-data", "edge"])
def test_preset_trains_and_finishes_with_plain_networks(name: str, boards: list, repository: Path) -> None:
    tree = config_to_dict(load_config(repository / "configs" / f"{name}.yaml"))
    # Smaller and shorter only; every other setting is the preset's own.
    tree["gan"] |= {"batch_size": 4, "steps": 2}
    tree["network"]["width"] = 4
    config = config_from_dict(tree, name)
    source = TileSource(boards, config)
    stage = GanStage(config, source, source, torch.device("cpu"))
    for step in range(2):
        assert all(torch.isfinite(torch.tensor(list(stage.step(step).values()))))
    networks = stage.finish()
    exportable = {"Conv2d", "ConvTranspose2d", "BatchNorm2d", "ReLU", "LeakyReLU", "Tanh", "Upsample"}
    for module in networks.modules().values():
        assert {type(layer).__name__ for layer in module} <= exportable
