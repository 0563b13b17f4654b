"""The model repository for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

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
    onnx.TensorProto.BOOL: "TYPE_BOOL",
}


@pytest.fixture(params=["none", "translation"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Exported:
    """A model for 40 x 56 images."""
    config = small_config(images={"registration": request.param})
    scorer = build_torch_scorer(build_model(config, SIZE))
    return export_scorer(scorer, tmp_path / "scorer.onnx", images=random_images(1, SIZE))


def parsed(text: str) -> Any:
    """The text as the server reads it: by the server's own schema, which refuses unknown names and types."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def entries(text: str) -> dict[str, tuple[str, list[int]]]:
    config = parsed(text)
    names = model_config_pb2.DataType.Name
    return {
        entry.name: (names(entry.data_type), list(entry.dims)) for entry in (*config.input, *config.output)
    }


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
        assert len(dims) == max(1, rank)
    assert described["image"][1] == [40, 56, 3]
    Scorer(folder / "1" / "model.onnx")


def test_a_model_with_variants_is_asked_for_one(tmp_path: Path) -> None:
    config = small_config(network={"condition": "variant", "variants": ["a", "b"]})
    scorer = build_torch_scorer(build_model(config, SIZE))
    exported = export_scorer(scorer, tmp_path / "scorer.onnx", images=random_images(1, SIZE))
    text = (write_repository(tmp_path / "models", exported) / "config.pbtxt").read_text(encoding="utf-8")
    assert entries(text)["variant"] == ("TYPE_INT64", [1])
    (warm_up,) = parsed(text).model_warmup
    assert set(warm_up.inputs) == {"image", "variant"}


def test_requests_are_batched_and_the_first_part_finds_a_warm_server(exported: Exported) -> None:
    config = parsed(config_text(exported.manifest.input))
    assert config.backend == "onnxruntime"
    assert config.max_batch_size > 1
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    (warm_up,) = config.model_warmup
    image = warm_up.inputs["image"]
    assert (list(image.dims), image.zero_data) == ([40, 56, 3], True)
    # One number per image: the server adds the batch, and the model's output has no other axis.
    scalars = [output for output in config.output if list(output.dims) == [1]]
    assert len(scalars) == 7
    assert all(output.HasField("reshape") and not output.reshape.shape for output in scalars)


def test_models_of_every_size_leave_the_sides_open(exported: Exported) -> None:
    contract = exported.manifest.input.model_copy(update={"size": None, "bit_depth": 16})
    found = entries(config_text(contract))
    assert found["image"] == ("TYPE_UINT16", [-1, -1, 3])
    assert found["anomaly_map"] == ("TYPE_FP32", [-1, -1])


def test_a_place_that_cannot_be_written_is_one_sentence(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="--triton"):
        write_repository(tmp_path / "file", exported)
