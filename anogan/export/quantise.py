"""The encoder in 8 bits: its convolutions between QuantizeLinear and DequantizeLinear (QDQ)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from anogan.errors import ExportError
from anogan.export.build import cut_image, image_inputs
from anogan.export.gradient import forward
from anogan.export.graph import FLOAT, Graph
from anogan.export.networks import FoldedNetworks
from anogan.scoring.model import Model

CALIBRATION_TILES = 256  # Ranges of activations hardly change with more.
_BATCH = 16


def quantised_encoder(model: Model, good_images: Sequence[NDArray[Any]]) -> onnx.ModelProto:
    """A model `x` -> `z` with the ranges that activations have on good images.

    Weights are quantised per channel and activations per layer, both to signed 8 bits, by ONNX Runtime's
    static quantisation. Activation functions stay in single precision.

    Args:
        model: Frozen networks.
        good_images: Held-out good images, as `Scorer.score` takes them; a model of variants is refused
            elsewhere.

    Raises:
        ExportError: The model has no encoder.
    """
    networks = FoldedNetworks.of(model)
    if networks.encoder is None:
        raise ExportError(
            "--int8 quantises the encoder, and this model has none (encoder.mode: none); export it without "
            "--int8."
        )
    g = Graph()
    g.rename(forward(g, networks.encoder, "x")[-1], "z")
    encoder = g.finish("encoder", [_maps("x")], [_maps("z")])
    return _quantised(encoder, _tiles(model, good_images))


def _tiles(model: Model, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """At most `CALIBRATION_TILES` tiles of the images, (n, C + K, t, t), evenly spaced."""
    g = Graph()
    g.rename(cut_image(g, model).tiles, "tiles")
    session = _session(g.finish("tiles", image_inputs(model), [_maps("tiles")]))
    cut = []
    share = max(1, CALIBRATION_TILES // len(images))
    for image in images[:CALIBRATION_TILES]:
        pixels = image if image.ndim == 3 else image[:, :, None]
        tiles = session.run(["tiles"], {"image": pixels[None]})[0]
        places = np.linspace(0, len(tiles) - 1, min(share, len(tiles))).round().astype(int)
        cut.append(tiles[places])
    return np.concatenate(cut)


def _quantised(encoder: onnx.ModelProto, tiles: NDArray[np.float32]) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.float32]] = iter(
                tiles[i : i + _BATCH] for i in range(0, len(tiles), _BATCH)
            )

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"x": batch}

    logging.getLogger("root").addFilter(_no_advice)
    try:
        with tempfile.TemporaryDirectory() as work:
            source, result = Path(work) / "encoder.onnx", Path(work) / "int8.onnx"
            onnx.save(encoder, source)
            quantize_static(
                source,
                result,
                Reader(),
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                # Processors without VNNI add two products in 16 bits, where 8 bits of weights overflow.
                reduce_range=True,
            )
            return onnx.load(result)
    finally:
        logging.getLogger("root").removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()


def _maps(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, [f"{name}{axis}" for axis in range(4)])


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
