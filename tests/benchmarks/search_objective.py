"""How low each kind of latent search comes, and what that is worth, against its steps.

    python tests/benchmarks/search_objective.py MODEL IMAGE_OR_FOLDER... [--tiles 16] [--plot FILE.png]

Every kind of search gets the same tiles. Left in the plot: the paper's A(x) plus prior penalty that was
reached on good tiles. Right: 1 - pixel AUROC of |x - G(z)| on the same tiles with drawn defects: a search
that comes lower on the left by rebuilding the defect is the worse one. Writes results/search_objective.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anogan.calibration import smooth
from anogan.config import Config, config_from_dict, config_to_dict
from anogan.errors import AnoganError
from anogan.gan.networks import Networks, features
from anogan.gan.tiles import DamagedBatch, TileSource, load_images
from anogan.images.folders import find_images
from anogan.recipes import load_scorer
from anogan.scoring import Model
from anogan.scoring.inverter import Inverter
from anogan.scoring.maps import residual_map
from anogan.scoring.search import search_objective

HERE = Path(__file__).parent
STEPS = (0, 2, 5, 10, 20, 50, 100)
BANK = 256


@dataclass(frozen=True)
class Reached:
    """What one search came to after `steps`.

    Attributes:
        objective: Mean A(x) plus prior penalty over good tiles.
        pixel_auroc: Of the residual map on damaged tiles, 0.5 to 1.
        background_error: Mean |G(z) - clean tile| outside the drawn defects.
        defect_error: The same inside them; high where the defect was rebuilt.
        seconds: For the good tiles together.
    """

    steps: int
    objective: float
    pixel_auroc: float
    background_error: float
    defect_error: float
    seconds: float


def kinds(has_encoder: bool) -> dict[str, dict[str, Any]]:
    """Name -> changed search settings.

    `encoder` False leaves a model's encoder out; `polish` is the share of the steps that is L-BFGS.
    """
    found: dict[str, dict[str, Any]] = {
        "random start": {"encoder": False},
        "random start, half L-BFGS": {"encoder": False, "polish": 0.5},
        "random start, L-BFGS": {"encoder": False, "polish": 1.0},
        f"bank of {BANK}": {"encoder": False, "bank": BANK},
    }
    if has_encoder:
        found |= {
            "encoder": {},
            "encoder, exact gradient": {"gradient": "exact", "learning_rate": 0.05},
            "encoder, trimmed": {"residual": "trimmed"},
            "encoder, mask": {"mask": 0.2},
            "encoder, L-BFGS": {"polish": 1.0},
        }
    return found


def inverter_of(model: Model, changes: dict[str, Any], steps: int) -> Inverter:
    """The model's networks with another search of so many steps."""
    changes = dict(changes)
    polish = round(steps * changes.pop("polish", 0.0))
    changes |= {"steps": steps - polish, "polish_steps": polish}
    tree, networks = config_to_dict(model.config), model.networks
    if not changes.pop("encoder", True):
        tree["encoder"]["mode"] = "none"
        networks = Networks(networks.generator, networks.discriminator, None)
    tree["search"] |= changes
    return Inverter(config_from_dict(tree, "the benchmark"), networks, model.feature_scales)


@torch.no_grad()
def plain_objective(inverter: Inverter, config: Config, x: Tensor, z: Tensor) -> float:
    """The same measure for every kind of search: what the model's own search minimises, without options."""
    plain = config.search.model_copy(update={"residual": "l1", "mask": 0.0})
    value, _, _ = search_objective(x, features(inverter.objective.stages, x), z, inverter.objective, plain)
    return float(value.mean())


def measure(inverter: Inverter, config: Config, batch: DamagedBatch) -> Reached:
    """One kind of search at its number of steps."""
    started = time.perf_counter()
    good = inverter.search(batch.clean)
    seconds = time.perf_counter() - started
    bad = inverter.search(batch.damaged)
    maps = residual_map(batch.damaged, bad.reconstruction)[:, 0].cpu().numpy()
    smoothed = [smooth(values, config.score.smoothing_sigma).ravel() for values in maps]
    inside = batch.mask[:, 0] > 0.5
    errors = residual_map(batch.clean, bad.reconstruction)[:, 0]
    return Reached(
        steps=inverter.config.search.steps + inverter.config.search.polish_steps,
        objective=plain_objective(inverter, config, batch.clean, good.z),
        pixel_auroc=float(roc_auc_score(inside.cpu().numpy().ravel(), np.concatenate(smoothed))),
        background_error=float(errors[~inside].mean()),
        defect_error=float(errors[inside].mean()),
        seconds=seconds,
    )


def tiles(model: Model, paths: Sequence[Path], n: int) -> DamagedBatch:
    """n tiles of the images, each with and without drawn defects."""
    config = model.config.model_copy(update={"augmentation": ()})
    images, errors = load_images(find_images(list(paths)), config, model.image_size)
    for error in errors.values():
        print(f"left out: {error}")
    return TileSource(images, config, stream=7).damaged_batch(0, n, clean_share=0.0)


def draw(results: dict[str, list[Reached]], path: Path) -> None:
    """Objective and 1 - pixel AUROC against steps, one line per kind of search."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    panels: list[tuple[str, Callable[[Reached], float]]] = [
        ("Objective on good tiles", lambda r: r.objective),
        ("1 - pixel AUROC of the residual, drawn defects", lambda r: 1 - r.pixel_auroc),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    styles = ("-", "--", "-.", ":")
    steps = sorted({point.steps for points in results.values() for point in points})
    for axis, (title, value) in zip(axes, panels, strict=True):
        for (name, points), style in zip(results.items(), cycle(styles), strict=False):
            places = [steps.index(p.steps) for p in points]
            axis.plot(places, [value(p) for p in points], style, marker=".", label=name)
        axis.set(title=f"{title} (lower is better)", xlabel="search steps", yscale="log")
        axis.set_xticks(range(len(steps)), [str(s) for s in steps])
        for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            ticks(FuncFormatter(lambda v, _: f"{v:.2g}"))
        axis.tick_params(axis="y", which="minor", labelsize="x-small")
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(loc="center left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("images", type=Path, nargs="+", help="good images or folders of them")
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--only", nargs="+", help="kinds of search, by name")
    parser.add_argument("--plot", type=Path, help="write the plot to this PNG file")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    try:
        model = load_scorer(arguments.model).model
        batch = tiles(model, arguments.images, arguments.tiles)
    except AnoganError as error:
        raise SystemExit(f"Error: {error}") from None
    results: dict[str, list[Reached]] = {}
    print("| search | steps | objective | pixel AUROC | error outside | inside | s |")
    print("|---|---|---|---|---|---|---|")
    for name, changes in kinds(model.networks.encoder is not None).items():
        if arguments.only and name not in arguments.only:
            continue
        for steps in arguments.steps:
            reached = measure(inverter_of(model, changes, steps), model.config, batch)
            results.setdefault(name, []).append(reached)
            print(
                f"| {name} | {steps} | {reached.objective:.4f} | {reached.pixel_auroc:.4f} | "
                f"{reached.background_error:.4f} | {reached.defect_error:.4f} | {reached.seconds:.1f} |",
                flush=True,
            )
    arguments.out.mkdir(parents=True, exist_ok=True)
    tree = {
        "tiles": arguments.tiles,
        "tile_size": model.config.tiles.size,
        "lambda": model.config.search.lambda_,
        "learning_rate": model.config.search.learning_rate,
        "reached": {name: [asdict(point) for point in points] for name, points in results.items()},
    }
    (arguments.out / "search_objective.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        draw(results, arguments.plot)


if __name__ == "__main__":
    main()
