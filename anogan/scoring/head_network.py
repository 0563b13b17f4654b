"""The residual head's network: how much of the tile it sees around each pixel.

Whether a bump belongs to the design shows in how its surroundings go on. A U-Net (Ronneberger et al. 2015,
arXiv:1505.04597) sees the whole tile, which uneven light asks for; dilated convolutions (Yu & Koltun 2016,
arXiv:1511.07122) see about 60 pixels, and learn less of the designs that they were shown by heart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anogan.config import Config
from anogan.scoring.maps import head_channels

WIDENING = (1, 2, 4, 8, 8)  # Channels per halving of the resolution, in units of `head.width`.
DILATIONS = (1, 2, 4, 8, 1)
SLOPE = 0.1


class Skip(nn.Module):
    """[x, inner(x)] along the channels: details past what `inner` sees at lower resolution.

    Args:
        inner: (N, C, H, W) -> (N, C', H, W).
    """

    def __init__(self, inner: nn.Sequential) -> None:
        """Holds the inner network."""
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + C', H, W)."""
        return torch.cat([x, self.inner(x)], dim=1)


def build_head(config: Config) -> nn.Sequential:
    """The residual head: `head_input` -> defect logit per pixel, (N, 1, t, t)."""
    width = config.head.width
    body = _dilated(width) if config.head.network == "dilated" else _unet(width)
    return nn.Sequential(
        *_halve(head_channels(config), width),
        *body,
        *_double(2 * width if config.head.network == "dilated" else width, width // 2),
        nn.Conv2d(width // 2, 1, 3, padding=1),
    )


def _dilated(width: int) -> list[nn.Module]:
    """At half the resolution throughout, (N, width, h, w) -> (N, 2 width, h, w)."""
    layers = _same(width, 2 * width)
    for dilation in DILATIONS:
        layers += _same(2 * width, 2 * width, dilation)
    return layers


def _unet(width: int) -> list[nn.Module]:
    return [*_same(width, width), *_below([width * factor for factor in WIDENING])]


def _below(widths: Sequence[int]) -> list[nn.Module]:
    """All that happens at lower resolutions than `widths[0]`'s, merged into it."""
    if len(widths) == 1:
        return []
    here, lower = widths[:2]
    inner = [*_halve(here, lower), *_same(lower, lower), *_below(widths[1:]), *_double(lower, here)]
    return [Skip(nn.Sequential(*inner)), *_same(2 * here, here)]


def _same(channels: int, width: int, dilation: int = 1) -> list[nn.Module]:
    same = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, bias=False)
    return _normalised(same, width)


def _halve(channels: int, width: int) -> list[nn.Module]:
    return _normalised(nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False), width)


def _double(channels: int, width: int) -> list[nn.Module]:
    return _normalised(nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False), width)


def _normalised(convolution: nn.Module, width: int) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE)]
