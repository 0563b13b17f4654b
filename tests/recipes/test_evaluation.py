"""What `evaluate` refuses, and that its figures are those of the scores."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anogan.bundle import load_bundle, save_bundle
from anogan.errors import CalibrationError, ConfigError, DataError, ImageError
from anogan.images.decode import write_image
from anogan.images.folders import scan_dataset
from anogan.inspection import Inspection, decide
from anogan.recipes import calibrate_model, evaluate, load
from anogan.recipes.evaluation import evaluate_scorer
from anogan.recipes.export import export_model
from tests.tiny import DEFECT, SIZE, part, tiny_config, write_parts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """test/good, test/bright square, and the masks of the squares."""
    root = tmp_path_factory.mktemp("检验 1")
    write_parts(root / "test" / "good", range(600, 606))
    write_parts(root / "test" / "bright square", range(700, 705), defect=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[DEFECT] = 255
    (root / "ground_truth" / "bright square").mkdir(parents=True)
    for seed in range(700, 705):
        write_image(root / "ground_truth" / "bright square" / f"{seed}_mask.png", mask)
    return root


@pytest.fixture
def own_model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def _with_metadata(model: Path, **changes: object) -> Path:
    bundle = load_bundle(model)
    return save_bundle(model, replace(bundle, metadata=dict(bundle.metadata) | changes))


def test_figures_are_those_of_the_scores_at_the_calibrated_threshold(data: Path, trained: Path) -> None:
    run = evaluate(str(data), str(trained))
    figures = run.to_dict()
    scores = np.array([inspection.score for inspection in run.inspections])
    defective = np.array(run.kinds) != "good"
    rejected = scores > load(trained).threshold

    assert (figures["n_good"], figures["n_defect"]) == (6, 5)
    assert figures["threshold"] == load(trained).threshold
    assert figures["false_reject_rate"] == pytest.approx(rejected[~defective].mean())
    assert figures["false_accept_rate"] == pytest.approx((~rejected[defective]).mean())
    assert figures["image_auroc"] == pytest.approx(roc_auc_score(defective, scores))
    assert figures["pixel_auroc"] > 0.9
    assert set(figures["per_kind"]) == {"bright square"}


@pytest.mark.parametrize("calibrated_on", ["the test images", None])
def test_a_threshold_that_was_not_set_on_good_images_gets_no_figures(
    calibrated_on: str | None, data: Path, own_model: Path
) -> None:
    _with_metadata(own_model, calibrated_on=calibrated_on)

    with pytest.raises(CalibrationError, match="held-out good images") as refused:
        evaluate(data, own_model)
    assert str(own_model) in str(refused.value)


@pytest.mark.parametrize("name", ["train", "early_stop", "calibrate"])
def test_a_test_image_that_the_model_was_fitted_on_gets_no_figures(
    name: str, data: Path, trained: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(data, tmp_path / "data"))
    hashes = load_bundle(trained).metadata["data"][f"{name}_hashes"]
    from anogan.images.split import file_digest

    used = next(p for p in (trained.parent / "good").iterdir() if file_digest(p) in hashes)
    shutil.copy(used, root / "test" / "good" / "seen before.png")

    with pytest.raises(DataError, match="1 of 12 test images") as refused:
        evaluate(root, trained)
    assert "seen before.png" in str(refused.value)


def test_a_bad_test_image_is_told_and_the_others_count(data: Path, trained: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data, tmp_path / "data"))
    (root / "test" / "good" / "text.png").write_text("no picture", encoding="utf-8")
    run = evaluate(root, trained)

    assert [path.name for path in run.errors] == ["text.png"]
    assert run.to_dict()["n_good"] == 6


class _Stub:
    """Scores each image by the number that `scores` holds for its place."""

    config = tiny_config()
    threshold = 1.0

    def __init__(self, scores: list[float]) -> None:
        self._scores, self.n_scored = iter(scores), 0

    def evidence(self, images: list[Any], _: object) -> list[Any]:
        self.n_scored += len(images)
        return [object() for _ in images]

    def judge(self, _: object, image: Any) -> Inspection:
        score = next(self._scores)
        found = np.zeros(image.shape[:2], np.float32)
        return Inspection(score, 1.0, decide(score, 1.0, 1.0), 0.0, 0.0, 0.0, 0, 0.5, 1.0, found, image)


def test_a_score_that_is_no_number_is_told_with_its_file_and_the_others_count(data: Path) -> None:
    samples = scan_dataset(data).test
    scores = [float("nan"), *np.linspace(0, 2, len(samples) - 1)]
    run = evaluate_scorer(cast(Any, _Stub(scores)), samples)

    assert list(run.errors) == [samples[0].path]
    assert str(samples[0].path) in run.errors[samples[0].path]
    assert len(run.inspections) == len(samples) - 1


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "test" / "good").mkdir(parents=True)
    write_image(tmp_path / "good" / "0.png", np.zeros((64, 64, 3), np.uint8))
    for i in range(12):
        write_image(tmp_path / "test" / "good" / f"{i:02}.png", np.full((1600, 1600, 3), i, np.uint8))
    samples = scan_dataset(tmp_path).test

    def peak(n: int) -> int:
        tracemalloc.start()
        run = evaluate_scorer(cast(Any, _Stub([0.5] * n)), samples[:n])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(run.inspections) == n
        return found

    peak(1)  # What is imported on the way is not counted twice.
    assert peak(12) < 1.3 * peak(6)


def test_a_mask_of_another_size_is_told_before_anything_is_scored(data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data, tmp_path / "data"))
    write_image(root / "ground_truth" / "bright square" / "704_mask.png", np.zeros((8, 9), np.uint8))
    stub = _Stub([0.0] * 20)

    with pytest.raises(ImageError, match="is a mask of 9x8"):
        evaluate_scorer(cast(Any, stub), scan_dataset(root).test)
    assert stub.n_scored == 0


def test_a_mask_that_marks_nothing_is_none(data: Path, trained: Path, tmp_path: Path) -> None:
    """As of a drawing whose lines are in the alpha channel: a defect's pixels would count as good ones."""
    without, blank = (Path(shutil.copytree(data, tmp_path / name)) for name in ("without", "blank"))
    drawing = np.zeros((*SIZE, 4), np.uint8)
    drawing[..., 3][DEFECT] = 255
    cv2.imwrite(str(blank / "ground_truth" / "bright square" / "704_mask.png"), drawing)
    (without / "ground_truth" / "bright square" / "704_mask.png").unlink()
    found = [evaluate(root, trained).evaluation for root in (without, blank)]

    assert found[0].n_masked == found[1].n_masked == found[0].n_defect - 1
    assert found[0].pixel_auroc == found[1].pixel_auroc


