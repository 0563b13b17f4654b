"""All figures of a scored test set, as `anogan evaluate` writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anogan.metrics.image import (
    Interval,
    Statistic,
    accuracy,
    bootstrap_interval,
    checked,
    false_accept_rate,
    false_reject_rate,
    image_aupr,
    image_auroc,
    image_f1,
    share,
)
from anogan.metrics.pixel import PixelCurve, in_step

GOOD = "good"


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one test set; None where the data cannot give one.

    Attributes:
        image_auroc: In [0, 1], without a threshold; `image_aupr` likewise.
        image_f1: At `threshold`, as `accuracy`, `false_reject_rate` and `false_accept_rate`.
        pixel_auroc: Over all pixels of good images and of defective ones with a mask.
        aupro: Area under the per-region-overlap curve up to a false-positive rate of 0.3, divided by 0.3.
        threshold: Scores above it are rejected; from calibration.
        n_good: Good test images; `n_defect` the defective ones, `n_masked` those of them that have a mask.
        per_kind: Defect kind -> n, n_masked, image_auroc (against all good test images), detection_rate
            (share rejected), pixel_auroc (its images and all good ones).
        intervals: Figure -> 95 % interval (low, high).
    """

    image_auroc: float | None
    image_aupr: float | None
    image_f1: float | None
    accuracy: float | None
    false_reject_rate: float | None
    false_accept_rate: float | None
    pixel_auroc: float | None
    aupro: float | None
    threshold: float
    n_good: int
    n_defect: int
    n_masked: int
    per_kind: dict[str, dict[str, float | None]]
    intervals: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the field names."""
        figures = dict(vars(self))
        figures["per_kind"] = {kind: dict(row) for kind, row in self.per_kind.items()}
        figures["intervals"] = {name: list(pair) for name, pair in self.intervals.items()}
        return figures


class PixelCurves:
    """The pixels of a test set by kind of image, counted as they come, so that no map need be kept.

    Attributes:
        by_kind: Kind -> curve over its images.
        n_masked: Defect kind -> images with a mask.
    """

    def __init__(self) -> None:
        self.by_kind: dict[str, PixelCurve] = {}
        self.n_masked: Counter[str] = Counter()

    @classmethod
    def of(
        cls, kinds: Iterable[str], masks: Iterable[NDArray[Any] | None], maps: Iterable[NDArray[Any]]
    ) -> PixelCurves:
        """Those of images whose maps are at hand, or come from a generator; each is read once, in step.

        Raises:
            ShapeError: Lengths differ, or a mask and its map.
            DataError: A map is not finite.
        """
        curves = cls()
        for kind, mask, anomaly_map in in_step(kinds, masks, maps):
            curves.add(kind, mask, anomaly_map)
        return curves

    def add(self, kind: str, mask: NDArray[Any] | None, anomaly_map: NDArray[Any]) -> None:
        """Counts one image.

        Args:
            kind: `good`, or that of the defect.
            mask: (H, W), above 0 is defect; None for a good image, or for a defective one without ground
                truth (its pixels are left out, as where the mask marks nothing).
            anomaly_map: (H, W).

        Raises:
            ShapeError: The two differ in size.
            DataError: The map is not finite.
        """
        if kind != GOOD and (mask is None or not np.any(mask)):
            return
        truth = np.zeros(anomaly_map.shape, bool) if mask is None else mask
        self.by_kind.setdefault(kind, PixelCurve()).add(truth, anomaly_map)
        self.n_masked[kind] += kind != GOOD


def evaluate_scores(
    kinds: Sequence[str],
    scores: ArrayLike,
    threshold: float,
    *,
    pixels: PixelCurves | None = None,
    seed: int = 0,
) -> Evaluation:
    """All figures of a scored test set.

    Args:
        kinds: (N,), `good` or the defect kind of each image.
        scores: (N,), finite image scores.
        threshold: From calibration on other images.
        pixels: Masks and anomaly maps of the same images; without them no pixel figure.
        seed: Of the bootstrap.

    Raises:
        ShapeError: Lengths differ.
        DataError: A score is not finite.
    """
    truth, values = checked([kind != GOOD for kind in kinds], scores)
    pixels = PixelCurves() if pixels is None else pixels
    whole = PixelCurve.merged(pixels.by_kind.values())
    rejected = values > threshold
    return Evaluation(
        image_auroc=image_auroc(truth, values),
        image_aupr=image_aupr(truth, values),
        image_f1=image_f1(truth, rejected),
        accuracy=accuracy(truth, rejected),
        false_reject_rate=false_reject_rate(truth, rejected),
        false_accept_rate=false_accept_rate(truth, rejected),
        pixel_auroc=whole.auroc(),
        aupro=whole.aupro(),
        threshold=float(threshold),
        n_good=int((~truth).sum()),
        n_defect=int(truth.sum()),
        n_masked=pixels.n_masked.total(),
        per_kind=_per_kind(np.asarray(kinds, dtype=object), values, rejected, pixels),
        intervals=_intervals(truth, values, threshold, seed),
    )


def _per_kind(
    kinds: NDArray[Any],
    scores: NDArray[np.float64],
    rejected: NDArray[np.bool_],
    pixels: PixelCurves,
) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {}
    good = kinds == GOOD
    for kind in sorted(set(kinds.tolist()) - {GOOD}):
        own = kinds == kind
        table[kind] = {
            "n": int(own.sum()),
            "n_masked": pixels.n_masked[kind],
            "image_auroc": image_auroc(own[own | good], scores[own | good]),
            "detection_rate": share(rejected[own]),
            "pixel_auroc": PixelCurve.merged(
                curve for name, curve in pixels.by_kind.items() if name in (kind, GOOD)
            ).auroc(),
        }
    return table


def _intervals(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float, seed: int
) -> dict[str, Interval]:
    statistics: dict[str, Statistic] = {
        "image_auroc": image_auroc,
        "image_aupr": image_aupr,
        "image_f1": lambda t, s: image_f1(t, s > threshold),
    }
    found = {name: bootstrap_interval(f, truth, scores, seed=seed) for name, f in statistics.items()}
    # Exact for the shares: no resample of 0 events has an event, and [0, 0] would promise too much.
    found["accuracy"] = _exact_interval((scores > threshold) == truth)
    found["false_reject_rate"] = _exact_interval(scores[~truth] > threshold)
    found["false_accept_rate"] = _exact_interval(scores[truth] <= threshold)
    return {name: interval for name, interval in found.items() if interval is not None}


def _exact_interval(events: NDArray[np.bool_], confidence: float = 0.95) -> Interval | None:
    """Clopper-Pearson interval (1934) of a share."""
    if not events.size:
        return None
    from scipy.stats import binomtest  # Here: slow to import, and asked for last.

    exact = binomtest(int(events.sum()), events.size).proportion_ci(confidence, method="exact")
    return float(exact.low), float(exact.high)
