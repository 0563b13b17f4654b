"""The model repository for Triton Inference Server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest

from anogan.errors import StorageError
from anogan.export import Exported, export_scorer
from anogan.export.triton import config_text, write_repository
from anogan.station import Scorer
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config

SIZE = (40, 56)
TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
}


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    """A model for 40 x 56 images."""
    scorer = build_torch_scorer(build_model(small_config(), SIZE))
    return export_scorer(scorer, tmp_path / "scorer.onnx", images=random_images(1, SIZE))


def entries(text: str) -> dict[str, tuple[str, str]]:
    found = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ ([^\]]*) \]', text)
    return {name: (kind, dims) for name, kind, dims in found}


def test_repository_describes_the_file_that_lies_in_it(exported: Exported, tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "models", exported)
    graph = onnx.load(folder / "1" / "model.onnx").graph
    described = entries((folder / "config.pbtxt").read_text(encoding="utf-8"))
    given = {t.name for t in graph.initializer}
    values: list[Any] = [*(v for v in graph.input if v.name not in given), *graph.output]
    assert set(described) == {value.name for value in values}
    for value in values:
        kind, dims = described[value.name]
        assert kind == TYPES[value.type.tensor_type.elem_type]
        rank = len(value.type.tensor_type.shape.dim) - 1
        assert len(dims.split(",")) == max(1, rank)
    assert described["image"][1] == "40, 56, 3"
    Scorer(folder / "1" / "model.onnx")


def test_a_model_with_variants_is_asked_for_one(tmp_path: Path) -> None:
    config = small_config(network={"condition": "variant", "variants": ["a", "b"]})
    scorer = build_torch_scorer(build_model(config, SIZE))
    exported = export_scorer(scorer, tmp_path / "scorer.onnx", images=random_images(1, SIZE))
    text = (write_repository(tmp_path / "models", exported) / "config.pbtxt").read_text(encoding="utf-8")
    assert entries(text)["variant"] == ("TYPE_INT64", "1")
    assert 'inputs { key: "variant"' in text
    for opening, closing in ("[]", "{}"):
        assert text.count(opening) == text.count(closing) > 0


def test_brackets_of_the_configuration_close(exported: Exported) -> None:
    text = config_text(exported.manifest.input)
    for opening, closing in ("[]", "{}"):
        assert text.count(opening) == text.count(closing) > 0
    assert "dynamic_batching" in text
    assert "zero_data: true" in text


def test_models_of_every_size_leave_the_sides_open(exported: Exported) -> None:
    contract = exported.manifest.input.model_copy(update={"size": None, "bit_depth": 16})
    found = entries(config_text(contract))
    assert found["image"] == ("TYPE_UINT16", "-1, -1, 3")
    assert found["anomaly_map"] == ("TYPE_FP32", "-1, -1")


def test_a_place_that_cannot_be_written_is_one_sentence(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="--triton"):
        write_repository(tmp_path / "file", exported)