def test_a_folder_without_a_test_set_is_refused(trained: Path) -> None:
    with pytest.raises(DataError, match="no test images"):
        evaluate(trained.parent / "good", trained)


def test_the_report_holds_the_figures_that_are_returned(data: Path, trained: Path, tmp_path: Path) -> None:
    run = evaluate(data, trained, report=tmp_path / "report")
    written = json.loads((tmp_path / "report" / "evaluation.json").read_text(encoding="utf-8"))

    assert written["image_auroc"] == run.to_dict()["image_auroc"]
    assert [row["score"] for row in written["images"]] == [found.score for found in run.inspections]
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "ROC curve" in page


def test_masks_of_photographs_larger_than_a_report_shows_are_outlined_there(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anogan.report.overlay.REPORT_HEIGHT", SIZE[0] // 2)
    monkeypatch.setattr("anogan.report.overlay.REPORT_WIDTH", SIZE[1] // 2)

    evaluate(data, trained, report=tmp_path / "report")

    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 3 * len(scan_dataset(data).test)
    assert "No picture" not in page


def test_each_image_has_its_score_and_verdict_among_the_figures(data: Path, trained: Path) -> None:
    run = evaluate(data, trained)
    rows = run.to_dict()["images"]

    assert [row["path"] for row in rows] == [str(sample.path) for sample in scan_dataset(data).test]
    assert [row["kind"] for row in rows] == [sample.kind for sample in scan_dataset(data).test]
    rejected_good = [row["verdict"] == "reject" for row in rows if row["kind"] == "good"]
    assert sum(rejected_good) / len(rejected_good) == run.figures()["false_reject_rate"]
    assert "images" not in run.figures()


# ---- calibrating again


def test_other_good_images_set_another_threshold_and_no_other_score(own_model: Path, tmp_path: Path) -> None:
    fresh = write_parts(tmp_path / "fresh", range(800, 815))
    before = load(own_model)
    calibration = calibrate_model(fresh, own_model, false_reject=0.2)
    after = load(own_model)

    assert after.threshold == calibration.threshold != before.threshold
    assert calibration.estimate.n_good == 15
    assert after.score([part(1)])[0].score == before.score([part(1)])[0].score
    assert sum(score > calibration.threshold for score in calibration.scores) <= 0.2 * 16


def test_calibrating_again_keeps_the_rates_that_were_asked_for(own_model: Path, tmp_path: Path) -> None:
    fresh = write_parts(tmp_path / "fresh", range(800, 815))
    calibrate_model(fresh, own_model, false_reject=0.3, review_share=0.4)
    again = calibrate_model(fresh, own_model)
    assert (again.estimate.requested, again.review_share) == (0.3, 0.4)
    again = calibrate_model(fresh, own_model, review_share=0.5)
    assert (again.estimate.requested, again.review_share) == (0.3, 0.5)


def test_a_folder_of_test_images_alone_sets_no_threshold(data: Path, own_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds test/ but no good/"):
        calibrate_model(data, own_model)
    with pytest.raises(CalibrationError, match="held-out good images, and 0 were given"):
        export_model(tmp_path / "s.onnx", own_model, data=data, precision="fp16")


def test_test_images_that_set_the_threshold_anew_get_no_figures(
    data: Path, own_model: Path, tmp_path: Path
) -> None:
    calibrate_model(data / "test" / "good", own_model, false_reject=0.2)

    with pytest.raises(DataError, match="6 of 11 test images"):
        evaluate(data, own_model)
    calibrate_model(write_parts(tmp_path / "fresh", range(800, 815)), own_model)
    assert evaluate(data, own_model).to_dict()["n_good"] == 6


@pytest.mark.parametrize("rates", [{"false_reject": 0.6}, {"false_reject": -1}, {"review_share": 1.5}])
def test_a_rate_that_a_config_may_not_ask_for_is_refused_before_anything_is_scored(
    rates: dict[str, float], own_model: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    with pytest.raises(ConfigError, match=f"calibration.{next(iter(rates))}.*{next(iter(rates.values()))}"):
        calibrate_model(
            write_parts(tmp_path / "fresh", range(800, 803)),
            own_model,
            on_image=lambda path, *_: told.append(path),
            **rates,
        )
    assert not told


def test_new_photographs_of_parts_that_trained_the_model_may_not_set_its_threshold(
    own_model: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(own_model)
    config = bundle.config.model_copy(
        update={"split": bundle.config.split.model_copy(update={"group": r"(\d+)"})}
    )
    data = dict(bundle.metadata["data"]) | {"trained_parts": ["801", "802"]}
    metadata = dict(bundle.metadata) | {"data": data}
    save_bundle(own_model, replace(bundle, config=config, metadata=metadata))

    with pytest.raises(CalibrationError, match=r"2 of 4 images, first .*801\.png, .* or show parts that did"):
        calibrate_model(write_parts(tmp_path / "fresh", range(800, 804)), own_model)
    assert calibrate_model(write_parts(tmp_path / "new", range(810, 819)), own_model).estimate.n_good == 9


def test_images_that_trained_the_model_may_not_set_its_threshold(own_model: Path, trained: Path) -> None:
    before = load_bundle(own_model).calibration

    with pytest.raises(CalibrationError, match="trained this model"):
        calibrate_model(trained.parent / "good", own_model)
    assert load_bundle(own_model).calibration == before
