"""Half precision: smaller, near, and with a threshold of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from anogan.calibration import conformal_threshold
from anogan.errors import CalibrationError, ExportError
from anogan.export import export_scorer
from anogan.export.build import build_scorer
from anogan.export.graph import Graph, Precision
from anogan.scoring import Scorer
from anogan.scoring.perceptual import Perceptual
from anogan.station import Scorer as StationScorer
from tests.export.conftest import build_model, build_torch_scorer, live, random_images, small_config

SIZE = (40, 56)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    config = small_config(search={"residual": "charbonnier"}, network={"width": 8})
    return build_torch_scorer(build_model(config, SIZE))


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_half_precision_halves_the_file_and_stays_near(
    precision: Precision, scorer: Scorer, tmp_path: Path
) -> None:
    good = random_images(6, SIZE)
    exported = export_scorer(
        scorer, tmp_path / "s.onnx", images=good[:2], precision=precision, good_images=good
    )
    assert scorer.calibration is not None
    assert exported.n_bytes < 0.65 * build_scorer(scorer.model, scorer.calibration).ByteSize()
    station = StationScorer(exported.path)
    assert station.manifest.precision == precision
    for want, got in zip(scorer.score(good), station.score(good), strict=True):
        assert got.score == pytest.approx(want.score, rel=3e-2)
        assert got.score != want.score
    wanted = conformal_threshold(
        [f.score for f in station.score(good)], scorer.calibration.estimate.requested
    )
    assert station.threshold == wanted.threshold != scorer.threshold
    assert station.manifest.promise["n_good"] == 6


def test_mixed_search_still_descends(scorer: Scorer, tmp_path: Path) -> None:
    good = random_images(3, SIZE)
    exported = export_scorer(scorer, tmp_path / "s.onnx", images=good, precision="mixed", good_images=good)
    station = StationScorer(exported.path)
    start, end = (station.with_steps(steps).score(good) for steps in (0, 30))
    assert all(b.anomaly_score < a.anomaly_score for a, b in zip(start, end, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
def test_every_option_together_exports_in_single_and_half_precision(
    precision: Precision, tmp_path: Path
) -> None:
    config = small_config(
        encoder={"mode": "none"},
        network={"generator_norm": "group", "discriminator_norm": "layer", "attention_at": 8},
        search={"bank": 8, "restarts": 2, "residual": "trimmed", "mask": 0.4, "tolerance": 0.01, "steps": 2},
        features={"weights": "a file", "search_weight": 0.2},
        tiles={"scales": [1.0, 0.8]},
        head={"contrast_window": 9},
    )
    features = live(Perceptual("resnet18"))
    scorer = build_torch_scorer(replace(build_model(config, SIZE), perceptual=features))  # type: ignore[arg-type]
    good = random_images(2, SIZE)
    exported = export_scorer(scorer, tmp_path / "s.onnx", images=good, precision=precision, good_images=good)
    assert exported.parity.batch_identical
    assert [a.verdicts_changed for a in exported.parity.agreements] == [0, 0, 0]
    assert exported.parity.agreements[-1].score < (1e-3 if precision == "fp32" else 3e-2)


def test_half_precision_needs_good_images_for_its_threshold(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="good images"):
        export_scorer(scorer, tmp_path / "s.onnx", images=random_images(1, SIZE), precision="fp16")


def test_a_weight_beyond_half_precision_is_refused() -> None:
    with pytest.raises(ExportError, match="too large for half precision"):
        Graph(precision="mixed").weight(np.array([1e6], np.float32))


def test_search_state_and_calibration_stay_in_single_precision(scorer: Scorer) -> None:
    assert scorer.calibration is not None
    model = build_scorer(scorer.model, scorer.calibration, precision="mixed")
    kinds = {output.name: output.type.tensor_type.elem_type for output in model.graph.output}
    assert kinds["score"] == kinds["anomaly_map"] == onnx.TensorProto.FLOAT
