"""What a finished model says of photographs that show no such part, as a camera at fault delivers them.

    python tests/benchmarks/camera_faults.py MODEL DATA [--threads 1]

DATA holds test/<kind>/. The faults are made of the first image of test/good: blank and noisy frames, blur, a
dead half, other light, another pose. Beside each verdict stands the one of the score alone; below,
how many images of test/ lie outside of the model's limits (`in_distribution`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import RuntimeConfig
from anogan.images.decode import read_image
from anogan.images.folders import GOOD, scan_dataset
from anogan.inspection import Inspection, decide
from anogan.recipes.models import load_scorer
from anogan.recipes.score import score_files
from anogan.scoring import Scorer

Pixels = NDArray[Any]


def faults(image: Pixels) -> dict[str, Pixels]:
    """Name -> a frame (H, W, C) made of a good one."""
    rng, top = np.random.default_rng(0), np.iinfo(image.dtype).max
    height, width, _ = image.shape
    half, lines = image.copy(), image.copy()
    half[:, width // 2 :] = 0
    lines[::2] = 0
    noisy = np.clip(image + rng.normal(0, 40 / 255 * top, image.shape), 0, top)
    corner = image[: height // 2, : width // 2]
    found = {
        "black": np.zeros_like(image),
        "white": np.full_like(image, top),
        "grey": np.full_like(image, top // 2 + 1),
        "noise": rng.integers(0, top, image.shape, image.dtype, endpoint=True),
        "sensor noise, sigma 40 of 255": noisy.astype(image.dtype),
        "blur, sigma 25 pixels": cv2.GaussianBlur(image, (0, 0), 25),
        "blur, sigma 3 pixels": cv2.GaussianBlur(image, (0, 0), 3),
        "right half black": half,
        "every other line black": lines,
        "a fifth of the light": (image * 0.2).astype(image.dtype),
        "negative": top - image,
        "upside down": image[::-1, ::-1].copy(),
        "a quarter of the part, enlarged": cv2.resize(corner, (width, height)),
    }
    return {name: np.asarray(frame).reshape(image.shape) for name, frame in found.items()}


def row(found: Inspection, scorer: Scorer) -> dict[str, Any]:
    """What is said of one frame."""
    by_score = decide(found.score, scorer.threshold, scorer.review_threshold)
    return {
        "verdict": str(found.verdict),
        "by its score alone": str(by_score),
        "score": round(found.score, 3),
        "residual_score": round(found.residual_score, 5),
        "discrimination_score": round(found.discrimination_score, 5),
        "in_distribution": found.in_distribution,
    }


def outside(scorer: Scorer, data: Path) -> dict[str, Any]:
    """Kind -> images, those outside of the limits, and the names of these."""
    found: dict[str, Any] = {}
    samples = scan_dataset(data).test
    for kind in dict.fromkeys(sample.kind for sample in samples):
        paths = [sample.path for sample in samples if sample.kind == kind]
        named = [
            file.path.name
            for file in score_files(scorer, paths)
            if file.inspection is not None and file.inspection.in_distribution is False
        ]
        found[kind] = {"n": len(paths), "outside": len(named), "names": named}
    return found


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    scorer = load_scorer(chosen.model, runtime=RuntimeConfig(device="cpu", threads=chosen.threads))
    images = scorer.config.images
    first = next(sample.path for sample in scan_dataset(chosen.data).test if sample.kind == GOOD)
    good = read_image(first, channels=images.channels, bit_depth=images.bit_depth)
    assert scorer.calibration is not None
    report = {
        "threshold": scorer.threshold,
        "limits": {name: list(pair) for name, pair in scorer.calibration.limits.items()},
        "frames": {name: row(scorer.score([frame])[0], scorer) for name, frame in faults(good).items()},
        "test": outside(scorer, chosen.data),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
