from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from anogan.config import Config
from anogan.gan.ssim import ssim
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage

Build = Callable[..., GanStage]


@pytest.mark.parametrize("decay_share", [0.0, 0.5])
def test_learning_rates_fall_to_nothing_over_the_decay_share(tiny_stage: Build, decay_share: float) -> None:
    stage = tiny_stage(gan={"steps": 4, "decay_share": decay_share})
    rates: list[list[float]] = [[], []]
    for step in range(4):
        stage.step(step)
        for values, name in zip(rates, ("generator", "discriminator_0"), strict=True):
            values.append(stage.optimisers()[name].param_groups[0]["lr"] / 2e-4)
    expected = [1, 1, 1, 0.5] if decay_share else [1, 1, 1, 1]
    assert rates[0] == pytest.approx(expected)
    assert rates[1] == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["none", "joint"])
def test_look_changes_nothing_that_is_trained(tiny_stage: Build, mode: str) -> None:
    stage = tiny_stage(encoder={"mode": mode}, gan={"dropout": 0.2})
    stage.step(0)
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in stage.modules().items()}
    first = stage.look(0)
    assert stage.look(0) == pytest.approx(first)
    for name, module in stage.modules().items():
        assert module.training or name.endswith("_ema")
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[name][key]), (name, key)


def test_finished_networks_are_frozen_plain_and_score_each_image_alone(tiny_stage: Build) -> None:
    options = {"minibatch": "stddev", "packing": 2, "dropout": 0.2, "spectral_norm": True}
    stage = tiny_stage(gan=options)
    for step in range(3):
        stage.step(step)
    networks = stage.finish()
    x = torch.rand(5, 3, 32, 32) * 2 - 1
    together, alone = networks.discriminator(x), networks.discriminator(x[2:3])
    assert torch.allclose(together[2:3], alone, atol=1e-5)
    for module in networks.modules().values():
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())


def test_the_structure_term_brings_reconstructions_that_are_alike_in_structure(
    tiny_stage: Build, boards: list[np.ndarray], tiny_config: Callable[..., Config]
) -> None:
    x, found = TileSource(boards, tiny_config(), 3).batch(0, 16), {}
    for weight in (0.0, 20.0):
        stage = tiny_stage(
            network={"latent_grid": 8, "width": 8},
            gan={"steps": 60, "generator_learning_rate": 2e-3},
            encoder={
                "mode": "joint",
                "learning_rate": 2e-3,
                "structure_weight": weight,
                "reconstruction_weight": 10,
            },
        )
        for step in range(60):
            figures = stage.step(step)
        assert ("structure" in figures) == (weight > 0)
        encoder = stage.networks.encoder
        assert encoder is not None
        with torch.no_grad():
            found[weight] = float(1 - ssim(x, stage.networks.generator(encoder(x))).mean())
    assert found[20.0] < 0.9 * found[0.0]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_g_gets_the_encoders_code_with_so_much_noise(tiny_stage: Build, noise: float) -> None:
    stage = tiny_stage(encoder={"mode": "joint", "latent_noise": noise}, network={"latent_grid": 4})
    codes, taken = [], []
    assert stage.networks.encoder is not None
    stage.networks.encoder.register_forward_hook(lambda _, __, z: codes.append(z.detach()))
    stage.networks.generator.register_forward_hook(lambda _, given, __: taken.append(given[0].detach()))
    stage.step(0)

    (z,) = codes
    added = min((float((given - z).std()) for given in taken if given.shape == z.shape), default=None)
    assert added == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize(
    ("weight", "strong", "figure"),
    [("latent_weight", 20.0, "latent_divergence"), ("feature_weight", 20.0, "feature_residual")],
)
def test_a_weight_lowers_what_it_weighs(tiny_stage: Build, weight: str, strong: float, figure: str) -> None:
    found = []
    for value in (0.0, strong):
        stage = tiny_stage(
            # D hardly moves, so that its features mean the same throughout.
            gan={"steps": 60, "generator_learning_rate": 2e-3, "discriminator_learning_rate": 1e-8},
            encoder={"mode": "joint", "learning_rate": 2e-3, "reconstruction_weight": 1.0, weight: value},
            network={"latent_grid": 4, "width": 8},
        )
        found.append(np.mean([stage.step(step)[figure] for step in range(60)][-10:]))
    assert found[1] < 0.8 * found[0]
