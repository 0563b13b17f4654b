"""The encoder that is trained after the GAN, and what an encoder is asked to remove."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anogan.config import Config
from anogan.gan.encoder import EncoderStage
from anogan.gan.networks import build_networks, features
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage

CPU = torch.device("cpu")
MODES = ["ziz", "izi", "izi_f"]

Stage = Callable[..., EncoderStage]


@pytest.fixture
def encoder_stage(tiny_config: Callable[..., Config], boards: list[np.ndarray]) -> Stage:
    """An encoder to train for the untrained networks of the tiny config."""

    def build(**encoder: Any) -> EncoderStage:
        config = tiny_config(encoder=encoder, network={"latent_grid": 4, "width": 8})
        networks = build_networks(config)
        networks.encoder = None
        with torch.no_grad():  # By its small first weights all images are one grey, without features.
            for network in (networks.generator, networks.discriminator):
                for weight in network.parameters():
                    weight.mul_(5.0 if weight.dim() > 1 else 1.0)
        held_out = TileSource(boards[7:], config, 1)
        return EncoderStage(config, TileSource(boards[:7], config), held_out, networks, CPU)

    return build


def _parts(stage: EncoderStage) -> tuple[nn.Module, nn.Module, nn.ModuleList]:
    """E as it is before the next step, G, and D's layers."""
    return copy.deepcopy(stage.encoder), stage._networks.generator, stage._stages


def _minimises(stage: EncoderStage, encoder: nn.Module, expected: Tensor) -> bool:
    """Whether step 3 has this loss and Adam's first step goes against its gradient."""
    expected.backward()
    assert stage.step(3)["encoder_loss"] == pytest.approx(float(expected.detach()), rel=1e-4)
    agree = total = 0
    for before, after in zip(encoder.parameters(), stage.encoder.parameters(), strict=True):
        assert before.grad is not None
        clear = before.grad.abs() > 0.1 * before.grad.abs().max()
        agree += int((torch.sign(after - before)[clear] == -torch.sign(before.grad)[clear]).sum())
        total += int(clear.sum())
    assert total > 100
    return agree > 0.99 * total


def test_izi_asks_for_the_image_again(encoder_stage: Stage) -> None:
    stage = encoder_stage(mode="izi", remove_defects=False)
    encoder, generator, _ = _parts(stage)
    x = stage._source.batch(3, 8)
    expected = (x - generator(encoder(x))).square().mean()

    assert _minimises(stage, encoder, expected)


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_izi_f_adds_the_residual_of_the_last_features(weight: float, encoder_stage: Stage) -> None:
    stage = encoder_stage(mode="izi_f", remove_defects=False, feature_weight=weight)
    encoder, generator, layers = _parts(stage)
    x = stage._source.batch(3, 8)
    again = generator(encoder(x))
    residual = (features(layers, x)[-1] - features(layers, again)[-1]).square().mean()
    expected = (x - again).square().mean() + weight * residual

    assert weight * float(residual.detach()) > 0.01
    assert _minimises(stage, encoder, expected)


def test_ziz_asks_for_the_code_again(encoder_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = encoder_stage(mode="ziz")
    encoder, generator, _ = _parts(stage)
    z = torch.randn(8, 8, 4, 4, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr("anogan.gan.encoder.sample_prior", lambda *_: z)
    expected = (encoder(generator(z)) - z).square().mean()

    assert _minimises(stage, encoder, expected)


@pytest.mark.parametrize("mode", MODES)
def test_g_and_d_stay_as_they_were(mode: str, encoder_stage: Stage) -> None:
    stage = encoder_stage(mode=mode)
    frozen = {"generator": stage._networks.generator, "discriminator": stage._networks.discriminator}
    before = {name: copy.deepcopy(network.state_dict()) for name, network in frozen.items()}
    for step in range(3):
        stage.step(step)
    stage.look(2)
    finished = stage.finish().modules()

    for name, state in before.items():
        for key, value in finished[name].state_dict().items():
            assert torch.equal(value, state[key]), (name, key)


# ---- removing defects


@pytest.mark.parametrize("mode", ["izi", "izi_f"])
def test_a_damaged_tile_goes_in_and_the_clean_one_is_asked_for(mode: str, encoder_stage: Stage) -> None:
    stage = encoder_stage(mode=mode, remove_defects=True, feature_weight=0.0)
    encoder, generator, _ = _parts(stage)
    tiles = stage._source.damaged_batch(3, 8, clean_share=0.5)
    expected = (tiles.clean - generator(encoder(tiles.damaged))).square().mean()
    swapped = (tiles.damaged - generator(encoder(tiles.clean))).square().mean()

    assert float(expected.detach()) != pytest.approx(float(swapped.detach()), rel=1e-3)
    assert _minimises(stage, encoder, expected)


@pytest.mark.parametrize("removes", [True, False])
def test_a_joint_encoder_sees_damage_only_where_it_is_to_remove_it(
    removes: bool, tiny_stage: Callable[..., GanStage]
) -> None:
    stage = tiny_stage(
        encoder={"mode": "joint", "remove_defects": removes, "latent_noise": 0.0}, gan={"ema_decay": 0.0}
    )
    tiles = stage._source.damaged_batch(0, 8, clean_share=0.5)
    clean = tiles.clean if removes else stage._source.batch(0, 8)
    wanted = tiles.damaged if removes else clean
    seen: list[Tensor] = []
    made: list[Tensor] = []
    encoder, generator = stage.networks.encoder, stage.networks.generator
    assert encoder is not None
    encoder.register_forward_hook(lambda _, given, __: seen.append(given[0].detach()))
    generator.register_forward_hook(lambda _, __, image: made.append(image.detach()))
    figures = stage.step(0)

    assert torch.equal(seen[0], wanted)
    again = [image for image in made if image.shape == clean.shape]
    errors = [float((clean - image).abs().mean()) for image in again]
    assert figures["reconstruction"] in [pytest.approx(error, rel=1e-4) for error in errors]
