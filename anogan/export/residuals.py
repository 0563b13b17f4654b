"""Pixel terms of the search objective and the defect mask as ONNX nodes (`anogan.scoring.residuals`)."""

from __future__ import annotations

import math

import numpy as np

from anogan.config import SearchConfig
from anogan.export.graph import FLOAT, Graph
from anogan.scoring.residuals import CHARBONNIER_EPS, MAX_MASKED
from anogan.scoring.smooth import RESIDUAL_STEEPNESS

Shape = tuple[int, int, int]


def pixel_term(g: Graph, config: SearchConfig, d: str, shape: Shape, weight: float) -> tuple[str, str]:
    """The configured residual and its gradient.

    Args:
        g: Where to write.
        config: Which residual.
        d: G(z) - x, (N, C, t, t).
        shape: (C, t, t).
        weight: Factor of the gradient.

    Returns:
        The residual (N,), and `weight` times its gradient at the image, (N, C, t, t).
    """
    per_value = weight / np.prod(shape)
    if config.residual == "trimmed":
        return _trimmed(g, d, shape, config.trimmed_share, weight)
    if config.residual == "charbonnier":
        size = g.op("Sqrt", g.op("Add", g.op("Mul", d, d), g.f32(CHARBONNIER_EPS**2)))
        slope = g.op("Div", d, size)
    else:
        size, slope = g.op("Abs", d), direction(g, config, d, RESIDUAL_STEEPNESS)
    return sample_mean(g, size), g.op("Mul", slope, g.f32(per_value))


def direction(g: Graph, config: SearchConfig, d: str, steepness: float) -> str:
    """The slope of |d|: its sign, or a ramp around 0 (`anogan.scoring.smooth`)."""
    if config.gradient == "exact":
        return g.op("Sign", d)
    return g.op("Clip", g.op("Mul", d, g.f32(steepness)), g.f32(-1), g.f32(1))


def _trimmed(g: Graph, d: str, shape: Shape, share: float, weight: float) -> tuple[str, str]:
    """Which pixels are left out has no gradient, so that of the others is the L1 residual's."""
    channels, pixels = shape[0], shape[1] * shape[2]
    kept = math.ceil((1 - share) * pixels)
    differences = _per_pixel(g, d)
    counts = g.cast(g.op("LessOrEqual", differences, _kth_smallest(g, differences, kept, pixels)), FLOAT)
    total = g.op("ReduceSum", g.op("Mul", differences, counts), g.i64([1, 2, 3]), keepdims=0)
    slope = g.op("Mul", g.op("Sign", d), counts)
    return g.op("Div", total, g.f32(kept)), g.op("Mul", slope, g.f32(weight / (channels * kept)))


def defect_mask(g: Graph, d: str, shape: Shape, level: float) -> str:
    """`anogan.scoring.residuals.defect_mask` of the difference d: (N, 1, t, t) bool."""
    pixels = shape[1] * shape[2]
    differences = _per_pixel(g, d)
    limit = _kth_smallest(g, differences, math.ceil((1 - MAX_MASKED) * pixels), pixels)
    return g.op("Greater", differences, g.op("Max", limit, g.f32(level)))


def sample_mean(g: Graph, x: str) -> str:
    """(N,): mean of everything but the first axis."""
    return g.op("ReduceMean", x, g.i64([1, 2, 3]), keepdims=0)


def _per_pixel(g: Graph, d: str) -> str:
    return g.op("ReduceMean", g.op("Abs", d), g.i64([1]), keepdims=1)


def _kth_smallest(g: Graph, differences: str, k: int, n: int) -> str:
    """Of (N, 1, H, W) with n = H W: (N, 1, 1, 1), the smallest of the n - k + 1 largest."""
    rows = g.op("Reshape", differences, g.i64([0, 1, 1, -1]))
    largest = g.ops("TopK", 2, rows, g.i64([n - max(1, k) + 1]), axis=3, largest=1, sorted=0)[0]
    return g.op("ReduceMin", largest, g.i64([3]), keepdims=1)
