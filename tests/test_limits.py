"""What the search leaves over on good images, and what lies outside of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anogan.calibration import around, good_limits, within

RNG = np.random.default_rng(0)
SPREAD = {"residual_score": RNG.lognormal(-4, 0.5, 400), "discrimination_score": RNG.lognormal(-2, 0.01, 400)}


def test_limits_lie_the_quartiles_ratio_or_half_beyond_the_extremes() -> None:
    limits = good_limits(SPREAD)
    wide, narrow = SPREAD["residual_score"], SPREAD["discrimination_score"]
    ratio = np.exp(np.subtract(*np.percentile(np.log(wide), [75, 25])))

    assert ratio > 1.5
    assert limits["residual_score"] == pytest.approx((wide.min() / ratio, wide.max() * ratio), rel=1e-6)
    assert limits["discrimination_score"] == pytest.approx((narrow.min() / 1.5, narrow.max() * 1.5), rel=1e-6)
    assert all(np.float32(value) == value for pair in limits.values() for value in pair)


def test_good_images_of_the_same_kind_lie_within() -> None:
    outside = 0
    for _ in range(200):
        drawn = RNG.lognormal(-4, 0.5, 1040)
        limits = good_limits({"residual_score": drawn[:40]})
        outside += sum(not within(limits, {"residual_score": score}) for score in drawn[40:])

    assert 1e-3 < outside / 200_000 < 4e-3


@pytest.mark.parametrize("name", list(SPREAD))
@pytest.mark.parametrize("value", [0.0, 1e-5, 1.0, math.inf, math.nan])
def test_one_score_far_out_on_either_side_is_enough(name: str, value: float) -> None:
    ordinary = {key: float(np.median(values)) for key, values in SPREAD.items()}

    assert within(good_limits(SPREAD), ordinary) is True
    assert within(good_limits(SPREAD), ordinary | {name: value}) is False


@pytest.mark.parametrize(
    ("usual", "low", "high"), [(0.7, 0.46, 0.807), (0.05, 0.027, 0.09), (0.97, 0.64, 0.987)]
)
def test_brightness_is_limited_from_black_and_from_white(usual: float, low: float, high: float) -> None:
    limits = good_limits({"brightness": RNG.uniform(usual - 0.01, usual + 0.01, 40)})

    assert limits["brightness"] == pytest.approx((low, high), abs=0.01)
    assert not within(limits, {"brightness": 0.0})
    assert not within(limits, {"brightness": 1.0})


def test_photographs_of_one_part_count_as_one() -> None:
    parts = [f"part {number // 6}" for number in range(240)]
    means = RNG.lognormal(-4, 0.5, 40)
    drawn = np.repeat(means, 6) * RNG.lognormal(0, 0.01, 240)
    scores = {"residual_score": drawn}
    few = {"residual_score": drawn[:114]}

    assert good_limits(few) != {} == good_limits(few, parts[:114])
    # Forty parts, once each: what five copies of them add changes nothing.
    low, high = good_limits(scores, parts)["residual_score"]
    once_low, once_high = good_limits({"residual_score": means})["residual_score"]
    assert (low, high) == pytest.approx((once_low, once_high), rel=0.1)


def test_limits_of_photographs_of_parts_hold_other_parts() -> None:
    outside = 0
    for _ in range(200):
        drawn = np.repeat(RNG.lognormal(-4, 0.2, 21), 6) * RNG.lognormal(0, 0.01, 126)
        limits = good_limits({"residual_score": drawn}, [str(number // 6) for number in range(126)])
        outside += sum(not within(limits, {"residual_score": s}) for s in RNG.lognormal(-4, 0.2, 1000))

    assert outside / 200_000 < 1e-3


def test_scores_that_are_no_number_set_no_limits() -> None:
    assert good_limits(SPREAD | {"residual_score": np.full(400, math.nan)}) == {}


@pytest.mark.parametrize("frame", [1e-6, 3.0])
def test_one_faulty_frame_among_the_good_ones_does_not_make_such_frames_good(frame: float) -> None:
    limits = good_limits({"residual_score": [*SPREAD["residual_score"][:40], frame]})

    assert within(limits, {"residual_score": frame}) is False


def test_limits_around_several_hold_all_of_them() -> None:
    one, other = {"residual_score": (1.0, 2.0)}, {"residual_score": (0.5, 1.5)}

    assert around(one, other) == {"residual_score": (0.5, 2.0)}
    assert around(one) == one
    assert around(one, {}) == around({}) == {}


def test_fewer_than_twenty_images_set_no_limits() -> None:
    assert good_limits({name: values[:19] for name, values in SPREAD.items()}) == {}
    assert within({}, {"residual_score": math.nan}) is None


def test_a_score_of_nothing_is_no_fault() -> None:
    limits = good_limits({"residual_score": np.zeros(30)})

    assert within(limits, {"residual_score": 0.0}) is True
    assert within(limits, {"residual_score": 1e-3}) is False
