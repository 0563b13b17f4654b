"""What each kind of evidence sees of drawn defects, and which kinds help one another.

    python tests/benchmarks/evidence_kinds.py MODEL GOOD [--kinds edge-bite ...] [--images 60] [--draws 2]

GOOD holds good images; those that the model held out for its calibration are used, so give the folder that it
was fitted on. Half of them measure how each map looks on good parts, the others are scored beside copies
with one drawn defect each; another seed divides and draws otherwise. Besides what the product offers,
|x - G(z)| is replaced by 1 - SSIM (Wang et al. 2004) and by the difference of the gradients' magnitudes
(Xue et al. 2014, arXiv:1308.3052, without its pooling). Writes results/evidence_kinds.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from anogan.calibration import fit_map_statistics, smooth
from anogan.config import SyntheticDefectsConfig
from anogan.gan.ssim import ssim
from anogan.gan.tiles import load_images
from anogan.images.folders import scan_dataset
from anogan.images.resize import to_network
from anogan.images.synthetic_defects import draw_defects, two_levels
from anogan.recipes import load_scorer
from anogan.recipes.variants import split_dataset
from anogan.scoring import Scorer

HERE = Path(__file__).parent
OFFERED, TRIED = ("residual", "discrimination", "head"), ("ssim", "gradient")
SETS: tuple[tuple[str, ...], ...] = (
    *((kind,) for kind in (*OFFERED, *TRIED)),
    ("residual", "ssim"),
    ("residual", "gradient"),
    ("residual", "discrimination"),
    ("residual", "ssim", "gradient", "discrimination"),
    ("residual", "head"),
    ("ssim", "head"),
    ("gradient", "head"),
    ("discrimination", "head"),
)
Maps = dict[str, NDArray[np.float32]]


def maps_of(scorer: Scorer, images: Sequence[NDArray[Any]]) -> list[Maps]:
    """Each kind's smoothed map of each image, which is of the network's size."""
    sigma, found = scorer.config.score.smoothing_sigma, []
    for image in images:
        (evidence,) = scorer.evidence([image])
        x = torch.from_numpy(to_network(image, scorer.config.images.bit_depth)[None])
        y = torch.from_numpy(np.ascontiguousarray(evidence.reconstruction))[None]
        others = {
            "ssim": (1 - ssim(x, y)).mean(dim=1)[0].numpy(),
            "gradient": np.abs(_steepness(x) - _steepness(y)),
        }
        found.append({**evidence.parts, **{name: smooth(m, sigma) for name, m in others.items()}})
    return found


def _steepness(x: torch.Tensor) -> NDArray[np.float32]:
    """Magnitude of Scharr's gradient, averaged over channels, (H, W)."""
    channels = [
        np.hypot(cv2.Scharr(c, cv2.CV_32F, 1, 0), cv2.Scharr(c, cv2.CV_32F, 0, 1)) for c in x[0].numpy()
    ]
    return np.mean(channels, axis=0, dtype=np.float32) / 16


def measure(
    scorer: Scorer, images: Sequence[NDArray[Any]], defects: SyntheticDefectsConfig, draws: int, seed: int
) -> dict[str, Any]:
    """AUROC of the greatest value per image, and pixel AUROC, for each set of evidence with equal weights."""
    rng, levels = np.random.default_rng(seed), two_levels(images)
    order = rng.permutation(len(images))
    known, asked = order[: len(images) // 2], order[len(images) // 2 :]
    drawn = [draw_defects(images[i], defects, rng, levels) for i in asked for _ in range(draws)]
    shown = [pair for pair in drawn if pair[1].any()]
    on_known = maps_of(scorer, [images[i] for i in known])
    good = maps_of(scorer, [images[i] for i in asked])
    bad = maps_of(scorer, [image for image, _ in shown])
    calibration = scorer.config.calibration
    statistics = {
        kind: fit_map_statistics([m[kind] for m in on_known], calibration.map, calibration.prior_images)
        for kind in good[0]
    }
    found = {}
    for kinds in SETS:
        if not set(kinds) <= good[0].keys():
            continue
        # As `combine` sums them, which knows only what the product offers; a common factor changes no AUROC.
        on_good, on_bad = (
            [np.sum([statistics[k].normalise(m[k]) for k in kinds], axis=0) for m in maps]
            for maps in (good, bad)
        )
        labels = [0] * len(on_good) + [1] * len(on_bad)
        masks = np.concatenate([mask[::2, ::2].ravel() for _, mask in shown])
        found[" + ".join(kinds)] = {
            "image_auroc": float(roc_auc_score(labels, [m.max() for m in (*on_good, *on_bad)])),
            "pixel_auroc": float(roc_auc_score(masks, np.concatenate([m[::2, ::2].ravel() for m in on_bad]))),
        }
    return found


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, least and greatest over the seeds."""
    return {
        kinds: {
            figure: {
                "mean": float(np.mean(values)),
                "low": float(np.min(values)),
                "high": float(np.max(values)),
            }
            for figure in runs[0][kinds]
            if (values := [run[kinds][figure] for run in runs])
        }
        for kinds in runs[0]
    }


def table(found: dict[str, Any]) -> str:
    """What was measured, in Markdown."""
    lines = ["| evidence | image AUROC | pixel AUROC |", "|---|---|---|"]
    for kinds, figures in found.items():
        cells = [f"{f['mean']:.3f} ({f['low']:.3f} to {f['high']:.3f})" for f in figures.values()]
        lines.append(f"| {kinds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("good", type=Path)
    parser.add_argument("--images", type=int, default=60, help="at most so many")
    parser.add_argument("--draws", type=int, default=2, help="damaged copies of each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", help="of defects [default: the model's]")
    parser.add_argument("--name", default="sample", help="of the data, in the JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scorer = load_scorer(arguments.model)
    split = split_dataset(scan_dataset(arguments.good), scorer.config)
    # Neither part trained the networks.
    images = [
        image
        for part in (split.early_stop, split.calibrate)
        for image in load_images(part, scorer.config, scorer.model.image_size)[0]
    ][: arguments.images]
    settings = scorer.config.defects.model_dump() | {"max_per_tile": 1}
    defects = SyntheticDefectsConfig(**settings | ({"kinds": arguments.kinds} if arguments.kinds else {}))
    runs = [measure(scorer, images, defects, arguments.draws, seed) for seed in range(arguments.seeds)]
    found = summary(runs)
    print(table(found))
    path = HERE / "results" / "evidence_kinds.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    entry = {
        "kinds": list(defects.kinds),
        "images": len(images),
        "draws": arguments.draws,
        "seeds": arguments.seeds,
        "evidence": found,
    }
    path.write_text(json.dumps(known | {arguments.name: entry}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
