"""Evidence maps: what good parts look like, and how a map becomes one number.

Every station runs this module, so it needs NumPy and OpenCV and nothing that trains. The ONNX graph
holds the same arithmetic, so what looks arbitrary here (order of sums, edges, rounding) is a contract.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from anogan.errors import CalibrationError, ConfigError, ShapeError

FloatMap = NDArray[np.float32]
_Float = TypeVar("_Float", np.float32, np.float64)

PARTS = ("residual", "discrimination", "head", "perceptual")
"""Kinds of evidence, in the order in which they are summed."""

_AT = "@"  # `head@0.5` is what the head says of the image at half its size.

_STD_FLOOR = 1e-6  # Keeps constant evidence finite; maps of live models vary by far more.
_RELATIVE_STD_FLOOR = 1e-3  # No pixel may outvote another a thousandfold by never having varied.
_MEAN_SIGMA = 2.0  # Pixels; about the jitter of a part in its fixture.


@dataclass(frozen=True, eq=False)
class MapStatistics:
    """What one kind of evidence looks like on good parts.

    Attributes:
        mean: (H, W), or (1, 1) for one value everywhere.
        std: Same shape, above 0.
    """

    mean: FloatMap
    std: FloatMap

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.std.shape:
            raise ShapeError(f"mean {self.mean.shape} and std {self.std.shape} must be the same (H, W).")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MapStatistics):
            return NotImplemented
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.std, other.std)

    __hash__ = None  # type: ignore[assignment]

    def normalise(self, evidence: NDArray[Any]) -> FloatMap:
        """Evidence in standard deviations of good parts, (H, W) float32.

        Raises:
            ShapeError: Per-pixel statistics of another size.
        """
        if evidence.ndim != 2 or self.mean.shape not in ((1, 1), evidence.shape):
            raise ShapeError(
                f"A map of {evidence.shape} does not fit statistics of {self.mean.shape}; score images of "
                "the calibrated size, or set calibration.map: global."
            )
        return (evidence.astype(np.float32) - self.mean) / self.std


@dataclass(frozen=True)
class _Moments:
    """Mean of n maps and the sum of their squared distances from it, (H, W) each."""

    n: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    def also(self, values: NDArray[np.float64]) -> _Moments:
        """With one more map (Welford 1962: stable where a sum of squares would cancel)."""
        delta = values - self.mean
        mean = self.mean + delta / (self.n + 1)
        return _Moments(self.n + 1, mean, self.squares + delta * (values - mean))


_NO_MAP = _Moments(0, np.zeros((1, 1)), np.zeros((1, 1)))


class MapMoments:
    """Mean and standard deviation of good parts' evidence, map by map and in constant memory.

    Per pixel, few images estimate badly, so with n images and k = `prior_images` the variance is
    (n var_pixel + k var_all) / (n + k), var_all being the mean of the pixels' variances, and the mean is
    drawn by the same shares to its own blur (sigma 2 pixels). Photographs of one part, or copies, say little
    of the next part: n counts parts, and the variance is that between the means of parts plus the mean of
    those within (analysis of variance, Fisher 1925).
    """

    def __init__(self, mode: Literal["per-pixel", "global"], prior_images: float) -> None:
        """Starts with no map.

        Args:
            mode: One value per pixel, or one for all.
            prior_images: k, at least 0; not used by `global`.
        """
        self._mode, self._prior = mode, prior_images
        self._n_maps = 0
        self._n = 0  # Of pixels with `global`.
        self._mean, self._squares = np.zeros((1, 1)), np.zeros((1, 1))
        self._part: str | None = None
        self._shown = _NO_MAP  # Of the maps of the part that came last.
        self._parts = _NO_MAP  # Of the mean maps of those before.
        self._within: NDArray[np.float64] = np.zeros((1, 1))  # Sum of their variances.

    def add(self, evidence: NDArray[Any], part: str | None = None) -> None:
        """Takes one map.

        Args:
            evidence: (H, W), of one size for `per-pixel`, of any for `global`.
            part: What part it shows, by which maps come in order; None: one of its own. Not used by
                `global`, where pixels of one map differ as those of others do.

        Raises:
            CalibrationError: It has values that are not finite.
            ShapeError: It is no map, or of another size than the first with `per-pixel`.
        """
        if evidence.ndim != 2 or evidence.size == 0:
            raise ShapeError(f"Calibration map {self._n_maps} is of shape {evidence.shape}; expected (H, W).")
        if not np.isfinite(evidence).all():
            raise CalibrationError(
                f"Calibration map {self._n_maps} has values that are not finite; leave it out."
            )
        values = evidence.astype(np.float64)
        if self._mode == "global":
            self._take_pixels(values)
        else:
            self._take_map(values, part)
        self._n_maps += 1

    def statistics(self) -> MapStatistics:
        """Of all maps so far.

        Raises:
            CalibrationError: There was none.
        """
        if self._n_maps == 0:
            raise CalibrationError("No good image was left to calibrate with; add images to good/.")
        mean, variance = (
            (self._mean, self._squares / self._n) if self._mode == "global" else self._shrunk_to_all()
        )
        floor = max(_STD_FLOOR, _RELATIVE_STD_FLOOR * math.sqrt(float(variance.mean())))
        return MapStatistics(mean.astype(np.float32), np.maximum(np.sqrt(variance), floor).astype(np.float32))

    def _take_map(self, evidence: NDArray[np.float64], part: str | None) -> None:
        if self._n_maps and evidence.shape != self._shown.mean.shape:
            raise ShapeError(
                f"Calibration map {self._n_maps} is {evidence.shape} and the first was "
                f"{self._shown.mean.shape}; per-pixel calibration needs one size: set images.size, or "
                "calibration.map: global."
            )
        if self._n_maps and (part is None or part != self._part):
            self._parts, self._within = self._all_parts()
            self._shown = _NO_MAP
        self._part = part
        self._shown = self._shown.also(evidence)

    def _all_parts(self) -> tuple[_Moments, NDArray[np.float64]]:
        """With the one that came last."""
        return self._parts.also(self._shown.mean), self._within + self._shown.squares / self._shown.n

    def _take_pixels(self, evidence: NDArray[np.float64]) -> None:
        """Chan et al. 1979: Welford for whole batches of pixels."""
        delta = evidence.mean() - self._mean
        total = self._n + evidence.size
        self._squares = (
            self._squares + evidence.var() * evidence.size + delta**2 * self._n * evidence.size / total
        )
        self._mean = self._mean + delta * evidence.size / total
        self._n = total

    def _shrunk_to_all(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        parts, within = self._all_parts()
        n, k, mean = parts.n, self._prior, parts.mean
        if n == 1:  # One part says nothing of the spread between parts; its own spread stands in.
            return mean, np.full_like(mean, mean.var())
        variance = parts.squares / (n - 1) + within / n
        shrunk = (n * variance + k * variance.mean()) / (n + k)
        return (n * mean + k * _blur(mean, _MEAN_SIGMA)) / (n + k), shrunk


def fit_map_statistics(
    maps: Iterable[NDArray[Any]], mode: Literal["per-pixel", "global"], prior_images: float
) -> MapStatistics:
    """`MapMoments` of maps that are all there, or come one by one.

    Raises:
        CalibrationError: No map, or a map with values that are not finite.
        ShapeError: Maps of several sizes with `per-pixel`.
    """
    moments = MapMoments(mode, prior_images)
    for evidence in maps:
        moments.add(evidence)
    return moments.statistics()


def combine(
    parts: Mapping[str, NDArray[Any]], statistics: Mapping[str, MapStatistics], weights: Mapping[str, float]
) -> FloatMap:
    """One map from all evidence: per scale the sum of w * normalised part, over sqrt(sum of w^2).

    The divisor keeps the unit at about one standard deviation of good parts whatever the weights. Maps of
    smaller scales are enlarged to the first one's size and the greatest value counts: a mean would halve
    what only one scale can see.

    Args:
        parts: Evidence by kind and scale (see `PARTS`, `part_name`), each (H, W) of one size per scale.
        statistics: The same parts on good images.
        weights: At least 0, by kind, alike at every scale. Kinds that are not in `parts` are not counted: a
            model without a learned head has no `head`.

    Returns:
        (H, W) float32, of the greatest scale's size.

    Raises:
        ConfigError: No part has a weight above 0.
        CalibrationError: A part has no statistics.
        ShapeError: The parts of a scale differ in size, or from their statistics.
    """
    used = [name for name in in_order(parts) if weights.get(part_kind(name), 0.0) > 0]
    if not used:
        raise ConfigError(
            f"None of the parts {sorted(parts)} has a weight above 0; raise one of score.*_weight."
        )
    missing = [name for name in used if name not in statistics]
    if missing:
        raise CalibrationError(f"The calibration knows no part {missing[0]!r}; calibrate the model again.")
    scales = [list(names) for _, names in groupby(used, _scale)]
    first, *others = (_weighted_sum(names, parts, statistics, weights) for names in scales)
    for other in others:
        first = np.maximum(first, _enlarged(other, (first.shape[0], first.shape[1])))
    return first


def _enlarged(evidence: FloatMap, size: tuple[int, int]) -> FloatMap:
    from anogan.images.resize import resize  # Here: thresholds are recomputed without OpenCV.

    return resize(evidence[..., None], size)[..., 0]


def _weighted_sum(
    names: Sequence[str],
    parts: Mapping[str, NDArray[Any]],
    statistics: Mapping[str, MapStatistics],
    weights: Mapping[str, float],
) -> FloatMap:
    """The map of one scale."""
    shapes = {name: parts[name].shape for name in names}
    if len(set(shapes.values())) > 1:
        raise ShapeError(f"The parts of one image differ in size: {shapes}; expected one (H, W).")
    norm = math.sqrt(sum(weights[part_kind(name)] ** 2 for name in names))
    total = np.zeros(shapes[names[0]], np.float32)
    for name in names:
        total += np.float32(weights[part_kind(name)] / norm) * statistics[name].normalise(parts[name])
    return total


def part_name(kind: str, scale: float = 1.0) -> str:
    """The name of a kind of evidence at a scale: `head` at 1, `head@0.5` at one half."""
    return kind if scale == 1 else f"{kind}{_AT}{scale:g}"


def part_kind(name: str) -> str:
    """The kind of evidence in a `part_name`."""
    return name.partition(_AT)[0]


def _scale(name: str) -> float:
    return float(name.partition(_AT)[2] or 1)


def in_order(names: Iterable[str]) -> list[str]:
    """The names from the greatest scale down, each in the order of `PARTS`; ConfigError for unknown ones."""
    names = set(names)
    unknown = sorted(name for name in names if not _is_part(name))
    if unknown:
        raise ConfigError(f"Unknown kind of evidence {unknown[0]!r}; expected {', '.join(PARTS)}.")
    return sorted(names, key=lambda name: (-_scale(name), PARTS.index(part_kind(name))))


def _is_part(name: str) -> bool:
    kind, _, scale = name.partition(_AT)
    try:
        return kind in PARTS and name == part_name(kind, float(scale or 1))
    except ValueError:
        return False


def gaussian_kernel(sigma: float) -> FloatMap:
    """Normalised Gaussian of radius ceil(3 sigma), (2 radius + 1,) float32; [1] for sigma 0.

    PyTorch and the ONNX graph take their numbers from here.
    """
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def smooth(evidence: NDArray[Any], sigma: float) -> FloatMap:
    """Gaussian blur of a map, (H, W) float32.

    Separable, with `gaussian_kernel`; the edge is mirrored without repeating the edge pixel (`reflect` in
    NumPy, PyTorch and ONNX, d c b | a b c d), again and again where the map is smaller than the radius.

    Args:
        evidence: (H, W).
        sigma: Pixels; 0 changes nothing.
    """
    return _blur(evidence.astype(np.float32), sigma)


def _blur(evidence: NDArray[_Float], sigma: float) -> NDArray[_Float]:
    if sigma == 0:
        return evidence
    import cv2  # Here: thresholds are recomputed without it.

    kernel = gaussian_kernel(sigma)
    blurred = cv2.sepFilter2D(evidence, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=evidence.dtype)


def spread(evidence: NDArray[Any], pixels: int) -> FloatMap:
    """Each pixel's maximum over the square that reaches `pixels` to every side, (H, W) float32.

    A grey dilation: maxima stay what they are and grow, so the score of the map does not change. NumPy,
    PyTorch and ONNX (MaxPool) agree exactly.
    """
    found = evidence.astype(np.float32)
    if pixels == 0:
        return found
    import cv2  # Here: thresholds are recomputed without it.

    side = 2 * pixels + 1
    return np.asarray(cv2.dilate(found, np.ones((side, side), np.uint8)), np.float32)


def refuse_all_border(size: tuple[int, int], border: int) -> None:
    """Refuses a size of which `score.border` leaves no pixel.

    Raises:
        ShapeError: It leaves none.
    """
    if min(size) <= 2 * border:
        raise ShapeError(
            f"A border of {border} leaves nothing of a {size[0]} x {size[1]} map; lower score.border."
        )


def pool(evidence: NDArray[Any], pooling: Literal["max", "top"], top_share: float, border: int) -> float:
    """The image score of a map.

    Args:
        evidence: (H, W).
        pooling: `max`, or `top`: the mean of the ceil(top_share * pixels) greatest pixels.
        top_share: In (0, 1]; only for `top`.
        border: Pixels at each edge that do not count.

    Returns:
        A float32 value; not a number if any counted pixel is not.

    Raises:
        ShapeError: The border leaves no pixel.
    """
    height, width = evidence.shape
    refuse_all_border((height, width), border)
    counted = evidence[border : height - border, border : width - border] if border else evidence
    if pooling == "max":
        return float(np.float32(counted.max()))
    flat = counted.ravel()
    first = flat.size - math.ceil(top_share * flat.size)
    return float(np.partition(flat, first)[first:].mean(dtype=np.float64).astype(np.float32))
