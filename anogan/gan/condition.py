"""What the networks are told beside the image: where a tile lies, or which product it shows.

A condition is K numbers per tile. A tile carries it as K constant maps behind its C colours,
(N, C + K, t, t), and z as K constant maps behind its own channels: concatenation (Mirza & Osindero 2014,
arXiv:1411.1784), by which the first convolution of a network adds a learned term and no other layer knows of
it. A search moves z alone, so the condition is a constant of it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anogan.config import Config
from anogan.images.tiling import TileGrid
from anogan.images.variants import variant_index


def condition_dim(config: Config) -> int:
    """K: 2 for a tile's position, the number of variants for a variant, 0 without a condition."""
    network = config.network
    return {"none": 0, "tile-position": 2, "variant": len(network.variants)}[network.condition]


def tile_channels(config: Config) -> int:
    """C + K: colours and condition, the input channels of discriminator and encoder."""
    return config.images.channels + condition_dim(config)


def tile_conditions(config: Config, positions: NDArray[np.float32], variant: str | None = None) -> Tensor:
    """The conditions of an image's tiles, (T, K).

    Args:
        config: Settings of the model.
        positions: (T, 2), see `tile_position`.
        variant: Of the product that the image shows.

    Raises:
        ConfigError: See `variant_index`.
    """
    index = variant_index(config.network.variants, variant)
    if index is not None:
        return torch.eye(condition_dim(config))[index].expand(len(positions), -1)
    return torch.from_numpy(positions)[:, : condition_dim(config)]


def grid_conditions(
    n: int,
    config: Config,
    image_size: tuple[int, int] | None,
    device: torch.device,
    variant: str | None = None,
) -> Tensor:
    """Conditions for n tiles that belong to no image, (n, K): an image's tiles, or all variants, in turn.

    Args:
        n: How many.
        config: Settings of the model.
        image_size: (height, width) of the images; None takes the middle of any.
        device: Where they are wanted.
        variant: The only one that is wanted.

    Raises:
        ConfigError: The variant is none of the model's.
    """
    tiles = config.tiles
    grid = TileGrid(image_size or (tiles.size, tiles.size), tiles.size, tiles.overlap)
    if config.network.condition == "variant" and variant is None:
        round_ = torch.eye(condition_dim(config))
    else:
        round_ = tile_conditions(config, grid.positions, variant)
    return round_.repeat(-(-n // len(round_)), 1)[:n].to(device)


def with_condition(x: Tensor, condition: Tensor) -> Tensor:
    """x, (N, C, h, w), with the condition, (N, K), as constant maps behind it: (N, C + K, h, w)."""
    if condition.shape[1] == 0:
        return x
    maps = condition.to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, maps], dim=1)


def condition_of(tiles: Tensor, k: int) -> Tensor:
    """The condition that tiles carry, (N, k)."""
    return tiles[:, tiles.shape[1] - k :, 0, 0]


def image_of(tiles: Tensor, k: int) -> Tensor:
    """The colours of tiles, (N, C, t, t), without their k condition maps."""
    return tiles[:, : tiles.shape[1] - k] if k else tiles


def given(x: Tensor, tiles: Tensor, k: int) -> Tensor:
    """Codes or images under the condition of the tiles they belong to.

    Args:
        x: (N, d, h, w).
        tiles: (M, C + k, t, t), M at least N; row i belongs to row i of x.
        k: How many condition maps they carry; with 0 x is returned as it is.
    """
    return with_condition(x, condition_of(tiles[: x.shape[0]], k)) if k else x
