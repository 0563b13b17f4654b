"""What tiles carry beside their colours, and who looks at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anogan.config import Config, GanConfig
from anogan.errors import ConfigError
from anogan.gan.adversary import Adversary
from anogan.gan.condition import condition_of, given, grid_conditions, image_of, with_condition
from anogan.gan.encoder import EncoderStage
from anogan.gan.networks import build_networks
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage

POSITION = {"network": {"condition": "tile-position"}}


def ramps(height: int = 48, width: int = 80) -> np.ndarray:
    """Each pixel tells its own place: red is its row, green its column."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, 0 * x], axis=2).astype(np.uint8)


def test_a_training_tile_carries_the_place_it_was_cut_from(tiny_config: Callable[..., Config]) -> None:
    tiles = TileSource([ramps()], tiny_config(**POSITION)).batch(3, 50)
    corner = (tiles[:, :2, 0, 0] + 1) * 127.5  # Row and column of the first pixel.
    expected = (2 * corner + 32) / torch.tensor([48.0, 80.0]) - 1
    torch.testing.assert_close(condition_of(tiles, 2), expected, rtol=0, atol=1e-4)
    assert (tiles[:, 3:] == tiles[:, 3:, :1, :1]).all()


def test_damage_leaves_the_place_alone(tiny_config: Callable[..., Config]) -> None:
    batch = TileSource([ramps()], tiny_config(**POSITION)).damaged_batch(0, 8, clean_share=0.0)
    torch.testing.assert_close(batch.damaged[:, 3:], batch.clean[:, 3:], rtol=0, atol=0)
    assert not torch.equal(image_of(batch.damaged, 2), image_of(batch.clean, 2))


def test_without_a_condition_the_same_tiles_are_drawn(tiny_config: Callable[..., Config]) -> None:
    plain, told = (TileSource([ramps()], tiny_config(**c)).batch(5, 8) for c in ({}, POSITION))
    torch.testing.assert_close(image_of(told, 2), plain, rtol=0, atol=0)


@pytest.mark.parametrize("grid", [1, 4])
def test_each_network_gets_the_condition_behind_its_input(
    tiny_config: Callable[..., Config], grid: int
) -> None:
    plain, told = (
        build_networks(tiny_config(network=n | {"latent_grid": grid}, encoder={"mode": "joint"}))
        for n in ({}, POSITION["network"])
    )
    for name, module in told.modules().items():
        shapes = [tuple(p.shape) for p in module.parameters()]
        expected = [tuple(p.shape) for p in plain.modules()[name].parameters()]
        inputs = 0 if name == "generator" and grid == 1 else 1  # A transposed convolution has them first.
        first = list(expected[0])
        first[inputs] += 2
        assert shapes == [tuple(first), *expected[1:]]


def test_codes_and_images_take_the_condition_of_their_tiles() -> None:
    tiles = with_condition(torch.zeros(3, 1, 4, 4), torch.tensor([[1.0, -1], [2, -2], [3, -3]]))
    told = given(torch.full((2, 5, 2, 2), 9.0), tiles, 2)
    assert told.shape == (2, 7, 2, 2)
    assert (told[:, :5] == 9).all()
    assert told[1, 5:].flatten(1).tolist() == [[2] * 4, [-2] * 4]


