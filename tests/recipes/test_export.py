"""What an export reads of the images that thresholds of its own come from."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.images.decode import read_image
from anogan.recipes.export import export_model
from tests.tiny import write_parts

N = 30


@pytest.mark.parametrize("asked", [{"precision": "fp16"}, {"precision": "int8"}, {"cut_steps": [0]}])
def test_good_images_are_read_one_by_one(
    asked: dict[str, Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[Any]] = []
    most = 0

    class Pixels(np.ndarray):  # A plain array cannot be counted.
        pass

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal most
        pixels: Any = read_image(*given, **named).view(Pixels)
        seen.append(weakref.ref(pixels))
        most = max(most, sum(pixels() is not None for pixels in seen))
        return pixels

    monkeypatch.setattr("anogan.recipes.export.read_image", counted)
    folder = write_parts(tmp_path / "fresh", range(800, 800 + N))
    exported = export_model(tmp_path / "s.onnx", trained, data=folder, **asked)

    assert exported.manifest.calibrations[-1].n_good == N
    assert most <= 12  # Eight of them for the comparison with PyTorch.
