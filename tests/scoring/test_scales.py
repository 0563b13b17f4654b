"""`tiles.scales`: what only a smaller version of the image shows, and where it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.errors import ConfigError, DataError, ImageError
from anogan.images.decode import write_image
from anogan.images.resize import resize
from anogan.metrics import image_auroc
from anogan.recipes import FitResult, fit, load_scorer
from anogan.scoring import Scorer
from tests.export.conftest import build_model, build_torch_scorer, small_config
from tests.tiny import merged, no_pictures, tiny_config

SIDE, NOISE, STAIN = 128, 0.06, 0.09
SPOT = (slice(84, 96), slice(24, 36))
# One brightness per tile is all that G can follow: four numbers, no map.
SETTINGS: dict[str, Any] = {
    "images": {"channels": 1},
    "network": {"latent_dim": 4, "latent_grid": 1, "width": 8},
    "gan": {
        "steps": 80,
        "batch_size": 16,
        "generator_learning_rate": 2e-3,
        "adversarial_weight": 0.05,
        "ema_decay": 0.9,
    },
    "encoder": {"mode": "joint", "learning_rate": 2e-3, "remove_defects": False},
    "head": {"enabled": False},
    "score": {"discrimination_weight": 0.0},
    "calibration": {"map": "global"},
}


def surface(seed: int, *, stained: bool = False, spot: bool = False) -> NDArray[Any]:
    """A flat surface of a brightness of its own, with grain; a stain is wide, faint and without an edge."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.35, 0.65) + NOISE * rng.standard_normal((SIDE, SIDE))
    if stained:
        y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(48, 80, (2, 1, 1))
        image += STAIN * np.exp(-(x**2 + y**2) / (2 * 40**2))
    if spot:
        image[SPOT] = 1
    return (image.clip(0, 1) * 255).astype(np.uint8)[..., None]


def fitted(root: Path, scales: list[float]) -> FitResult:
    good = root / "good"
    good.mkdir(parents=True)
    for seed in range(30):
        write_image(good / f"{seed}.png", surface(seed))
    tiles = {"tiles": {"size": 32, "overlap": 8, "scales": scales}}
    with no_pictures():
        return fit(good, root / "model", tiny_config(**merged(SETTINGS, tiles)))


@pytest.fixture(scope="module")
def one_scale(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return fitted(tmp_path_factory.mktemp("one"), [1.0]).scorer


@pytest.fixture(scope="module")
def fit_of_two_scales(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fitted(tmp_path_factory.mktemp("two"), [1.0, 0.25])


@pytest.fixture(scope="module")
def two_scales(fit_of_two_scales: FitResult) -> Scorer:
    return fit_of_two_scales.scorer


def stain_auroc(scorer: Scorer) -> float | None:
    images = [surface(100 + i, stained=i % 2 == 1) for i in range(24)]
    return image_auroc([i % 2 == 1 for i in range(24)], [found.score for found in scorer.score(images)])


def test_a_stain_wider_than_a_tile_is_seen_at_the_smaller_scale_alone(
    one_scale: Scorer, two_scales: Scorer
) -> None:
    alone, together = stain_auroc(one_scale), stain_auroc(two_scales)
    assert alone is not None
    assert together is not None
    assert alone < 0.75
    assert together > 0.95


def test_both_scales_show_a_spot_where_it_is(two_scales: Scorer) -> None:
    image = surface(200, spot=True)
    (evidence,) = two_scales.evidence([image])
    found = two_scales.anomaly_map(evidence)
    maps = {
        "residual": evidence.parts["residual"],
        "residual@0.25": resize(evidence.parts["residual@0.25"][..., None], (SIDE, SIDE))[..., 0],
        "together": found,
    }

    assert evidence.parts["residual@0.25"].shape == (32, 32)
    for name, values in maps.items():
        y, x = np.unravel_index(values.argmax(), values.shape)
        assert SPOT[0].start <= y < SPOT[0].stop, name
        assert SPOT[1].start <= x < SPOT[1].stop, name
    (inspection,) = two_scales.score([image])
    assert inspection.anomaly_map.shape == (SIDE, SIDE)
    assert inspection.score == pytest.approx(float(found.max()))


def test_the_score_of_an_image_does_not_depend_on_batch_or_order(two_scales: Scorer) -> None:
    images = [surface(seed, stained=seed % 2 == 1) for seed in range(300, 304)]
    together = [found.score for found in two_scales.score(images)]
    backwards = [found.score for found in two_scales.score(images[::-1])][::-1]
    alone = [two_scales.score([image])[0].score for image in images]

    assert backwards == pytest.approx(together, rel=1e-4)
    assert alone == pytest.approx(together, rel=1e-4)


def test_each_scale_is_calibrated_on_its_own(two_scales: Scorer) -> None:
    """Grain averages out in the smaller version, so its deviations are told by a finer measure."""
    assert two_scales.calibration is not None
    fine, coarse = (two_scales.calibration.statistics[f"residual{at}"] for at in ("", "@0.25"))
    assert coarse.mean.item() < 0.6 * fine.mean.item()


def test_a_saved_model_scores_at_its_scales_again(fit_of_two_scales: FitResult) -> None:
    image = surface(400, stained=True)
    again = load_scorer(fit_of_two_scales.path).score([image])[0]
    assert again.score == pytest.approx(fit_of_two_scales.scorer.score([image])[0].score, rel=1e-5)


@pytest.mark.parametrize(
    ("tiles", "words"),
    [
        ({"scales": [0.5]}, r"begin with 1\.0"),
        ({"scales": [1.0, 0.95]}, "at most 0.9"),
        ({"scales": [1.0, 0.5, 0.5]}, "at most 0.9"),
        ({"scales": [1.0, -0.5]}, "at most 0.9"),
        ({"scales": []}, "scales"),
    ],
)
def test_scales_that_do_not_fall_from_1_are_refused(tiles: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_config(tiles={"size": 32, "overlap": 8} | tiles)


def test_images_that_are_smaller_than_a_tile_at_a_scale_are_one_sentence(tmp_path: Path) -> None:
    tiles = {"size": 32, "overlap": 8, "scales": [1.0, 0.2]}
    with pytest.raises(ConfigError, match=r"at scale 0\.2 is smaller than tiles\.size 32"):
        tiny_config(tiles=tiles, images={"size": (128, 150)})
    (tmp_path / "good").mkdir()
    for seed in range(10):
        write_image(tmp_path / "good" / f"{seed}.png", surface(seed))
    with pytest.raises(DataError, match=r"128x128 pixels.*at scale 0\.2"):
        fit(tmp_path / "good", tmp_path / "model", tiny_config(tiles=tiles, images={"channels": 1}))
    keep = {"channels": 1, "on_mixed_sizes": "keep"}
    config = tiny_config(tiles=tiles, images=keep, calibration={"map": "global"})
    with pytest.raises(DataError, match=r"10 of 10 good images.*at scale 0\.2"):
        fit(tmp_path / "good", tmp_path / "model", config)


def test_a_scored_image_that_is_smaller_than_a_tile_at_a_scale_is_one_sentence() -> None:
    keep = {"images": {"on_mixed_sizes": "keep"}, "tiles": {"scales": [1.0, 0.5]}}
    scorer = build_torch_scorer(build_model(small_config(**keep), None))
    with pytest.raises(ImageError, match=r"90x60 pixels is 45x30 at scale 0\.5"):
        scorer.score([np.zeros((60, 90, 3), np.uint8)])