def test_generated_tiles_go_through_the_grid_of_an_image(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config(**POSITION, tiles={"size": 32, "overlap": 0})
    places = grid_conditions(5, config, (32, 64), torch.device("cpu"))
    assert places.tolist() == [[0, -0.5], [0, 0.5], [0, -0.5], [0, 0.5], [0, -0.5]]
    assert grid_conditions(2, config, None, torch.device("cpu")).tolist() == [[0, 0], [0, 0]]


class LooksAtTheCondition(nn.Module):
    """A discriminator whose answer is steep in the condition and flat in the colours."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(100.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x[:, 1:].mean(dim=(1, 2, 3)) + 0 * x.sum(dim=(1, 2, 3))


@pytest.mark.parametrize("option", [{"r1_weight": 1.0, "r1_interval": 1}, {"gradient_penalty_weight": 1.0}])
def test_penalties_are_for_the_slope_in_the_colours(option: dict[str, Any]) -> None:
    x = with_condition(torch.rand(4, 1, 4, 4), torch.rand(4, 2))
    losses = []
    for options in ({}, option):
        game = Adversary(GanConfig(**options), [LooksAtTheCondition()], condition=2)
        losses.append(game.discriminators[0])
        game.learn(0, x, [x], torch.Generator().manual_seed(0))
    # The gradient of a penalty that sees no slope in the colours is 0: both took the same step.
    assert float(losses[0].gain.detach()) == float(losses[1].gain.detach())


def test_augmentation_and_noise_leave_the_condition_alone() -> None:
    config = GanConfig(diffaugment=("color", "translation"), instance_noise=0.5)
    x = with_condition(torch.rand(4, 3, 8, 8), torch.rand(4, 2))
    seen = Adversary(config, [nn.Linear(1, 1)], condition=2).view(x, 0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[:, 3:], x[:, 3:], rtol=0, atol=0)
    assert not torch.allclose(seen[:, :3], x[:, :3], atol=0.1)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "joint encoder": {"encoder": {"mode": "joint"}, "network": {"latent_grid": 4}},
    "every regulariser": {
        "gan": {
            "loss": "wgan-gp",
            "r1_weight": 1.0,
            "diffaugment": ["color", "translation"],
            "instance_noise": 0.1,
            "spectral_norm": True,
            "minibatch": "stddev",
            "feature_matching_weight": 1.0,
            "unroll_steps": 1,
            "discriminators": 2,
        },
        "network": {"discriminator_norm": "none"},
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_teaches_every_network_its_condition(tiny_stage: Callable[..., GanStage], name: str) -> None:
    options = dict(OPTIONS[name])
    network = options.pop("network", {}) | POSITION["network"]
    stage = tiny_stage(network=network, **options)
    told = {
        "generator": lambda module: (
            module[0].weight[8:] if network.get("latent_grid", 1) == 1 else module[0].weight[:, 8:]
        ),
        "encoder": lambda module: module[0].weight[:, 3:],
        "discriminator": lambda module: module[0].weight[:, 3:],
    }
    before = {n: told[n](m).detach().clone() for n, m in stage.networks.modules().items()}
    for step in range(2):
        figures = stage.step(step)
    assert np.isfinite(list(figures.values())).all()
    for network_name, module in stage.networks.modules().items():
        assert not torch.equal(told[network_name](module), before[network_name]), network_name
    assert np.isfinite(list(stage.look(2).values())).all()
    assert {picture.shape[1] for picture in stage.pictures().values()} == {3}


@pytest.mark.parametrize("mode", ["izi", "izi_f", "ziz"])
def test_an_encoder_is_trained_under_the_condition(
    tiny_config: Callable[..., Config], boards: list[np.ndarray], mode: str
) -> None:
    config = tiny_config(**POSITION, encoder={"mode": mode, "steps": 8, "learning_rate": 2e-3})
    source = TileSource(boards[:7], config)
    networks = build_networks(config)
    networks.encoder = None
    stage = EncoderStage(config, source, TileSource(boards[7:], config, 1), networks, torch.device("cpu"))
    before = stage.encoder[0].weight[:, 3:].detach().clone()
    assert np.isfinite([stage.step(step)["encoder_loss"] for step in range(3)]).all()
    assert not torch.equal(stage.encoder[0].weight[:, 3:], before)
    assert np.isfinite(stage.look(3)["held_out_reconstruction"])


@pytest.mark.parametrize(
    "other",
    [
        {"gan": {"packing": 2}},
        {"gan": {"mode_seeking_weight": 1.0}},
        {"search": {"bank": 4}},
    ],
)
def test_what_knows_no_condition_is_refused_beside_one(
    tiny_config: Callable[..., Config], other: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"needs network\.condition: none, got tile-position"):
        tiny_config(**POSITION, **other)
