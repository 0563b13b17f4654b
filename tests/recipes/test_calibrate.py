"""What calibration asks of images and of the memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anogan.config import Config
from anogan.recipes.calibrate import measure_statistics


def test_statistics_are_measured_without_holding_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Any]] = []
    most = 0

    class Map(np.ndarray):  # A plain array cannot be counted.
        pass

    def one_by_one(_: Any, paths: Sequence[Path]) -> Iterator[tuple[Path, None, Any]]:
        nonlocal most
        for index, path in enumerate(paths):
            values = np.full((4, 5), index, np.float32).view(Map)
            seen.append(weakref.ref(values))
            most = max(most, sum(map_() is not None for map_ in seen))
            yield path, None, SimpleNamespace(parts={"head": values})

    monkeypatch.setattr("anogan.recipes.calibrate.gather_evidence", one_by_one)
    scorer = SimpleNamespace(config=Config.model_validate({"calibration": {"prior_images": 0}}))
    found = measure_statistics(scorer, [Path(f"{n}.png") for n in range(9)])  # type: ignore[arg-type]

    assert most <= 2
    assert found["head"].mean == pytest.approx(np.full((4, 5), 4.0))
    assert found["head"].std == pytest.approx(np.full((4, 5), np.std(range(9), ddof=1)), rel=1e-6)
