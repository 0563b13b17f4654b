"""An encoder in 8 bits: smaller, near, with a threshold of its own, and the search untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from anogan.calibration import conformal_threshold
from anogan.errors import CalibrationError, ExportError
from anogan.export import export_scorer
from anogan.export.build import build_scorer
from anogan.export.quantise import quantised_encoder
from anogan.scoring import Scorer
from anogan.station import Scorer as StationScorer
from anogan.station import StepwiseScorer
from tests.export.conftest import build_model, build_torch_scorer, random_images, session_run, small_config

SIZE = (40, 56)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return build_torch_scorer(build_model(small_config(network={"width": 8}), SIZE))


def test_encoder_in_8_bits_is_near_and_a_quarter_of_the_weights(scorer: Scorer) -> None:
    encoder = scorer.model.networks.encoder
    assert encoder is not None
    quantised = quantised_encoder(scorer.model, random_images(6, SIZE))
    weights = sum(p.numel() * 4 for p in encoder.parameters())
    assert quantised.ByteSize() < 0.4 * weights
    kinds = [node.op_type for node in quantised.graph.node]
    n_convolutions = sum(1 for module in encoder.modules() if type(module).__name__ == "Conv2d")
    assert kinds.count("Conv") == n_convolutions
    assert kinds.count("DequantizeLinear") >= 2 * n_convolutions

    import torch

    x = torch.rand(3, 3, 32, 32) * 2 - 1
    want, got = encoder(x).numpy(), session_run(quantised)(x=x.numpy())["z"]
    assert not np.array_equal(got, want)
    assert np.abs(got - want).mean() < 0.05 * np.abs(want).mean()


def test_exported_file_is_smaller_near_and_has_its_own_threshold(scorer: Scorer, tmp_path: Path) -> None:
    good = random_images(6, SIZE)
    told: list[str] = []
    exported = export_scorer(
        scorer, tmp_path / "s.onnx", images=good[:2], precision="int8", good_images=good, event=told.append
    )
    assert any("threshold anew for int8 from 6 good images" in line for line in told)
    assert scorer.calibration is not None
    whole = build_scorer(scorer.model, scorer.calibration)
    assert exported.n_bytes < whole.ByteSize()
    station = StationScorer(exported.path)
    assert station.manifest.precision == "int8"
    for want, got in zip(scorer.score(good), station.score(good), strict=True):
        assert got.score == pytest.approx(want.score, rel=0.1)
        assert got.score != want.score
    scores = [found.score for found in station.score(good)]
    wanted = conformal_threshold(scores, scorer.calibration.estimate.requested)
    assert station.threshold == wanted.threshold != scorer.threshold


def test_search_in_the_loop_stays_in_single_precision(scorer: Scorer) -> None:
    assert scorer.calibration is not None
    encoder = quantised_encoder(scorer.model, random_images(2, SIZE))
    model = build_scorer(scorer.model, scorer.calibration, precision="int8", quantised_encoder=encoder)

    def kinds(graph: onnx.GraphProto, depth: int = 0) -> list[tuple[str, int]]:
        found = [(node.op_type, depth) for node in graph.node]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    found += kinds(attribute.g, depth + 1)
        return found

    depths = {depth for kind, depth in kinds(model.graph) if kind == "QuantizeLinear"}
    assert depths == {1}, "in the loop over tiles, not in the search within it"


def test_results_are_the_same_to_the_bit_in_every_batch(scorer: Scorer, tmp_path: Path) -> None:
    good = random_images(4, SIZE)
    exported = export_scorer(
        scorer,
        tmp_path / "s.onnx",
        images=good[:2],
        precision="int8",
        good_images=good,
        single_step=True,
    )
    station = StationScorer(exported.path, threads=1)
    alone = [station.score([image])[0].score for image in good]
    assert [found.score for found in station.score(good)] == alone
    driven = StepwiseScorer(exported.path, threads=1).score(good)
    assert [found.score for found in driven] == pytest.approx(alone, rel=1e-3)


def test_a_model_without_an_encoder_says_so(tmp_path: Path) -> None:
    scorer = build_torch_scorer(build_model(small_config(encoder={"mode": "none"}), SIZE))
    good = random_images(3, SIZE)
    with pytest.raises(ExportError, match=r"this model has none \(encoder.mode: none\)"):
        export_scorer(scorer, tmp_path / "s.onnx", images=good, precision="int8", good_images=good)
    assert not list(tmp_path.iterdir())


def test_ranges_need_good_images(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="encoder in 8 bits, need held-out good images"):
        export_scorer(scorer, tmp_path / "s.onnx", images=random_images(1, SIZE), precision="int8")
