"""Per-pixel evidence from a finished search: residual, discrimination and the learned head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.gan.condition import given, image_of
from anogan.gan.networks import features
from anogan.scoring.search import Objective


def residual_map(x: Tensor, reconstruction: Tensor) -> Tensor:
    """|x - G(z)| averaged over channels, (N, 1, t, t), in [0, 2]."""
    return (x - reconstruction).abs().mean(dim=1, keepdim=True)


def discrimination_map(x: Tensor, reconstruction: Tensor, objective: Objective) -> Tensor:
    """Feature difference per pixel, (N, 1, t, t): D's hidden layers, each over its scale, averaged.

    Coarse layers are enlarged by repetition, which the ONNX graph reproduces exactly.
    """
    again = given(reconstruction, x, objective.condition)
    wanted, got = features(objective.stages, x), features(objective.stages, again)
    layers = [
        F.interpolate((a - b).abs().mean(dim=1, keepdim=True) / scale, size=x.shape[-2:], mode="nearest")
        for a, b, scale in zip(wanted, got, objective.feature_scales, strict=True)
    ]
    return torch.stack(layers).mean(dim=0)


def head_input(x: Tensor, reconstruction: Tensor, discrimination: Tensor) -> Tensor:
    """[x, its condition, G(z), |x - G(z)|, discrimination map], (N, 3C + K + 1, t, t).

    Args:
        x: Tiles, (N, C + K, t, t).
        reconstruction: G(z), (N, C, t, t).
        discrimination: (N, 1, t, t).
    """
    difference = (image_of(x, x.shape[1] - reconstruction.shape[1]) - reconstruction).abs()
    return torch.cat([x, reconstruction, difference, discrimination], dim=1)


@torch.no_grad()
def measure_feature_scales(stages: nn.ModuleList, tiles: list[Tensor]) -> Tensor:
    """(L,) mean |f_l(x)| over good tiles."""
    sums = torch.stack([torch.stack([a.abs().mean() for a in features(stages, x)]) for x in tiles])
    return sums.mean(dim=0).clamp_min(1e-6)
