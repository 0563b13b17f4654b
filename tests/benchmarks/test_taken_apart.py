from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

import anogan
from anogan.scoring import Scorer
from tests.tiny import part


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return run_path(str(Path(__file__).with_name("taken_apart.py")))


def test_a_model_is_asked_to_do_without_what_it_has(bench: dict[str, Any], trained: Path) -> None:
    scorer = anogan.load(trained)
    assert scorer.model.memory is None
    assert bench["parts_of"](scorer) == ["without search", "residual alone", "discrimination alone"]
    assert bench["parts_of"](bench["alone"](scorer, (1.0, 0.0, 0.0))) == ["without search"]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("without search", {"residual": True, "head": True}),
        ("residual alone", {"residual": False, "head": False}),
        ("discrimination alone", {"residual": False, "head": False}),
    ],
)
def test_taking_a_part_out_changes_the_score_by_that_part(
    bench: dict[str, Any], trained: Path, name: str, changed: dict[str, bool]
) -> None:
    scorer, image = anogan.load(trained), part(99)
    less: Scorer = bench["WITHOUT"][name](scorer)
    whole, left = (s.evidence([image], [None])[0].parts for s in (scorer, less))
    for evidence, differs in changed.items():
        assert np.allclose(whole[evidence], left[evidence]) != differs

    own = bench["calibrated"](less, trained.parent)
    assert own.threshold != scorer.threshold
    good = np.array([own.score([part(seed)])[0].score for seed in range(40)])
    assert good.min() < own.threshold  # That of another scale of scores would reject all.
    assert np.mean(good > own.threshold) <= 0.3
