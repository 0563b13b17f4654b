"""Thresholds keep their promise, and say so when the good images cannot support it."""

import copy
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from anogan.calibration import (
    Calibration,
    MapStatistics,
    calibrate,
    conformal_threshold,
    images_needed,
    outliers,
    recalibrated,
)
from anogan.errors import BundleError, CalibrationError


@pytest.mark.parametrize(("rate", "needed"), [(0.005, 199), (0.01, 99), (0.05, 19), (0.3, 3), (0.4999, 2)])
def test_images_needed_is_the_smallest_number_that_certifies_the_rate(rate: float, needed: int) -> None:
    assert images_needed(rate) == needed
    assert conformal_threshold(np.arange(needed), rate).shortfall == 0
    assert conformal_threshold(np.arange(needed - 1), rate).shortfall == 1


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(CalibrationError, match="above 0 and below 1"):
        images_needed(rate)


def test_threshold_is_the_conformal_quantile_whatever_the_order_of_the_scores() -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 200))
    estimate = conformal_threshold(shuffled, 0.05)
    assert estimate.threshold == 190  # ceil(200 * 0.95)
    assert estimate.false_reject == pytest.approx(0.05)
    assert (estimate.n_good, estimate.images_needed, estimate.shortfall) == (199, 19, 0)
    assert estimate.warning() is None


def test_too_few_good_images_give_the_maximum_and_say_how_many_are_missing() -> None:
    estimate = conformal_threshold([3.0, 1.0, 2.0], 0.005)
    assert estimate.threshold == 3.0
    assert estimate.false_reject == 0.25
    assert estimate.shortfall == 196
    warning = estimate.warning()
    assert warning is not None
    assert all(part in warning for part in ("3 good images", "25 %", "0.5 %", "196 more"))


def test_one_good_image_is_enough_for_a_threshold() -> None:
    assert conformal_threshold([2.0], 0.005).interval == pytest.approx((0.025, 0.975))


@given(n=st.integers(1, 400), rate=st.floats(0.002, 0.9))
@settings(max_examples=60, deadline=None)
def test_interval_is_the_central_beta_interval_of_the_rank(n: int, rate: float) -> None:
    estimate = conformal_threshold(np.arange(n), rate)
    k = int(estimate.threshold) + 1
    assert estimate.interval == pytest.approx(beta.ppf([0.025, 0.975], n + 1 - k, k), abs=1e-9)
    assert estimate.shortfall or estimate.false_reject <= rate


@pytest.mark.parametrize("decimals", [None, 1], ids=["continuous", "with ties"])
@pytest.mark.parametrize(("n", "rate"), [(99, 0.01), (150, 0.05), (60, 0.2)])
def test_promised_false_reject_rate_holds_on_average(n: int, rate: float, decimals: int | None) -> None:
    rng = np.random.default_rng(n)
    rates = []
    for _ in range(400):
        scores = rng.gamma(2.0, size=n + 2000)
        scores = scores if decimals is None else scores.round(decimals)
        threshold = conformal_threshold(scores[:n], rate).threshold
        rates.append(np.mean(scores[n:] > threshold))
    error = 3 * np.std(rates) / math.sqrt(len(rates))
    promised = conformal_threshold(np.arange(n), rate).false_reject
    assert np.mean(rates) <= promised + error
    if decimals is None:
        assert np.mean(rates) >= promised - error


def test_interval_covers_the_true_rate_of_95_percent_of_thresholds() -> None:
    rng = np.random.default_rng(1)
    estimates = [conformal_threshold(rng.uniform(size=80), 0.05) for _ in range(400)]
    covered = [e.interval[0] <= 1 - e.threshold <= e.interval[1] for e in estimates]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_threshold_is_exact_in_float32_and_never_below_its_score() -> None:
    for score in np.random.default_rng(2).normal(size=50):
        threshold = conformal_threshold([score], 0.1).threshold
        assert float(np.float32(threshold)) == threshold
        assert score <= threshold < score + 1e-6


@pytest.mark.parametrize("scores", [[], [[1.0]], [1.0, math.nan], [math.inf]])
def test_scores_that_cannot_calibrate_are_refused(scores: list[float]) -> None:
    with pytest.raises(CalibrationError):
        conformal_threshold(scores, 0.1)


ONE = np.ones((1, 1), np.float32)
STATISTICS = {
    "head": MapStatistics(np.full((1, 1), 0.5, np.float32), np.full((1, 1), 2, np.float32)),
    "residual": MapStatistics(*np.random.default_rng(3).random((2, 4, 6), np.float32)),
}


def made(n: int = 199, false_reject: float = 0.01, review_share: float = 0.05) -> Calibration:
    scores = np.random.default_rng(4).normal(size=n)
    return calibrate(scores, false_reject=false_reject, review_share=review_share, statistics=STATISTICS)


