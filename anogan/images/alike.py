"""Which of many images are alike, and which are unlike all others: robust statistics of features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

from anogan.images.pose import PoseSearch, moved

Floats = NDArray[np.float32]
Detail = NDArray[np.float64]

# One photograph saved twice (another encoding, size or brightness) is correlated beyond this,
_NEAR_CORRELATION = 0.9995
# and lies this much closer than the nearest tenth of the folder does: well-fixtured parts are all alike,
# but then about equally alike. On 192-pixel boards re-encoding at JPEG quality 95 measures at most 0.03
# (quality 75: 0.09), separate shots at least 0.5.
_NEAR_RATIO = 0.15

_SIDE = 64  # Pixels of a thumbnail.
_LIGHT = 6  # Degree, along either side, of the polynomial that is taken for light and its falling off.
_BLUR = 1.5  # Pixels of a thumbnail, so that parts may lie a little differently.
_BLANK = 1e-3  # Grey levels.
# Correlation of what is left: 0.98 of the sample boards, 0 of DeepPCB's, up to 0.2 of magnetic tiles.
_ONE_PLACE = 0.5
# The same after each was laid over the other: 0.91 of sample boards that were shifted by up to a fifth of
# the side and turned by up to 15 degrees; DeepPCB 0.3, magnetic tiles 0.5, but 0.97 of stripes and grids.
_ONE_DESIGN = 0.8
# Stripes fit in many places. The way over a third picture then leads elsewhere, by 17 pixels of a thumbnail
# and more; of the boards by 0.4 at the upper quartile.
_SAME_PLACE = 2.0

# Share of the images that are taken to be no outliers; a smaller core knows less of what is usual.
_CORE = 0.9
# Features that differ by less are nobody's concern.
_MATTERS = 0.1
# In many dimensions usual distances are nearly equal; an outlier lies at a multiple of them all the same.
_LOG_SPREAD = 0.25


def near_duplicate_pairs(thumbnails: Floats, block: int = 512) -> list[tuple[int, int]]:
    """Pairs that are one photograph saved twice, not two photographs of the same product.

    Brightness and contrast are taken out first. Found are lossless and light re-encodings, other sizes and
    brightness changed in software; not found are crops, rotations, and the second shot of a part that moved.

    Args:
        thumbnails: (N, P) grey levels.
        block: Rows compared at once; memory grows with block x N.

    Returns:
        (i, j) with i < j.
    """
    n = len(thumbnails)
    if n < 2:
        return []
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.maximum(norm, 1e-6)  # A blank image resembles none.
    rank = min(max(4, n // 10), n - 1)
    pairs = []
    for start in range(0, n, block):
        correlation = unit[start : start + block] @ unit.T
        rows = np.arange(len(correlation))
        correlation[rows, start + rows] = -1
        limit = np.full((len(rows), 1), _NEAR_CORRELATION)
        if n > rank + 1:
            neighbour = np.partition(correlation, n - rank, axis=1)[:, n - rank, None]
            # Correlation c is the squared distance 2 - 2c.
            limit = np.maximum(limit, 1 - _NEAR_RATIO**2 * (1 - neighbour))
        pairs += [(int(i) + start, int(j)) for i, j in np.argwhere(correlation >= limit)]
    return sorted({(min(i, j), max(i, j)) for i, j in pairs})


def detail_without_light(image: NDArray[np.generic]) -> Detail:
    """What a picture shows where, without the light, which is the same on any two parts under one lamp.

    Args:
        image: (H, W, C), any real dtype.

    Returns:
        (64, 64) grey levels of a slightly blurred thumbnail less a smooth surface, for `show_one_design`.
    """
    small = cv2.resize(image.mean(axis=2), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    light, _ = np.linalg.qr(legvander(np.linspace(-1, 1, _SIDE), _LIGHT))
    light = light @ light.T
    return np.asarray(cv2.GaussianBlur(small - light @ small @ light, (0, 0), _BLUR), np.float64)


def show_one_design(details: Sequence[Detail], aspect: float = 1.0) -> bool:
    """Whether pictures show one design that lies alike in each, or does so once they are laid in place.

    Args:
        details: Of each, from `detail_without_light`; blank ones do not count.
        aspect: Width by height of the photographs that they are of.
    """
    shown = [detail for detail in details if detail.std() > _BLANK]
    if len(shown) < 2:
        return False
    correlation = np.corrcoef([detail.ravel() for detail in shown])[np.triu_indices(len(shown), 1)]
    return bool(np.median(correlation) >= _ONE_PLACE) or _can_be_laid_in_place(shown, aspect)


def _can_be_laid_in_place(details: Sequence[Detail], aspect: float) -> bool:
    """Whether one motion takes each to each other, and the way over a third one is the same motion."""
    if len(details) < 3:  # Nothing would tell stripes from a design.
        return False
    searches = [PoseSearch.of(detail, "euclidean", aspect) for detail in details]
    pairs = list(itertools.combinations(range(len(details)), 2))
    found = {(i, j): searches[i].find(details[j]) for i, j in pairs}
    if np.median([correlation for _, correlation in found.values()]) < _ONE_DESIGN:
        return False
    x, y = np.array([-1, 1, -1, 1]) * aspect * _SIDE / 2, np.array([-1, -1, 1, 1]) * _SIDE / 2
    aside = []
    for i, j, k in itertools.combinations(range(len(details)), 3):
        straight = moved(found[i, k][0], x, y)
        around = moved(found[j, k][0], *moved(found[i, j][0], x, y))
        aside.append(float(np.hypot(straight[0] - around[0], straight[1] - around[1]).max()))
    return bool(np.quantile(aside, 0.75) <= _SAME_PLACE)


def outlier_z(blocks: Sequence[Floats]) -> NDArray[np.float64]:
    """How far each image lies from the others, in robust standard deviations of the log-distance.

    Principal components of the nine tenths of the images that are most alike, so that outliers do not
    shape what they are measured by; then the distance within the components and the one to them.

    Args:
        blocks: (N, F_b) features of several kinds, each scaled so that a difference of 1 matters.

    Returns:
        (N,); 0 is usual, higher is further.
    """
    features = np.concatenate([_centred(block) for block in blocks], axis=1)
    z = _upper_z(np.linalg.norm(features, axis=1))
    for _ in range(3):
        core = features[np.argsort(z, kind="stable")[: math.ceil(_CORE * len(features))]]
        middle = core.mean(axis=0)
        axes = np.linalg.svd(core - middle, full_matrices=False)[2][: max(1, min(10, len(core) // 6))]
        scores = (features - middle) @ axes.T
        spreads = np.maximum([spread(column) for column in scores.T], _MATTERS)
        within = np.linalg.norm(scores / spreads, axis=1)
        beside = np.linalg.norm(features - middle - scores @ axes, axis=1)
        z = np.maximum(_upper_z(np.maximum(within, 1)), _upper_z(np.maximum(beside, _MATTERS)))
    return z


def _centred(block: Floats) -> NDArray[np.float64]:
    return block.astype(np.float64) - np.median(block, axis=0)


def _upper_z(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = np.log(np.maximum(distances, 1e-12))
    z: NDArray[np.float64] = (logs - np.median(logs)) / max(spread(logs), _LOG_SPREAD)
    return z


def spread(values: NDArray[np.float64]) -> float:
    """The standard deviation as the median absolute deviation tells it (factor for a normal distribution)."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
