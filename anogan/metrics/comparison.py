"""Figures of several entrants over data sets and seeds: means, spreads, and who beats whom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

FIGURES = (
    "image_auroc",
    "image_aupr",
    "image_f1",
    "accuracy",
    "false_reject_rate",
    "false_accept_rate",
    "pixel_auroc",
    "aupro",
    "ms_per_image",
    "training_seconds",
)
"""What is compared; rates and F1 at the threshold that good images alone gave."""
LOWER_IS_BETTER = frozenset({"false_reject_rate", "false_accept_rate", "ms_per_image", "training_seconds"})
_JUDGED_BY = {"image_auroc": "image AUROC", "aupro": "AUPRO"}

Role = Literal["model", "baseline"]


@dataclass(frozen=True)
class Outcome:
    """One entrant on one data set with one seed.

    Attributes:
        name: The entrant's.
        data: The data set's.
        role: `model` for an AnoGAN, `baseline` for what it has to beat.
        seed: Of split and training.
        figures: Of `FIGURES`; None where the data cannot give one, empty after an error.
        per_kind: Defect kind -> image AUROC against all good test images.
        error: Why there are no figures.
        unscored: Test images that could not be scored; the figures are those of the others.
        doubtful: Why the model's training is doubtful, if it is, as a sentence.
        n_defect: Defective test images that were scored; `n_masked` those of them that have a mask, of which
            the pixel figures are.
    """

    name: str
    data: str
    role: Role
    seed: int
    figures: Mapping[str, float | None] = field(default_factory=dict)
    per_kind: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None
    unscored: int = 0
    doubtful: str | None = None
    n_defect: int = 0
    n_masked: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """One figure over seeds: mean, sample standard deviation (0 for one seed), least, greatest, number."""

    mean: float
    std: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """The spread of those that are finite numbers; None without any."""
        known = [float(v) for v in values if v is not None and math.isfinite(v)]
        if not known:
            return None
        # Equal values have no spread, whatever rounding makes of their mean.
        std = float(np.std(known, ddof=1)) if max(known) > min(known) else 0.0
        return cls(float(np.mean(known)), std, min(known), max(known), len(known))

    def overlaps(self, other: Spread) -> bool:
        """Whether the ranges meet, as they do when another seed may turn the order."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Row:
    """One entrant on one data set over all its seeds.

    Attributes:
        name: The entrant's.
        data: The data set's.
        role: As in `Outcome`.
        seeds: All of them, also those that failed.
        figures: Of `FIGURES`, over the seeds that did not fail.
        per_kind: Defect kind -> image AUROC likewise.
        errors: A sentence for each seed that failed; `unscored` and `doubtful` likewise.
    """

    name: str
    data: str
    role: Role
    seeds: tuple[int, ...]
    figures: Mapping[str, Spread | None]
    per_kind: Mapping[str, Spread | None]
    errors: tuple[str, ...]
    unscored: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """A whole comparison: one row per data set and entrant, in order, and the outcomes behind them."""

    outcomes: tuple[Outcome, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "verdicts": list(self.verdicts),
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }


def compare_outcomes(outcomes: Sequence[Outcome]) -> Comparison:
    """Rows and verdicts of outcomes in any order; a row stands where its first outcome does."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.data, outcome.name), []).append(outcome)
    rows = tuple(_row(group) for group in groups.values())
    return Comparison(tuple(outcomes), rows, tuple(verdicts(rows)))


def _row(group: Sequence[Outcome]) -> Row:
    first = group[0]
    scored = [outcome for outcome in group if outcome.error is None]
    kinds = dict.fromkeys(kind for outcome in scored for kind in outcome.per_kind)
    return Row(
        first.name,
        first.data,
        first.role,
        tuple(outcome.seed for outcome in group),
        {name: Spread.of(outcome.figures.get(name) for outcome in scored) for name in FIGURES},
        {kind: Spread.of(outcome.per_kind.get(kind) for outcome in scored) for kind in sorted(kinds)},
        tuple(f"seed {o.seed}: {o.error}" for o in group if o.error is not None),
        tuple(f"seed {o.seed}: {o.unscored} test images could not be scored" for o in group if o.unscored),
        tuple(f"seed {o.seed}: {o.doubtful}" for o in group if o.doubtful is not None),
    )


def mask_counts(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """Data set -> how many of its defective test images have a mask, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        counts = outcome.n_masked, outcome.n_defect
        # Who could not score some images counts fewer of them, and who failed none.
        found[outcome.data] = max(counts, found.get(outcome.data, (0, 0)), key=lambda pair: pair[::-1])
    return found


@dataclass(frozen=True)
class _Champion:
    """The best of the AnoGANs, or of the baselines, by one figure, and those of them that have no figure."""

    name: str
    spread: Spread
    n_doubtful: int
    failed: tuple[str, ...]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """One sentence per data set and measure: whether the best AnoGAN beats the best baseline."""
    sentences = []
    for data in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == data]
        for figure, words in _JUDGED_BY.items():
            model, baseline = (_champion(own, role, figure) for role in ("model", "baseline"))
            if model is not None and baseline is not None:
                sentences.append(_sentence(data, words, model, baseline))
    return sentences


def _champion(rows: Sequence[Row], role: str, figure: str) -> _Champion | None:
    own = [row for row in rows if row.role == role]
    known = [(row, spread) for row in own if (spread := row.figures[figure]) is not None]
    if not known:
        return None
    best, spread = max(known, key=lambda pair: pair[1].mean)
    failed = tuple(row.name for row in own if row.figures[figure] is None)
    return _Champion(best.name, spread, len(best.doubtful), failed)


def _sentence(data: str, words: str, model: _Champion, baseline: _Champion) -> str:
    ours, theirs = f"{model.spread.mean:.3f}", f"{baseline.spread.mean:.3f}"
    doubt = ""
    if ours == theirs:  # As printed: nobody believes that 1.000 beats 1.000.
        text = f"{model.name} and the baseline {baseline.name} are level in {words}, {ours}"
    else:
        if model.spread.mean > baseline.spread.mean:
            every = f"every baseline{_as_far_as_measured(baseline)}"
            text = f"{model.name} beats {every} by {words}, {ours} against {theirs} of {baseline.name}"
        else:
            text = (
                f"no AnoGAN here{_as_far_as_measured(model)} beats the baseline {baseline.name} by {words}: "
                f"{theirs}, and {ours} of {model.name}, the best of them"
            )
        doubt = _seeds_doubt(model.spread, baseline.spread)
    return f"{data}: {text}{doubt}{_on_one_seed(model, baseline)}{_doubtful(model)}."


def _as_far_as_measured(side: _Champion) -> str:
    return f" that could be measured ({', '.join(side.failed)} failed)" if side.failed else ""


def _seeds_doubt(ours: Spread, theirs: Spread) -> str:
    """One seed says nothing of the next, and ranges that meet say that the order may turn."""
    return ", but their seeds overlap" if ours.overlaps(theirs) and max(ours.n, theirs.n) > 1 else ""


def _on_one_seed(model: _Champion, baseline: _Champion) -> str:
    alone = [side.name for side in (model, baseline) if side.spread.n == 1]
    return "" if not alone else "; on one seed" if len(alone) == 2 else f"; {alone[0]} on one seed"


def _doubtful(model: _Champion) -> str:
    if not model.n_doubtful:
        return ""
    n = model.spread.n
    seeds = "" if model.n_doubtful == n else f" on {model.n_doubtful} of {n} seeds"
    return f"; the training of {model.name} is doubtful{seeds}"
