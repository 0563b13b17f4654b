"""A model repository for Triton Inference Server."""

from __future__ import annotations

import shutil
from pathlib import Path

from anogan.errors import StorageError
from anogan.export.write import Exported
from anogan.station.manifest import InputContract

NAME = "anogan"
MAX_BATCH = 16
QUEUE_DELAY_US = 2000
_SCALARS = {
    "score": "TYPE_FP32",
    "verdict": "TYPE_INT64",
    "residual_score": "TYPE_FP32",
    "discrimination_score": "TYPE_FP32",
    "anomaly_score": "TYPE_FP32",
    "steps_used": "TYPE_INT64",
    "brightness": "TYPE_FP32",
}


def write_repository(folder: Path, exported: Exported) -> Path:
    """Writes `folder/anogan/config.pbtxt` and `folder/anogan/1/model.onnx`.

    Threshold and steps keep the file's defaults there: Triton batches requests, and these are one per call.

    Returns:
        The model's folder.

    Raises:
        StorageError: It cannot be written.
    """
    model = folder / NAME
    config = exported.manifest.config
    try:
        (model / "1").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(exported.path, model / "1" / "model.onnx")
        (model / "config.pbtxt").write_text(
            config_text(
                exported.manifest.input,
                variants=bool(config["network"].get("variants")),
                registers=config["images"].get("registration", "none") != "none",
                limited=bool(exported.manifest.limits),
            ),
            encoding="utf-8",
        )
    except OSError as error:
        raise StorageError(
            f"{model} cannot be written: {error.strerror or error}; give --triton another folder."
        ) from error
    return model


def config_text(
    contract: InputContract, *, variants: bool = False, registers: bool = False, limited: bool = False
) -> str:
    """The server's configuration: shapes, dynamic batching, and a warm-up before the first part comes."""
    pixels = "TYPE_UINT8" if contract.bit_depth == 8 else "TYPE_UINT16"
    fixed = contract.size is not None and not contract.resizes
    height, width = contract.size if contract.size is not None and fixed else (-1, -1)
    shown = contract.size or (contract.tile_size, contract.tile_size)
    flags = {"registered": registers, "in_distribution": limited}
    scalars = _SCALARS | {name: "TYPE_BOOL" for name, there in flags.items() if there}
    outputs = [_entry(name, kind, "[ 1 ] reshape { shape: [ ] }") for name, kind in scalars.items()]
    outputs.append(_entry("anomaly_map", "TYPE_FP32", f"[ {height}, {width} ]"))
    outputs.append(_entry("reconstruction", pixels, f"[ {height}, {width}, {contract.channels} ]"))
    warm = f"{shown[0]}, {shown[1]}, {contract.channels}"
    inputs = [_entry("image", pixels, f"[ {height}, {width}, {contract.channels} ]")]
    told = ""
    if variants:
        inputs.append(_entry("variant", "TYPE_INT64", "[ 1 ] reshape { shape: [ ] }"))
        told = ' inputs { key: "variant" value { data_type: TYPE_INT64 dims: [ 1 ] zero_data: true } }'
    return (
        f'name: "{NAME}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        "input [\n  " + ",\n  ".join(inputs) + "\n]\n"
        "output [\n  " + ",\n  ".join(outputs) + "\n]\n"
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}\n"
        'model_warmup [ { name: "black" batch_size: 1 inputs { key: "image" value '
        f"{{ data_type: {pixels} dims: [ {warm} ] zero_data: true }} }}{told} }} ]\n"
    )


def _entry(name: str, kind: str, dims: str) -> str:
    return f'{{ name: "{name}" data_type: {kind} dims: {dims} }}'
