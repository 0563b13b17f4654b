"""The contracts of a score, on a model that was trained for some seconds."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anogan import load
from anogan.errors import CalibrationError, ImageError, ShapeError
from anogan.images.decode import write_image
from anogan.inspection import Inspection, Verdict
from anogan.recipes import score_files
from anogan.recipes.calibrate import measure_statistics
from anogan.scoring import Model, Scorer
from anogan.scoring import scorer as scorer_module
from tests.tiny import DEFECT, SIZE, part, tiny_config

GOOD = [part(1000 + i) for i in range(8)]
BAD = [part(1000 + i, defect=True) for i in range(8)]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def scorer(trained: Path) -> Scorer:
    return load(trained)


@pytest.fixture(scope="module")
def good(scorer: Scorer) -> list[Inspection]:
    return scorer.score(GOOD)


@pytest.fixture(scope="module")
def bad(scorer: Scorer) -> list[Inspection]:
    return scorer.score(BAD)


def _scores(found: list[Inspection]) -> list[float]:
    return [inspection.score for inspection in found]


def _digest(model: Model) -> str:
    digest = hashlib.sha256()
    modules = [*model.networks.modules().values(), *([] if model.head is None else [model.head])]
    for module in modules:
        for tensor in module.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


# ---- scores are per image


def test_score_of_an_image_does_not_depend_on_its_batch(scorer: Scorer, good: list[Inspection]) -> None:
    for image, together in zip(GOOD, good, strict=True):
        (alone,) = scorer.score([image])
        assert alone.score == pytest.approx(together.score, rel=TOLERANCE, abs=TOLERANCE)
        assert alone.residual_score == pytest.approx(together.residual_score, rel=TOLERANCE)
        np.testing.assert_allclose(alone.anomaly_map, together.anomaly_map, rtol=1e-4, atol=1e-4)


def test_scores_are_computed_in_all_digits_of_float32(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    within: list[torch.device] = []
    entered: list[torch.device] = []
    search = scorer._inverter.search

    @contextlib.contextmanager
    def full_float32(device: torch.device) -> Iterator[None]:
        within.append(device)
        yield
        within.pop()

    def searched(*arguments: Any) -> Any:
        entered.extend(within)
        return search(*arguments)

    monkeypatch.setattr(scorer_module, "full_float32", full_float32)
    monkeypatch.setattr(scorer._inverter, "search", searched)
    scorer.score(GOOD[:1])

    assert entered == [torch.device("cpu")]


def test_images_that_share_no_chunk_get_the_very_same_scores_as_alone(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [scorer.score([image])[0] for image in GOOD[:4]]
    monkeypatch.setattr(scorer_module, "CHUNK_PIXELS", SIZE[0] * SIZE[1])  # One image fills a chunk.
    together = scorer.score(GOOD[:4])

    assert _scores(together) == _scores(alone)


def test_a_chunk_smaller_than_an_image_changes_no_score(
    scorer: Scorer, good: list[Inspection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer_module, "CHUNK_PIXELS", 1)  # Tile by tile.

    assert _scores(scorer.score(GOOD)) == pytest.approx(_scores(good), rel=TOLERANCE, abs=TOLERANCE)


def test_scores_do_not_depend_on_the_order_of_the_images(scorer: Scorer, good: list[Inspection]) -> None:
    backwards = scorer.score(GOOD[::-1])[::-1]

    assert _scores(backwards) == pytest.approx(_scores(good), rel=TOLERANCE, abs=TOLERANCE)


def test_a_defective_neighbour_changes_no_score(scorer: Scorer) -> None:
    beside_good = scorer.score([GOOD[0], GOOD[1]])[0]
    beside_bad = scorer.score([GOOD[0], np.full_like(GOOD[0], 255)])[0]

    assert beside_good.score == pytest.approx(beside_bad.score, rel=TOLERANCE, abs=TOLERANCE)


def test_earlier_calls_change_no_score(scorer: Scorer) -> None:
    (first,) = scorer.score([GOOD[0]])
    scorer.score(BAD)
    torch.manual_seed(77)
    (again,) = scorer.score([GOOD[0]])

    assert again.score == first.score
    np.testing.assert_array_equal(again.anomaly_map, first.anomaly_map)
    np.testing.assert_array_equal(again.reconstruction, first.reconstruction)


def test_scoring_leaves_every_weight_and_statistic_as_it_was(trained: Path) -> None:
    scorer = load(trained)
    before = _digest(scorer.model)
    scorer.score(GOOD + BAD)

    assert _digest(scorer.model) == before
    for module in scorer.model.networks.modules().values():
        assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
        assert not any(layer.training for layer in module.modules())


# ---- higher is more anomalous, and it shows where


def test_a_bright_square_raises_the_score_of_every_part(
    good: list[Inspection], bad: list[Inspection]
) -> None:
    for clean, damaged in zip(good, bad, strict=True):
        assert damaged.score > clean.score + 1
        assert damaged.residual_score > clean.residual_score


def test_the_map_is_greatest_in_the_defect(bad: list[Inspection]) -> None:
    for found in bad:
        y, x = np.unravel_index(int(found.anomaly_map.argmax()), found.anomaly_map.shape)
        assert DEFECT[0].start - 2 <= y < DEFECT[0].stop + 2
        assert DEFECT[1].start - 2 <= x < DEFECT[1].stop + 2


@pytest.mark.parametrize("left", [20, 28, 32, 46])
def test_a_defect_across_a_border_of_tiles_is_found_as_well(left: int, scorer: Scorer) -> None:
    """Tiles begin at columns 0 and 24 and end at 32 and 56."""
    image = GOOD[0].copy()
    image[12:20, left : left + 8] = 255
    (found,) = scorer.score([image])
    y, x = np.unravel_index(int(found.anomaly_map.argmax()), found.anomaly_map.shape)

    assert found.verdict is Verdict.REJECT
    assert 10 <= y < 22
    assert left - 2 <= x < left + 10


def test_verdicts_are_those_of_the_thresholds(
    scorer: Scorer, good: list[Inspection], bad: list[Inspection]
) -> None:
    for found in good + bad:
        above = found.score > scorer.threshold
        assert (found.verdict is Verdict.REJECT) == above
        assert found.threshold == scorer.threshold
    assert all(found.verdict is Verdict.REJECT for found in bad)
    assert any(found.verdict is Verdict.PASS for found in good)


def test_a_threshold_by_hand_moves_the_verdicts_and_not_the_scores(
    trained: Path, bad: list[Inspection]
) -> None:
    lenient = load(trained, threshold=1e9).score(BAD)

    assert _scores(lenient) == _scores(bad)
    assert not any(found.verdict is Verdict.REJECT for found in lenient)


# ---- G(z*) belongs to its image


def test_reconstructions_differ_from_query_to_query(good: list[Inspection]) -> None:
    """A collapsed generator, or a z that never moved, would answer each query alike."""
    pictures = np.stack([found.reconstruction.astype(float) for found in good])
    between = np.abs(pictures[:, None] - pictures[None]).mean(axis=(2, 3, 4))

    assert between[~np.eye(len(good), dtype=bool)].min() > 5


def test_each_image_is_fitted_better_by_its_own_code_than_by_another_s(good: list[Inspection]) -> None:
    images = np.stack(GOOD).astype(float)
    pictures = np.stack([found.reconstruction.astype(float) for found in good])
    distance = np.abs(images[:, None] - pictures[None]).mean(axis=(2, 3, 4))

    own = np.diag(distance)
    assert (own < distance.mean(axis=1) / 1.5).all()
    assert (distance.argmin(axis=1) == np.arange(len(good))).mean() >= 0.8


def test_the_defect_is_not_reconstructed(bad: list[Inspection]) -> None:
    inside = [found.reconstruction[DEFECT].astype(float).mean() for found in bad]

    assert np.mean(inside) < 200  # The square is 255 everywhere.


def test_more_steps_fit_closer(trained: Path) -> None:
    residuals = [
        np.mean([found.residual_score for found in load(trained, steps=steps).score(GOOD)])
        for steps in (0, 5, 40)
    ]

    assert residuals[0] > residuals[1] > residuals[2]


# ---- files


def test_a_file_has_the_score_of_its_pixels(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "板 1.png"
    write_image(path, GOOD[0])
    found = scorer.score_file(str(path))

    assert found.score == scorer.score([GOOD[0]])[0].score
    assert found.path == path
    assert scorer.score(path).score == found.score


def test_a_bad_file_is_named_and_the_rest_is_scored(scorer: Scorer, tmp_path: Path) -> None:
    for name, image in (("0.png", GOOD[0]), ("wide.png", part(0, size=(40, 64))), ("1.png", GOOD[1])):
        write_image(tmp_path / name, image)
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    paths = [tmp_path / name for name in ("0.png", "text.png", "wide.png", "none.png", "1.png")]
    files = list(score_files(scorer, paths))

    assert [file.path for file in files] == paths
    assert [file.error is None for file in files] == [True, False, False, False, True]
    for file in files[1:4]:
        assert str(file.path) in str(file.error)
        assert "\n" not in str(file.error)
    # Among bad ones an image gets the score that it gets alone.
    for file, image in ((files[0], GOOD[0]), (files[4], GOOD[1])):
        assert file.inspection is not None
        assert file.inspection.score == pytest.approx(scorer.score([image])[0].score, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((*SIZE, 3), np.float32), "float32"),
        (np.zeros((*SIZE, 3), np.uint16), "16 bits"),
        (np.zeros((*SIZE, 2), np.uint8), "shape"),
        (np.zeros((40,), np.uint8), "shape"),
        (np.zeros(SIZE, np.uint8), "3 channels"),
        (np.zeros((41, 56, 3), np.uint8), "56x41.*56x40"),
        (np.zeros((0, 0, 3), np.uint8), "0x0"),
    ],
)
def test_an_array_that_does_not_fit_is_one_sentence(image: NDArray[Any], words: str, scorer: Scorer) -> None:
    with pytest.raises(ImageError, match=words) as refused:
        scorer.score([GOOD[0], image])

    assert "image 1" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_single_array_is_not_taken_for_a_batch_of_rows(scorer: Scorer) -> None:
    with pytest.raises(ShapeError, match=r"score\(\[image\]\)"):
        scorer.score(GOOD[0])


def test_a_batch_in_one_array_is_scored_as_a_list(scorer: Scorer, good: list[Inspection]) -> None:
    assert _scores(scorer.score(np.stack(GOOD))) == _scores(good)


def test_no_image_is_no_inspection(scorer: Scorer) -> None:
    assert scorer.score([]) == []


def test_a_model_without_a_threshold_says_what_to_type(scorer: Scorer) -> None:
    with pytest.raises(CalibrationError, match="anogan calibrate"):
        Scorer(scorer.model).score(GOOD)


def test_a_score_that_is_not_a_number_goes_to_a_person(trained: Path) -> None:
    scorer = load(trained)
    assert scorer.model.head is not None
    scorer.model.head[-1].bias.fill_(torch.nan)
    (found,) = scorer.score([BAD[0]])

    assert np.isnan(found.score)
    assert found.verdict is Verdict.REVIEW


# ---- the promise


def test_good_parts_are_rejected_no_more_often_than_promised(scorer: Scorer) -> None:
    assert scorer.calibration is not None
    estimate = scorer.calibration.estimate
    fresh = np.array(_scores(scorer.score([part(5000 + i) for i in range(150)])))

    assert estimate.false_reject <= 0.1
    assert (fresh > scorer.threshold).mean() <= estimate.interval[1]


def test_statistics_are_per_pixel_or_global_as_the_settings_say(scorer: Scorer, trained: Path) -> None:
    paths = sorted((trained.parent / "good").glob("*.png"))[:4]
    assert scorer.calibration is not None
    everywhere = tiny_config(calibration={"map": "global"}).calibration
    model = replace(scorer.model, config=scorer.config.model_copy(update={"calibration": everywhere}))
    statistics = measure_statistics(Scorer(model), paths)

    assert set(statistics) == set(scorer.calibration.statistics) == {"residual", "discrimination", "head"}
    assert {s.mean.shape for s in scorer.calibration.statistics.values()} == {SIZE}
    assert {s.mean.shape for s in statistics.values()} == {(1, 1)}
