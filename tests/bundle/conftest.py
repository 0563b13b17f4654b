from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import (
    MANIFEST,
    Bundle,
    save_bundle,
)
from anogan.config import Config

NAMES = {
    "manifest.json",
    "generator.safetensors",
    "discriminator.safetensors",
    "calibration.safetensors",
    "training_curves.png",
    "history.csv",
}


def make_bundle(seed: int = 0, size: int = 3) -> Bundle:
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype(np.float32)

    return Bundle(
        config=Config(seed=seed),
        weights={
            "generator": {"layer.0.weight": array(size, 4), "layer.0.bias": array(size)},
            "discriminator": {"weight": array(2, size, 2, 2), "norm.num_batches_tracked": np.asarray(7)},
        },
        calibration={"threshold": 3.25, "review_threshold": None, "note": "gut — 良品"},
        calibration_arrays={"residual.mean": array(5, 6), "good_scores": array(9)},
        metadata={"image_size": [5, 6], "seeds": [seed], "metrics": {"image_auroc": 0.1 + 0.2}},
        attachments={"training_curves.png": bytes(range(256)), "history.csv": b"step,loss\r\n1,0.5\r\n"},
    )


def assert_same(got: Bundle, expected: Bundle) -> None:
    assert got.config == expected.config
    assert got.calibration == expected.calibration
    assert got.metadata == expected.metadata
    assert got.attachments == expected.attachments
    assert got.weights.keys() == expected.weights.keys()
    groups = [(got.weights[name], expected.weights[name]) for name in expected.weights]
    for mine, theirs in [*groups, (got.calibration_arrays, expected.calibration_arrays)]:
        assert mine.keys() == theirs.keys()
        for key in theirs:
            assert mine[key].dtype == theirs[key].dtype
            assert mine[key].shape == theirs[key].shape
            assert mine[key].tobytes() == theirs[key].tobytes()


def write_manifest(folder: Path, **changes: Any) -> None:
    """A manifest as another program could write it: changed, with a digest that fits."""
    tree = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | changes
    tree["manifest_sha256"] = "0" * 64
    text = json.dumps(tree, indent=2)
    digest = hashlib.sha256(text.encode()).hexdigest()
    text = text.replace(f'\n  "manifest_sha256": "{"0" * 64}"', f'\n  "manifest_sha256": "{digest}"')
    (folder / MANIFEST).write_bytes(text.encode())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_bundle(tmp_path / "model", make_bundle())
