"""The gate and the file: what agrees is written whole, what does not is not written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from anogan import __version__
from anogan.calibration import CROSS_FITTED, HELD_OUT, conformal_threshold, recalibrated
from anogan.errors import CalibrationError, ExportError, StorageError
from anogan.export import export_scorer
from anogan.export.parity import Agreement, Parity, Tolerance, measure_parity, require_parity
from anogan.inspection import Verdict
from anogan.scoring import Scorer
from anogan.station import Scorer as StationScorer
from anogan.station import session
from anogan.station.sealed import MANIFEST_KEY
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config

SIZE = (40, 56)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return build_torch_scorer(build_model(small_config(), SIZE))


def test_exported_file_scores_as_the_model_does(scorer: Scorer, tmp_path: Path) -> None:
    images = random_images(3, SIZE)
    exported = export_scorer(scorer, tmp_path / "scorer.onnx", images=images)
    assert exported.n_bytes == (tmp_path / "scorer.onnx").stat().st_size
    for want, got in zip(scorer.score(images), StationScorer(exported.path).score(images), strict=True):
        assert got.score == pytest.approx(want.score, rel=1e-4, abs=1e-4)
        assert got.verdict == want.verdict
    assert [path.name for path in tmp_path.iterdir()] == ["scorer.onnx"]


def test_parity_figures_and_the_whole_config_travel_in_the_file(scorer: Scorer, tmp_path: Path) -> None:
    exported = export_scorer(
        scorer, tmp_path / "s.onnx", images=random_images(2, SIZE), model_sha256="a" * 64
    )
    model = onnx.load(tmp_path / "s.onnx")
    onnx.checker.check_model(model)
    tree = json.loads({entry.key: entry.value for entry in model.metadata_props}[MANIFEST_KEY])
    assert tree["package_version"] == __version__ == model.producer_version
    assert tree["model_sha256"] == "a" * 64
    assert tree["parity"]["n_images"] == 2
    assert [a["steps"] for a in tree["parity"]["agreements"]] == [0, 1, 3]
    assert tree["parity"]["batch_identical"] is True
    assert tree["config"]["search"]["lambda"] == scorer.config.search.lambda_
    assert tree["promise"]["n_good"] == 99
    assert exported.parity.agreements[0].score < 1e-5


def test_a_file_that_decides_otherwise_is_not_written_and_the_old_one_stays(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anogan.export import write

    other = build_torch_scorer(build_model(small_config(score={"head_weight": 0.5}), SIZE))
    assert other.calibration is not None
    wrong = write.build_scorer(other.model, other.calibration)
    monkeypatch.setattr(write, "build_scorer", lambda *_, **__: wrong)
    out = tmp_path / "scorer.onnx"
    out.write_bytes(b"the old one")
    with pytest.raises(ExportError, match="without any search step"):
        export_scorer(scorer, out, images=random_images(2, SIZE))
    assert out.read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["scorer.onnx"]


def good_parity(**changes: Any) -> Parity:
    fine = Agreement(0, 1e-6, 1e-7, 1e-6, 1e-6, 1, 0, 0)
    return Parity(4, (fine, replace(fine, steps=1), replace(fine, steps=9, **changes)), True, 30.0)


def test_gate_lets_agreement_pass() -> None:
    require_parity(good_parity(), Tolerance())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdicts_changed": 1}, "another verdict than PyTorch on 1 of 4 images after 9"),
        ({"score": 0.2}, "up to 0.2 of their value after 9"),
        ({"score": float("nan")}, "up to nan of their value"),
    ],
)
def test_gate_refuses_other_decisions_and_says_by_how_much(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        require_parity(good_parity(**changes), Tolerance())


def test_parity_tells_a_changed_verdict_and_a_changed_score(scorer: Scorer, tmp_path: Path) -> None:
    images = random_images(3, SIZE)
    exported = export_scorer(scorer, tmp_path / "s.onnx", images=images)
    assert scorer.calibration is not None
    scores = [found.score for found in scorer.score(images)]
    moved = replace(scorer.calibration, estimate=conformal_threshold([min(scores) - 1], 0.4))
    parity = measure_parity(Scorer(scorer.model, moved), StationScorer(exported.path), images)
    rejected = [found.verdict for found in scorer.score(images)].count(Verdict.REJECT)
    assert parity.agreements[-1].verdicts_changed == len(images) - rejected > 0


def test_an_image_whose_score_is_the_threshold_may_fall_on_either_side(
    scorer: Scorer, tmp_path: Path
) -> None:
    images = random_images(3, SIZE)
    assert scorer.calibration is not None
    exact = scorer.score(images)[0].score
    at_limit = replace(scorer.calibration, estimate=conformal_threshold([exact - 1e-5], 0.5))
    near = Scorer(scorer.model, at_limit)
    station = StationScorer(export_scorer(near, tmp_path / "s.onnx", images=images).path)
    moved = replace(scorer.calibration, estimate=conformal_threshold([exact + 1e-5], 0.5))

    other = Scorer(scorer.model, moved)
    assert measure_parity(other, station, images[:1], Tolerance()).agreements[-1].verdicts_changed == 0
    strict = Tolerance(near=0.0)
    assert measure_parity(other, station, images[:1], strict).agreements[-1].verdicts_changed == 1


def test_fewer_steps_get_thresholds_of_their_own(scorer: Scorer, tmp_path: Path) -> None:
    good = random_images(12, SIZE)
    assert scorer.calibration is not None
    # Rates that `calibrate` may have set after the fit, so others than the config's.
    calibration = recalibrated(scorer.calibration, scorer.calibration.scores, 0.3, 0.5)
    own = Scorer(scorer.model, calibration)
    exported = export_scorer(own, tmp_path / "s.onnx", images=good[:2], cut_steps=[0, 1], good_images=good)
    assert [c.steps for c in exported.manifest.calibrations] == [3, 1, 0]
    at_zero = [found.score for found in StationScorer(exported.path, steps=0).score(good)]
    last = exported.manifest.calibrations[-1]
    assert last.threshold == conformal_threshold(at_zero, 0.3).threshold < max(at_zero)
    assert last.review_threshold == conformal_threshold(at_zero, 0.5).threshold
    assert (last.n_good, last.false_reject) == (12, conformal_threshold(at_zero, 0.3).false_reject)
    assert exported.manifest.calibrations[0].n_good == 99


@pytest.mark.parametrize(("n", "is_told"), [(8, True), (9, False)])
def test_a_weaker_promise_than_the_models_is_told(
    n: int, is_told: bool, scorer: Scorer, tmp_path: Path
) -> None:
    good, told = random_images(n, SIZE), []
    assert scorer.calibration is not None
    own = Scorer(scorer.model, recalibrated(scorer.calibration, np.linspace(0, 6, 40), 0.1, 0.0))
    export_scorer(
        own, tmp_path / "s.onnx", images=good[:1], cut_steps=[0], good_images=good, event=told.append
    )
    words = [line for line in told if "promise" in line]
    assert len(words) == is_told
    if is_told:
        assert "stands on 8 good parts" in words[0]
        assert "11.1 % of good parts are rejected and not 9.76 %" in words[0]


def test_thresholds_that_the_export_sets_heed_parts_and_name_outliers(tmp_path: Path) -> None:
    model = build_model(small_config(split={"group": r"part(\d+)"}), SIZE)
    scorer = build_torch_scorer(model)
    good = [np.full((*SIZE, 3), 100 + i % 3, np.uint8) for i in range(50)]
    good[7] = random_images(1, SIZE)[0]
    paths = [tmp_path / f"shot{i % 2}_part{i // 2}.png" for i in range(50)]
    for i, path in enumerate(paths):  # Equal files would be one part.
        path.write_bytes(str(i).encode())
    told: list[str] = []
    exported = export_scorer(
        scorer,
        tmp_path / "s.onnx",
        images=good[:1],
        cut_steps=[0],
        good_images=good,
        good_paths=paths,
        event=told.append,
    )
    assert exported.manifest.calibrations[-1].n_good == 25
    assert any("at 0 search steps 1 of 25 held-out good images scores far above" in line for line in told)
    assert any("shot1_part3.png" in line for line in told)


@pytest.mark.parametrize("single_step", [False, True])
def test_the_file_is_compared_on_the_device_that_pytorch_computes_on(
    single_step: bool, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    providers = session._providers

    def remembered(runtime: Any, names: Any) -> list[str]:
        asked.append(names)
        return providers(runtime, names)

    monkeypatch.setattr(session, "_providers", remembered)
    images = random_images(2, SIZE)
    export_scorer(scorer, tmp_path / "s.onnx", images=images, single_step=single_step)
    assert asked == [["cpu"]] * (4 if single_step else 1)


@pytest.mark.parametrize("steps", [3, 7, -1])
def test_more_steps_than_the_model_searches_are_no_cut(scorer: Scorer, tmp_path: Path, steps: int) -> None:
    good, told = random_images(2, SIZE), []
    with pytest.raises(ExportError, match=f"cut steps {steps}.*from 0 to 2"):
        export_scorer(
            scorer, tmp_path / "s.onnx", images=good, good_images=good, cut_steps=[steps], event=told.append
        )
    assert told == []  # Before the work.


def test_a_search_of_no_step_has_none_to_cut(tmp_path: Path) -> None:
    scorer = build_torch_scorer(build_model(small_config(search={"steps": 0}), SIZE))
    good = random_images(2, SIZE)
    with pytest.raises(ExportError, match="searches no step"):
        export_scorer(scorer, tmp_path / "s.onnx", images=good, good_images=good, cut_steps=[0])


def test_a_threshold_of_the_exports_own_stands_on_held_out_images(scorer: Scorer, tmp_path: Path) -> None:
    good = random_images(8, SIZE)
    exported = [
        export_scorer(
            scorer,
            tmp_path / "s.onnx",
            images=good[:1],
            good_images=good,
            precision=precision,
            calibrated_on=CROSS_FITTED,
        ).manifest.calibrated_on
        for precision in ("fp32", "fp16")
    ]
    assert exported == [CROSS_FITTED, HELD_OUT]


def test_thresholds_for_fewer_steps_need_good_images(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="need held-out good images"):
        export_scorer(scorer, tmp_path / "s.onnx", images=random_images(1, SIZE), cut_steps=[0])
    assert not list(tmp_path.iterdir())


def test_export_needs_a_threshold_and_an_image(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no threshold"):
        export_scorer(Scorer(scorer.model), tmp_path / "s.onnx", images=random_images(1, SIZE))
    with pytest.raises(ExportError, match="--data"):
        export_scorer(scorer, tmp_path / "s.onnx", images=[])


def test_a_place_that_cannot_be_written_is_one_sentence(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        export_scorer(scorer, tmp_path / "file" / "s.onnx", images=random_images(1, SIZE))
    with pytest.raises(StorageError, match="is a folder; name the file"):
        export_scorer(scorer, tmp_path, images=random_images(1, SIZE))


def test_every_scale_of_weights_exports(tmp_path: Path) -> None:
    model = build_model(small_config(search={"steps": 0}), SIZE)
    for layer in model.networks.generator:
        if hasattr(layer, "weight"):
            layer.weight.data.mul_(1e-3)
    exported = export_scorer(build_torch_scorer(model), tmp_path / "s.onnx", images=random_images(2, SIZE))
    assert np.isfinite(exported.parity.agreements[0].score)