def test_review_band_lies_below_the_threshold_and_takes_its_share() -> None:
    calibration = made()
    assert calibration.review_threshold < calibration.threshold
    assert np.sum(np.array(calibration.scores) > calibration.review_threshold) == 9  # 10 / 200 promised


@pytest.mark.parametrize(("n", "share"), [(199, 0.0), (15, 0.05), (199, 0.01), (199, 0.002)])
def test_no_review_band_without_a_share_that_can_be_certified_above_the_rejects(n: int, share: float) -> None:
    calibration = made(n, review_share=share)
    assert calibration.review_threshold == calibration.threshold


def test_calibration_comes_back_from_json_and_arrays_to_the_bit() -> None:
    calibration = made()
    text = json.dumps(calibration.to_json_dict(), allow_nan=False)
    arrays = calibration.to_arrays()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert set(arrays) == {"residual.mean", "residual.std", "head.mean", "head.std"}
    back = Calibration.from_json_dict(json.loads(text), arrays)
    assert back == calibration
    assert copy.deepcopy(calibration) == calibration
    assert list(back.statistics) == ["residual", "head"]


def test_calibrations_with_different_maps_differ() -> None:
    other = {**STATISTICS, "residual": STATISTICS["head"]}
    assert made() != calibrate(made().scores, false_reject=0.01, review_share=0.05, statistics=other)


@pytest.mark.parametrize("lost", ["estimate", "scores", "review_threshold"])
def test_damaged_calibration_is_refused(lost: str) -> None:
    tree = {key: value for key, value in made().to_json_dict().items() if key != lost}
    with pytest.raises(BundleError, match=lost):
        Calibration.from_json_dict(tree, made().to_arrays())


@pytest.mark.parametrize("change", [{"lens.mean": ONE}, {"head.std": None}, {"head.mean": None}])
def test_maps_that_do_not_fit_together_are_refused(change: dict[str, NDArray[np.float32] | None]) -> None:
    arrays = {key: array for key, array in (made().to_arrays() | change).items() if array is not None}
    with pytest.raises(BundleError, match="do not fit together"):
        Calibration.from_arrays(arrays)


def test_recalibration_changes_thresholds_and_keeps_the_maps() -> None:
    calibration = made()
    again = recalibrated(calibration, np.arange(40.0), false_reject=0.1, review_share=0.5)
    assert again.statistics == calibration.statistics
    assert (again.threshold, again.review_threshold) == (36.0, 20.0)
    assert again.scores == tuple(np.arange(40.0))


# ---- outliers among the good images

GOOD_SCORES = np.random.default_rng(8).normal(6, 0.35, 78)
ODD = np.array([10.25, 9.63])  # A scratched board and one with lettering, as they were found among real ones.
NAMES = [f"{index}.png" for index in range(78)] + ["scratched.png", "lettered.png"]


def contaminated(*, leave_out: bool) -> Calibration:
    return calibrate(
        np.concatenate([GOOD_SCORES, ODD]),
        false_reject=0.03,
        review_share=0.05,
        statistics=STATISTICS,
        names=NAMES,
        leave_out_outliers=leave_out,
    )


@pytest.mark.parametrize("seed", range(20))
def test_good_scores_alone_have_no_outliers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert not outliers(rng.normal(size=100)).any()


def test_maxima_of_maps_rarely_have_any() -> None:
    found = [outliers(np.random.default_rng(seed).gumbel(size=100)).any() for seed in range(400)]
    assert np.mean(found) < 0.03


def test_what_lies_far_above_the_others_is_an_outlier() -> None:
    assert np.flatnonzero(outliers(np.concatenate([GOOD_SCORES, ODD]))).tolist() == [78, 79]


def test_few_scores_or_many_far_ones_are_no_outliers() -> None:
    assert not outliers([1.0] * 10 + [1.1] * 8 + [50.0]).any()
    another_kind = np.concatenate([GOOD_SCORES, np.full(5, 20.0)])  # 6 %: perhaps another product.
    assert not outliers(another_kind).any()


def test_scores_that_are_alike_to_the_last_digits_have_no_outliers() -> None:
    assert not outliers([3.0] * 96 + [3.0001, 3.0004, 3.001, 3.002]).any()
    assert np.flatnonzero(outliers([3.0] * 39 + [4.0])).tolist() == [39]


def test_each_part_counts_once_by_its_highest_photograph() -> None:
    scores, parts = [1.0, 5.0, 2.0, 2.5, 9.0, 3.0], ["a", "a", "b", "b", "c", "c"]
    names = ["a1", "a2", "b1", "b2", "c1", "c2"]
    found = calibrate(
        scores, false_reject=0.25, review_share=0, statistics=STATISTICS, names=names, parts=parts
    )

    assert found.scores == (2.5, 5.0, 9.0)
    assert (found.threshold, found.estimate.n_good, found.estimate.false_reject) == (9.0, 3, 0.25)
    photographs = [f"{i}, shot {shot}" for i in range(30) for shot in range(2)]
    values = np.array([i % 7 + 0.1 * shot for i in range(30) for shot in range(2)])
    values[11] = 90
    odd = recalibrated(
        found, values, 0.1, 0, names=photographs, parts=[name.split(",")[0] for name in photographs]
    )
    assert odd.outliers == ("5, shot 1",)
    assert odd.estimate.n_good == 30


