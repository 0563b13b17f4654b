"""What docs/practice.md says of numbers is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anogan.calibration import images_needed
from anogan.config import Config, load_config, shipped_configs
from anogan.images.split import split_good

PAGE = Path(__file__).resolve().parents[1] / "docs" / "practice.md"


def _rows() -> list[tuple[str, float, int]]:
    """(config, promised share, images) of the table of images."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    head = next(cells for cells in lines if cells[0] == "config")
    rates = [float(cell.removesuffix(" %")) / 100 for cell in head[1:]]
    rows = lines[lines.index(head) + 2 : lines.index([""], lines.index(head))]
    return [
        (name, rate, int(cell))
        for cells in rows
        for name in re.findall(r"`([\w-]+)`", cells[0])
        for rate, cell in zip(rates, cells[1:], strict=True)
    ]


def _calibrating(config: Config, paths: list[Path]) -> int:
    split = split_good(paths, config.split.early_stop, config.split.calibrate, 0)
    held_out = len(split.calibrate)
    return held_out + (len(split.train) if config.calibration.may_cross_fit(held_out) else 0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for index in range(400):
        (folder / f"{index:04d}.png").write_bytes(str(index).encode())
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("name", "rate", "n"), _rows())
def test_so_many_images_suffice_and_a_tenth_less_does_not(
    name: str, rate: float, n: int, paths: list[Path]
) -> None:
    config = load_config(shipped_configs()[name])

    assert _calibrating(config, paths[:n]) >= images_needed(rate)
    assert _calibrating(config, paths[: round(0.9 * n)]) < images_needed(rate)
