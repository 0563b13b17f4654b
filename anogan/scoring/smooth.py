"""Gradients without jumps, so that rounding cannot decide where a search goes.

|d| has the slope sign(d), and a ReLU's slope is 0 or 1: where d or the ReLU's input is about 0, the last bit
of a float decides between two different gradients, and two correct searches part. Here values are exact and
slopes pass through such places on a short ramp instead. `search.gradient: exact` has the plain slopes.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Ramps are 1 / steepness wide. The ONNX graph multiplies by the same numbers.
RESIDUAL_STEEPNESS = 50.0  # Per unit of [-1, 1]: 2.5 grey levels of 256.
FEATURE_STEEPNESS = 50.0  # Per mean activation of the layer.
ACTIVATION_STEEPNESS = 20.0  # Per unit; batch norm makes activations about 1.


def smooth_abs(d: Tensor, steepness: float | Tensor) -> Tensor:
    """|d|, whose gradient is clip(steepness d, -1, 1) instead of sign(d)."""
    return _SmoothAbs.apply(d, steepness)  # type: ignore[no-any-return]


def softened(network: nn.Module) -> nn.Module:
    """The same function of the same weights, with ramps as the slopes of its ReLUs and LeakyReLUs.

    Only modules that hold an activation are copied; parameters and buffers are shared.
    """
    if isinstance(network, nn.ReLU | nn.LeakyReLU):
        return _RampedReLU(float(getattr(network, "negative_slope", 0.0)))
    children = {name: softened(child) for name, child in network.named_children()}
    if all(child is getattr(network, name) for name, child in children.items()):
        return network
    other = copy(network)
    other._modules = {**network._modules, **children}
    return other


class _SmoothAbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Tensor, steepness: float | Tensor) -> Tensor:
        ctx.save_for_backward(d)
        ctx.steepness = steepness
        return d.abs()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (d,) = ctx.saved_tensors
        return gradients[0] * (d * ctx.steepness).clamp(-1, 1), None


class _Ramp(torch.autograd.Function):
    """max(x, slope x), whose gradient rises from `slope` to 1 over the smallest outputs above 0.

    On the outputs alone, which every input below 0 leaves at or below 0: the backward pass needs no inputs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        output = F.leaky_relu(x, slope) if slope else F.relu(x)
        ctx.save_for_backward(output)
        ctx.slope = slope
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        share = (output * ACTIVATION_STEEPNESS).clamp(0, 1)
        if ctx.slope:
            share = share * (1 - ctx.slope) + ctx.slope
        return gradients[0] * share, None


class _RampedReLU(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return _Ramp.apply(x, self.slope)  # type: ignore[no-any-return]
