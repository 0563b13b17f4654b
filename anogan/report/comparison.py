"""The comparison as tables: the words that terminal and page share, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anogan import __version__
from anogan.metrics.comparison import (
    LOWER_IS_BETTER,
    Comparison,
    Outcome,
    Row,
    Spread,
    mask_counts,
)
from anogan.report import _words
from anogan.report._page import assets, data_uri, template, write_page
from anogan.report.plots import seed_dots

LABELS = {**dict(_words.TILES), "ms_per_image": "ms per image", "training_seconds": "Training, s"}
_DIGITS = {"ms_per_image": 1, "training_seconds": 0}
_PLOTTED = ("image_auroc", "aupro")


def mean_text(figure: str, spread: Spread | None) -> str:
    """`0.978`, `98.7 %` or `3.2`: the mean as a person reads this figure; a dash for none."""
    if spread is None:
        return _words.MISSING
    return _value(figure, spread.mean)


def best_rows(rows: Sequence[Row], figure: str) -> set[str]:
    """Names of the rows of one data set with the best mean; means that read alike share it."""
    means = {row.name: spread.mean for row in rows if (spread := row.figures.get(figure)) is not None}
    if not means:
        return set()
    best = min(means.values()) if figure in LOWER_IS_BETTER else max(means.values())
    return {name for name, mean in means.items() if _value(figure, mean) == _value(figure, best)}


def deviation_text(figure: str, spread: Spread | None) -> str:
    """`± 0.012`, nothing for a single seed."""
    return "" if spread is None or spread.n < 2 else f"± {_value(figure, spread.std)}"


def range_text(figure: str, spread: Spread | None) -> str:
    """`0.961 to 0.988`, nothing for a single seed."""
    if spread is None or spread.n < 2:
        return ""
    return f"{_value(figure, spread.low)} to {_value(figure, spread.high)}"


def seeds_text(row: Row) -> str:
    """`3`, or `2 of 3` where one failed."""
    n = len(row.seeds)
    return f"{n - len(row.errors)} of {n}" if row.errors else str(n)


def masks_text(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """A sentence for each data set with defective images that have no mask: pixel figures leave them out."""
    counts = mask_counts(outcomes)
    return {data: _words.masks(n, of) for data, (n, of) in counts.items() if n < of}


def data_sets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by data set, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.data, []).append(row)
    return found


def write_comparison_report(path: Path, comparison: Comparison) -> Path:
    """Writes a self-contained HTML page: who beats whom, the figures with their spread, kinds of defect.

    Args:
        path: The HTML file; an existing one is replaced only at the end.
        comparison: What to show.

    Raises:
        StorageError: The file cannot be written; an earlier page is left as it was.
    """
    masks = masks_text(comparison.outcomes)
    context = {
        "title": "Comparison",
        "version": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "verdicts": comparison.verdicts,
        "labels": [(name, label, name in LOWER_IS_BETTER) for name, label in LABELS.items()],
        "sets": [
            _set(name, rows, [o for o in comparison.outcomes if o.data == name], masks.get(name))
            for name, rows in data_sets(comparison.rows).items()
        ],
    }
    write_page(path, template("compare.html.j2").generate(**context, **assets()))
    return path


def _value(figure: str, value: float) -> str:
    digits = _DIGITS.get(figure)
    return _words.metric(figure, value) if digits is None else _words.number(value, digits)


def _set(name: str, rows: Sequence[Row], outcomes: Sequence[Outcome], masks: str | None) -> dict[str, Any]:
    best = {figure: best_rows(rows, figure) for figure in LABELS}
    return {
        "name": name,
        "rows": [
            {
                "name": row.name,
                "role": row.role,
                "seeds": seeds_text(row),
                "cells": [_cell(figure, row, row.name in best[figure]) for figure in LABELS],
                "errors": row.errors,
                "unscored": row.unscored,
                "doubtful": row.doubtful,
            }
            for row in rows
        ],
        "masks": masks,
        "kinds": _kinds(rows),
        "plots": _plots(outcomes),
    }


def _cell(figure: str, row: Row, best: bool) -> dict[str, Any]:
    spread = row.figures.get(figure)
    return {
        "mean": mean_text(figure, spread),
        "deviation": deviation_text(figure, spread),
        "range": range_text(figure, spread),
        "best": best,
    }


def _kinds(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Defect kind -> image AUROC of each row, the hardest kind of the best row first."""
    kinds = dict.fromkeys(kind for row in rows for kind in row.per_kind)

    def ease(kind: str) -> float:
        means = [s.mean for row in rows if (s := row.per_kind.get(kind)) is not None]
        return max(means, default=0.0)

    return [
        (kind, [mean_text("image_auroc", row.per_kind.get(kind)) for row in rows])
        for kind in sorted(kinds, key=ease)
    ]


def _plots(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    found = []
    for figure in _PLOTTED:
        groups: dict[str, list[float]] = {}
        for outcome in outcomes:
            value = outcome.figures.get(figure)
            if value is not None:
                groups.setdefault(outcome.name, []).append(value)
        models = {outcome.name for outcome in outcomes if outcome.role == "model"}
        if groups:
            picture = seed_dots(groups, models, LABELS[figure])
            found.append((LABELS[figure], data_uri("png", picture)))
    return found
