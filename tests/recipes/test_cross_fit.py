from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.calibration import Calibration, calibrate
from anogan.recipes.cross_fit import why_not_together

HELD_OUT, TRAINED = 60, 120


def _together(*scores: NDArray[np.float64], rate: float = 0.05) -> Calibration:
    return calibrate(list(np.concatenate(scores)), false_reject=rate, review_share=0, statistics={})


def _drawn(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.gumbel(8, 2, TRAINED), rng.gumbel(8, 2, HELD_OUT)


def _by_quantiles(n: int, *values: float) -> NDArray[np.float64]:
    """So many scores with these quantiles: 0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95 and 1."""
    at = (np.arange(n) + 0.5) / n
    return np.interp(at, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1], values)


def test_scores_of_one_kind_set_the_threshold_together() -> None:
    refused = [why_not_together(*pair, _together(*pair)) is not None for pair in map(_drawn, range(40))]

    assert sum(refused) <= 4, "three tests at 5 % that see nearly the same scores"


def test_training_scores_that_lack_the_highest_are_told_though_the_middle_agrees() -> None:
    """Scores of `aligned`, seed 2: together they rejected 4 of 30 good boards at a promise of 1.8 %."""
    trained = _by_quantiles(66, 4.8, 5.14, 5.65, 6.76, 7.66, 8.37, 11.29, 12.35)
    held_out = _by_quantiles(42, 5.2, 5.5, 6.55, 7.6, 9.23, 11.6, 12.94, 13.85)

    why = why_not_together(trained, held_out, _together(trained, held_out, rate=0.02))

    assert why is not None
    assert "of the 27 highest scores are of images that trained the networks, which are 66 of 108" in why


def test_training_scores_that_are_lower_altogether_are_told() -> None:
    trained, held_out = _drawn(2)

    why = why_not_together(trained - 4, held_out, _together(trained - 4, held_out))

    assert why is not None
    assert why.startswith("The images that trained the networks score lower than the 60 held-out ones")


@pytest.mark.parametrize("lower", [0.0, 0.1])
def test_a_difference_that_moves_no_threshold_is_none(lower: float) -> None:
    trained, held_out = _drawn(0)

    assert why_not_together(trained - lower, held_out, _together(trained, held_out)) is None
