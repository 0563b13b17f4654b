"""Every baseline finds an obvious defect, and is judged by the rules that models are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anogan.calibration import calibrate, fit_map_statistics
from anogan.config import Config, config_from_dict
from anogan.errors import CalibrationError, ConfigError, DataError, ImageError
from anogan.images.registration import make_aligner
from anogan.images.resize import to_network
from anogan.images.sample_board import draw_board
from anogan.scoring.baselines import BASELINES, Baseline, BaselineScorer, fit_baseline
from anogan.scoring.baselines.autoencoder import autoencoder_residual
from anogan.scoring.baselines.patches import PATCH, sample_patches

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "tiles": {"size": 32, "overlap": 8},
    "network": {"latent_dim": 4, "latent_grid": 8, "width": 8},
    "gan": {"steps": 120, "batch_size": 8},
    "score": {"smoothing_sigma": 1.0},
    "calibration": {"false_reject": 0.2},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
}


def part(seed: int, *, defect: bool = False, size: int = 48) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    stripes = 110 + 50 * np.sign(np.sin(np.arange(size) / 3.0))[None, :, None]
    image = stripes + rng.normal(0, 4, (size, size, 3))
    if defect:
        image[18:30, 18:30] = (250, 30, 30)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def config() -> Config:
    return config_from_dict(TINY, "the test")


@pytest.fixture(scope="module")
def fitted(config: Config) -> dict[str, Baseline]:
    torch.set_num_threads(1)
    good = [part(seed) for seed in range(12)]
    return {name: fit_baseline(name, good, config, CPU) for name in BASELINES}


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_marks_the_defect_and_not_the_good_part(
    name: str, fitted: dict[str, Baseline]
) -> None:
    marked = fitted[name].anomaly_map(to_network(part(50, defect=True), 8))
    clean = fitted[name].anomaly_map(to_network(part(50), 8))

    assert marked.shape == (48, 48)
    assert marked.dtype == np.float32
    assert marked[20:28, 20:28].mean() > 1.4 * np.percentile(clean, 99)
    assert all(14 <= place < 34 for place in np.unravel_index(marked.argmax(), marked.shape))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_fitted_again_gives_the_same_map(name: str) -> None:
    config = config_from_dict(TINY | {"gan": {"steps": 4, "batch_size": 8}}, "the test")
    x, good = to_network(part(51, defect=True), 8), [part(seed) for seed in range(4)]
    first, again = (fit_baseline(name, good, config, CPU).anomaly_map(x) for _ in range(2))

    np.testing.assert_allclose(again, first, rtol=1e-4, atol=1e-5)


def test_an_unknown_baseline_names_those_that_exist(config: Config) -> None:
    with pytest.raises(ConfigError, match="patch PCA"):
        fit_baseline("k-means", [part(0)], config, CPU)


def test_pixel_statistics_refuse_images_of_several_sizes(config: Config) -> None:
    with pytest.raises(DataError, match=r"images\.size"):
        fit_baseline("pixel statistics", [part(0), part(1, size=64)], config, CPU)


def test_patches_stay_within_their_bound_however_many_images_there_are(config: Config) -> None:
    assert sample_patches([part(seed) for seed in range(9)], config, n=40).shape == (36, 3 * PATCH**2)
    assert sample_patches([part(0, size=17)], config, n=40).shape == (4, 3 * PATCH**2)


def test_squared_residual_is_the_mean_over_channels() -> None:
    x, again = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    again[0, 0, 3, 3] = 0.5

    assert float(autoencoder_residual(x, again, "l2")[0, 0, 3, 3]) == pytest.approx(0.125)


def _calibrated(scorer: BaselineScorer, images: Sequence[NDArray[np.uint8]] | None = None) -> BaselineScorer:
    images = [part(seed) for seed in range(20, 40)] if images is None else images
    found = scorer.evidence(images[:6])
    statistics = {"residual": fit_map_statistics([e.parts["residual"] for e in found], "per-pixel", 20)}
    provisional = scorer.with_calibration(
        calibrate([0.0], false_reject=0.2, review_share=0, statistics=statistics)
    )
    good = provisional.evidence(images[10:])
    scores = [float(provisional.anomaly_map(e).max()) for e in good]
    return scorer.with_calibration(calibrate(scores, false_reject=0.2, review_share=0, statistics=statistics))


def test_a_calibrated_baseline_rejects_the_defect_and_passes_the_good_part(
    fitted: dict[str, Baseline], config: Config
) -> None:
    scorer = _calibrated(BaselineScorer(fitted["patch PCA"], config, (48, 48)))
    images = [part(60, defect=True), part(24)]
    bad, good = (scorer.judge(e, i) for e, i in zip(scorer.evidence(images), images, strict=True))

    assert (str(bad.verdict), str(good.verdict)) == ("reject", "pass")
    assert bad.threshold == scorer.threshold
    assert bad.anomaly_map.shape == (48, 48)


def test_a_baseline_ignores_weights_that_are_not_for_it(fitted: dict[str, Baseline], config: Config) -> None:
    head_alone = config.model_copy(
        update={"score": config.score.model_copy(update={"residual_weight": 0.0, "head_weight": 3.0})}
    )
    scorers = [
        _calibrated(BaselineScorer(fitted["pixel statistics"], c, (48, 48))) for c in (config, head_alone)
    ]

    assert scorers[0].threshold == scorers[1].threshold


def test_a_baseline_without_a_threshold_says_so(fitted: dict[str, Baseline], config: Config) -> None:
    scorer = BaselineScorer(fitted["patch PCA"], config, (48, 48))

    with pytest.raises(CalibrationError, match="calibrate"):
        scorer.judge(scorer.evidence([part(0)])[0], part(0))


def test_a_baseline_refuses_an_image_of_another_size(fitted: dict[str, Baseline], config: Config) -> None:
    with pytest.raises(ImageError, match="64x64"):
        BaselineScorer(fitted["patch PCA"], config, (48, 48)).evidence([part(0, size=64)])


def test_maps_come_back_at_the_size_of_the_image(fitted: dict[str, Baseline]) -> None:
    config = config_from_dict(TINY | {"images": {"size": [48, 48]}}, "the test")
    scorer = _calibrated(BaselineScorer(fitted["patch neighbours"], config, (48, 48)))
    image = part(0, size=96)

    assert scorer.judge(scorer.evidence([image])[0], image).anomaly_map.shape == (96, 96)


def test_a_part_that_lies_aside_is_laid_in_place_for_a_baseline_too(config: Config) -> None:
    """As for a model, or the comparison would be of registration and not of what finds defects."""
    boards = [draw_board(seed, 96)[0] for seed in range(24)]
    aside = [draw_board(seed, 96, shift=0.06, turn=4)[0] for seed in range(24, 32)]
    baseline = fit_baseline("pixel statistics", boards, config, torch.device("cpu"))
    aligner = make_aligner(boards, "euclidean")
    differences = []
    for its in (None, aligner):
        found = BaselineScorer(baseline, config, (96, 96), aligner=its).evidence(aside)
        differences.append(np.mean([e.parts["residual"][12:-12, 12:-12].mean() for e in found]))
    assert differences[1] < differences[0] / 2

    scorer = _calibrated(BaselineScorer(baseline, config, (96, 96), aligner=aligner), boards)
    lost = np.zeros((96, 96, 3), np.uint8)
    inspection = scorer.judge(scorer.evidence([lost])[0], lost)
    assert inspection.registered is False
    assert str(inspection.verdict) != "pass"
