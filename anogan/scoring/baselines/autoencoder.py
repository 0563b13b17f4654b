"""A plain convolutional autoencoder: the config's encoder and generator without adversary or search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn, optim

from anogan.config import Config
from anogan.gan.batch_norm import recalibrate_batch_norm, statistics_tiles
from anogan.gan.device import autocast, training_precision
from anogan.gan.networks import build_encoder_of, build_generator_of
from anogan.gan.ssim import ssim
from anogan.gan.tiles import TileSource
from anogan.images.tiling import TileGrid
from anogan.scoring.baselines.scorer import FloatMap, Pixels

Loss = Literal["l2", "ssim"]
MAX_STEPS = 3000
LEARNING_RATE = 1e-3
STREAM = 7  # Other tiles than the GAN's stages draw from the same seed.
CHUNK_PIXELS = 2**19


@dataclass(frozen=True)
class Autoencoder:
    """A trained autoencoder, frozen, and the measure of its residual."""

    network: nn.Sequential
    loss: Loss
    tile: int
    overlap: int

    @torch.inference_mode()
    def anomaly_map(self, x: FloatMap) -> FloatMap:
        """The residual of overlapping tiles, stitched, (h, w); x is (C, h, w) in [-1, 1]."""
        grid = TileGrid((x.shape[1], x.shape[2]), self.tile, self.overlap)
        device = next(self.network.parameters()).device
        tiles = torch.from_numpy(grid.cut(x)).split(max(1, CHUNK_PIXELS // self.tile**2))
        maps = [autoencoder_residual(t.to(device), self.network(t.to(device)), self.loss) for t in tiles]
        return np.asarray(grid.stitch(torch.cat(maps).cpu().numpy())[0])


def fit_autoencoder(
    images: Sequence[Pixels],
    config: Config,
    loss: Loss,
    device: torch.device,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Autoencoder:
    """Trains on the tiles that the GAN trains on, for `gan.steps` steps but at most 3000.

    The setting of Bergmann et al. 2018 (arXiv:1807.02011): no defects are drawn, no noise is added.
    """
    torch.manual_seed(config.seed)
    # It scores the full image alone, and without a condition, so it learns nothing else.
    tiles = config.tiles.model_copy(update={"scales": (1.0,)})
    untold = config.network.model_copy(update={"condition": "none"})
    config = config.model_copy(update={"tiles": tiles, "network": untold})
    network = nn.Sequential(build_encoder_of(config), build_generator_of(config))
    network = network.to(device).to(memory_format=torch.channels_last)
    source = TileSource(images, config, STREAM)
    optimiser = optim.Adam(network.parameters(), LEARNING_RATE, foreach=True)
    precision = training_precision(config.runtime, device)
    steps = min(config.gan.steps, MAX_STEPS)
    for step in range(steps):
        x = source.batch(step, config.gan.batch_size).to(device, memory_format=torch.channels_last)
        with autocast(device, precision):
            again = network(x)
        value = autoencoder_residual(x, again.float(), loss).mean()
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        on_step(step + 1, steps)
    recalibrate_batch_norm(network, statistics_tiles(source, config.gan.batch_size, device))
    # One memory layout for any number of tiles: a map must not depend on how many there are.
    network = network.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    return Autoencoder(network, loss, config.tiles.size, config.tiles.overlap)


def autoencoder_residual(x: Tensor, again: Tensor, loss: Loss) -> Tensor:
    """Squared difference, or 1 - SSIM, mean over channels: (N, C, t, t) twice -> (N, 1, t, t)."""
    if loss == "l2":
        return (x - again).square().mean(dim=1, keepdim=True)
    return (1 - ssim(x, again)).mean(dim=1, keepdim=True)
