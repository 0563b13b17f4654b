"""Parts that are drawn in a millisecond, and settings that train on them in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SIZE = (40, 56)  # Not square, and neither side a multiple of the tile.
DEFECT = (slice(16, 24), slice(20, 28))

TINY: dict[str, Any] = {
    "tiles": {"size": 32, "overlap": 8},
    "split": {"early_stop": 0.1, "calibrate": 0.4},
    "network": {"latent_dim": 8, "latent_grid": 4, "width": 8},
    "gan": {"steps": 3, "batch_size": 8, "ema_decay": 0.95},
    "head": {"steps": 2, "width": 8, "batch_size": 4},
    "search": {"steps": 3},
    "calibration": {"false_reject": 0.1, "map": "per-pixel"},
    "monitor": {"interval": 1000},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
}

# Long enough that G follows the stripes of its image, which is what the contracts of a search need.
TRAINED: dict[str, Any] = {
    "gan": {
        "steps": 150,
        "batch_size": 16,
        "generator_learning_rate": 2e-3,
        "adversarial_weight": 0.05,
        "ema_decay": 0.95,
    },
    "encoder": {"mode": "joint", "learning_rate": 2e-3},
    # Of all kinds of defects, 50 steps learn none.
    "defects": {"kinds": ["blob", "edge-bite", "scratch", "cut-paste", "blur", "contrast"]},
    "head": {"steps": 50, "width": 8, "batch_size": 8},
    "search": {"steps": 5},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `changes`, section by section."""
    sections = {key: base.get(key, {}) | value for key, value in changes.items() if isinstance(value, dict)}
    return base | changes | sections


def tiny_config(**changes: Any) -> Any:
    """The tiny settings with sections changed: tiny_config(search={"steps": 0})."""
    from anogan.config import config_from_dict

    return config_from_dict(merged(TINY, changes), "the test")


@contextmanager
def no_pictures() -> Iterator[None]:
    """A fit within draws none: it would take ten times as long as the training of tiny networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anogan.recipes.fitting.fit_pictures", lambda *_: {})
        yield


def part(
    seed: int,
    *,
    size: tuple[int, int] = SIZE,
    channels: int = 3,
    bit_depth: int = 8,
    defect: bool = False,
) -> NDArray[Any]:
    """Stripes whose colour and phase differ from part to part; a defect is a bright square at `DEFECT`."""
    rng = np.random.default_rng(seed)
    colour, phase = rng.uniform(0.25, 0.75, channels), rng.uniform()
    stripes = 0.22 * np.sin(2 * np.pi * (np.arange(size[1]) / 16 + phase))[None, :, None]
    image = colour + stripes + 0.015 * rng.standard_normal((*size, channels))
    if defect:
        image[DEFECT] = 1
    return (image.clip(0, 1) * (2**bit_depth - 1)).astype(np.uint8 if bit_depth == 8 else np.uint16)


def write_parts(folder: Path, seeds: Iterable[int], **options: Any) -> Path:
    """One PNG per seed, `<seed>.png`; returns the folder."""
    from anogan.images.decode import write_image

    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        write_image(folder / f"{seed}.png", part(seed, **options))
    return folder
