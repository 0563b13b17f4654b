"""Scores image files with a scorer.onnx, ONNX Runtime, NumPy and OpenCV; prints one JSON object per image.

    python score.py scorer.onnx image.png folder/ ...

Copy it: it needs nothing of the anogan package. With the package installed, `anogan.station.Scorer` does
the same and also chooses a GPU and keeps a time budget.
Exit code 0: none is rejected; 1: at least one is; 2: a mistake, or an image could not be scored.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

SEAL = 83  # Bytes at the end: the name and the SHA-256 of all before them.
SMALLEST = 8  # Pixels along a side.
VERDICTS = ("pass", "review", "reject")
DTYPES = {"tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16}


def load(path: str) -> onnxruntime.InferenceSession:
    content = Path(path).read_bytes()
    if hashlib.sha256(content[:-SEAL]).hexdigest().encode() != content[-64:]:
        raise ValueError(f"{path} is damaged, or no scorer: its bytes are not those that its seal names")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Inputs with defaults are meant, not worth a warning each.
    # TensorRT would be listed first, and builds an engine for minutes.
    there = onnxruntime.get_available_providers()
    # Thresholds belong to scores in float32; TF32, which CUDA takes by itself, keeps ten bits of a number.
    wanted = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
    providers = [(name, settings) for name, settings in wanted.items() if name in there]
    return onnxruntime.InferenceSession(content, options, providers=providers)


def read(path: Path, channels: int) -> np.ndarray:
    # Not cv2.imread: it knows no Unicode names on Windows.
    data = np.fromfile(path, np.uint8)
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    image = None if data.size == 0 else cv2.imdecode(data, flags)
    if image is None:
        raise ValueError("cannot be decoded as an image")
    image = image[..., None] if image.ndim == 2 else image[..., 2::-1]  # OpenCV reads BGRA, the model RGB.
    grey = (image == image[..., :1]).all()  # A grey picture that was stored as colour is still one.
    return image[..., :1] if channels == 1 and grey else image


def score(session: onnxruntime.InferenceSession, path: Path) -> dict[str, object]:
    wanted = session.get_inputs()[0]
    image = read(path, wanted.shape[3])
    if min(image.shape[:2]) < SMALLEST:
        raise ValueError(f"is {image.shape[1]}x{image.shape[0]} pixels, too small to show a part")
    if image.dtype != DTYPES[wanted.type]:
        raise ValueError(f"holds {image.dtype} pixels, the model takes {wanted.type}")
    for got, side in zip(image.shape, wanted.shape[1:], strict=True):
        if isinstance(side, int) and got != side:
            raise ValueError(f"is {image.shape}, the model takes {tuple(wanted.shape[1:])}")
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"image": np.ascontiguousarray(image[None])}), strict=True))
    line = {
        "path": str(path),
        "score": float(found["score"][0]),
        "verdict": VERDICTS[int(found["verdict"][0])],
        "residual_score": float(found["residual_score"][0]),
        "discrimination_score": float(found["discrimination_score"][0]),
        "steps_used": int(found["steps_used"][0]),
    }
    return line | {name: bool(found[name][0]) for name in ("registered", "in_distribution") if name in found}


def files(path: Path) -> list[Path]:
    """What a camera wrote into a folder; hidden files are others', such as the thumbnails of a share."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))


def main(model: str, *names: str) -> int:
    try:
        session = load(model)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    paths: list[Path] = []
    code = 0
    for name in names:
        found = files(Path(name))
        if not found:  # A camera that wrote nothing must not look like parts that pass.
            print(f"there is no image to score in {name}", file=sys.stderr)
            code = 2
        paths += found
    for path in paths:
        try:
            line = score(session, path)
        except Exception as error:  # One bad image, in OpenCV's or ONNX Runtime's words; the rest goes on.
            line = {"path": str(path), "error": str(error)}
            code = code or 2
        if line.get("verdict") == "reject":
            code = 1
        print(json.dumps(line), flush=True)
    return code


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python score.py scorer.onnx IMAGE_OR_FOLDER...")
    sys.exit(main(*sys.argv[1:]))
