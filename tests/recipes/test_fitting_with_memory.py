"""What a fit does with the memory of the head's false alarms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import load_bundle
from anogan.calibration import CROSS_FITTED, HELD_OUT
from anogan.images.decode import read_as_stored, write_image
from anogan.images.folders import scan_dataset
from anogan.recipes import fit
from anogan.recipes.calibrate import calibrate_scorer, good_scores
from anogan.recipes.cross_fit import Crossed
from anogan.recipes.evaluation import evaluate
from anogan.recipes.models import load_scorer
from anogan.recipes.variants import split_dataset
from anogan.scoring import Scorer
from anogan.scoring.memory import Memories, learn_memories
from tests.recipes.fits import Listener
from tests.tiny import part, tiny_config, write_parts

# After two steps the head marks nothing above 0.
MEMORY = {"patches": 16, "window": 16, "tiles": 640, "alarm": -1.0}


pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if forty parts were held out: the tests that compare two sets of scores run on a handful."""
    monkeypatch.setattr("anogan.config.scoring.FEWEST_TO_COMPARE", 4)


def test_the_memory_of_false_alarms_is_part_of_the_saved_model(good: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = fit(good, tmp_path / "model", tiny_config(memory=MEMORY), reporter=listener.reporter)
    assert "false alarms" in listener.stages
    assert result.scorer.model.memory is not None
    image = part(99)
    again = load_scorer(tmp_path / "model").score([image])[0]
    assert again.score == result.scorer.with_calibration(result.calibration).score([image])[0].score
    without = replace(result.scorer.model, memory=None)
    images = [part(seed) for seed in range(6)]
    heads = [
        np.stack([found.parts["head"] for found in Scorer(model).evidence(images)])
        for model in (result.scorer.model, without)
    ]
    assert (heads[0] <= heads[1] + 1e-5).all()
    assert (heads[0] < heads[1] - 1e-5).any()


def test_a_memory_with_nothing_to_remember_is_told(good: Path, tmp_path: Path) -> None:
    listener = Listener()
    memory = {"patches": 16, "window": 16, "tiles": 2}
    result = fit(good, tmp_path / "model", tiny_config(memory=memory), reporter=listener.reporter)
    assert result.scorer.model.memory is None
    assert any("memory.patches" in event for event in listener.events)


def test_training_images_calibrate_each_with_a_memory_of_the_others(good: Path, tmp_path: Path) -> None:
    listener = Listener()
    config = tiny_config(memory=MEMORY, calibration={"false_reject": 0.1, "cross_fit": True})
    result = fit(good, tmp_path / "model", config, reporter=listener.reporter)

    split = split_dataset(scan_dataset(good), config)
    n_held_out, n_trained = len(split.calibrate), len(split.train)
    estimate = result.calibration.estimate
    assert (estimate.n_good, estimate.n_trained) == (n_held_out + n_trained, n_trained)
    assert load_bundle(result.path).metadata["calibrated_on"] == CROSS_FITTED
    n_all = n_held_out + n_trained + len(split.early_stop)
    assert [(done, total) for stage, done, total in listener.steps if stage == "calibrate"] == [
        (done, n_all) for done in range(1, n_all + 1)
    ]
    # Held-out images have the scores that the saved model gives them, the others do not: it knows them.
    scores = list(result.calibration.scores)
    for score in good_scores(result.scorer, dict(result.calibration.statistics), split.calibrate):
        scores.remove(score)
    own = np.sort(good_scores(result.scorer, dict(result.calibration.statistics), split.train))
    assert not np.array_equal(scores, own)

    write_parts(tmp_path / "data" / "test" / "good", range(300, 303))
    write_parts(tmp_path / "data" / "test" / "bright", range(303, 306), defect=True)
    assert evaluate(tmp_path / "data", result.path, report=tmp_path / "report").to_dict()["n_good"] == 3
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert f"{n_held_out} of them held out and {n_trained} that the networks learned from" in page


def test_training_images_that_score_lower_than_held_out_ones_do_not_calibrate(
    good: Path, trained: Path, tmp_path: Path
) -> None:
    scorer = load_scorer(trained)
    clean = [scan_dataset(good).good[index] for index in range(8)]
    marked = scan_dataset(write_parts(tmp_path / "marked", range(400, 408), defect=True)).good
    told: list[str] = []
    low, high = (
        calibrate_scorer(
            scorer, clean[:2], held_out, crossed=[Crossed(scorer, learned)], event=told.append
        ).estimate
        for held_out, learned in ((marked, clean), (clean, marked))
    )
    assert (low.n_good, low.n_trained) == (8, 0)
    assert len(told) == 1
    assert "score lower than the 8 held-out ones" in told[0]
    assert (high.n_good, high.n_trained) == (16, 8)


def nearly(path: Path, level: int, folder: Path) -> Path:
    """The image with another pixel in its corner: as good as the same, but no copy, which would not count."""
    image = read_as_stored(path)
    image[0, 0] = level
    write_image(copy := folder / f"{path.stem}-{level}.png", image)
    return copy


def test_a_common_threshold_that_rejects_too_many_held_out_images_is_not_taken(
    good: Path, trained: Path, tmp_path: Path
) -> None:
    scorer, clean = load_scorer(trained), list(scan_dataset(good).good)
    marked = list(scan_dataset(write_parts(tmp_path / "marked", range(400, 406), defect=True)).good)
    learned = [nearly(path, level, tmp_path) for path in clean for level in range(8)]
    told: list[str] = []
    estimates = [
        calibrate_scorer(
            scorer, clean[:2], held_out, crossed=[Crossed(scorer, learned)], event=told.append
        ).estimate
        for held_out in (clean + marked[:1], clean + marked)
    ]
    assert [estimate.n_trained for estimate in estimates] == [8 * len(clean), 0]
    assert len(told) == 1
    assert f"of {len(clean) + 6} held-out images score above" in told[0]


@pytest.mark.parametrize("memory", [{"patches": 0}, MEMORY | {"tiles": 2}], ids=["none", "nothing learned"])
def test_without_a_memory_training_images_calibrate_as_they_are(
    memory: dict[str, Any], good: Path, tmp_path: Path
) -> None:
    config = tiny_config(memory=memory, calibration={"false_reject": 0.1, "cross_fit": True})
    result = fit(good, tmp_path / "model", config)

    split = split_dataset(scan_dataset(good), config)
    assert result.scorer.model.memory is None
    assert result.calibration.estimate.n_trained == len(split.train)
    assert load_bundle(result.path).metadata["calibrated_on"] == CROSS_FITTED
    own = good_scores(result.scorer, dict(result.calibration.statistics), [*split.calibrate, *split.train])
    assert sorted(result.calibration.scores) == sorted(own)


def test_a_memory_that_cannot_do_without_a_share_leaves_the_threshold_to_held_out_images(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_shares(*given: Any) -> Memories | None:
        found = learn_memories(*given)
        return None if found is None else replace(found, without=())

    monkeypatch.setattr("anogan.recipes.training.learn_memories", without_shares)
    listener = Listener()
    config = tiny_config(memory=MEMORY, calibration={"false_reject": 0.1, "cross_fit": True})
    result = fit(good, tmp_path / "model", config, reporter=listener.reporter)
    assert result.scorer.model.memory is not None
    assert result.calibration.estimate.n_trained == 0
    assert load_bundle(result.path).metadata["calibrated_on"] == HELD_OUT
    assert any("Too few false alarms" in event for event in listener.events)


def test_few_held_out_images_calibrate_alone_and_it_is_said(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anogan.config.scoring.FEWEST_TO_COMPARE", 40)
    listener = Listener()
    config = tiny_config(calibration={"false_reject": 0.1, "cross_fit": True})
    result = fit(good, tmp_path / "model", config, reporter=listener.reporter)
    assert result.calibration.estimate.n_trained == 0
    assert any("Fewer than 40 good images are held out" in event for event in listener.events)
    assert any("a false-reject rate of 0.1 needs 9" in event for event in listener.events)