def test_outliers_are_named_highest_first_and_count_unless_they_are_left_out() -> None:
    kept, left_out = contaminated(leave_out=False), contaminated(leave_out=True)

    assert kept.outliers == left_out.outliers == ("scratched.png", "lettered.png")
    assert kept.threshold == pytest.approx(9.63)
    assert (kept.estimate.n_good, kept.estimate.n_left_out) == (80, 0)
    warning = kept.outlier_warning()
    assert warning is not None
    assert all(part in warning for part in ("2 of 80", "scratched.png, lettered.png", "leave_out_outliers"))

    alone = calibrate(GOOD_SCORES, false_reject=0.03, review_share=0.05, statistics=STATISTICS)
    assert alone.outlier_warning() is None
    assert (left_out.threshold, left_out.review_threshold) == (alone.threshold, alone.review_threshold)
    assert (left_out.estimate.n_good, left_out.estimate.n_left_out) == (78, 2)
    warning = left_out.outlier_warning()
    assert warning is not None
    assert "did not count" in warning


def test_it_is_known_how_many_of_those_that_count_trained_the_networks() -> None:
    values = np.concatenate([GOOD_SCORES, [15.0]])
    trained = [True] * 50 + [False] * 28 + [True]
    found, kept = (
        calibrate(
            values,
            false_reject=0.03,
            review_share=0.05,
            statistics=STATISTICS,
            leave_out_outliers=leave_out,
            trained=trained,
        )
        for leave_out in (True, False)
    )
    assert (found.estimate.n_good, found.estimate.n_trained) == (78, 50)
    assert (kept.estimate.n_good, kept.estimate.n_trained) == (79, 51)
    warning = kept.outlier_warning()
    assert warning is not None
    assert "1 of 79 good images scores" in warning
    again = recalibrated(found, GOOD_SCORES, 0.03, 0.05)
    assert again.estimate.n_trained == 0  # Other images, held out all of them.


@pytest.mark.parametrize(("above", "n"), [(0, 80), (2, 80), (40, 40)])
def test_held_out_images_have_their_own_say_of_a_threshold_that_others_set_too(above: int, n: int) -> None:
    estimate = replace(
        conformal_threshold(GOOD_SCORES, 0.03), n_good=n + 50, n_trained=50, held_out_above=above
    )
    said = estimate.held_out()
    assert said is not None
    exact = binomtest(above, n).proportion_ci(0.95, "exact")
    assert (said["n"], said["above"]) == (n, above)
    assert said["interval"] == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert replace(estimate, n_trained=0).held_out() is None


def test_what_held_out_images_say_is_counted_among_those_that_count() -> None:
    scores = np.concatenate([np.linspace(0, 1, 60), [1.5, 40.0], np.linspace(0, 1, 100)])
    trained = [False] * 62 + [True] * 100
    options = {"false_reject": 0.02, "review_share": 0, "statistics": STATISTICS, "trained": trained}
    estimate = calibrate(scores, leave_out_outliers=True, **options).estimate
    assert (estimate.n_good, estimate.n_trained, estimate.n_left_out) == (161, 100, 1)
    assert estimate.held_out_above == 1  # 1.5; 40 is left out.
    summary = estimate.summary(1, 1)
    assert summary["held_out"] == estimate.held_out()


def test_left_out_images_are_remembered_and_so_is_the_choice() -> None:
    calibration = contaminated(leave_out=True)
    tree = json.loads(json.dumps(calibration.to_json_dict()))
    assert Calibration.from_json_dict(tree, calibration.to_arrays()) == calibration
    again = recalibrated(calibration, np.concatenate([GOOD_SCORES, [15.0]]), 0.03, 0.05)
    assert (again.outliers, again.estimate.n_left_out) == (("number 78",), 1)
    counted = recalibrated(calibration, again.scores, 0.03, 0.05, leave_out_outliers=False)
    assert (counted.estimate.n_left_out, counted.threshold) == (
        0,
        recalibrated(counted, again.scores, 0.03, 0.05).threshold,
    )


def test_a_calibration_of_before_there_were_outliers_can_be_read() -> None:
    tree = made().to_json_dict()
    del tree["outliers"], tree["leave_out_outliers"]
    del tree["estimate"]["n_left_out"], tree["estimate"]["n_trained"], tree["estimate"]["held_out_above"]
    assert Calibration.from_json_dict(tree, made().to_arrays()) == made()


def test_calibration_imports_nothing_but_numpy() -> None:
    heavy = {"torch", "sklearn", "scipy", "cv2", "pandas"}
    code = (
        "import sys, anogan.calibration as c; c.conformal_threshold([1.0, 2.0], 0.1); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
