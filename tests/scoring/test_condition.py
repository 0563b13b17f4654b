"""A model that knows where a tile lies finds what is right in one place and wrong in another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan import load
from anogan.errors import BundleError
from anogan.images.decode import write_image
from anogan.inspection import Inspection, Verdict
from anogan.recipes import fit
from anogan.scoring import Model, Scorer
from tests.tiny import no_pictures, tiny_config

SETTINGS: dict[str, Any] = {
    "images": {"channels": 1},
    "tiles": {"size": 32, "overlap": 0},
    "gan": {"steps": 120, "batch_size": 16, "generator_learning_rate": 2e-3, "ema_decay": 0.95},
    "encoder": {"mode": "none"},
    "head": {"enabled": False},
    "search": {"steps": 20, "learning_rate": 0.1},
    "calibration": {"false_reject": 0.1, "map": "global"},
}


def plate(seed: int, *, bright_left: bool = False) -> NDArray[Any]:
    """Dark on its left, bright on its right; the defect is a left side as bright as the right one."""
    rng = np.random.default_rng(seed)
    rising = 0.25 + 0.5 / (1 + np.exp(-(np.arange(64) - 32) / 3))
    row = np.full(64, 0.75) if bright_left else rising
    image = row + rng.uniform(-0.05, 0.05) + 0.01 * rng.standard_normal((32, 64))
    return (image[..., None].clip(0, 1) * 255).astype(np.uint8)


def fitted(root: Path, condition: str) -> Scorer:
    (root / "good").mkdir(parents=True)
    for seed in range(60):
        write_image(root / "good" / f"{seed}.png", plate(seed))
    network = {"latent_dim": 2, "latent_grid": 1, "width": 8, "condition": condition}
    with no_pictures():
        return load(fit(root / "good", root / "model", tiny_config(network=network, **SETTINGS)).path)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return fitted(tmp_path_factory.mktemp("told"), "tile-position")


@pytest.fixture(scope="module")
def untold(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return fitted(tmp_path_factory.mktemp("untold"), "none")


GOOD = [plate(seed) for seed in range(100, 110)]
BAD = [plate(seed, bright_left=True) for seed in range(200, 210)]


def scores(found: list[Inspection]) -> list[float]:
    return [inspection.score for inspection in found]


def test_a_feature_in_the_wrong_place_is_found_with_tile_position_and_not_without(
    told: Scorer, untold: Scorer
) -> None:
    good, bad = told.score(GOOD), told.score(BAD)
    assert min(scores(bad)) > max(scores(good)) + 5  # Standard deviations of good parts.
    assert {inspection.verdict for inspection in bad} == {Verdict.REJECT}
    # The same bright tile is good on the right, so a model that knows no place has nothing to object.
    assert np.median(scores(untold.score(BAD))) < max(scores(untold.score(GOOD)))


def test_the_map_marks_the_side_that_is_wrong(told: Scorer) -> None:
    for inspection in told.score(BAD):
        assert inspection.anomaly_map[:, :16].mean() > inspection.anomaly_map[:, 48:].mean() + 2


def test_score_under_a_condition_does_not_depend_on_the_batch(told: Scorer) -> None:
    together = told.score([*GOOD, *BAD])
    backwards = told.score([*BAD[::-1], *GOOD[::-1]])[::-1]
    for image, one, other in zip([*GOOD, *BAD], together, backwards, strict=True):
        (alone,) = told.score([image])
        assert alone.score == pytest.approx(one.score, rel=1e-5, abs=1e-5)
        assert other.score == pytest.approx(one.score, rel=1e-5, abs=1e-5)


def test_weights_of_a_model_without_condition_are_refused_for_one_with(untold: Scorer) -> None:
    network = untold.config.network.model_copy(update={"condition": "tile-position"})
    config = untold.config.model_copy(update={"network": network})
    device = next(untold.model.networks.generator.parameters()).device
    with pytest.raises(BundleError, match="do not fit its config"):
        Model.from_arrays(config, untold.model.to_arrays(), (32, 64), device)
