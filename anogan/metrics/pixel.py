"""Pixel, region and tile figures over any number of large maps, in bounded memory.

All of them are areas under a weighted ROC curve, so one pass that counts pixels by score is enough. The
counts are exact while the distinct scores are few enough; then the lowest bits of the float32 scores
are dropped, one after the other, and only pixels whose scores differ in nothing but these bits tie.
Tests hold that this moves an area by less than 1e-3 even with a hundredth of the default levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import DataError, ShapeError

_LEVELS = 2**18
_BUFFER = 2**21  # Pixels held before they are counted.


class _Tally:
    """Weights by score key, sorted by key."""

    def __init__(self, columns: int) -> None:
        self.keys: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.weights: NDArray[np.float64] = np.zeros((0, columns))
        self.shift = 0
        self._waiting: list[tuple[NDArray[np.uint32], NDArray[np.float64] | None]] = []
        self._n_waiting = 0

    def add(self, keys: NDArray[np.uint32], weights: NDArray[np.float64] | None = None) -> None:
        """Counts keys (n,) with weights (n, columns), None being 1."""
        self._waiting.append((keys, weights))
        self._n_waiting += keys.size
        if self._n_waiting > _BUFFER:
            self.settle()

    def settle(self) -> None:
        """Merges what waits, then drops low bits until the levels fit."""
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        parts = [_counted(keys >> np.uint32(self.shift), weights) for keys, weights in waiting]
        self._merge([(self.keys, self.weights), *parts])
        while self.keys.size > _LEVELS:
            self.coarsen(self.shift + 1)

    def coarsen(self, shift: int) -> None:
        """Drops bits up to `shift`, at least as many as are dropped already."""
        lowered = self.keys >> np.uint32(shift - self.shift)
        self.shift = shift
        self.keys, self.weights = _summed_sorted(lowered, self.weights)

    def _merge(self, parts: list[tuple[NDArray[np.uint32], NDArray[np.float64]]]) -> None:
        keys = np.concatenate([part[0] for part in parts])
        weights = np.concatenate([part[1] for part in parts])
        self.keys, self.weights = _summed(keys, weights)


def _counted(
    keys: NDArray[np.uint32], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    if weights is not None:
        return _summed(keys, weights)
    levels, counts = np.unique(keys, return_counts=True)  # Far faster than with an inverse.
    return levels, counts.astype(np.float64)[:, None]


def _summed(
    keys: NDArray[np.uint32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    order = np.argsort(keys, kind="stable")  # Merges the sorted runs that most keys come in.
    return _summed_sorted(keys[order], weights[order])


def _summed_sorted(
    keys: NDArray[np.uint32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    if not keys.size:
        return keys, weights
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(weights, first, axis=0)


def _ordered_keys(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The bits of float32 as whole numbers in the order of the values."""
    bits = (values + np.float32(0)).view(np.uint32)  # + 0 makes -0 and 0 one key.
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31)).astype(np.uint32)


class PixelCurve:
    """Ground truth by score over the pixels of many images; the source of pixel AUROC and AUPRO."""

    def __init__(self) -> None:
        self._outside = _Tally(1)  # Pixels outside every region: count.
        self._inside = _Tally(2)  # Pixels inside: count, and 1 / area of their region.
        self._regions = 0

    @classmethod
    def merged(cls, curves: Iterable[PixelCurve]) -> PixelCurve:
        """One curve over the images of all; they stay as they are."""
        whole, curves = cls(), list(curves)
        for name in ("_outside", "_inside"):
            tallies = [getattr(curve, name) for curve in curves]
            _absorb(getattr(whole, name), tallies)
        whole._regions = sum(curve._regions for curve in curves)
        return whole

    def add(self, mask: NDArray[Any], anomaly_map: NDArray[Any]) -> None:
        """Counts one image.

        Args:
            mask: (H, W), above 0 is defect.
            anomaly_map: (H, W), finite; compared as float32.

        Raises:
            ShapeError: The two differ in size.
            DataError: A map value is not finite.
        """
        import cv2  # Here: image figures alone must not load it.

        if mask.ndim != 2 or mask.shape != anomaly_map.shape:
            raise ShapeError(
                f"A mask of {mask.shape} belongs to a map of {anomaly_map.shape}; expected one (H, W)."
            )
        if not np.isfinite(anomaly_map).all():
            raise DataError("An anomaly map has values that are not finite; leave its image out.")
        keys, truth = _ordered_keys(anomaly_map.astype(np.float32)), np.asarray(mask > 0)
        self._outside.add(keys[~truth])
        if not truth.any():
            return
        # 8-connected, as in the MVTec AD reference (Bergmann et al. 2021).
        count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        inside = labels[truth]
        share = 1 / np.bincount(inside, minlength=count)[inside]
        self._inside.add(keys[truth], np.stack([np.ones(inside.size), share], axis=1))
        self._regions += count - 1

    def auroc(self) -> float | None:
        """Area under the ROC curve of pixels; None without pixels of both classes."""
        return self._area(column=0, limit=1.0)

    def aupro(self, integration_limit: float = 0.3) -> float | None:
        """Area under per-region overlap against false-positive rate, up to the limit, over the limit.

        Bergmann et al. 2020 (arXiv:1911.02357): every connected region counts the same, whatever its area.

        Args:
            integration_limit: Greatest false-positive rate, in (0, 1].
        """
        return self._area(column=1, limit=integration_limit)

    def _area(self, column: int, limit: float) -> float | None:
        if not 0 < limit <= 1:
            raise DataError(f"An integration limit of {limit} was asked for; expected above 0 and up to 1.")
        outside, inside = self._on_one_grid()
        if not outside.keys.size or not inside.keys.size:
            return None
        levels = np.union1d(outside.keys, inside.keys)[::-1]
        false = _cumulated(levels, outside.keys, outside.weights[:, 0])
        true = _cumulated(levels, inside.keys, inside.weights[:, column])
        return _area_up_to(false, true, limit)

    def _on_one_grid(self) -> tuple[_Tally, _Tally]:
        tallies = self._outside, self._inside
        for tally in tallies:
            tally.settle()
        shift = max(tally.shift for tally in tallies)
        for tally in tallies:
            tally.coarsen(shift)
        return tallies


