"""Image figures agree with scikit-learn, and a whole evaluation with its parts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from anogan.errors import DataError, ShapeError
from anogan.metrics import (
    PixelCurves,
    accuracy,
    bootstrap_interval,
    evaluate_scores,
    false_accept_rate,
    false_reject_rate,
    image_aupr,
    image_auroc,
    image_f1,
    pixel_auroc,
)

LABELLED = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda rows: len({truth for truth, _ in rows}) == 2
)


@given(LABELLED)
@settings(max_examples=80, deadline=None)
def test_image_figures_agree_with_scikit_learn_ties_included(rows: list[tuple[bool, int]]) -> None:
    truth, scores = map(np.array, zip(*rows, strict=True))
    assert image_auroc(truth, scores) == pytest.approx(sk.roc_auc_score(truth, scores))
    assert image_aupr(truth, scores) == pytest.approx(sk.average_precision_score(truth, scores))
    rejected = scores > 0
    (true_pass, false_reject), (false_accept, true_reject) = sk.confusion_matrix(truth, rejected)
    assert image_f1(truth, rejected) == pytest.approx(sk.f1_score(truth, rejected))
    assert accuracy(truth, rejected) == pytest.approx(sk.accuracy_score(truth, rejected))
    assert false_reject_rate(truth, rejected) == pytest.approx(false_reject / (false_reject + true_pass))
    assert false_accept_rate(truth, rejected) == pytest.approx(false_accept / (false_accept + true_reject))


def test_what_one_class_cannot_give_is_none() -> None:
    good, defect = [False] * 3, [True] * 3
    scores, rejected = [1.0, 2.0, 3.0], [False, False, True]
    assert image_auroc(good, scores) is image_auroc(defect, scores) is None
    assert image_aupr(good, scores) is image_aupr(defect, scores) is None
    assert image_f1(good, rejected) is None
    assert false_accept_rate(good, rejected) is None
    assert false_reject_rate(defect, rejected) is None
    assert accuracy(good, rejected) == pytest.approx(2 / 3)
    assert accuracy([], []) is None


def test_bad_scores_are_refused() -> None:
    with pytest.raises(DataError, match="number 1 is nan"):
        image_auroc([True, False], [1.0, math.nan])
    with pytest.raises(ShapeError):
        image_auroc([True, False], [1.0])


def sample(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = np.arange(n) % 3 == 0
    return truth, rng.normal(size=n) + truth


@pytest.mark.parametrize("stratified", [True, False])
def test_bootstrap_interval_covers_the_true_auroc(stratified: bool) -> None:
    true_auroc, rng = 0.5 * (1 + math.erf(0.5)), np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        truth, scores = sample(90, rng)
        interval = bootstrap_interval(image_auroc, truth, scores, seed=seed, n=200, stratified=stratified)
        assert interval is not None
        covered += interval[0] <= true_auroc <= interval[1]
    assert covered >= 0.85 * 60


def test_bootstrap_interval_repeats_with_its_seed_and_narrows_with_the_confidence() -> None:
    truth, scores = sample(60, np.random.default_rng(1))
    wide = bootstrap_interval(image_auroc, truth, scores, seed=5, n=300)
    narrow = bootstrap_interval(image_auroc, truth, scores, seed=5, n=300, confidence=0.5)
    assert wide == bootstrap_interval(image_auroc, truth, scores, seed=5, n=300)
    assert wide != bootstrap_interval(image_auroc, truth, scores, seed=6, n=300)
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bootstrap_interval_is_none_where_the_figure_is() -> None:
    assert bootstrap_interval(image_auroc, [True, True], [1.0, 2.0], seed=0) is None


def test_unstratified_bootstrap_survives_resamples_of_one_class() -> None:
    truth, scores = [True, True, False, False], [2.0, 0.5, 1.0, 0.0]
    interval = bootstrap_interval(image_auroc, truth, scores, seed=0, n=50, stratified=False)
    assert interval is not None
    assert 0 <= interval[0] < interval[1] == 1


KINDS = ["good", "good", "good", "scratch", "scratch", "open"]
SCORES = [0.0, 1.0, 5.0, 2.0, 6.0, 7.0]
KEYS = (
    "image_auroc image_aupr image_f1 accuracy false_reject_rate false_accept_rate pixel_auroc aupro "
    "threshold n_good n_defect n_masked per_kind intervals"
)


def images() -> tuple[list[np.ndarray | None], list[np.ndarray]]:
    rng = np.random.default_rng(2)
    maps = [rng.random((12, 16), np.float32) for _ in KINDS]
    masks: list[np.ndarray | None] = [None] * len(KINDS)
    for index in (3, 4, 5):
        mask = np.zeros((12, 16), bool)
        mask[2:5, 2 * index : 2 * index + 3] = True
        masks[index] = mask
        maps[index][mask] += 0.4
    return masks, maps


def test_evaluation_has_exactly_the_documented_keys_and_is_json() -> None:
    masks, maps = images()
    figures = evaluate_scores(KINDS, SCORES, 3.0, pixels=PixelCurves.of(KINDS, masks, maps)).to_dict()
    assert list(figures) == KEYS.split()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_evaluation_figures_are_those_at_the_given_threshold() -> None:
    found = evaluate_scores(KINDS, SCORES, 2.0)
    assert (found.n_good, found.n_defect, found.threshold) == (3, 3, 2.0)
    assert found.image_auroc == pytest.approx(8 / 9)
    assert found.false_reject_rate == pytest.approx(1 / 3)
    assert found.false_accept_rate == pytest.approx(1 / 3)  # A score at the threshold passes.
    assert found.accuracy == found.image_f1 == pytest.approx(2 / 3)
    assert found.per_kind["scratch"] == {
        "n": 2,
        "n_masked": 0,
        "image_auroc": pytest.approx(5 / 6),
        "detection_rate": 0.5,
        "pixel_auroc": None,
    }
    assert found.pixel_auroc is None
    assert found.aupro is None


def test_pixel_figures_of_an_evaluation_are_those_of_the_images_together() -> None:
    masks, maps = images()
    known = [np.zeros((12, 16), bool) if mask is None else mask for mask in masks]
    found = evaluate_scores(KINDS, SCORES, 3.0, pixels=PixelCurves.of(KINDS, iter(masks), iter(maps)))
    assert found.pixel_auroc == pytest.approx(pixel_auroc(known, maps))
    opened = [0, 1, 2, 5]
    expected = pixel_auroc([known[i] for i in opened], [maps[i] for i in opened])
    assert found.per_kind["open"]["pixel_auroc"] == pytest.approx(expected)
    assert found.aupro is not None


def test_defective_images_without_a_mask_are_left_out_of_pixel_figures_alone() -> None:
    masks, maps = images()
    without = evaluate_scores(KINDS, SCORES, 3.0, pixels=PixelCurves.of(KINDS, [*masks[:5], None], maps))
    alone = evaluate_scores(KINDS[:5], SCORES[:5], 3.0, pixels=PixelCurves.of(KINDS[:5], masks[:5], maps[:5]))
    assert without.pixel_auroc == alone.pixel_auroc
    assert (without.n_defect, without.n_masked) == (3, 2)
    assert [without.per_kind[kind]["n_masked"] for kind in ("open", "scratch")] == [0, 2]
    assert without.per_kind["open"]["pixel_auroc"] is None
    assert evaluate_scores(KINDS, SCORES, 3.0, pixels=PixelCurves.of(KINDS, [None] * 6, maps)).aupro is None


def test_evaluation_of_good_images_alone_gives_nulls_and_the_false_reject_rate() -> None:
    found = evaluate_scores(["good"] * 4, [0, 1, 2, 3], 2.0)
    assert found.false_reject_rate == 0.25
    assert (found.image_auroc, found.image_f1, found.false_accept_rate) == (None, None, None)
    assert set(found.intervals) == {"accuracy", "false_reject_rate"}


def test_intervals_hold_their_figures_and_no_rejects_do_not_promise_none() -> None:
    rng = np.random.default_rng(3)
    kinds = ["good"] * 50 + ["scratch"] * 50
    scores = np.concatenate([rng.normal(size=50), rng.normal(size=50) + 2])
    figures = evaluate_scores(kinds, scores, 1.5).to_dict()
    for name, (low, high) in figures["intervals"].items():
        assert low <= figures[name] <= high, name
        assert high - low > 0.01, name
    low, high = evaluate_scores(kinds, scores, 100.0).intervals["false_reject_rate"]
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 50))  # Clopper-Pearson for 0 of 50


def test_a_flawless_test_set_does_not_promise_a_flawless_model() -> None:
    kinds = ["good"] * 6 + ["scratch"] * 6
    found = evaluate_scores(kinds, [0.0] * 6 + [2.0] * 6, 1.0)
    assert (found.image_auroc, found.accuracy, found.image_f1) == (1, 1, 1)
    assert set(found.intervals) == {"accuracy", "false_reject_rate", "false_accept_rate"}
    assert found.intervals["accuracy"] == (pytest.approx(0.025 ** (1 / 12)), 1.0)  # Clopper-Pearson.


def test_inputs_of_different_number_are_refused() -> None:
    masks, maps = images()
    with pytest.raises(ShapeError):
        PixelCurves.of(KINDS, masks[:5], maps)
    with pytest.raises(ShapeError):
        evaluate_scores(KINDS, SCORES[:5], 3.0)
