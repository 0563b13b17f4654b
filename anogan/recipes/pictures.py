"""The pictures that a fitted model keeps: curves, generated tiles, reconstructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anogan.config import Config, DefectKind
from anogan.gan.condition import condition_dim, grid_conditions, image_of, with_condition
from anogan.gan.loop import History
from anogan.gan.networks import sample_prior
from anogan.gan.tiles import TileSource, load_images
from anogan.images.decode import Pixels
from anogan.images.resize import from_network, resize
from anogan.recipes.good_images import kinds_left_out
from anogan.recipes.score import gather_evidence
from anogan.recipes.variants import variants_of
from anogan.report.overlay import DEFECT_COLOUR, draw_outline, to_display
from anogan.report.plots import image_grid, training_curves
from anogan.scoring import Scorer

PANELS = {
    "loss of the GAN": {"d_loss": "discriminator", "g_loss": "generator"},
    "discriminator's accuracy": {
        "d_accuracy_train": "training tiles",
        "d_accuracy_held_out": "held-out tiles",
        "d_accuracy_generated": "generated tiles",
    },
    "reconstruction error": {"reconstruction": "training tiles", "held_out_reconstruction": "held-out tiles"},
    "loss of the encoder": {"encoder_loss": "encoder"},
    "diversity of G(z), data = 1": {"diversity": "generated tiles"},
    "kernel distance (KID)": {"kid": "generated to real", "kid_floor": "real to real"},
    "gradient norm": {"g_gradient": "generator", "d_gradient": "discriminator"},
    "loss of the head": {"head_loss": "training tiles", "head_held_out_loss": "held-out tiles"},
    "head's pixel AUROC, drawn defects": {"head_held_out_pixel_auroc": "held-out tiles"},
}
GRID_TILES, GRID_IMAGES, GRID_DEFECTS = 32, 4, 3


def fit_pictures(
    scorer: Scorer, held_out: Sequence[Path], histories: Mapping[str, History]
) -> dict[str, bytes]:
    """File name -> PNG of everything a person should look at after training."""
    return {
        "training_curves.png": training_curves(_curves(histories)),
        "samples.png": image_grid(_generated(scorer), columns=8),
        "reconstructions.png": _reconstructions(scorer, held_out[:GRID_IMAGES]),
    } | _drawn_defects(scorer, held_out[:GRID_IMAGES])


def _curves(histories: Mapping[str, History]) -> dict[str, Sequence[tuple[int, float]]]:
    """`panel/line` -> points of what a person looks at; history.csv and TensorBoard hold the rest."""
    found = {name: points for history in histories.values() for name, points in history.points.items()}
    return {
        f"{panel}/{label}": found[name]
        for panel, lines in PANELS.items()
        for name, label in lines.items()
        if name in found
    }


def _generated(scorer: Scorer) -> NDArray[np.uint8]:
    """G(z) for z from the prior, (N, t, t, C); with a condition, that of each tile of an image in turn."""
    generator = scorer.model.networks.generator
    device = next(generator.parameters()).device
    z = sample_prior(GRID_TILES, scorer.config, torch.Generator().manual_seed(0), device)
    condition = grid_conditions(GRID_TILES, scorer.config, scorer.model.image_size, device)
    with torch.inference_mode():
        tiles = generator(with_condition(z, condition)).cpu().numpy()
    return np.stack([from_network(tile, 8) for tile in tiles]).astype(np.uint8)


def _reconstructions(scorer: Scorer, paths: Sequence[Path]) -> bytes:
    """Held-out good images over what the search makes of them."""
    size = scorer.model.image_size
    pairs = []
    for _, image, evidence in gather_evidence(scorer, paths):
        if isinstance(evidence, str):
            continue
        again = from_network(evidence.reconstruction, 8)
        pairs.append((_to_bytes(image, again.shape[:2]), again))
    if size is None:
        # Images of several sizes do not fit one grid; the smallest common corner does.
        height = min(again.shape[0] for _, again in pairs)
        width = min(again.shape[1] for _, again in pairs)
        pairs = [(a[:height, :width], b[:height, :width]) for a, b in pairs]
    stacked = np.stack([a for a, _ in pairs] + [b for _, b in pairs]).astype(np.uint8)
    captions = ["held-out good"] * len(pairs) + ["its G(z)"] * len(pairs)
    return image_grid(stacked, columns=len(pairs), captions=captions)


def _drawn_defects(scorer: Scorer, paths: Sequence[Path]) -> dict[str, bytes]:
    """Held-out good tiles with the defects of each kind that the head learned to mark, outlined."""
    config = scorer.config
    images, _ = load_images(paths, config, scorer.model.image_size)
    without = kinds_left_out(images, config)
    kinds = [kind for kind in config.defects.kinds if kind not in without]
    if scorer.model.head is None or not kinds:
        return {}
    tiles = [tile for kind in kinds for tile in _tiles_with(kind, images, variants_of(config, paths), config)]
    captions = [kind for kind in kinds for _ in range(GRID_DEFECTS)]
    return {"drawn_defects.png": image_grid(np.stack(tiles), columns=2 * GRID_DEFECTS, captions=captions)}


def _tiles_with(
    kind: DefectKind, images: Sequence[Pixels], variants: Sequence[str | None], config: Config
) -> Iterator[NDArray[np.uint8]]:
    alone = config.defects.model_copy(update={"kinds": (kind,), "max_per_tile": 1})
    source = TileSource(images, config.model_copy(update={"defects": alone}), 0, variants).plain()
    drawn = source.damaged_batch(0, GRID_DEFECTS, clean_share=0.0)
    damaged = image_of(drawn.damaged, condition_dim(config))
    for tile, mask in zip(damaged.numpy(), drawn.mask[:, 0].numpy() > 0, strict=True):
        picture = to_display(from_network(tile, 8).astype(np.uint8))
        draw_outline(picture, mask, DEFECT_COLOUR)
        yield picture


def _to_bytes(image: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    top = np.iinfo(image.dtype).max
    return np.asarray(np.rint(resize(image, size) * (255 / top)).clip(0, 255), dtype=np.uint8)
