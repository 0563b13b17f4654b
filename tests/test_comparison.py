"""Means, spreads and verdicts over seeds say what the outcomes say, and no more."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from anogan.metrics.comparison import (
    FIGURES,
    Outcome,
    Role,
    Spread,
    compare_outcomes,
    mask_counts,
)


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


def test_a_doubtful_model_is_told_in_its_row_and_by_whoever_judges_it() -> None:
    doubted = [replace(outcome("demo", 0.97, seed=seed), doubtful="collapse.") for seed in range(2)]
    sound = outcome("demo", 0.96, seed=2)
    beaten = outcome("PCA", 0.9, role="baseline")

    found = compare_outcomes([*doubted, beaten])
    assert found.rows[0].doubtful == ("seed 0: collapse.", "seed 1: collapse.")
    assert found.rows[1].doubtful == ()
    assert found.verdicts[0].endswith("; PCA on one seed; the training of demo is doubtful.")
    (partly,) = compare_outcomes([*doubted, sound, beaten]).verdicts
    assert partly.endswith("; the training of demo is doubtful on 2 of 3 seeds.")


def test_masks_are_counted_once_per_data_set_by_whoever_scored_most_images() -> None:
    whole = replace(outcome("demo", 0.9), n_defect=5, n_masked=2)
    part = replace(outcome("demo", 0.9, seed=1), n_defect=3, n_masked=2, unscored=2)
    failed = Outcome("broken", "pcb", "model", 0, error="no")
    elsewhere = Outcome("demo", "tiles", "model", 0, n_defect=4, n_masked=4)

    assert mask_counts([part, whole, failed, elsewhere]) == {"pcb": (2, 5), "tiles": (4, 4)}


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


def test_a_win_over_the_baselines_that_could_be_measured_claims_no_other() -> None:
    failed = [Outcome(name, "pcb", "baseline", 0, error="memory") for name in ("neighbours", "PCA")]
    (sentence,) = compare_outcomes(
        [outcome("demo", 0.97), outcome("weak", 0.5, role="baseline"), *failed]
    ).verdicts

    assert sentence == (
        "pcb: demo beats every baseline that could be measured (neighbours, PCA failed) by image AUROC, "
        "0.970 against 0.500 of weak; on one seed."
    )


def test_a_model_that_failed_is_no_model_that_was_beaten() -> None:
    failed = Outcome("large", "pcb", "model", 0, error="memory")
    (sentence,) = compare_outcomes(
        [outcome("demo", 0.8), failed, outcome("PCA", 0.9, role="baseline")]
    ).verdicts

    assert "no AnoGAN here that could be measured (large failed) beats the baseline PCA" in sentence


@pytest.mark.parametrize("auroc", [0.9996, 1.0, 0.99995])
def test_means_that_print_alike_are_level(auroc: float) -> None:
    (sentence,) = compare_outcomes([outcome("cfg", auroc), outcome("PCA", 0.9999, role="baseline")]).verdicts

    assert sentence == "pcb: cfg and the baseline PCA are level in image AUROC, 1.000; on one seed."


def test_without_a_baseline_there_is_no_verdict() -> None:
    assert compare_outcomes([outcome("demo", 0.9)]).verdicts == ()


def test_the_machine_readable_form_is_json() -> None:
    masked = replace(outcome("demo", 0.9), n_defect=3, n_masked=2)
    found = compare_outcomes([masked, Outcome("demo", "pcb", "model", 1, error="no")])
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))

    assert tree["rows"][0]["figures"]["image_auroc"] == {
        "mean": 0.9,
        "std": 0.0,
        "low": 0.9,
        "high": 0.9,
        "n": 1,
    }
    assert [one["error"] for one in tree["outcomes"]] == [None, "no"]
    assert [(one["n_masked"], one["n_defect"]) for one in tree["outcomes"]] == [(2, 3), (0, 0)]
