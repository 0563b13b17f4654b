"""Forward passes and vector-Jacobian products against PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anogan.errors import ExportError
from anogan.export.gradient import backward, forward
from anogan.export.graph import FLOAT, Graph
from anogan.export.layers import Convolution, fold
from anogan.gan.blocks import SelfAttention
from anogan.gan.networks import build_discriminator, build_encoder, build_generator
from anogan.scoring.head_network import Skip
from tests.export.conftest import live

LAYERS = {
    "convolution": (nn.Conv2d(3, 5, 4, stride=2, padding=1), (3, 8, 8)),
    "convolution of stride 1": (nn.Conv2d(3, 5, 3, padding=1, bias=False), (3, 8, 8)),
    "convolution that leaves the last pixels out": (nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 8, 8)),
    "convolution of every fourth pixel": (nn.Conv2d(3, 5, 1, stride=4), (3, 8, 8)),
    "dilated convolution": (nn.Conv2d(3, 5, 3, padding=2, dilation=2), (3, 8, 8)),
    "transposed convolution": (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), (3, 8, 8)),
    "projection": (nn.ConvTranspose2d(6, 5, 4, bias=False), (6, 1, 1)),
    "last convolution of the encoder": (nn.Conv2d(3, 5, 4), (3, 4, 4)),
    "relu": (nn.ReLU(), (3, 8, 8)),
    "leaky relu": (nn.LeakyReLU(0.2), (3, 8, 8)),
    "tanh": (nn.Tanh(), (3, 8, 8)),
    "nearest upsampling": (nn.Upsample(scale_factor=2, mode="nearest"), (3, 8, 8)),
    "self-attention": (live(SelfAttention(8)), (8, 4, 4)),
    "skip connection": (Skip(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh())), (3, 8, 8)),
    "group norm": (live(nn.GroupNorm(2, 6)), (6, 8, 8)),
    "layer norm": (live(nn.GroupNorm(1, 3)), (3, 8, 8)),
    "group norm without gain": (nn.GroupNorm(3, 6, affine=False), (6, 4, 4)),
}


def product(run_graph: Callable[..., Any], network: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Any]:
    """Output and gradient of sum(output * weight) by the ONNX graph."""
    layers = fold(network, "network")
    g = Graph()
    values = forward(g, layers, "x")
    g.rename(values[-1], "y")
    g.rename(backward(g, layers, values, "weight"), "gradient")
    four = (FLOAT, 4)
    run = run_graph(g, {"x": four, "weight": four}, {"y": four, "gradient": four})
    return run(x=x.numpy(), weight=weight.numpy())


def assert_same_product(run_graph: Callable[..., Any], network: nn.Module, x: Tensor) -> None:
    network.eval().requires_grad_(False)
    y, vjp = torch.func.vjp(network, x)
    weight = torch.randn_like(y)
    got = product(run_graph, network, x, weight)
    (gradient,) = vjp(weight)
    np.testing.assert_allclose(got["y"], y.numpy(), rtol=1e-5, atol=1e-6)
    scale = float(gradient.abs().max())
    np.testing.assert_allclose(got["gradient"], gradient.numpy(), rtol=1e-5, atol=1e-6 * max(1.0, scale))


@pytest.mark.parametrize("name", LAYERS)
def test_product_of_a_layer_is_that_of_autograd(name: str, run_graph: Callable[..., Any]) -> None:
    layer, shape = LAYERS[name]
    assert_same_product(run_graph, nn.Sequential(layer), torch.randn(3, *shape))


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 5, 4, 2, 1, bias=False), nn.ConvTranspose2d(3, 5, 4, 2, 1)])
def test_folded_batch_norm_gives_the_product_of_both_layers(
    layer: nn.Module, run_graph: Callable[..., Any]
) -> None:
    network = nn.Sequential(layer, nn.BatchNorm2d(5), nn.LeakyReLU(0.2))
    live(network)
    assert_same_product(run_graph, network, torch.randn(3, 3, 8, 8))
    assert len(fold(network, "network")) == 2


@pytest.mark.parametrize("grid", [1, 4])
@pytest.mark.parametrize("upsampling", ["transpose", "resize"])
def test_product_of_a_whole_generator_is_that_of_autograd(
    grid: int, upsampling: str, run_graph: Callable[..., Any]
) -> None:
    generator = build_generator(32, 3, 6, grid, 4, upsampling=upsampling)
    live(generator)
    assert_same_product(run_graph, generator, torch.randn(3, 6, grid, grid))


def test_product_of_a_whole_discriminator_is_that_of_autograd(run_graph: Callable[..., Any]) -> None:
    discriminator = build_discriminator(32, 3, 4, spectral_norm=True)
    live(discriminator)
    assert_same_product(run_graph, discriminator, torch.randn(3, 3, 32, 32))


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_product_of_networks_with_norms_per_sample_is_that_of_autograd(
    norm: str, run_graph: Callable[..., Any]
) -> None:
    generator = live(build_generator(32, 3, 6, 1, 4, norm=norm))
    assert_same_product(run_graph, generator, torch.randn(3, 6, 1, 1))
    discriminator = live(build_discriminator(32, 3, 4, norm=norm))
    assert_same_product(run_graph, discriminator, torch.randn(3, 3, 32, 32))


def test_product_of_networks_with_self_attention_is_that_of_autograd(run_graph: Callable[..., Any]) -> None:
    generator = live(build_generator(32, 3, 6, 1, 4, attention_at=8))
    assert_same_product(run_graph, generator, torch.randn(3, 6, 1, 1))
    discriminator = live(build_discriminator(32, 3, 4, attention_at=8))
    assert_same_product(run_graph, discriminator, torch.randn(3, 3, 32, 32))


def test_self_attention_before_training_changes_nothing(run_graph: Callable[..., Any]) -> None:
    x = torch.randn(2, 8, 4, 4)
    got = product(run_graph, nn.Sequential(SelfAttention(8).requires_grad_(False)), x, torch.ones_like(x))
    np.testing.assert_array_equal(got["y"], x.numpy())
    np.testing.assert_array_equal(got["gradient"], np.ones_like(x))


def test_norm_of_a_blank_image_stays_finite(run_graph: Callable[..., Any]) -> None:
    norm = live(nn.GroupNorm(2, 6))
    got = product(run_graph, nn.Sequential(norm), torch.full((2, 6, 8, 8), 0.5), torch.ones(2, 6, 8, 8))
    wanted = norm.bias.detach().view(1, 6, 1, 1).expand(2, 6, 8, 8)
    np.testing.assert_allclose(got["y"], wanted, atol=1e-4)  # Rounding, magnified by 1 / sqrt(eps).
    assert np.isfinite(got["gradient"]).all()


def test_product_at_zero_takes_the_side_that_autograd_takes(run_graph: Callable[..., Any]) -> None:
    network = nn.Sequential(nn.LeakyReLU(0.2), nn.ReLU())
    assert_same_product(run_graph, network, torch.zeros(2, 3, 8, 8))


def test_weights_of_forward_and_backward_are_stored_once() -> None:
    layers = fold(build_generator(32, 3, 6, 1, 4).eval(), "generator")
    g = Graph()
    backward(g, layers, forward(g, layers, "z"), "w")
    stored = sum(len(t.raw_data) for t in g.finish("test", [], []).graph.initializer)
    weights = sum(4 * (a.weight.size + a.bias.size) for a in layers if isinstance(a, Convolution))
    assert stored < weights + 64


def test_encoder_folds_to_convolutions_and_activations() -> None:
    layers = fold(build_encoder(32, 3, 6, 4, 4).eval(), "encoder")
    assert sum(isinstance(layer, Convolution) for layer in layers) == 5


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)), "InstanceNorm2d"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "groups"),
        (nn.Sequential(nn.Conv2d(4, 4, (3, 1))), "uneven sides"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), "follows no convolution"),
        (nn.Sequential(nn.Upsample(scale_factor=1.5)), "Upsample"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
            "running statistics",
        ),
    ],
)
def test_a_layer_that_cannot_be_exported_is_named(network: nn.Sequential, names: str) -> None:
    with pytest.raises(ExportError, match=names):
        fold(network, "generator")


def test_a_convolution_that_loses_pixels_is_refused_rather_than_given_a_wrong_gradient() -> None:
    layers = fold(nn.Sequential(nn.Conv2d(3, 4, 3, stride=3, padding=1)), "discriminator")
    g = Graph()
    with pytest.raises(ExportError, match="every pixel"):
        backward(g, layers, forward(g, layers, "x"), "w")
