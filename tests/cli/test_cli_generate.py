from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anogan.images.decode import read_as_stored, write_image


def test_generated_tiles_are_found_again_and_photographs_are_not(cli: Any, model: Path, parts: Path) -> None:
    assert cli("generate", "--model", model, "--n", 3, "--out", "my tiles").code == 0
    assert len(list(Path("my tiles").iterdir())) == 3
    for name in ("synthetic-0000.png", "synthetic-0002.png"):
        found = cli("generate", "--check", f"my tiles/{name}")
        assert (found.code, "carries the mark of a synthetic image" in found.stdout) == (0, True)
        assert b"anogan: synthetic image" in (Path("my tiles") / name).read_bytes()
    for path in sorted((parts / "good").iterdir())[:3]:
        found = cli("generate", "--check", path)
        assert (found.code, "carries no mark" in found.stdout) == (1, True)


def test_mark_survives_jpeg_at_quality_90(cli: Any, model: Path) -> None:
    cli("generate", "--model", model, "--n", 1, "--out", "tiles")
    pixels = read_as_stored(Path("tiles/synthetic-0000.png"))
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    Path("copy.jpg").write_bytes(cv2.imencode(".jpg", pixels[:, :, ::-1], quality)[1].tobytes())
    found = json.loads(cli("generate", "--check", "copy.jpg", "--json").stdout)
    assert found["synthetic"]
    assert found["score"] > 6


def test_same_seed_gives_the_same_tiles_and_another_seed_others(cli: Any, model: Path) -> None:
    tiles = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        cli("generate", "--model", model, "--n", 2, "--seed", seed, "--out", folder)
        tiles.append([path.read_bytes() for path in sorted(Path(folder).iterdir())])
    assert tiles[0] == tiles[1] != tiles[2]
    assert tiles[0][0] != tiles[0][1]


def test_mistakes_are_told_in_one_sentence(cli: Any, model: Path) -> None:
    write_image(Path("dot.png"), np.zeros((1, 1), np.uint8))
    for words, told in (
        (("--n", 0, "--model", model), "expected at least 1"),
        (("--check", "missing.png"), "missing.png"),
        (("--check", "dot.png"), "at least 8x8 are needed"),
        (("--model", "nowhere"), "anogan fit"),
    ):
        outcome = cli("generate", *words)
        assert (outcome.code, outcome.stderr.count("Error: "), told in outcome.stderr) == (2, 1, True), (
            outcome
        )
