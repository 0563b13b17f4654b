"""Figures of several entrants over data sets and seeds: means, spreads, and who beats whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """

    name: str
    data: str
    role: Role
    seed: int
    figures: Mapping[str, float | None] = field(default_factory=dict)
    per_kind: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None
    unscored: int = 0

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
    """One entrant on one data set over all its seeds."""

    name: str
    data: str
    role: Role
    seeds: tuple[int, ...]
    figures: Mapping[str, Spread | None]
    per_kind: Mapping[str, Spread | None]
    errors: tuple[str, ...]
    unscored: tuple[str, ...] = ()

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
    )


def best_rows(rows: Sequence[Row], figure: str) -> set[str]:
    """Names of the rows of one data set with the best mean; ties share it."""
    means = {row.name: spread.mean for row in rows if (spread := row.figures.get(figure)) is not None}
    if not means:
        return set()
    pick: Callable[[Iterable[float]], float] = min if figure in LOWER_IS_BETTER else max
    best = pick(means.values())
    return {name for name, mean in means.items() if mean == best}


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


def _champion(rows: Sequence[Row], role: str, figure: str) -> tuple[str, Spread] | None:
    known = [(row.name, s) for row in rows if row.role == role and (s := row.figures[figure]) is not None]
    return max(known, key=lambda pair: pair[1].mean, default=None)


def _sentence(data: str, words: str, model: tuple[str, Spread], baseline: tuple[str, Spread]) -> str:
    (name, ours), (other, theirs) = model, baseline
    if ours.mean > theirs.mean:
        text = f"{name} beats every baseline by {words}, {ours.mean:.3f} against {theirs.mean:.3f} of {other}"
    elif ours.mean == theirs.mean:
        return f"{data}: {name} and the baseline {other} are level in {words}, {ours.mean:.3f}."
    else:
        text = (
            f"no AnoGAN here beats the baseline {other} by {words}: {theirs.mean:.3f}, and {ours.mean:.3f} "
            f"of {name}, the best of them"
        )
    # One seed says nothing of the next, and ranges that meet say that the order may turn.
    doubt = ", but their seeds overlap" if ours.overlaps(theirs) and max(ours.n, theirs.n) > 1 else ""
    alone = [who for who, spread in (model, baseline) if spread.n == 1]
    single = "" if not alone else "; on one seed" if len(alone) == 2 else f"; {alone[0]} on one seed"
    return f"{data}: {text}{doubt}{single}."
