"""Images that are unlike all good ones are reviewed, by the model and by its file alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anogan.calibration import LIMITED, good_limits
from anogan.export import export_scorer
from anogan.export.triton import write_repository
from anogan.inspection import Verdict
from anogan.scoring import Scorer
from anogan.station import Scorer as StationScorer
from anogan.station import StepwiseScorer
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config

SIZE = (40, 56)
IMAGES = random_images(2, SIZE)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """No score is high enough for a verdict; the first image lies within the limits, the second does not."""
    plain = build_torch_scorer(build_model(small_config(), SIZE))
    assert plain.calibration is not None
    first, second = plain.score(IMAGES)
    between = (first.residual_score + second.residual_score) / 2
    ends = (0.0, between) if first.residual_score < between else (between, 2.0)
    limits = {"residual_score": ends, "discrimination_score": (0.0, 1e9)}
    estimate = replace(plain.calibration.estimate, threshold=1e9)
    return plain.with_calibration(
        replace(plain.calibration, limits=limits, estimate=estimate, review_threshold=1e9)
    )


@pytest.fixture(scope="module")
def folder(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limited")
    exported = export_scorer(scorer, path / "scorer.onnx", images=IMAGES, single_step=True)
    write_repository(path / "triton", exported)
    return path


def test_what_lies_outside_is_reviewed_and_told(scorer: Scorer) -> None:
    within, outside = scorer.score(IMAGES)

    assert (within.verdict, within.in_distribution) == (Verdict.PASS, True)
    assert (outside.verdict, outside.in_distribution) == (Verdict.REVIEW, False)
    assert outside.to_dict()["in_distribution"] is False


def test_a_rejected_part_stays_rejected(scorer: Scorer) -> None:
    outside = Scorer(scorer.model, scorer.calibration, threshold=-1e9).score(IMAGES)[1]

    assert (outside.verdict, outside.in_distribution) == (Verdict.REJECT, False)


@pytest.mark.parametrize("station", [StationScorer, StepwiseScorer])
def test_the_file_decides_alike(
    station: type[StationScorer] | type[StepwiseScorer], scorer: Scorer, folder: Path
) -> None:
    got = station(folder / "scorer.onnx").score(IMAGES)

    for want, found in zip(scorer.score(IMAGES), got, strict=True):
        assert (found.verdict, found.in_distribution) == (want.verdict, want.in_distribution)


def test_the_manifest_and_the_server_know_of_it(scorer: Scorer, folder: Path) -> None:
    assert scorer.calibration is not None
    assert StationScorer(folder / "scorer.onnx").manifest.limits == scorer.calibration.limits
    assert "in_distribution" in (folder / "triton" / "anogan" / "config.pbtxt").read_text(encoding="utf-8")


def test_a_model_without_limits_says_nothing(scorer: Scorer, tmp_path: Path) -> None:
    assert scorer.calibration is not None
    without = scorer.with_calibration(replace(scorer.calibration, limits={}))
    exported = export_scorer(without, tmp_path / "s.onnx", images=IMAGES)

    for found in (*without.score(IMAGES), *StationScorer(exported.path).score(IMAGES)):
        assert found.in_distribution is None
        assert found.verdict is Verdict.PASS
        assert "in_distribution" not in found.to_dict()


@pytest.mark.parametrize("name", ["threshold", "review_threshold"])
def test_a_limit_that_is_no_number_passes_nothing(name: str, folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        (folder / "scorer.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    given = {"image": np.stack(IMAGES), name: np.array(np.nan, np.float32)}

    assert session.run(["verdict"], given)[0].tolist() == [1, 1]


def test_a_black_frame_is_reviewed_where_all_images_are_made_equally_bright(tmp_path: Path) -> None:
    """At its own exposure noise of the sensor and a part under too little light look like any part."""
    config = small_config(images={"channels": 3, "exposure": "mean"})
    plain = build_torch_scorer(build_model(config, SIZE))
    assert plain.calibration is not None
    bright = [image // 2 + 60 for image in IMAGES]
    dark = [image // 20 for image in bright]
    assert [found.residual_score for found in plain.score(bright)] == pytest.approx(
        [found.residual_score for found in plain.score(dark)], rel=0.3
    )
    limits = {"residual_score": (0.0, 2.0), "brightness": (0.2, 1.0)}
    own = plain.with_calibration(replace(plain.calibration, limits=limits))
    scorer = Scorer(own.model, own.calibration, threshold=1e9)
    exported = export_scorer(own, tmp_path / "s.onnx", images=IMAGES)
    station = StationScorer(exported.path, threshold=1e9)

    for images, within in ((bright, True), (dark, False), ([np.zeros_like(bright[0])], False)):
        for found in (*scorer.score(images), *station.score(images)):
            assert found.in_distribution is within
    assert [found.brightness for found in station.score([*bright, *dark])] == [
        found.brightness for found in scorer.score([*bright, *dark])
    ]


@pytest.mark.parametrize("n", [19, 20])
def test_limits_hold_good_images_of_the_cut_searches_too(n: int, tmp_path: Path) -> None:
    """Of a start far from every image more is left over than of a whole search."""
    config = small_config(encoder={"mode": "none"}, search={"steps": 40, "learning_rate": 0.1})
    scorer = build_torch_scorer(build_model(config, SIZE))
    assert scorer.calibration is not None
    good, told = random_images(n, SIZE), []
    found = scorer.score(good)
    full = good_limits({name: [getattr(own, name) for own in found] * 2 for name in LIMITED})
    own = scorer.with_calibration(replace(scorer.calibration, limits=full))
    exported = export_scorer(
        own, tmp_path / "s.onnx", images=good[:2], good_images=good, cut_steps=[0], event=told.append
    )

    limits = exported.manifest.limits
    at_none = [found.in_distribution for found in StationScorer(exported.path, steps=0).score(good)]
    if n < 20:
        assert (limits, set(at_none)) == ({}, {None})
        assert any("does not tell in_distribution" in sentence for sentence in told)
    else:
        assert all(at_none)
        for name, (low, high) in full.items():
            assert limits[name][0] <= low
            assert limits[name][1] >= high
        assert limits != full
