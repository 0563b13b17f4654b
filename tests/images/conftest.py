"""A folder of variants."""

from pathlib import Path

import pytest

from tests.images.noise import draw


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    root = tmp_path / "two products"
    for variant, start in (("round", 0), ("square", 100)):
        for seed in range(start, start + 10):
            draw(root / "good" / variant / f"{seed}.png", seed=seed)
        draw(root / "test" / "dent" / variant / "1.png", seed=start + 50)
        draw(root / "ground_truth" / "dent" / variant / "1_mask.png")
    draw(root / "good" / ".thumbs" / "1.png")
    (root / "good" / "notes").mkdir()
    return root
