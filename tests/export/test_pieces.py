"""Three files without a loop do what the one file does, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from anogan.export.build import build_scorer
from anogan.export.pieces import build_pieces
from tests.export.conftest import (
    Run,
    build_model,
    build_torch_scorer,
    random_images,
    small_config,
)

SIZE = (40, 56)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "early stop": {"search": {"tolerance": 0.003, "patience": 2, "learning_rate": 0.05}},
    "restarts without encoder": {"encoder": {"mode": "none"}, "search": {"restarts": 2}},
    "lambda 0": {"search": {"lambda": 0.0}},
    "mask": {"search": {"mask": 0.2}},
    "tile position": {"network": {"condition": "tile-position"}},
    "scales": {"tiles": {"scales": [1.0, 0.8]}},
}


def session_run(model: onnx.ModelProto) -> Run:
    """Without optimisation: ONNX Runtime fuses nodes inside of a loop otherwise than outside."""
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))


def whole_and_pieces(settings: dict[str, Any]) -> tuple[Run, dict[str, onnx.ModelProto]]:
    model = build_model(small_config(**settings), SIZE)
    calibration = build_torch_scorer(model).calibration
    assert calibration is not None
    return session_run(build_scorer(model, calibration)), build_pieces(model, calibration)


def drive(pieces: dict[str, onnx.ModelProto], image: NDArray[Any], steps: int) -> dict[str, NDArray[Any]]:
    runs = {name: session_run(piece) for name, piece in pieces.items()}
    needs = {name: [i.name for i in piece.graph.input] for name, piece in pieces.items()}
    values: dict[str, Any] = {"image": image} | runs["begin"](image=image)
    for _ in range(steps):
        new = runs["step"](**{name: values[name] for name in needs["step"]})
        values |= {name.removeprefix("new_"): value for name, value in new.items()}
    return runs["finish"](**{name: values[name] for name in needs["finish"] if name in values})


@pytest.mark.parametrize("name", SETTINGS)
def test_pieces_give_the_whole_files_results_to_the_bit(name: str) -> None:
    whole, pieces = whole_and_pieces(SETTINGS[name])
    image = np.stack(random_images(2, SIZE))
    for steps in (0, 1, 30 if name == "early stop" else 4):
        wanted = whole(image=image, steps=np.array(steps, np.int64))
        got = drive(pieces, image, steps)
        assert list(got) == list(wanted)
        for output, value in wanted.items():
            np.testing.assert_array_equal(got[output], value, err_msg=f"{output} after {steps} steps")
    if name == "early stop":
        assert wanted["steps_used"].max() < 30, "else nothing stopped early"


def test_a_step_holds_no_control_flow_and_no_weights_that_it_does_not_need() -> None:
    _, pieces = whole_and_pieces({})
    kinds = {node.op_type for piece in pieces.values() for node in piece.graph.node}
    assert not {"Loop", "Scan"} & kinds
    assert not {"If"} & {node.op_type for node in pieces["step"].graph.node}
    for piece in pieces.values():
        used = {name for node in piece.graph.node for name in node.input}
        assert {i.name for i in piece.graph.initializer} <= used | {"threshold", "review_threshold"}
