"""The scorer that drives the steps itself scores as the whole file does, and takes only its own pieces."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from anogan.errors import BundleError
from anogan.export import export_scorer
from anogan.station import Scorer, StepwiseScorer
from anogan.station.stepwise import piece_paths
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config

SIZE = (40, 56)
EARLY_STOP = {"tolerance": 0.003, "patience": 2, "learning_rate": 0.05, "steps": 30}


def exported(folder: Path, **search: float) -> Path:
    scorer = build_torch_scorer(build_model(small_config(search=search), SIZE), threshold=2.1)
    images = random_images(4, SIZE)
    path = folder / "Prüfung 电路板" / "scorer 1.onnx"
    return export_scorer(scorer, path, images=images[:2], single_step=True).path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("stepwise"))


def test_export_writes_the_file_its_pieces_and_nothing_else(whole: Path) -> None:
    names = {"scorer 1.onnx", "scorer 1-begin.onnx", "scorer 1-step.onnx", "scorer 1-finish.onnx"}
    assert {path.name for path in whole.parent.iterdir()} == names


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 8])
def test_driven_steps_find_what_the_whole_file_finds(whole: Path, steps: int) -> None:
    images = random_images(3, SIZE)
    wanted = Scorer(whole, threads=1, steps=steps).score(images)
    driven = StepwiseScorer(whole, threads=1, steps=steps)
    for _ in range(2):  # Nothing is left over from the first time.
        for a, b in zip(wanted, driven.score(images), strict=True):
            assert b.score == pytest.approx(a.score, rel=1e-5)
            assert (b.verdict, b.steps_used, b.threshold) == (a.verdict, a.steps_used, a.threshold)
            np.testing.assert_allclose(b.anomaly_map, a.anomaly_map, atol=1e-4)
    assert driven.manifest.calibrations == Scorer(whole).manifest.calibrations


def test_threads_get_the_scores_of_a_single_one(whole: Path) -> None:
    driven, images = StepwiseScorer(whole, threads=1), random_images(8, SIZE)
    wanted = [driven.score([image])[0].score for image in images]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda image: driven.score([image])[0].score, images))
    assert got == wanted


def test_search_ends_when_every_tile_has_settled(tmp_path: Path) -> None:
    path = exported(tmp_path, **EARLY_STOP)
    images = random_images(3, SIZE)
    wanted, got = (kind(path, threads=1).score(images) for kind in (Scorer, StepwiseScorer))
    assert max(found.steps_used for found in wanted) < 30
    assert [found.steps_used for found in got] == [found.steps_used for found in wanted]
    assert [f.score for f in got] == pytest.approx([f.score for f in wanted], rel=1e-4)


def test_pieces_of_different_exports_are_one_clear_error(whole: Path, tmp_path: Path) -> None:
    other = exported(tmp_path, learning_rate=0.03)
    shutil.copy(piece_paths(whole)["step"], piece_paths(other)["step"])
    with pytest.raises(BundleError, match="come from different exports"):
        StepwiseScorer(other)


def test_pieces_that_an_older_export_left_are_one_clear_error(whole: Path, tmp_path: Path) -> None:
    older = exported(tmp_path, learning_rate=0.03)
    shutil.copy(whole, older)
    with pytest.raises(BundleError, match="another export than the file itself"):
        StepwiseScorer(older)
    older.unlink()  # A station that drives the steps needs the pieces alone.
    assert StepwiseScorer(older).score(random_images(1, SIZE))


def test_a_piece_in_the_place_of_another_is_one_clear_error(whole: Path, tmp_path: Path) -> None:
    for path in [whole, *piece_paths(whole).values()]:
        shutil.copy(path, tmp_path)
    here = tmp_path / whole.name
    shutil.copy(piece_paths(whole)["begin"], piece_paths(here)["step"])
    with pytest.raises(BundleError, match=r"step\.onnx is begin; expected the piece step"):
        StepwiseScorer(here)
    shutil.copy(whole, piece_paths(here)["step"])
    with pytest.raises(BundleError, match="is a whole file; expected the piece step"):
        StepwiseScorer(here)
    piece_paths(here)["step"].unlink()
    with pytest.raises(BundleError, match=r"step\.onnx does not exist"):
        StepwiseScorer(here)


def test_a_piece_is_no_scorer(whole: Path) -> None:
    with pytest.raises(BundleError, match="one of three pieces"):
        Scorer(piece_paths(whole)["finish"])
