"""Image figures and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anogan.errors import DataError, ShapeError

Interval = tuple[float, float]
Statistic = Callable[[NDArray[np.bool_], NDArray[np.float64]], float | None]


def image_auroc(is_defect: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: P(defect scores above good), ties counting half.

    Args:
        is_defect: (N,) bool.
        scores: (N,), finite.

    Returns:
        In [0, 1], or None with one class only.

    Raises:
        ShapeError: The two differ in length.
        DataError: A score is not finite.
    """
    truth, values = checked(is_defect, scores)
    good, defect = np.sort(values[~truth]), values[truth]
    if not good.size or not defect.size:
        return None
    # Mann-Whitney 1947 and not a library's curve: the bootstrap asks thousands of times.
    below = np.searchsorted(good, defect, side="left") + np.searchsorted(good, defect, side="right")
    return float(below.sum() / (2 * good.size * defect.size))


def image_aupr(is_defect: ArrayLike, scores: ArrayLike) -> float | None:
    """Average precision (no interpolation), as scikit-learn defines it; arguments as `image_auroc`."""
    truth, values = checked(is_defect, scores)
    if truth.all() or not truth.any():
        return None
    levels, level = np.unique(values, return_inverse=True)
    defects = np.bincount(level, truth, minlength=levels.size)[::-1]
    precision = np.cumsum(defects) / np.cumsum(np.bincount(level)[::-1])
    return float((defects * precision).sum() / defects.sum())


def image_f1(is_defect: ArrayLike, rejected: ArrayLike) -> float | None:
    """2 TP / (2 TP + FP + FN) of the verdicts; None without defects.

    Args:
        is_defect: (N,) bool.
        rejected: (N,) bool, score above the calibrated threshold.
    """
    truth, verdict = _bools(is_defect, rejected)
    hits = 2 * np.sum(truth & verdict)
    return float(hits / (hits + np.sum(truth ^ verdict))) if truth.any() else None


def accuracy(is_defect: ArrayLike, rejected: ArrayLike) -> float | None:
    """Share of images with the right verdict; None without images. Arguments as `image_f1`."""
    truth, verdict = _bools(is_defect, rejected)
    return share(truth == verdict)


def false_reject_rate(is_defect: ArrayLike, rejected: ArrayLike) -> float | None:
    """Share of good images that are rejected; None without good images. Arguments as `image_f1`."""
    truth, verdict = _bools(is_defect, rejected)
    return share(verdict[~truth])


def false_accept_rate(is_defect: ArrayLike, rejected: ArrayLike) -> float | None:
    """Share of defects that are not rejected; None without defects. Arguments as `image_f1`."""
    truth, verdict = _bools(is_defect, rejected)
    return share(~verdict[truth])


def share(flags: NDArray[np.bool_]) -> float | None:
    """Share of flags (n,) that are set; None without any."""
    return float(flags.mean()) if flags.size else None


def _bools(is_defect: ArrayLike, rejected: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    truth, verdict = np.asarray(is_defect, dtype=bool), np.asarray(rejected, dtype=bool)
    if truth.ndim != 1 or truth.shape != verdict.shape:
        raise ShapeError(
            f"Labels {truth.shape} and values {verdict.shape} differ; expected one each per image."
        )
    return truth, verdict


def checked(is_defect: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels (N,) and finite scores (N,); errors as `image_auroc`."""
    values = np.asarray(scores, dtype=np.float64)
    truth, finite = _bools(is_defect, np.isfinite(values))
    if not finite.all():
        where = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"Score number {where} is {values[where]}; leave out images that could not be scored."
        )
    return truth, values


def bootstrap_interval(
    statistic: Statistic,
    is_defect: ArrayLike,
    scores: ArrayLike,
    *,
    seed: int,
    n: int = 1000,
    confidence: float = 0.95,
    stratified: bool = True,
) -> Interval | None:
    """Percentile bootstrap interval (Efron 1979) of a statistic over images.

    Args:
        statistic: Of (is_defect, scores), such as `image_auroc`.
        is_defect: (N,) bool.
        scores: (N,), finite.
        seed: The same seed gives the same interval.
        n: Resamples.
        confidence: Share of resamples inside, in (0, 1).
        stratified: Draw good and defective images apart, so that every resample has both in the
            test set's proportion; otherwise draw from all, and drop resamples without a figure.

    Returns:
        (low, high), or None where the statistic has no value, or one and the same in every resample, as where
        every image is judged rightly: their number alone says then how sure it is, which a bootstrap misses.
    """
    truth, values = checked(is_defect, scores)
    if statistic(truth, values) is None:
        return None
    strata = [np.flatnonzero(truth), np.flatnonzero(~truth)] if stratified else [np.arange(truth.size)]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        drawn = np.concatenate([rng.choice(stratum, stratum.size) for stratum in strata if stratum.size])
        found.append(statistic(truth[drawn], values[drawn]))
    known = [value for value in found if value is not None]
    if min(known) == max(known):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
