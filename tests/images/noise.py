"""Image files of noise, for tests of folders."""

from pathlib import Path

import numpy as np

from anogan.images.decode import write_image


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    return path


def draw_many(folder: Path, n: int) -> list[Path]:
    return [draw(folder / f"{i}.png", seed=i) for i in range(n)]
