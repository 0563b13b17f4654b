"""Defects drawn on good images, for training encoder and head and for label-free validation.

Never a substitute for a test set: they say whether a change of the image is seen, not whether the line's
own defects are. In the manner of CutPaste (Li et al. 2021, arXiv:2104.04015) and DRAEM (Zavrtanik et al.
2021, arXiv:2108.07610), with shapes that follow edges, since conductors and contours break there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import DefectKind, SyntheticDefectsConfig
from anogan.images.defect_canvas import Canvas, Image, Mask
from anogan.images.defect_kinds import DRAW

# What a camera's threshold leaves of these is a rough edge or nothing, and a detail that is pasted elsewhere
# looks like every other: labels that no head can learn.
NOT_ON_BINARISED = frozenset({"blur", "contrast", "shade", "texture", "uneven", "cut-paste"})
VISIBLE = 0.04  # Share of the value range by which a pixel must change to count as defective.


def draw_defects(
    image: NDArray[Any],
    config: SyntheticDefectsConfig,
    rng: np.random.Generator,
    levels: tuple[float, float] | None = None,
) -> tuple[NDArray[Any], Mask]:
    """A damaged copy of an image and where it was damaged.

    Args:
        image: (H, W, C) uint8 or uint16, a good part.
        config: Kinds and sizes.
        rng: Decides everything random.
        levels: The two values, in [0, 1], of a binarised data set (see `two_levels`), on which only some
            kinds are drawn (see `kinds_on`).

    Returns:
        The damaged image, same shape and dtype, and the mask (H, W) of its visible defects. The mask is
        empty where no kind shows, and in the rare case that a few tries changed nothing visible.
    """
    top = float(np.iinfo(image.dtype).max)
    clean = damaged = image.astype(np.float32) / top
    mask = np.zeros(clean.shape[:2], np.bool_)
    kinds = kinds_on(config, levels)
    for _ in range(4 if kinds else 0):
        damaged = clean
        for _ in range(int(rng.integers(1, config.max_per_tile + 1))):
            kind = kinds[int(rng.integers(len(kinds)))]
            damaged = DRAW[kind](Canvas(damaged, rng, config))
        if levels is not None:
            # A grey pixel in a binarised image would give the defect away by its value, not its shape.
            damaged = np.where(damaged > sum(levels) / 2, levels[1], levels[0]).astype(np.float32)
        mask = _visible(clean, damaged, config.min_size, grainy=levels is None)
        if mask.any():
            break
    # What is too small to see goes back to clean: a label "good" on a changed pixel would teach noise.
    damaged = np.where(mask[..., None], damaged, clean)
    return np.clip(np.rint(damaged * top), 0, top).astype(image.dtype), mask


def kinds_on(config: SyntheticDefectsConfig, levels: tuple[float, float] | None) -> tuple[DefectKind, ...]:
    """The configured kinds that show on such images: on binarised ones those of `NOT_ON_BINARISED` do not."""
    if levels is None:
        return config.kinds
    return tuple(kind for kind in config.kinds if kind not in NOT_ON_BINARISED)


def two_levels(images: Sequence[NDArray[Any]]) -> tuple[float, float] | None:
    """The dark and the bright value, in [0, 1], if the images are binarised; else None."""
    top = float(np.iinfo(images[0].dtype).max)
    pixels = np.concatenate([image.reshape(-1)[::17] for image in images]).astype(np.float32) / top
    low, high = float(pixels.min()), float(pixels.max())
    near = np.minimum(np.abs(pixels - low), np.abs(pixels - high)) < 0.02
    return (low, high) if high - low > 0.5 and near.mean() > 0.98 else None


def _visible(clean: Image, damaged: Image, min_size: float, *, grainy: bool) -> Mask:
    """Changed regions, holes closed, without specks under half the smallest defect.

    In a photograph the grain hides single pixels of a defect, so their neighbourhood must have changed.
    """
    change = np.abs(damaged - clean).max(axis=2)
    if grainy:
        change = cv2.GaussianBlur(change, (0, 0), 1.0)
    changed = (change > VISIBLE).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)) if grainy else np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(2.0, (min_size / 2) ** 2 * 2)
    large[0] = False
    return large[labels] if count > 1 else np.zeros(changed.shape, np.bool_)
