"""The exported file against PyTorch on real pictures: every score, every verdict, any batch, any order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.export import export_scorer
from anogan.images.decode import read_image, write_image
from anogan.images.folders import find_images
from anogan.images.resize import resize
from anogan.recipes import fit, load_scorer
from anogan.recipes.export import export_model
from anogan.scoring import Scorer
from anogan.station import Scorer as StationScorer
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config
from tests.tiny import TRAINED, tiny_config

BATCH = 8


def assert_same_decisions(scorer: Scorer, file: Path, images: Sequence[NDArray[Any]]) -> None:
    """Scores within 1e-4 and the same verdicts; the file's are the same to the bit in shuffled batches."""
    station = StationScorer(file, providers=["cpu"], threads=1)
    alone = [station.score([image])[0] for image in images]
    for want, got in zip((scorer.score([image])[0] for image in images), alone, strict=True):
        assert got.score == pytest.approx(want.score, rel=1e-4, abs=1e-4)
        assert got.verdict == want.verdict
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order), BATCH):
        own = order[start : start + BATCH]
        for index, found in zip(own, station.score([images[i] for i in own]), strict=True):
            assert found.score == alone[index].score
            np.testing.assert_array_equal(found.anomaly_map, alone[index].anomaly_map)


def spread(paths: Sequence[Path], n: int, channels: int) -> list[NDArray[Any]]:
    places = np.linspace(0, len(paths) - 1, n).round().astype(int)
    return [read_image(paths[place], channels=channels, bit_depth=8) for place in places]


def test_sample_images_get_the_score_and_verdict_of_pytorch(repository: Path, tmp_path: Path) -> None:
    images = spread(find_images([repository / "datasets" / "pcb" / "test"]), 20, channels=3)
    config = small_config(
        images={"size": (64, 64)}, network={"latent_grid": 4}, search={"steps": 5, "learning_rate": 0.1}
    )
    model = build_model(config, (64, 64))
    scores = [found.score for found in build_torch_scorer(model).score(images)]
    scorer = build_torch_scorer(model, threshold=float(np.mean(sorted(scores)[9:11])))
    exported = export_scorer(scorer, tmp_path / "s.onnx", images=images[:2])
    assert len({found.verdict for found in scorer.score(images)}) > 1
    assert_same_decisions(scorer, exported.path, images)


@pytest.mark.slow
@pytest.mark.real_data
def test_pcb_images_get_the_score_and_verdict_of_pytorch(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    root = real_data("pcb")
    good = tmp_path / "good"
    good.mkdir()
    for path in find_images([root / "good"])[:40]:
        small = resize(read_image(path, channels=1, bit_depth=8), (160, 160))
        write_image(good / path.name, np.round(small).astype(np.uint8))
    settings = TRAINED | {"images": {"size": (160, 160), "channels": 1}, "calibration": {"map": "global"}}
    model = fit(good, tmp_path / "model", tiny_config(**settings)).path
    exported = export_model(tmp_path / "s.onnx", model, data=good)
    images = spread(find_images([root / "test"]), 48, channels=1)
    assert_same_decisions(load_scorer(model), exported.path, images)


@pytest.mark.slow
def test_export_of_a_64_pixel_model_takes_under_30_s_for_hundreds_of_steps(tmp_path: Path) -> None:
    config = small_config(
        tiles={"size": 64, "overlap": 16},
        network={"width": 32, "latent_dim": 100},
        search={"steps": 200, "learning_rate": 0.01},
    )
    scorer = build_torch_scorer(build_model(config, (64, 64)), threshold=100.0)
    started = time.process_time()  # Not by the clock: other programs may be running.
    export_scorer(scorer, tmp_path / "s.onnx", images=random_images(2, (64, 64)))
    assert time.process_time() - started < 30
