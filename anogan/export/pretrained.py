"""Pretrained features as ONNX nodes, as evidence and in the search (`anogan.scoring.perceptual`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from anogan.export.gradient import backward, forward
from anogan.export.graph import Graph
from anogan.export.layers import Layer, Leaky, MaxPool, Residual, fold
from anogan.export.residuals import sample_mean
from anogan.scoring.perceptual import IMAGENET_MEAN, IMAGENET_STD, UNIT_EPS, Perceptual

_NAME = "pretrained network"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """The stages of a ResNet.

    Attributes:
        stages: Each maps the one before; the first one sees the normalised picture.
        image_shape: (C, t, t) of the picture; stages are t / 4, t / 8, ... wide.
        search_weight: Of the difference in the search objective.
    """

    stages: tuple[tuple[Layer, ...], ...]
    image_shape: tuple[int, int, int]
    search_weight: float

    @classmethod
    def of(
        cls, perceptual: Perceptual, image_shape: tuple[int, int, int], search_weight: float
    ) -> Pretrained:
        """Folds a frozen network."""
        stages = tuple(tuple(_layers(stage)) for stage in perceptual.stages())
        return cls(stages, image_shape, search_weight)

    @property
    def reductions(self) -> list[int]:
        """How many pixels a place of each stage is wide."""
        return [4 * 2**level for level in range(len(self.stages))]


def _layers(modules: Sequence[nn.Module]) -> Iterator[Layer]:
    plain: list[nn.Module] = []
    for module in modules:
        if isinstance(module, nn.MaxPool2d):
            yield from fold(plain, _NAME)
            plain = []
            yield _pool(module)
        elif hasattr(module, "downsample"):
            yield _block(module)
            yield Leaky(0.0)
        else:
            plain.append(module)
    yield from fold(plain, _NAME)


def _pool(pool: nn.MaxPool2d) -> MaxPool:
    kernel, stride, padding = (int(np.max(v)) for v in (pool.kernel_size, pool.stride, pool.padding))
    return MaxPool(kernel, stride, padding)


def _block(block: Any) -> Residual:
    """A basic block or bottleneck (He 2016, arXiv:1512.03385) without its last ReLU."""
    body: list[nn.Module] = []
    for number in (1, 2, 3):
        if hasattr(block, f"conv{number}"):
            body += [nn.ReLU()] if body else []
            body += [getattr(block, f"conv{number}"), getattr(block, f"bn{number}")]
    return Residual(fold(body, _NAME), fold(block.downsample or (), _NAME))


def unit_features(g: Graph, pretrained: Pretrained, x: str) -> list[str]:
    """`Perceptual.forward` of (N, C, t, t) in [-1, 1]: (N, C_l, H_l, W_l), vectors of length 1."""
    return [_unit(g, passed[-1])[0] for passed in _passes(g, pretrained, x)]


def perceptual_map(g: Graph, pretrained: Pretrained, wanted: list[str], got: list[str]) -> str:
    """`anogan.scoring.perceptual.perceptual_map` of `unit_features`, (N, 1, t, t)."""
    stages = []
    for factor, a, b in zip(pretrained.reductions, wanted, got, strict=True):
        squared = _squared_length(g, g.op("Sub", a, b))
        stages.append(
            g.op(
                "Resize",
                squared,
                "",
                g.f32([1, 1, factor, factor]),
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        )
    return g.op("Div", g.op("Sum", *stages), g.f32(len(stages)))


def perceptual_term(
    g: Graph, pretrained: Pretrained, y: str, wanted: list[str], scale: int
) -> tuple[str, str]:
    """The weighted perceptual score and its gradient.

    Args:
        g: Where to write.
        pretrained: Folded network.
        y: G(z), (N, C, t, t).
        wanted: `unit_features` of the image.
        scale: Factor of the gradient; 0 asks for none.

    Returns:
        The score (N,), and `scale` times its gradient at y, (N, C, t, t).
    """
    passes = _passes(g, pretrained, y)
    units = [_unit(g, passed[-1]) for passed in passes]
    differences = [g.op("Sub", unit, want) for (unit, _), want in zip(units, wanted, strict=True)]
    share = pretrained.search_weight / len(passes)
    means = [sample_mean(g, _squared_length(g, d)) for d in differences]
    value = g.op("Mul", g.op("Sum", *means), g.f32(share))
    if not scale:
        return value, ""
    slope = ""
    for level in reversed(range(len(passes))):
        places = (pretrained.image_shape[1] // pretrained.reductions[level]) ** 2
        at_unit = g.op("Mul", differences[level], g.f32(2 * share * scale / places))
        own = _unit_product(g, units[level], at_unit)
        slope = g.op("Add", own, slope) if slope else own
        slope = backward(g, pretrained.stages[level], passes[level], slope)
    slope = g.op("Div", slope, g.f32(np.reshape(IMAGENET_STD, (-1, 1, 1)) * 2))
    grey = pretrained.image_shape[0] == 1
    return value, g.op("ReduceSum", slope, g.i64([1]), keepdims=1) if grey else slope


def _passes(g: Graph, pretrained: Pretrained, x: str) -> list[list[str]]:
    mean, std = (g.f32(np.reshape(values, (-1, 1, 1))) for values in (IMAGENET_MEAN, IMAGENET_STD))
    in_unit = g.op("Div", g.op("Add", x, g.f32(1)), g.f32(2))
    # A grey picture becomes one of three equal colours here.
    x = g.op("Div", g.op("Sub", in_unit, mean), std)
    passes = []
    for stage in pretrained.stages:
        passes.append(forward(g, stage, x))
        x = passes[-1][-1]
    return passes


def _unit(g: Graph, a: str) -> tuple[str, str]:
    """Vectors (N, C, H, W) of length 1, and the length (N, 1, H, W) that they were divided by."""
    length = g.op("Max", g.op("Sqrt", _squared_length(g, a)), g.f32(UNIT_EPS))
    return g.op("Div", a, length), length


def _unit_product(g: Graph, unit: tuple[str, str], gradient: str) -> str:
    """(w - u sum(w u)) / |a|: a change along the vector changes nothing."""
    along = g.op("ReduceSum", g.op("Mul", gradient, unit[0]), g.i64([1]), keepdims=1)
    return g.op("Div", g.op("Sub", gradient, g.op("Mul", unit[0], along)), unit[1])


def _squared_length(g: Graph, d: str) -> str:
    return g.op("ReduceSum", g.op("Mul", d, d), g.i64([1]), keepdims=1)
