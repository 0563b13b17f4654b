"""Means, spreads and verdicts over seeds say what the outcomes say, and no more."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from anogan.metrics.comparison import FIGURES, Outcome, Role, Spread, best_rows, compare_outcomes


def outcome(name: str, auroc: float | None, seed: int = 0, role: Role = "model", **figures: float) -> Outcome:
    return Outcome(name, "pcb", role, seed, {"image_auroc": auroc} | figures, {"short": auroc})


def test_spread_is_mean_sample_deviation_and_range() -> None:
    spread = Spread.of([0.9, None, 0.8, math.nan, 0.7])

    assert spread is not None
    assert (spread.mean, spread.std) == (pytest.approx(0.8), pytest.approx(0.1))
    assert (spread.low, spread.high, spread.n) == (0.7, 0.9, 3)


def test_one_seed_has_no_deviation_and_none_has_no_spread() -> None:
    assert Spread.of([0.5]) == Spread(0.5, 0.0, 0.5, 0.5, 1)
    assert Spread.of([0.012] * 3).std == 0.0  # type: ignore[union-attr]
    assert Spread.of([None, math.inf]) is None


def test_rows_gather_the_seeds_of_each_entrant_on_each_data_set_in_order() -> None:
    elsewhere = Outcome("demo", "tiles", "model", 0, {"image_auroc": 0.5})
    found = compare_outcomes([outcome("demo", 0.9), elsewhere, outcome("demo", 0.7, seed=1)])

    assert [(row.data, row.name, row.seeds) for row in found.rows] == [
        ("pcb", "demo", (0, 1)),
        ("tiles", "demo", (0,)),
    ]
    first = found.rows[0]
    assert first.figures["image_auroc"] == Spread.of([0.9, 0.7])
    assert first.per_kind["short"] == Spread.of([0.9, 0.7])
    assert set(first.figures) == set(FIGURES)


def test_a_failed_seed_is_told_and_leaves_the_other_seeds_figures() -> None:
    failed = Outcome("demo", "pcb", "model", 1, error="diverged.")
    (row,) = compare_outcomes([outcome("demo", 0.9), failed]).rows

    assert row.errors == ("seed 1: diverged.",)
    assert row.figures["image_auroc"] == Spread.of([0.9])


def test_images_that_an_entrant_could_not_score_are_counted_in_its_row() -> None:
    whole, part = outcome("demo", 0.9), replace(outcome("demo", 0.95, seed=1), unscored=3)

    (row,) = compare_outcomes([whole, part]).rows
    assert row.unscored == ("seed 1: 3 test images could not be scored",)
    assert row.errors == ()


def test_the_best_is_the_least_where_less_is_better_and_ties_share_it() -> None:
    rows = compare_outcomes(
        [
            outcome("a", 0.9, ms_per_image=5.0),
            outcome("b", 0.9, ms_per_image=9.0),
            outcome("c", None, ms_per_image=7.0),
        ]
    ).rows

    assert best_rows(rows, "image_auroc") == {"a", "b"}
    assert best_rows(rows, "ms_per_image") == {"a"}
    assert best_rows(rows, "aupro") == set()


def test_a_baseline_that_wins_is_named_as_the_winner() -> None:
    (sentence,) = compare_outcomes(
        [outcome("demo", 0.8), outcome("patch PCA", 0.95, role="baseline")]
    ).verdicts

    assert sentence == (
        "pcb: no AnoGAN here beats the baseline patch PCA by image AUROC: 0.950, and 0.800 of demo, the "
        "best of them; on one seed."
    )


def test_a_model_that_wins_is_set_against_the_best_baseline() -> None:
    (sentence,) = compare_outcomes(
        [
            outcome("demo", 0.97),
            outcome("demo", 0.99, seed=1),
            outcome("weak", 0.5, role="baseline"),
            outcome("strong", 0.9, role="baseline"),
        ]
    ).verdicts

    assert sentence == (
        "pcb: demo beats every baseline by image AUROC, 0.980 against 0.900 of strong; strong on one seed."
    )


def test_a_win_within_the_spread_of_seeds_is_called_so() -> None:
    (sentence,) = compare_outcomes(
        [outcome("demo", 0.99), outcome("demo", 0.85, seed=1), outcome("PCA", 0.9, role="baseline")]
    ).verdicts

    assert sentence.endswith("but their seeds overlap; PCA on one seed.")


def test_without_a_baseline_there_is_no_verdict() -> None:
    assert compare_outcomes([outcome("demo", 0.9)]).verdicts == ()


def test_the_machine_readable_form_is_json() -> None:
    found = compare_outcomes([outcome("demo", 0.9), Outcome("demo", "pcb", "model", 1, error="no")])
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))

    assert tree["rows"][0]["figures"]["image_auroc"] == {
        "mean": 0.9,
        "std": 0.0,
        "low": 0.9,
        "high": 0.9,
        "n": 1,
    }
    assert [one["error"] for one in tree["outcomes"]] == [None, "no"]
