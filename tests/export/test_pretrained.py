"""Pretrained features in the graph against PyTorch's: evidence, search term, whole scorer; random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from anogan.export.build import build_scorer
from anogan.export.gradient import backward, forward
from anogan.export.graph import FLOAT, Graph
from anogan.export.layers import MaxPool
from anogan.export.pretrained import Pretrained, perceptual_map, perceptual_term, unit_features
from anogan.export.work import multiply_adds
from anogan.scoring import Model
from anogan.scoring import perceptual as torch_features
from anogan.scoring.perceptual import Perceptual
from tests.export.conftest import (
    build_model,
    build_torch_scorer,
    live,
    random_images,
    session_run,
    small_config,
)
from tests.export.test_build import assert_agrees

SIZE = (40, 56)
SIDE = 32


def network(backbone: str = "resnet18") -> Perceptual:
    torch.manual_seed(4)
    return live(Perceptual(backbone))  # type: ignore[return-value]


def info(name: str, rank: int) -> Any:
    return helper.make_tensor_value_info(name, FLOAT, [f"{name}{axis}" for axis in range(rank)])


def pictures(channels: int) -> torch.Tensor:
    coarse = torch.randn(3, channels, 6, 6)
    return torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic").clamp(-1, 1)


def model_with_features(backbone: str = "resnet18", **sections: Any) -> Model:
    features = {"weights": "a file", "backbone": backbone} | sections.pop("features", {})
    model = build_model(small_config(features=features, **sections), SIZE)
    return replace(model, perceptual=network(backbone))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("channels", [1, 3])
def test_map_is_that_of_pytorch(backbone: str, channels: int) -> None:
    torch_network = network(backbone)
    pretrained = Pretrained.of(torch_network, (channels, SIDE, SIDE), 0.0)
    x, y = pictures(channels), pictures(channels)
    with torch.no_grad():
        want = torch_features.perceptual_map(torch_network(x), torch_network(y), (SIDE, SIDE))
    g = Graph()
    found = perceptual_map(
        g, pretrained, unit_features(g, pretrained, "x"), unit_features(g, pretrained, "y")
    )
    g.rename(found, "map")
    run = session_run(g.finish("test", [info("x", 4), info("y", 4)], [info("map", 4)]))
    got = run(x=x.numpy(), y=y.numpy())["map"]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("channels", [1, 3])
def test_search_term_and_its_gradient_are_those_of_autograd(backbone: str, channels: int) -> None:
    torch_network = network(backbone)
    pretrained = Pretrained.of(torch_network, (channels, SIDE, SIDE), 0.7)
    x, y = pictures(channels), pictures(channels).requires_grad_(True)
    value = 0.7 * torch_features.perceptual_score(torch_network(x), torch_network(y))
    (gradient,) = torch.autograd.grad(value.sum(), y)
    g = Graph()
    found = perceptual_term(g, pretrained, "y", unit_features(g, pretrained, "x"), 100)
    for got_name, name in zip(found, ("value", "gradient"), strict=True):
        g.rename(got_name, name)
    outputs = [info("value", 1), info("gradient", 4)]
    run = session_run(g.finish("test", [info("x", 4), info("y", 4)], outputs))
    got = run(x=x.numpy(), y=y.detach().numpy())
    np.testing.assert_allclose(got["value"], value.detach().numpy(), rtol=1e-4)
    distance = np.abs(got["gradient"] / 100 - gradient.numpy()) / float(gradient.abs().max())
    assert np.quantile(distance, 0.9) < 1e-5
    # Of the millions of ReLUs some stand at 0, where rounding decides whether a gradient passes.
    assert distance.max() < 1e-2


def test_overlapping_windows_of_a_maximum_share_its_gradient() -> None:
    x = torch.randn(2, 3, 8, 8)
    y, vjp = torch.func.vjp(lambda x: torch.nn.functional.max_pool2d(x, 3, 2, 1), x)
    weight = torch.randn_like(y)
    layers = [MaxPool(3, 2, 1)]
    g = Graph()
    values = forward(g, layers, "x")
    g.rename(values[-1], "y")
    g.rename(backward(g, layers, values, "weight"), "gradient")
    run = session_run(
        g.finish("test", [info("x", 4), info("weight", 4)], [info("y", 4), info("gradient", 4)])
    )
    got = run(x=x.numpy(), weight=weight.numpy())
    np.testing.assert_array_equal(got["y"], y.numpy())
    np.testing.assert_allclose(got["gradient"], vjp(weight)[0].numpy(), rtol=1e-6)


CASES: dict[str, dict[str, Any]] = {
    "evidence": {"search": {"steps": 2}},
    "evidence in grey": {"images": {"channels": 1}, "search": {"steps": 2}},
    "searched": {"features": {"search_weight": 0.5}, "search": {"steps": 2}},
    "searched with lambda 0": {"features": {"search_weight": 0.5}, "search": {"steps": 2, "lambda": 0.0}},
    "searched under a mask": {"features": {"search_weight": 0.5}, "search": {"steps": 2, "mask": 0.4}},
    "searched and not scored": {
        "features": {"search_weight": 0.5},
        "score": {"perceptual_weight": 0.0},
        "search": {"steps": 2},
    },
}


@pytest.mark.parametrize("name", CASES)
def test_graph_decides_what_pytorch_decides(name: str) -> None:
    model = model_with_features(**CASES[name])
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    run = session_run(build_scorer(model, scorer.calibration))
    images = random_images(2, SIZE, model.config.images.channels)
    assert_agrees(scorer, run(image=np.stack(images)), images, 2e-3)
    without = build_torch_scorer(replace(model, perceptual=None)).score(images)
    assert abs(without[0].score - scorer.score(images)[0].score) > 1e-3, "the features count"


def test_features_that_nothing_looks_at_are_left_out_of_the_file() -> None:
    model = model_with_features(score={"perceptual_weight": 0.0})
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    plain = build_scorer(replace(model, perceptual=None), scorer.calibration)
    assert build_scorer(model, scorer.calibration).ByteSize() == plain.ByteSize()


def test_multiply_adds_of_a_resnet_are_those_counted_by_hand() -> None:
    pretrained = Pretrained.of(network(), (3, SIDE, SIDE), 0.0)
    stem, block = 3 * 64 * 49 * 16**2, 64 * 64 * 9 * 8**2
    assert multiply_adds(pretrained.stages[0], SIDE) == stem + 4 * block
    halved = 64 * 128 * 9 * 4**2 + 64 * 128 * 4**2 + 3 * 128 * 128 * 9 * 4**2
    assert multiply_adds(pretrained.stages[1], 8) == halved
