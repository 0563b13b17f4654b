"""Thresholds: split-conformal quantiles of good scores, and the promise that they allow.

With n exchangeable good scores and the k-th smallest as threshold, a new good part scores above it with
a probability of at most (n + 1 - k) / (n + 1) (Vovk et al. 2005; Papadopoulos et al. 2002).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anogan.calibration.evidence import FloatMap, MapStatistics, in_order
from anogan.calibration.limits import Limits
from anogan.errors import BundleError, CalibrationError, ConfigError

# What a threshold was set on, as models and reports say it.
HELD_OUT = "held-out good images"
CROSS_FITTED = "held-out and cross-fitted good images"
ON_GOOD = (HELD_OUT, CROSS_FITTED)
_CONFIDENCE = 0.95
# Interquartile ranges above the upper quartile. Scores are maxima, whose tail is Gumbel's: of a hundred, one
# lies beyond this in 1 of 90 calibrations, and beyond Tukey's 3 in 1 of 4.
_FAR_OUT = 5.0
_LEAST_RANGE = 0.1  # Standard deviations of good parts, as scores are.
_MOST_OUTLIERS = 0.05  # More than this share are no outliers but another kind of good part.
_FEWEST_FOR_QUARTILES = 20
_NAMED = 5


def images_needed(false_reject: float) -> int:
    """Good images that it takes to certify a false-reject rate.

    Args:
        false_reject: Share of good parts rejected, in (0, 1).

    Returns:
        The smallest n with 1 / (n + 1) <= false_reject.

    Raises:
        CalibrationError: The rate is not in (0, 1).
    """
    return math.ceil(1 / _exact(false_reject)) - 1


@dataclass(frozen=True, slots=True)
class ThresholdEstimate:
    """A conformal threshold and what may be promised with it.

    Attributes:
        threshold: Scores above it are rejected; a score equal to it passes. Representable in float32,
            so that a float32 comparison decides the same.
        requested: The false-reject rate that was asked for.
        false_reject: The rate that is promised on average over calibration sets: (n + 1 - k) / (n + 1).
            At most `requested`, unless there is a shortfall.
        interval: Central 95 % interval of the true rate of this one threshold, Beta(n + 1 - k, k);
            exact for continuous scores, too high where scores tie.
        n_good: Good images that the threshold stands on.
        images_needed: Good images that certify `requested`.
        shortfall: Good images missing for that; 0 when the promise holds.
        n_left_out: Outliers among the good images that do not count; the promise is not for such parts.
        n_trained: Of the `n_good`, how many trained the networks, each scored with a memory that does not
            know it; 0 for held-out images alone.
        held_out_above: How many of the held-out ones score above the threshold, where others set it too; else
            None. What they say of the true rate supposes nothing of the networks, see `held_out`.
    """

    threshold: float
    requested: float
    false_reject: float
    interval: tuple[float, float]
    n_good: int
    images_needed: int
    shortfall: int
    n_left_out: int = 0
    n_trained: int = 0
    held_out_above: int | None = None

    def held_out(self) -> dict[str, Any] | None:
        """What the held-out images alone say of a threshold that training images set as well, else None.

        `n` and `above`, and as `interval` the exact 95 % one of the share of good parts above the threshold
        (Clopper & Pearson 1934). They had a part in the threshold, so it is slightly too low.
        """
        if self.held_out_above is None or not self.n_trained:
            return None
        n, above = self.n_good - self.n_trained, self.held_out_above
        tail = (1 - _CONFIDENCE) / 2
        low = 0.0 if above == 0 else _beta_quantile(tail, above, n - above + 1)
        high = 1.0 if above == n else _beta_quantile(1 - tail, above + 1, n - above)
        return {"n": n, "above": above, "interval": (low, high)}

    def summary(self, threshold: float, review_threshold: float) -> dict[str, Any]:
        """What a report says: the thresholds in force, and the promise of the calibrated one."""
        return {
            "threshold": threshold,
            "review_threshold": review_threshold,
            "false_reject": self.false_reject,
            "interval": self.interval,
            "n_good": self.n_good,
            "n_left_out": self.n_left_out,
            "n_trained": self.n_trained,
            "held_out": self.held_out(),
            "warning": self.warning(),
        }

    def warning(self) -> str | None:
        """One sentence when the rate asked for cannot be certified, else None."""
        if not self.shortfall:
            return None
        return (
            f"{self.n_good} good images certify a false-reject rate of {_percent(self.false_reject)} at "
            f"best, not the {_percent(self.requested)} asked for; calibrate with {self.shortfall} more "
            "good images or ask for a higher rate."
        )


def conformal_threshold(scores: ArrayLike, false_reject: float) -> ThresholdEstimate:
    """The split-conformal threshold for a false-reject rate, from good images only.

    Args:
        scores: (n,), scores of good images that took no part in training; higher is more anomalous.
        false_reject: Share of good parts that may be rejected, in (0, 1).

    Returns:
        The k-th smallest score with k = ceil((n + 1)(1 - false_reject)). With too few images (k > n)
        the greatest score, the rate 1 / (n + 1) and the shortfall.

    Raises:
        CalibrationError: No scores, a score that is not finite, or a rate outside (0, 1).
    """
    ordered = np.sort(_checked_scores(scores))
    n, needed = len(ordered), images_needed(false_reject)
    allowed = max(1, math.floor(_exact(false_reject) * (n + 1)))  # n + 1 - k
    k = n + 1 - allowed
    tail = (1 - _CONFIDENCE) / 2
    return ThresholdEstimate(
        threshold=_up_to_float32(float(ordered[k - 1])),
        requested=float(false_reject),
        false_reject=allowed / (n + 1),
        interval=(_beta_quantile(tail, allowed, k), _beta_quantile(1 - tail, allowed, k)),
        n_good=n,
        images_needed=needed,
        shortfall=max(0, needed - n),
    )


def outliers(scores: ArrayLike) -> NDArray[np.bool_]:
    """Which good scores lie far above the others: a defective part among the good ones, or one of its kind.

    A fence of interquartile ranges over the upper quartile, further out than Tukey's (1977, section 2C).

    Args:
        scores: (n,), of good images.

    Returns:
        (n,). None with fewer than 20 scores, or where more than one in twenty lies there.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < _FEWEST_FOR_QUARTILES:
        return np.zeros(values.shape, np.bool_)
    lower, upper = np.percentile(values, [25, 75])
    # Parts that are rendered or photographed twice may score alike to the last digits.
    far: NDArray[np.bool_] = values > upper + _FAR_OUT * max(upper - lower, _LEAST_RANGE)
    return far if far.mean() <= _MOST_OUTLIERS else np.zeros_like(far)


