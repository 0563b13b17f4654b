"""Scoring with registration: the same part gets the same score wherever it lies, and its map lies on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.config import config_from_dict
from anogan.errors import BundleError, ConfigError
from anogan.images.registration import Aligner, grey
from anogan.images.sample_board import draw_board
from anogan.inspection import Verdict
from anogan.recipes import fit, load_scorer
from anogan.recipes.good_images import pixel_aspect
from anogan.scoring import Model, Scorer
from tests.export.conftest import build_model, build_torch_scorer, small_config

SIZE = 96
SHIFT = (4, -3)
MARGIN = 12


def board(shift: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """One and the same board, lying elsewhere; it is drawn larger, so that no edge moves in."""
    large = draw_board(3, SIZE + 2 * MARGIN)[0]
    top, left = MARGIN - shift[1], MARGIN - shift[0]
    return np.ascontiguousarray(large[top : top + SIZE, left : left + SIZE])


def registering_model(**sections: Any) -> Model:
    config = small_config(
        images={"registration": "translation"}, score={"border": 8, "smoothing_sigma": 2.0}, **sections
    )
    return replace(build_model(config, (SIZE, SIZE)), aligner=Aligner(grey(board(), 255), "translation"))


def test_evidence_and_score_do_not_depend_on_where_the_part_lies() -> None:
    config = small_config(score={"border": 8, "smoothing_sigma": 2.0})
    registering = build_torch_scorer(registering_model())
    plain = build_torch_scorer(replace(registering_model(), config=config, aligner=None))
    scores = [found.score for found in registering.score([board(), board(SHIFT)])]
    assert abs(scores[0] - scores[1]) < 0.01
    assert difference(registering) < difference(plain) / 20


def difference(scorer: Scorer) -> float:
    """Mean difference of the evidence of a part and the same part elsewhere, away from the image border."""
    here, there = (evidence.parts["residual"] for evidence in scorer.evidence([board(), board(SHIFT)]))
    return float(np.abs(here - there)[8:-8, 8:-8].mean())


def test_anomaly_map_and_reconstruction_lie_where_the_part_lies() -> None:
    here, there = build_torch_scorer(registering_model()).score([board(), board(SHIFT)])
    inner = slice(8, SIZE - 8)
    for name in ("anomaly_map", "reconstruction"):
        expected = np.roll(getattr(here, name).astype(np.float64), SHIFT[::-1], (0, 1))[inner, inner]
        found = getattr(there, name)[inner, inner]
        assert np.abs(found - expected).mean() < 0.1 * expected.std()


def test_nothing_is_found_where_the_photograph_ends() -> None:
    scorer = build_torch_scorer(registering_model())
    (evidence,) = scorer.evidence([board((10, 0))])
    assert not scorer.anomaly_map(evidence)[:, -9:].any()


def test_part_that_cannot_be_registered_is_reviewed_not_passed() -> None:
    scorer = build_torch_scorer(registering_model(), threshold=1e6)
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    good, lost = scorer.score([board(), black])
    assert (good.verdict, good.registered) == (Verdict.PASS, True)
    assert (lost.verdict, lost.registered) == (Verdict.REVIEW, False)
    assert lost.to_dict()["registered"] is False


def test_models_that_do_not_register_say_nothing_of_it() -> None:
    scorer = build_torch_scorer(build_model(small_config(), (SIZE, SIZE)))
    (found,) = scorer.score([board()])
    assert found.registered is None
    assert "registered" not in found.to_dict()


def test_reference_is_part_of_the_model() -> None:
    model = registering_model()
    aligner = Aligner(grey(board(), 255), "translation", aspect=1.25)
    arrays = replace(model, aligner=aligner).to_arrays()
    again = Model.from_arrays(model.config, arrays, (SIZE, SIZE), model.feature_scales.device).aligner
    assert again is not None
    np.testing.assert_array_equal(again.reference, aligner.reference)
    assert (again.motion, again.aspect) == ("translation", 1.25)
    its = arrays["registration"]
    wrong: list[dict[str, NDArray[Any]]] = [{}, {"reference": its["reference"]}]
    wrong += [its | {"reference": np.zeros((9, 9), np.float32)}, its | {"pixel_aspect": np.array(np.nan)}]
    for found in wrong:
        with pytest.raises(BundleError, match="reference"):
            Model.from_arrays(
                model.config, arrays | {"registration": found}, (SIZE, SIZE), model.feature_scales.device
            )
    with pytest.raises(ConfigError, match="aligner"):
        Scorer(replace(model, aligner=None))


def test_registration_needs_images_of_one_size() -> None:
    tree = {
        "images": {"registration": "euclidean", "on_mixed_sizes": "keep"},
        "calibration": {"map": "global"},
    }
    with pytest.raises(ConfigError, match=r"images\.size"):
        config_from_dict(tree, "a test")


def test_fit_registers_its_images_and_its_model_goes_on_registering(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(24):
        shift = rng.integers(-6, 7, 2)
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), board((int(shift[0]), int(shift[1]))))
    config = config_from_dict(
        {
            "images": {"registration": "translation"},
            "tiles": {"size": 32, "overlap": 8},
            "network": {"latent_dim": 4, "width": 4},
            "gan": {"steps": 2, "batch_size": 4},
            "encoder": {"mode": "none"},
            "head": {"enabled": False},
            "search": {"steps": 1},
            "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
        },
        "a test",
    )
    fit(tmp_path, tmp_path / "model", config)
    scorer = load_scorer(tmp_path / "model")
    assert scorer.model.aligner is not None
    assert scorer.model.aligner.aspect == 1
    ends = [board((-6, -6)), board((6, 6))]
    maps = [evidence.alignment for evidence in scorer.evidence(ends)]
    assert all(alignment is not None and alignment.converged for alignment in maps)
    moved = maps[1].warp[:, 2] - maps[0].warp[:, 2]  # type: ignore[union-attr]
    np.testing.assert_allclose(moved, [12, 12], atol=0.3)


def test_stretched_photographs_keep_the_aspect_of_their_pixels(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((40, 100, 3), np.uint8))
    assert pixel_aspect(paths, (80, 50)) == (100 / 50) / (40 / 80)
    assert pixel_aspect(paths, None) == 1
