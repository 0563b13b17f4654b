"""Per-pixel evidence from a finished search: residual, discrimination and the learned head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.config import Config
from anogan.gan.condition import given, image_of, tile_channels
from anogan.gan.networks import features
from anogan.scoring.search import Objective

CONTRAST_FLOOR = 0.03  # In [-1, 1]: four grey levels of 256, about the grain of a camera.


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


def head_input(x: Tensor, reconstruction: Tensor, discrimination: Tensor, contrast_window: int) -> Tensor:
    """[x, its condition, G(z), |x - G(z)|, discrimination map], then `local_contrast` if any.

    Args:
        x: Tiles, (N, C + K, t, t).
        reconstruction: G(z), (N, C, t, t).
        discrimination: (N, 1, t, t).
        contrast_window: `head.contrast_window`, pixels; 0 for none.

    Returns:
        (N, 3C + K + 1, t, t), or 2C more with a window; see `head_channels`.
    """
    image = image_of(x, x.shape[1] - reconstruction.shape[1])
    difference = image - reconstruction
    seen = [x, reconstruction, difference.abs(), discrimination]
    if contrast_window:
        seen.append(local_contrast(image, difference, contrast_window))
    return torch.cat(seen, dim=1)


def head_channels(config: Config) -> int:
    """How many maps `head_input` gives."""
    contrast = 2 * config.images.channels if config.head.contrast_window else 0
    return tile_channels(config) + 2 * config.images.channels + 1 + contrast


def local_contrast(x: Tensor, difference: Tensor, window: int) -> Tensor:
    """[x less its local mean, x - G(z)], both in local standard deviations of x, (N, 2C, t, t).

    In weak light a crack is a few grey levels deep and in strong light fifty: by its surroundings it is the
    same (divisive normalisation, Jarrett et al. 2009, section 2).

    Args:
        x: (N, C, t, t).
        difference: x - G(z), (N, C, t, t).
        window: Side of the surroundings, pixels, odd; what lies outside the tile does not count.
    """
    centred = x - _local_mean(x, window)
    deviation = _local_mean(centred.square(), window).sqrt() + CONTRAST_FLOOR
    return torch.cat([centred / deviation, difference / deviation], dim=1)


def _local_mean(x: Tensor, window: int) -> Tensor:
    return window_mean(window_mean(x, window, 1), 1, window)


def window_mean(x: Tensor, height: int, width: int) -> Tensor:
    """Mean over the window around each pixel, (N, C, t, t); what lies outside the tile does not count.

    Args:
        x: (N, C, t, t).
        height: Rows of the window, odd.
        width: Its columns, odd.
    """
    # A single channel often has the strides of channels_last, in which a CPU takes six times as long.
    x = x.clone(memory_format=torch.contiguous_format)
    return F.avg_pool2d(x, (height, width), 1, (height // 2, width // 2), count_include_pad=False)


@torch.no_grad()
def measure_feature_scales(stages: nn.ModuleList, tiles: list[Tensor]) -> Tensor:
    """(L,) mean |f_l(x)| over good tiles."""
    sums = torch.stack([torch.stack([a.abs().mean() for a in features(stages, x)]) for x in tiles])
    return sums.mean(dim=0).clamp_min(1e-6)
