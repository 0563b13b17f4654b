from __future__ import annotations

import pytest
import torch
from torch import nn

from anogan.config import config_from_dict
from anogan.errors import ConfigError
from anogan.gan.condition import tile_channels
from anogan.scoring.maps import (
    CONTRAST_FLOOR,
    head_channels,
    head_input,
    local_contrast,
    measure_feature_scales,
    window_mean,
)


def _picture(channels: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(2, channels, 24, 24) - 0.5


def test_local_contrast_counts_the_window_inside_the_tile() -> None:
    x, d = _picture(3), _picture(3) / 7

    centred, difference = local_contrast(x, d, 5).chunk(2, dim=1)

    def window(of: torch.Tensor, row: int, column: int) -> torch.Tensor:
        return of[1, 2, max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]

    for row, column in [(0, 0), (1, 12), (11, 13), (23, 22)]:
        squares = torch.stack(
            [
                (x[1, 2, r, c] - window(x, r, c).mean()).square()
                for r in range(max(0, row - 2), min(24, row + 3))
                for c in range(max(0, column - 2), min(24, column + 3))
            ]
        )
        deviation = squares.mean().sqrt() + CONTRAST_FLOOR
        wanted = (x[1, 2, row, column] - window(x, row, column).mean()) / deviation
        torch.testing.assert_close(centred[1, 2, row, column], wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(difference[1, 2, row, column], d[1, 2, row, column] / deviation)


def test_local_contrast_is_the_same_in_weak_light() -> None:
    strong = 50 * _picture()  # So strong that the floor does not count.

    torch.testing.assert_close(
        local_contrast(strong / 4 - 3, strong / 40, 7),
        local_contrast(strong, strong / 10, 7),
        rtol=0.02,
        atol=0.002,
    )


def test_window_means_do_not_depend_on_the_order_in_memory() -> None:
    x = _picture()
    other = torch.empty_strided(x.shape, (576, 1, 24, 1)).copy_(x)  # As NumPy lays out (N, H, W, 1).

    assert other.stride() != x.stride()
    found = window_mean(other, 5, 3)
    assert torch.equal(found, window_mean(x, 5, 3))
    torch.testing.assert_close(found[1, 0, 0, 12], x[1, 0, :3, 11:14].mean())
    # Channels last, pooling is far slower on a CPU: what is given on stays in plain order.
    assert found.stride() == x.stride()


def test_local_contrast_of_an_even_surface_is_nothing() -> None:
    even = torch.full((1, 1, 16, 16), 0.3)

    assert local_contrast(even, even * 0, 5).abs().max() < 1e-5


@pytest.mark.parametrize("window", [0, 9])
@pytest.mark.parametrize("condition", ["none", "tile-position"])
def test_the_head_is_built_for_what_it_is_given(window: int, condition: str) -> None:
    tree = {"head": {"contrast_window": window}, "network": {"condition": condition}}
    config = config_from_dict(tree | {"images": {"channels": 3}}, "a test")
    x = torch.zeros(2, tile_channels(config), 32, 32)

    seen = head_input(x, torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32), window)

    assert seen.shape == (2, head_channels(config), 32, 32)


@pytest.mark.parametrize("window", [1, 4, -3])
def test_a_window_without_a_centre_is_refused(window: int) -> None:
    with pytest.raises(ConfigError, match="contrast_window"):
        config_from_dict({"head": {"contrast_window": window}}, "a test")


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def test_the_scale_of_each_layer_is_its_mean_activation_on_good_tiles() -> None:
    layers = nn.ModuleList([_Times(-2.0), _Times(5.0), _Times(0.0)])  # Each maps the one before.
    tiles = [torch.full((2, 1, 4, 4), 0.5), torch.full((3, 1, 4, 4), -1.5)]

    scales = measure_feature_scales(layers, tiles)

    # Mean |x| is 0.5 in one batch and 1.5 in the other. A dead layer must not divide by 0.
    torch.testing.assert_close(scales, torch.tensor([2.0, 10.0, 1e-6]))
