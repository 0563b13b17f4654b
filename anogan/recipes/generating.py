"""Synthetic tiles from a trained generator, marked so that nobody takes them for photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anogan.errors import ConfigError, StorageError
from anogan.gan.condition import grid_conditions, with_condition
from anogan.gan.networks import sample_prior
from anogan.images.resize import from_network
from anogan.images.watermark import embed_watermark, encode_marked_png
from anogan.recipes.models import load_scorer
from anogan.scoring import Scorer

BATCH = 32


def generate(
    model: Path | None,
    out: Path,
    n: int,
    *,
    seed: int = 0,
    variant: str | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Path]:
    """Writes n tiles G(z), z from the prior, as marked PNG files.

    A model with `network.condition` gives them the places of an image's tiles, or its variants, in turn.

    Args:
        model: The model's folder; None takes `$ANOGAN_MODEL`, else `anogan-model`.
        out: Folder for `synthetic-0000.png` and so on; files of these names are replaced.
        n: How many, at least 1.
        seed: The same seed gives the same tiles.
        variant: The only variant that is wanted, of a model that knows several.
        progress: Told (done, total).

    Returns:
        The files, in order.

    Raises:
        BundleError: The model is missing or damaged.
        ConfigError: n is below 1, or the variant is none of the model's.
        StorageError: Nothing can be written at `out`.
    """
    if n < 1:
        raise ConfigError(f"The number of tiles to generate is {n}; expected at least 1.")
    scorer, paths = load_scorer(model), []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index, tile in enumerate(_tiles(scorer, n, seed, variant)):
            path = out / f"synthetic-{index:04d}.png"
            path.write_bytes(encode_marked_png(embed_watermark(tile)))
            paths.append(path)
            progress(index + 1, n)
    except OSError as error:
        raise StorageError(
            f"The tiles cannot be written to {out} ({error.strerror}); free space or permit writing there."
        ) from error
    return paths


def _tiles(scorer: Scorer, n: int, seed: int, variant: str | None) -> Iterator[NDArray[np.unsignedinteger]]:
    generator, config = scorer.model.networks.generator, scorer.config
    device, draw = next(generator.parameters()).device, torch.Generator().manual_seed(seed)
    conditions = grid_conditions(n, config, scorer.model.image_size, device, variant)
    for condition in conditions.split(BATCH):
        z = with_condition(sample_prior(len(condition), config, draw, device), condition)
        with torch.inference_mode():
            tiles = generator(z).float().cpu().numpy()
        for tile in tiles:
            yield from_network(tile, config.images.bit_depth)
