from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest

from anogan.images.folders import scan_dataset


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return run_path(str(Path(__file__).with_name("other_products.py")))


@pytest.mark.parametrize("name", ["fabric", "flange", "label"])
def test_each_defect_is_where_its_mask_says(bench: dict[str, Any], name: str) -> None:
    product = bench["PRODUCTS"][name]
    for kind in product.kinds:
        image, covered = product.draw(np.random.default_rng(5), kind)
        assert image.min() >= 0
        assert image.max() <= 1
        assert 12 <= (covered > 0.5).sum() < 0.2 * covered.size, kind
    assert product.draw(np.random.default_rng(5), "")[1].max() == 0


def test_products_are_laid_out_as_data_sets(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in ("N_GOOD", "N_TEST_GOOD", "N_PER_KIND"):
        monkeypatch.setitem(bench["write"].__globals__, count, 2)
    for folder in (tmp_path / "a", tmp_path / "b"):
        bench["write"](bench["PRODUCTS"]["label"], folder, 3)
    found = scan_dataset(tmp_path / "a")

    assert (len(found.good), len(found.test)) == (2, 12)
    assert all(sample.mask_path is not None for sample in found.test if sample.kind != "good")
    drawn = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*.png"))]
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in drawn)
    assert len({(tmp_path / "a" / path).read_bytes() for path in drawn if path.parts[0] == "good"}) == 2
