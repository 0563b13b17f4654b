"""Counting multiply-adds."""

from __future__ import annotations

import pytest
from torch import nn

from anogan.export.layers import fold
from anogan.export.work import multiply_adds
from anogan.gan.blocks import SelfAttention


@pytest.mark.parametrize(
    ("network", "side", "wanted"),
    [
        ([nn.Conv2d(3, 5, 4, stride=2, padding=1)], 8, 3 * 5 * 16 * 4 * 4),
        ([nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)], 8, 3 * 5 * 16 * 8 * 8),
        ([nn.ConvTranspose2d(6, 5, 4)], 1, 6 * 5 * 16),
        ([SelfAttention(16)], 4, (2 + 2 + 16) * 16 * 16 + (2 + 16) * 16 * 16),
        ([nn.Upsample(scale_factor=2.0), nn.Conv2d(3, 5, 3, padding=1)], 8, 3 * 5 * 9 * 16 * 16),
        ([nn.Conv2d(3, 4, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(4, 1, 8)], 8, 108 * 64 + 256),
    ],
)
def test_multiply_adds_are_those_counted_by_hand(network: list[nn.Module], side: int, wanted: int) -> None:
    assert multiply_adds(fold(network, "network"), side) == wanted
