from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from anogan.config import Config
from anogan.gan.networks import (
    build_generator,
    build_networks,
    build_training_discriminator,
    feature_stack,
    features,
    for_scoring,
    logit_layers,
)

EXPORTABLE = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Upsample)
TRAINING_OPTIONS = [
    {"spectral_norm": True},
    {"dropout": 0.5},
    {"minibatch": "stddev"},
    {"minibatch": "discrimination"},
    {"packing": 2},
    {"spectral_norm": True, "dropout": 0.3, "minibatch": "discrimination", "packing": 4},
]


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("upsampling", ["transpose", "resize"])
def test_generator_gives_images_of_the_size_in_range(size: int, upsampling: str) -> None:
    generator = build_generator(size, 3, 6, 1, 4, upsampling=upsampling)
    images = generator(torch.randn(2, 6, 1, 1))
    assert images.shape == (2, 3, size, size)
    assert images.abs().max() <= 1


def test_radford_layers_are_as_in_the_paper() -> None:
    layers = list(build_generator(64, 3, 100, 1, 64))
    convolutions = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in convolutions] == [512, 256, 128, 64, 3]
    assert all(layer.kernel_size == (4, 4) for layer in convolutions)
    assert convolutions[1].weight.std().item() == pytest.approx(0.02, rel=0.02)
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    assert all(norm.eps == 1e-5 and norm.momentum == 0.1 for norm in norms)


def test_resize_convolution_has_no_checkerboard_and_transposed_convolution_has() -> None:
    def checkerboard(upsampling: str) -> float:
        torch.manual_seed(1)
        # Stride 2 with kernel 3 is the uneven overlap; ours with 4 is even, so random weights show it.
        network = build_generator(32, 1, 4, 8, 16, upsampling=upsampling, norm="none")[:-1].double()
        with torch.no_grad():
            for p in network.parameters():
                p.copy_(p.abs())  # Constant input and positive weights: any pattern is the layer's own.
            image = network(torch.ones(1, 4, 8, 8).double())[0, 0, 8:24, 8:24]
        phases = torch.stack([image[i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])
        return float(phases.std() / phases.mean())

    assert checkerboard("resize") < 1e-9 < 1e-3 < checkerboard("transpose")


@pytest.mark.parametrize("options", TRAINING_OPTIONS)
def test_scoring_discriminator_is_plain_and_has_the_features_of_the_trained_one(
    options: dict[str, object], tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(gan=options)
    trained = build_training_discriminator(config)
    x = torch.randn(8, 3, 32, 32)
    k = config.gan.packing
    trained.train()(x.repeat(1, k, 1, 1))  # Moves running statistics and spectral norm's vectors.
    plain = for_scoring(trained, 3)
    assert all(isinstance(layer, EXPORTABLE) for layer in plain)
    wanted = features(feature_stack(trained.eval()), x.repeat(1, k, 1, 1))
    got = features(feature_stack(plain), x)
    for a, b in zip(wanted, got, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("options", TRAINING_OPTIONS)
def test_scoring_discriminator_loads_into_freshly_built_networks(
    options: dict[str, object], tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(gan=options)
    plain = for_scoring(build_training_discriminator(config), 3)
    fresh = build_networks(config).discriminator
    fresh.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(fresh.eval()(x), plain.eval()(x))


def test_spectral_norm_bounds_every_convolution_of_the_discriminator(
    tiny_config: Callable[..., Config],
) -> None:
    discriminator = build_training_discriminator(tiny_config(gan={"spectral_norm": True}))
    for _ in range(30):
        discriminator.train()(torch.randn(4, 3, 32, 32))
    for layer in for_scoring(discriminator, 3):
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_dropout_acts_in_training_and_never_in_features(tiny_config: Callable[..., Config]) -> None:
    discriminator = build_training_discriminator(tiny_config(gan={"dropout": 0.5}))
    x = torch.randn(4, 3, 32, 32)
    assert not torch.equal(discriminator(x), discriminator(x))
    stages = feature_stack(discriminator)
    for a, b in zip(features(stages, x), features(stages, x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("side", [0, 4, 8])
def test_stages_and_what_follows_them_are_the_whole_discriminator(
    side: int, tiny_config: Callable[..., Config]
) -> None:
    discriminator = build_networks(tiny_config(network={"attention_at": side})).discriminator.eval()
    for layer in discriminator:
        if type(layer).__name__ == "SelfAttention":
            torch.nn.init.constant_(layer.gamma, 1.0)
    x = torch.randn(4, 3, 32, 32)
    last = features(feature_stack(discriminator), x)[-1]
    assert torch.equal(logit_layers(discriminator)(last), discriminator(x))


def test_attention_sits_at_the_named_side_of_both_networks(tiny_config: Callable[..., Config]) -> None:
    networks = build_networks(tiny_config(network={"attention_at": 8}))
    for network, x in (
        (networks.generator, torch.randn(2, 8, 1, 1)),
        (networks.discriminator, torch.randn(2, 3, 32, 32)),
    ):
        sides = []
        for layer in network:
            x = layer(x)
            if type(layer).__name__ == "SelfAttention":
                sides.append(x.shape[2])
        assert sides == [8]
