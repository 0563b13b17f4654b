"""How an exported file scores beside PyTorch on every test image: alone, in batches, in another order.

    python tests/benchmarks/export_parity.py MODEL DATA [--images 60] [--threads 1]

DATA holds good/ and test/<kind>/; the model is exported first, through the gate of `anogan export`.
Differences are in standard deviations of good parts, the unit of a score; `share` is of the score, or of 1
if that is larger.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anogan.config import RuntimeConfig
from anogan.errors import AnoganError
from anogan.images.folders import find_images
from anogan.inspection import Inspection
from anogan.recipes import load_scorer
from anogan.recipes.export import export_model
from anogan.station import Scorer as StationScorer

BATCH = 8


def same(a: Inspection, b: Inspection) -> bool:
    """To the last bit."""
    return (
        a.score == b.score and a.verdict == b.verdict and bool(np.array_equal(a.anomaly_map, b.anomaly_map))
    )


def shuffled_batches(station: StationScorer, images: Sequence[NDArray[Any]]) -> list[Inspection]:
    """The inspections in order, of images that were scored eight at a time in another order."""
    order = np.random.default_rng(0).permutation(len(images))
    found: dict[int, Inspection] = {}
    for start in range(0, len(order), BATCH):
        own = order[start : start + BATCH]
        found |= dict(zip(own.tolist(), station.score([images[i] for i in own]), strict=True))
    return [found[i] for i in range(len(images))]


def compare(folder: Path, file: Path, paths: Sequence[Path], threads: int) -> dict[str, Any]:
    """Differences over all images; memory for their maps is what limits how many."""
    scorer = load_scorer(folder, runtime=RuntimeConfig(device="cpu", threads=threads))
    station = StationScorer(file, providers=["cpu"], threads=threads)
    images = [station.read(path) for path in paths]
    wanted = [scorer.score([image])[0] for image in images]
    alone = [station.score([image])[0] for image in images]
    together = shuffled_batches(station, images)
    differences = np.array([abs(a.score - b.score) for a, b in zip(wanted, alone, strict=True)])
    scores = np.array([a.score for a in wanted])
    return {
        "images": len(images),
        "search steps": scorer.config.search.steps,
        "scores": f"{scores.min():.2f} to {scores.max():.2f}, threshold {scorer.threshold:.2f}",
        "greatest difference": f"{differences.max():.1e}",
        "median difference": f"{np.median(differences):.1e}",
        "greatest share": f"{(differences / np.maximum(1, np.abs(scores))).max():.1e}",
        "over 1e-4, absolute": int((differences > 1e-4).sum()),
        "other verdicts": sum(a.verdict != b.verdict for a, b in zip(wanted, alone, strict=True)),
        f"not bit-identical in shuffled batches of {BATCH}": sum(
            not same(a, b) for a, b in zip(alone, together, strict=True)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("data", type=Path, help="data set with good/ and test/<kind>/")
    parser.add_argument("--images", type=int, help="so many of the test images, evenly spaced")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        paths = find_images([arguments.data / "test"])
        if arguments.images is not None and arguments.images < len(paths):
            paths = [paths[i] for i in np.linspace(0, len(paths) - 1, arguments.images).round().astype(int)]
        with tempfile.TemporaryDirectory() as work:
            exported = export_model(Path(work) / "scorer.onnx", arguments.model, data=arguments.data)
            facts = compare(arguments.model, exported.path, paths, arguments.threads)
    except AnoganError as error:
        raise SystemExit(f"Error: {error}") from None
    for name, value in facts.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
