from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.calibration import Calibration, calibrate
from anogan.recipes.cross_fit import why_not_together

HELD_OUT, TRAINED = 60, 120


def _together(
    trained: NDArray[np.float64], held_out: NDArray[np.float64], parts: list[str] | None = None
) -> Calibration:
    return calibrate(
        np.concatenate([trained, held_out]),
        false_reject=0.05,
        review_share=0,
        statistics={},
        parts=parts,
        trained=[True] * len(trained) + [False] * len(held_out),
    )


def _drawn(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.gumbel(8, 2, TRAINED), rng.gumbel(8, 2, HELD_OUT)


def test_scores_of_one_kind_set_the_threshold_together() -> None:
    refused = [why_not_together(_together(*pair)) is not None for pair in map(_drawn, range(40))]

    assert sum(refused) <= 4, "two tests at 5 %"


def test_held_out_scores_above_a_threshold_that_training_ones_set_are_told() -> None:
    trained, held_out = _drawn(1)
    middle = float(np.median(trained))
    trained = np.where(trained > middle, middle + (trained - middle) / 4, trained)

    why = why_not_together(_together(trained, held_out))

    assert why is not None
    assert why.startswith("7 of 60 held-out images score above the threshold")


def test_training_scores_that_are_lower_altogether_are_told() -> None:
    trained, held_out = _drawn(2)

    why = why_not_together(_together(trained - 4, held_out))

    assert why is not None
    assert why.startswith("The images that trained the networks score lower than the 60 held-out ones")


@pytest.mark.parametrize("lower", [0.0, 0.1])
def test_a_difference_that_moves_no_threshold_is_none(lower: float) -> None:
    trained, held_out = _drawn(0)

    assert why_not_together(_together(trained - lower, held_out)) is None


def test_parts_count_and_not_their_photographs() -> None:
    """Seven of forty held-out parts lie above the threshold, each by one of its six photographs."""
    rng = np.random.default_rng(3)
    trained, held_out = rng.normal(5, 1, (120, 6)), rng.normal(5, 1, (40, 6))
    held_out[:7, 0] = 12

    def why(parts: list[str] | None) -> str | None:
        return why_not_together(_together(trained.ravel(), held_out.ravel(), parts))

    assert why(None) is None  # 7 of 240 photographs.
    told = why([f"{n}" for n in range(160) for _ in range(6)])
    assert told is not None
    assert told.startswith("7 of 40 held-out images score above")
