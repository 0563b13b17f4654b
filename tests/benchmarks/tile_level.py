"""How well a model tells defective tiles of an image from good ones, by masks that are boxes.

    python tests/benchmarks/tile_level.py MODEL DATA [--tile 64] [--min-share 0.15] [--threads 1]

DATA holds test/<kind>/ and ground_truth/<kind>/. A tile is defective if at least `--min-share` of it lies in
boxes, good if none does; what lies between is left out. A tile's score is the greatest value of the anomaly
map in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anogan.config import RuntimeConfig
from anogan.images.folders import read_mask, scan_dataset
from anogan.metrics import tile_auroc
from anogan.recipes.models import load_scorer
from anogan.scoring import Scorer

Pair = tuple[NDArray[np.bool_], NDArray[np.float32]]


def maps_with_masks(scorer: Scorer, data: Path) -> Iterator[Pair]:
    """(mask, anomaly map), (H, W) each, of every test image; a good one has an empty mask."""
    for sample in scan_dataset(data).test:
        found = scorer.score_file(sample.path).anomaly_map
        shape = (found.shape[0], found.shape[1])
        if sample.mask_path is not None:
            yield read_mask(sample.mask_path, shape), found
        elif sample.kind == "good":
            yield np.zeros(shape, np.bool_), found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--min-share", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    runtime = RuntimeConfig(device="cpu", threads=arguments.threads)
    scorer = load_scorer(arguments.model, runtime=runtime)
    pairs = list(maps_with_masks(scorer, arguments.data))
    masks, maps = [mask for mask, _ in pairs], [found for _, found in pairs]
    auroc = tile_auroc(masks, maps, arguments.tile, arguments.min_share)
    words = "no two kinds of tiles to tell apart" if auroc is None else f"AUROC {auroc:.4f}"
    print(f"{len(pairs)} images, tiles of {arguments.tile} pixels: {words}")


if __name__ == "__main__":
    main()
