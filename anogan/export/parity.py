"""The gate: an exported file must decide as PyTorch does, from raw pixels, or it is not written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.config import Config
from anogan.errors import ExportError
from anogan.export.graph import Precision
from anogan.inspection import Inspection
from anogan.scoring import Scorer
from anogan.station import Scorer as StationScorer

Images = Sequence[NDArray[Any]]
_USUAL_AMPLIFICATION = 100.0


@dataclass(frozen=True)
class Tolerance:
    """How far the two may differ, as a share of PyTorch's value, or of 1 if that is larger.

    Scores and maps are in standard deviations of good parts.

    Attributes:
        exact: Scores and maps without a search step: one forward pass, so rounding alone. Maps are given
            more where the calibration divides by a small deviation, which makes rounding larger.
        search: Scores after the whole search.
        near: A verdict may change where PyTorch's score lies so near to a threshold. A threshold is the score
            of a held-out good image, and that image may be among those that are compared.
    """

    exact: float = 1e-4
    search: float = 1e-4
    near: float = 1e-4


# With jumps in the gradient rounding decides where a search goes: two correct ones part, and meet again only
# as they converge.
JUMPING_SEARCH = Tolerance(search=5e-2)
HALF_PRECISION = Tolerance(exact=3e-2, search=1e-1, near=5e-2)
# The search starts elsewhere: without a step the score is that of another code.
EIGHT_BITS = Tolerance(exact=5e-1, search=1e-1, near=5e-2)


def tolerance_for(config: Config, precision: Precision) -> Tolerance:
    """What the comparison allows a model of these settings."""
    if precision != "fp32":
        return EIGHT_BITS if precision == "int8" else HALF_PRECISION
    search, features = config.search, config.features
    perceptual = features.weights is not None and features.search_weight > 0
    jumps = search.gradient == "exact" or search.residual == "trimmed" or search.mask > 0 or perceptual
    return JUMPING_SEARCH if jumps else Tolerance()


@dataclass(frozen=True)
class Agreement:
    """The greatest differences between the two at one number of steps, as shares of the value or of 1.

    Attributes:
        steps: Search steps.
        score: Of the image scores; `median_score` is the median over images.
        absolute: Of the image scores, in standard deviations of good parts.
        map: Of any pixel of the anomaly maps.
        reconstruction: Of any pixel value, in grey levels, not a share.
        verdicts_changed: Images that got another verdict.
        verdicts_near: And those whose score lies so near to a threshold that either is right.
    """

    steps: int
    score: float
    median_score: float
    absolute: float
    map: float
    reconstruction: int
    verdicts_changed: int
    verdicts_near: int


@dataclass(frozen=True)
class Parity:
    """What the gate found.

    Attributes:
        n_images: Images compared.
        agreements: Without a step, with one, and with all.
        batch_identical: Whether each image scored the same, bit for bit, alone and among the others.
        amplification: The greatest (mean + deviation) / deviation of any calibrated pixel: by so much the
            calibration magnifies the rounding of the evidence.
    """

    n_images: int
    agreements: tuple[Agreement, ...]
    batch_identical: bool
    amplification: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"agreements": [asdict(a) for a in self.agreements]}


def measure_parity(
    scorer: Scorer,
    station: StationScorer,
    images: Images,
    tolerance: Tolerance | None = None,
    variant: str | None = None,
) -> Parity:
    """Scores the images with both.

    Args:
        scorer: The PyTorch scorer, calibrated.
        station: The exported file's scorer, with the default number of steps.
        images: As `Scorer.score` takes them.
        tolerance: Its `near` decides which verdicts count as changed.
        variant: Under which both score all of them, for a model with variants.
    """
    near = 0.0 if tolerance is None else tolerance.near
    full = scorer.config.search.steps
    agreements = []
    for steps in sorted({0, min(1, full), full}):
        own = Scorer(scorer.model, scorer.calibration, steps=steps)
        exported = station.with_steps(steps)
        pairs = [(own.score([image], variant)[0], exported.score([image], variant)[0]) for image in images]
        agreements.append(_agreement(steps, pairs, (own.threshold, own.review_threshold), near))
    alone = [b for _, b in pairs]
    together = station.score(images, variant)
    return Parity(len(images), tuple(agreements), _identical(alone, together), _amplification(scorer))


def decides_otherwise(wanted: Inspection, got: Inspection, limits: Sequence[float], near: float) -> bool:
    """Whether the verdicts differ although the wanted score is not `near` one of the limits."""
    distance = min(abs(wanted.score - limit) for limit in limits)
    return wanted.verdict != got.verdict and not distance < near * max(1, abs(wanted.score))


def _agreement(
    steps: int, pairs: Sequence[tuple[Inspection, Inspection]], limits: Sequence[float], near: float
) -> Agreement:
    scores = [_share(a.score, b.score) for a, b in pairs]
    changed = sum(decides_otherwise(a, b, limits, near) for a, b in pairs)
    return Agreement(
        steps=steps,
        score=max(scores),
        median_score=float(np.median(scores)),
        absolute=max(abs(a.score - b.score) for a, b in pairs),
        map=max(_share(a.anomaly_map, b.anomaly_map) for a, b in pairs),
        reconstruction=max(_levels(a.reconstruction, b.reconstruction) for a, b in pairs),
        verdicts_changed=changed,
        verdicts_near=sum(a.verdict != b.verdict for a, b in pairs) - changed,
    )


def _share(wanted: float | NDArray[Any], got: float | NDArray[Any]) -> float:
    if np.shape(wanted) != np.shape(got):
        return float("inf")
    difference = np.abs(np.subtract(wanted, got)) / np.maximum(1, np.abs(wanted))
    return float(np.max(difference)) if np.isfinite(difference).all() else float("inf")


def _levels(wanted: NDArray[Any], got: NDArray[Any]) -> int:
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        raise ExportError(
            f"The exported reconstruction is {got.shape} {got.dtype}, PyTorch's {wanted.shape} "
            f"{wanted.dtype}; please report this model's config as a bug."
        )
    return int(np.abs(wanted.astype(np.int64) - got.astype(np.int64)).max())


def _identical(alone: Sequence[Inspection], together: Sequence[Inspection]) -> bool:
    return all(
        a.score == b.score and np.array_equal(a.anomaly_map, b.anomaly_map)
        for a, b in zip(alone, together, strict=True)
    )


def _amplification(scorer: Scorer) -> float:
    statistics = () if scorer.calibration is None else scorer.calibration.statistics.values()
    return max(float(((np.abs(s.mean) + s.std) / s.std).max()) for s in statistics)


def require_parity(parity: Parity, tolerance: Tolerance) -> None:
    """Refuses an export that decides otherwise.

    Raises:
        ExportError: Verdicts, scores or maps differ by more than the tolerance.
    """
    first, last = parity.agreements[0], parity.agreements[-1]
    on_maps = tolerance.exact * max(1.0, parity.amplification / _USUAL_AMPLIFICATION)
    if not (first.score <= tolerance.exact and first.map <= on_maps):
        raise ExportError(
            f"The exported file computes another score than PyTorch without any search step (score by "
            f"{first.score:.2g}, map by {first.map:.2g} of its value, {tolerance.exact:.2g} and "
            f"{on_maps:.2g} allowed); it was not written. {_report_or_fp32(tolerance)}"
        )
    for agreement in parity.agreements:
        if agreement.verdicts_changed:
            raise ExportError(
                f"The exported file gives another verdict than PyTorch on {agreement.verdicts_changed} of "
                f"{parity.n_images} images after {agreement.steps} search steps; it was not written. "
                + _ADVICE
            )
    if not last.score <= tolerance.search:
        raise ExportError(
            f"The exported file's scores differ from PyTorch's by up to {last.score:.2g} of their value "
            f"after {last.steps} search steps ({tolerance.search:.2g} allowed); it was not written. {_ADVICE}"
        )


def _report_or_fp32(tolerance: Tolerance) -> str:
    if tolerance.exact > Tolerance().exact:
        return "Export this model in fp32."
    return "Please report this model's config as a bug."


_ADVICE = (
    "This search amplifies rounding: lower search.learning_rate or search.steps, or use search.gradient: "
    "smooth, and fit or calibrate again."
)