def _exact(rate: float) -> Fraction:
    if not 0 < rate < 1:
        raise CalibrationError(f"A rate of {rate} was asked for; expected a share above 0 and below 1.")
    # Through the decimal form: 0.005 * 200 must be 1 and not a hair beside it.
    return Fraction(repr(float(rate)))


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _checked_scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise CalibrationError(
            f"Good scores of shape {values.shape} were given; a threshold needs at least one, as (n,)."
        )
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise CalibrationError(
            f"Good score number {where} is {values[where]}; leave out images that could not be scored."
        )
    return values


def _up_to_float32(value: float) -> float:
    # Upwards: rounding down would reject the very part that set the threshold.
    nearest = np.float32(value)
    return float(nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf)))


def _beta_quantile(p: float, a: int, b: int) -> float:
    """Quantile of Beta(a, b) for whole a and b, by bisection of the equal binomial tail.

    P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a); this spares stations SciPy.
    """
    m = a + b - 1
    i = np.arange(a)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((m - i[:-1]) / (i[:-1] + 1)))])
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        below_a = np.exp(log_choose + i * math.log(x) + (m - i) * math.log1p(-x)).sum()
        low, high = (low, x) if 1 - below_a >= p else (x, high)
    return (low + high) / 2


@dataclass(frozen=True)
class Calibration:
    """All that turns evidence into a score and a score into a verdict.

    Attributes:
        estimate: The threshold and its promise.
        review_threshold: Scores above it and not above the threshold go to a person; equal to the
            threshold when there is no review band.
        review_share: Share of good parts that was allowed above `review_threshold`.
        scores: The good scores, ascending, in standard deviations of good parts; outliers are among them, and
            those of training images even where the threshold does without them.
        statistics: By kind of evidence, in the order of `PARTS`.
        names: Of the images behind `scores`; empty in models of versions that did not keep them.
        trained: Whether each of these images trained the networks; as `names`.
        outliers: Names of the good images that score far above the others, see `outliers`.
        leave_out_outliers: Whether the thresholds do without them.
        limits: Between which values the search's own scores lie on images of such parts, see `good_limits`;
            empty where nothing is known.
    """

    estimate: ThresholdEstimate
    review_threshold: float
    review_share: float
    scores: tuple[float, ...]
    statistics: Mapping[str, MapStatistics]
    names: tuple[str, ...] = ()
    trained: tuple[bool, ...] = ()
    outliers: tuple[str, ...] = ()
    leave_out_outliers: bool = False
    limits: Limits = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = {name: self.statistics[name] for name in in_order(self.statistics)}
        object.__setattr__(self, "statistics", ordered)

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        return self.estimate.threshold

    def outlier_warning(self) -> str | None:
        """Two sentences when good images score far above the others, else None."""
        if not self.outliers:
            return None
        n, more = len(self.outliers), len(self.outliers) - _NAMED
        images = ", ".join(self.outliers[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        verb = "scores" if n == 1 else "score"
        which = "good images" if self.estimate.n_trained else HELD_OUT
        of = self.estimate.n_good + self.estimate.n_left_out
        found = f"{n} of {of} {which} {verb} far above the others"
        if self.estimate.n_left_out:
            return (
                f"{found} and did not count for the threshold: {images}. Parts like these will be rejected."
            )
        return (
            f"{found}: {images}. Look at them, since a defective one lets defects pass: remove it and fit or "
            "calibrate again, or leave such images out (calibration.leave_out_outliers; `anogan calibrate` "
            "has --leave-out-outliers)."
        )

    def to_json_dict(self) -> dict[str, Any]:
        """All but the maps, in JSON types that come back to the bit."""
        return {
            "estimate": asdict(self.estimate) | {"interval": list(self.estimate.interval)},
            "review_threshold": self.review_threshold,
            "review_share": self.review_share,
            "scores": list(self.scores),
            "names": list(self.names),
            "trained": list(self.trained),
            "outliers": list(self.outliers),
            "leave_out_outliers": self.leave_out_outliers,
            "limits": {name: list(pair) for name, pair in self.limits.items()},
        }

    def to_arrays(self) -> dict[str, FloatMap]:
        """The maps as `<part>.mean` and `<part>.std`, float32."""
        named = {name: {"mean": s.mean, "std": s.std} for name, s in self.statistics.items()}
        return {f"{name}.{key}": array for name, pair in named.items() for key, array in pair.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, FloatMap]) -> dict[str, MapStatistics]:
        """The statistics that `to_arrays` wrote.

        Raises:
            BundleError: A mean without its standard deviation, or the reverse.
        """
        names = {key.rpartition(".")[0] for key in arrays}
        try:
            pairs = {n: (arrays[f"{n}.mean"], arrays[f"{n}.std"]) for n in in_order(names)}
        except (KeyError, ConfigError) as error:
            raise BundleError(
                f"The calibration maps do not fit together ({error}); fit the model again."
            ) from error
        return {name: MapStatistics(mean, std) for name, (mean, std) in pairs.items()}

    @classmethod
    def from_json_dict(cls, tree: Mapping[str, Any], arrays: Mapping[str, FloatMap]) -> Calibration:
        """The calibration that `to_json_dict` and `to_arrays` wrote.

        Raises:
            BundleError: A field is missing or unknown.
        """
        try:
            estimate = dict(tree["estimate"])
            low, high = estimate.pop("interval")
            limits = tree.get("limits", {})
            return cls(
                estimate=ThresholdEstimate(interval=(low, high), **estimate),
                review_threshold=float(tree["review_threshold"]),
                review_share=float(tree["review_share"]),
                scores=tuple(map(float, tree["scores"])),
                statistics=cls.from_arrays(arrays),
                names=tuple(map(str, tree.get("names", ()))),
                trained=tuple(map(bool, tree.get("trained", ()))),
                outliers=tuple(map(str, tree.get("outliers", ()))),
                leave_out_outliers=bool(tree.get("leave_out_outliers", False)),
                limits={name: (float(low), float(high)) for name, (low, high) in limits.items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"The calibration is damaged ({error!r}); calibrate the model again."
            ) from error


def calibrate(
    scores: ArrayLike,
    *,
    false_reject: float,
    review_share: float,
    statistics: Mapping[str, MapStatistics],
    names: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    leave_out_outliers: bool = False,
    trained: Sequence[bool] | None = None,
    limits: Limits | None = None,
) -> Calibration:
    """Threshold and review band from the scores of good images.

    Args:
        scores: (n,), good images of the calibration set only, made with these `statistics`.
        false_reject: Share of good parts that may be rejected, in (0, 1).
        review_share: Share of good parts that may score above the review threshold (reviewed or
            rejected), in [0, 1). No band with 0, with too few images to certify it, or when it is not
            above `false_reject`.
        statistics: Kept with the threshold, by kind of evidence.
        names: Of the images, n; by default their numbers.
        parts: That the images show, n; of each the highest score counts alone, since photographs of one part
            do not vary as parts do. By default each shows its own.
        leave_out_outliers: Whether the thresholds do without `outliers`.
        trained: Whether each image trained the networks, n; by default none did.
        limits: Kept with the threshold.

    Raises:
        CalibrationError: See `conformal_threshold`.
    """
    values = _checked_scores(scores)
    names = [f"number {index}" for index in range(len(values))] if names is None else names
    known = np.zeros(len(values), np.bool_) if trained is None else np.array(trained, np.bool_)
    if parts is not None:
        highest = _highest_of_each(values, parts)
        values, names, known = values[highest], [names[index] for index in highest], known[highest]
    far = outliers(values)
    counts = ~far if leave_out_outliers else np.ones_like(far)
    kept = values[counts]
    estimate = conformal_threshold(kept, false_reject)
    n_trained = int(known[counts].sum())
    above = int((values[counts & ~known] > estimate.threshold).sum()) if n_trained else None
    ascending = np.argsort(values, kind="stable")
    return Calibration(
        estimate=replace(
            estimate, n_left_out=len(values) - len(kept), n_trained=n_trained, held_out_above=above
        ),
        review_threshold=_review_threshold(kept, review_share, estimate.threshold),
        review_share=float(review_share),
        scores=tuple(values[ascending].tolist()),
        statistics=statistics,
        names=tuple(names[int(index)] for index in ascending),
        trained=tuple(known[ascending].tolist()),
        outliers=tuple(names[int(index)] for index in ascending[::-1] if far[index]),
        leave_out_outliers=leave_out_outliers,
        limits=limits or {},
    )


def _highest_of_each(scores: NDArray[np.float64], parts: Sequence[str]) -> list[int]:
    highest: dict[str, int] = {}
    for index, part in enumerate(parts):
        if scores[index] >= scores[highest.setdefault(part, index)]:
            highest[part] = index
    return list(highest.values())


def _review_threshold(scores: NDArray[np.float64], share: float, threshold: float) -> float:
    if share == 0 or images_needed(share) > len(scores):
        return threshold
    return min(threshold, conformal_threshold(scores, share).threshold)


def recalibrated(
    calibration: Calibration,
    scores: ArrayLike,
    false_reject: float,
    review_share: float,
    *,
    names: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    leave_out_outliers: bool | None = None,
    trained: Sequence[bool] | None = None,
    limits: Limits | None = None,
) -> Calibration:
    """The same statistics, and by default view of outliers and limits, with thresholds from new scores.

    See `calibrate`.
    """
    known = calibration.leave_out_outliers
    return calibrate(
        scores,
        false_reject=false_reject,
        review_share=review_share,
        statistics=calibration.statistics,
        names=names,
        parts=parts,
        leave_out_outliers=known if leave_out_outliers is None else leave_out_outliers,
        trained=trained,
        limits=calibration.limits if limits is None else limits,
    )
