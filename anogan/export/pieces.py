"""The same search in three files without a loop, for hosts that drive the steps themselves.

A step has no control flow and keeps its shapes, so that it can be captured as a CUDA graph, and its state can
stay on the device between calls. Every piece is written by the functions that write the whole file's loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from anogan.calibration import Calibration
from anogan.config import SearchConfig
from anogan.export.adam import state_types
from anogan.export.build import (
    cut_image,
    found_at,
    image_inputs,
    outputs,
    threshold_inputs,
    thresholds,
    write_results,
)
from anogan.export.graph import FLOAT, INT64, Graph, Precision
from anogan.export.networks import FoldedNetworks
from anogan.export.search import begin_search, end_search, search_step, what_is_read
from anogan.export.support import refuse_unsupported
from anogan.scoring.model import Model
from anogan.station.stepwise import NEW, STATE

_MAPS = ("z", "m", "v", "best_z")
_SCALARS = ("decay1", "decay2", "step")
_OF_ADAM = ("m", "v", "decay1", "decay2")  # Of no use after the last step.


def build_pieces(
    model: Model,
    calibration: Calibration,
    *,
    precision: Precision = "fp32",
    quantised_encoder: onnx.ModelProto | None = None,
) -> dict[str, onnx.ModelProto]:
    """`begin`, `step` and `finish`.

    `begin`: `image` -> `x`, `wanted_0`, ... (what each step reads) and the state: `state_z`, `state_m`, ...
    `step`: what it reads and the state -> the next state, `new_state_z`, `new_state_step`, ...
    `finish`: `image`, the state without Adam's part, optional thresholds -> the outputs of the whole file.

    Args:
        model: Frozen networks.
        calibration: Map statistics and thresholds.
        precision: Of the convolutions.
        quantised_encoder: What stands for the encoder, `x` -> `z`, with precision int8.

    Raises:
        ExportError: The model has something that the graph cannot hold.
    """
    refuse_unsupported(model.config)
    networks = FoldedNetworks.of(model, quantised_encoder)
    begin, read = _begin(model, networks, precision)
    return {
        "begin": begin,
        "step": _step(model, networks, precision, read),
        "finish": _finish(model, networks, calibration, precision),
    }


def _begin(model: Model, networks: FoldedNetworks, precision: Precision) -> tuple[onnx.ModelProto, list[str]]:
    g = Graph(precision=precision)
    x, wanted, state = begin_search(g, networks, model.config.search, cut_image(g, model).tiles)
    read = {"x": x} | {f"wanted_{i}": value for i, value in enumerate(wanted)}
    named = {STATE + name: value for name, value in (state | {"step": g.i64(0)}).items()}
    for name, value in (read | named).items():
        g.rename(value, name)
    told = [*(_info(name, FLOAT, 4) for name in read), *_state_infos(model.config.search)]
    return g.finish("anogan-begin", image_inputs(model), told), list(read)


def _step(model: Model, networks: FoldedNetworks, precision: Precision, read: list[str]) -> onnx.ModelProto:
    config = model.config.search
    g = Graph(precision=precision)
    state = {name: STATE + name for name in state_types(config)}
    step = STATE + "step"
    new = search_step(g, networks, config, read[0], read[1:], state, step)
    for name, value in (new | {"step": g.op("Add", step, g.i64(1))}).items():
        g.rename(value, NEW + STATE + name)
    inputs = [*(_info(name, FLOAT, 4) for name in read), *_state_infos(config)]
    return g.finish("anogan-step", inputs, _state_infos(config, prefix=NEW))


def _finish(
    model: Model, networks: FoldedNetworks, calibration: Calibration, precision: Precision
) -> onnx.ModelProto:
    config = model.config
    g = Graph(precision=precision)
    image = cut_image(g, model)
    repeated, wanted = what_is_read(g, networks, config.search, image.tiles)
    state = {name: STATE + name for name in state_types(config.search) if name not in _OF_ADAM}
    z, used = end_search(g, networks, config.search, repeated, wanted, state, STATE + "step")
    write_results(g, model, networks, calibration, image, found_at(g, networks, config, image.tiles, z, used))
    inputs = [*image_inputs(model), *_state_infos(config.search, without=_OF_ADAM), *threshold_inputs()]
    return g.finish("anogan-finish", inputs, outputs(config, calibration), thresholds(calibration))


def _state_infos(
    config: SearchConfig, prefix: str = "", without: Sequence[str] = ()
) -> list[onnx.ValueInfoProto]:
    kinds = state_types(config) | {"step": INT64}
    return [
        _info(prefix + STATE + name, kind, 4 if name in _MAPS else 0 if name in _SCALARS else 1)
        for name, kind in kinds.items()
        if name not in without
    ]


def _info(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
    sides = ["tiles", *(f"{name}{axis}" for axis in range(1, rank))]
    return helper.make_tensor_value_info(name, kind, sides[:rank])