def _absorb(target: _Tally, sources: list[_Tally]) -> None:
    for source in sources:
        source.settle()
    target.shift = max((source.shift for source in sources), default=0)
    for source in sources:
        lowered = source.keys >> np.uint32(target.shift - source.shift)
        target._merge([(target.keys, target.weights), (lowered, source.weights)])
    target.settle()


def _cumulated(
    levels: NDArray[np.uint32], keys: NDArray[np.uint32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of the weight at or above each of the falling levels, from 0 to 1."""
    by_level = np.zeros(levels.size)
    by_level[levels.size - 1 - np.searchsorted(levels[::-1], keys)] = weights
    summed = np.concatenate([[0.0], np.cumsum(by_level)])
    return np.asarray(summed / summed[-1])


def _area_up_to(false: NDArray[np.float64], true: NDArray[np.float64], limit: float) -> float:
    """Trapezoid area under (false, true) for false <= limit, over the limit."""
    inside = int(np.searchsorted(false, limit, side="right"))
    x, y = false[:inside], true[:inside]
    if x[-1] < limit:
        x, y = np.append(x, limit), np.append(y, np.interp(limit, false, true))
    return float(np.trapezoid(y, x) / limit)


def pixel_auroc(masks: Iterable[NDArray[Any]], maps: Iterable[NDArray[Any]]) -> float | None:
    """Area under the ROC curve over all pixels of all images.

    Args:
        masks: (H, W) each, above 0 is defect; all 0 for a good image. Read once, with `maps`.
        maps: (H, W) each, finite.

    Returns:
        In [0, 1], or None without pixels of both classes.

    Raises:
        ShapeError: The numbers of masks and maps differ, or a mask and its map.
        DataError: A map is not finite.
    """
    return _curve(masks, maps).auroc()


def aupro(
    masks: Iterable[NDArray[Any]], maps: Iterable[NDArray[Any]], integration_limit: float = 0.3
) -> float | None:
    """Area under the per-region-overlap curve; see `PixelCurve.aupro` and `pixel_auroc`."""
    return _curve(masks, maps).aupro(integration_limit)


def _curve(masks: Iterable[NDArray[Any]], maps: Iterable[NDArray[Any]]) -> PixelCurve:
    curve = PixelCurve()
    for mask, anomaly_map in in_step(masks, maps):
        curve.add(mask, anomaly_map)
    return curve


def in_step(*columns: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of several iterables that must be of one length; ShapeError where one ends early."""
    rows = [iter(column) for column in columns]
    end = object()
    while True:
        row = tuple(next(column, end) for column in rows)
        ended = [cell is end for cell in row]
        if all(ended):
            return
        if any(ended):
            raise ShapeError("The inputs differ in number; expected one of each per image.")
        yield row


def tile_labels(box_mask: NDArray[Any], tile: int = 64, min_share: float = 0.15) -> NDArray[np.int8]:
    """Labels of the whole tiles of a mask, for tile-level figures on box ground truth.

    Args:
        box_mask: (H, W), above 0 is inside a box.
        tile: Side in pixels; tiles do not overlap, and a rest at the right or lower edge is not used.
        min_share: Share of a tile's pixels inside boxes that makes it positive.

    Returns:
        (H // tile, W // tile): 1 positive, 0 without any box pixel, -1 left out.
    """
    share = _blocks(np.asarray(box_mask) > 0, tile).mean(axis=(1, 3))
    return np.where(share >= min_share, 1, np.where(share == 0, 0, -1)).astype(np.int8)


def tile_scores(anomaly_map: NDArray[Any], tile: int = 64) -> NDArray[Any]:
    """Greatest value in each tile of `tile_labels`, (H // tile, W // tile)."""
    return np.asarray(_blocks(anomaly_map, tile).max(axis=(1, 3)))


def tile_auroc(
    box_masks: Iterable[NDArray[Any]], maps: Iterable[NDArray[Any]], tile: int = 64, min_share: float = 0.15
) -> float | None:
    """AUROC of tiles by their greatest map value, over all images; see `tile_labels`.

    Args:
        box_masks: (H, W) each, above 0 is inside a box; all 0 for a good image.
        maps: (H, W) each, finite, at the masks' resolution.
        tile: Side of a tile, pixels.
        min_share: Share of box pixels that makes a tile positive.

    Raises:
        ShapeError: A mask and its map differ, or their numbers, or a map is smaller than a tile.
        DataError: A map is not finite.
    """
    curve = PixelCurve()
    for mask, anomaly_map in in_step(box_masks, maps):
        if mask.shape != anomaly_map.shape:
            raise ShapeError(
                f"A mask of {mask.shape} belongs to a map of {anomaly_map.shape}; expected one (H, W)."
            )
        labels, scores = tile_labels(mask, tile, min_share), tile_scores(anomaly_map, tile)
        counted = labels >= 0
        if counted.any():
            curve.add(labels[counted][None], scores[counted][None])
    return curve.auroc()


def _blocks(array: NDArray[Any], tile: int) -> NDArray[Any]:
    if array.ndim != 2 or min(array.shape) < tile or tile < 1:
        raise ShapeError(f"An array of {array.shape} holds no whole tile of {tile} x {tile} pixels.")
    rows, columns = array.shape[0] // tile, array.shape[1] // tile
    return array[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile)
