from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anogan.inspection import Inspection, ScoredFile, Verdict, decide

SEVERITY = {Verdict.PASS: 0, Verdict.REVIEW: 1, Verdict.REJECT: 2}
finite = st.floats(-1e6, 1e6)


def _inspection(**changes: Any) -> Inspection:
    values: dict[str, Any] = {
        "score": 1.5,
        "threshold": 2.0,
        "verdict": Verdict.PASS,
        "residual_score": 0.1,
        "discrimination_score": 0.2,
        "anomaly_score": 0.11,
        "steps_used": 5,
        "brightness": 0.4,
        "ms": 3.0,
        "anomaly_map": np.zeros((4, 5), np.float32),
        "reconstruction": np.zeros((4, 5, 3), np.uint8),
    }
    return Inspection(**(values | changes))


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (0.5, Verdict.PASS),
        (1.0, Verdict.PASS),
        (1.1, Verdict.REVIEW),
        (2.0, Verdict.REVIEW),
        (2.1, Verdict.REJECT),
    ],
)
def test_a_score_equal_to_a_threshold_is_not_above_it(score: float, verdict: Verdict) -> None:
    assert decide(score, 2.0, 1.0) is verdict


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_goes_to_a_person_never_to_pass(score: float) -> None:
    assert decide(score, 2.0, 1.0) is Verdict.REVIEW


@given(score=finite, threshold=finite)
def test_without_a_band_nothing_is_reviewed(score: float, threshold: float) -> None:
    assert decide(score, threshold, threshold) is not Verdict.REVIEW


@given(scores=st.tuples(finite, finite), thresholds=st.tuples(finite, finite))
def test_a_higher_score_never_gets_a_milder_verdict(
    scores: tuple[float, float], thresholds: tuple[float, float]
) -> None:
    review, reject = sorted(thresholds)
    mild, severe = (SEVERITY[decide(score, reject, review)] for score in sorted(scores))

    assert mild <= severe


def test_verdicts_are_the_words_that_machines_read() -> None:
    assert [str(verdict) for verdict in Verdict] == ["pass", "review", "reject"]


def test_the_line_for_machines_has_every_figure_and_no_array() -> None:
    found = _inspection(path=Path("板 1.png"))
    line = json.loads(json.dumps(found.to_dict()))

    names = {field.name for field in fields(Inspection)}
    assert set(line) == names - {"anomaly_map", "reconstruction", "registered", "in_distribution"}
    assert (line["path"], line["verdict"], line["score"]) == ("板 1.png", "pass", 1.5)


@pytest.mark.parametrize("flag", ["registered", "in_distribution"])
@pytest.mark.parametrize("value", [True, False])
def test_what_not_every_model_tells_is_told_where_it_is_known(flag: str, value: bool) -> None:
    assert _inspection(**{flag: value}).to_dict()[flag] is value


def test_pixels_in_memory_have_no_path() -> None:
    assert _inspection().to_dict()["path"] is None


def test_an_inspection_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        _inspection().verdict = Verdict.PASS  # type: ignore[misc]


def test_a_file_that_was_not_scored_is_its_path_and_why() -> None:
    file = ScoredFile(Path("a.png"), error="a.png is not an image.")

    assert file.to_dict() == {"path": "a.png", "error": "a.png is not an image."}


def test_a_scored_file_is_its_inspection() -> None:
    found = _inspection(path=Path("a.png"))

    assert ScoredFile(Path("a.png"), found).to_dict() == found.to_dict()
