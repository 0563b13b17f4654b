from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.calibration import Calibration, calibrate
from anogan.recipes.cross_fit import why_not_together

HELD_OUT, TRAINED = 60, 120


def _together(*scores: NDArray[np.float64]) -> Calibration:
    return calibrate(list(np.concatenate(scores)), false_reject=0.05, review_share=0, statistics={})


def _drawn(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.gumbel(8, 2, TRAINED), rng.gumbel(8, 2, HELD_OUT)


def test_scores_of_one_kind_set_the_threshold_together() -> None:
    refused = [why_not_together(*pair, _together(*pair)) is not None for pair in map(_drawn, range(40))]

    assert sum(refused) <= 4, "two tests at 5 %"


def test_held_out_scores_above_a_threshold_that_training_ones_set_are_told() -> None:
    trained, held_out = _drawn(1)
    middle = float(np.median(trained))
    trained = np.where(trained > middle, middle + (trained - middle) / 4, trained)

    why = why_not_together(trained, held_out, _together(trained, held_out))

    assert why is not None
    assert why.startswith("7 of 60 held-out images score above the threshold")


def test_training_scores_that_are_lower_altogether_are_told() -> None:
    trained, held_out = _drawn(2)

    why = why_not_together(trained - 4, held_out, _together(trained - 4, held_out))

    assert why is not None
    assert why.startswith("The images that trained the networks score lower than the 60 held-out ones")


@pytest.mark.parametrize("lower", [0.0, 0.1])
def test_a_difference_that_moves_no_threshold_is_none(lower: float) -> None:
    trained, held_out = _drawn(0)

    assert why_not_together(trained - lower, held_out, _together(trained, held_out)) is None
