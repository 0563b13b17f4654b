"""What each part of a finished model brings on a labelled test set, and what is left without it.

    python tests/benchmarks/taken_apart.py MODEL DATA [--only NAME ...] [--threads 1]

DATA holds good/, that the model was fitted on, and test/<kind>/. Beside the model as it is: without its
memory of false alarms, without the latent search (the encoder's code as it is), and by the residual or the
discrimination score alone, which is the AnoGAN without a head. For each of these the threshold is set anew on
the held-out good images.

A memory of patterns knows the parts that trained: where `test/good` shows the same parts under another light,
as a random split of magnetic tile does, new parts may expect the figures without it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from anogan.config import RuntimeConfig
from anogan.images.folders import scan_dataset
from anogan.recipes.calibrate import calibrate_scorer
from anogan.recipes.evaluation import evaluate_scorer
from anogan.recipes.models import load_scorer
from anogan.recipes.score_trial import with_sections, with_weights
from anogan.recipes.variants import split_dataset
from anogan.scoring import Scorer

FIGURES = ("image_auroc", "accuracy", "false_reject_rate", "false_accept_rate", "pixel_auroc", "aupro")


def figures(scorer: Scorer, data: Path) -> dict[str, Any]:
    """Of one scorer on `test/`."""
    run = evaluate_scorer(scorer, scan_dataset(data).test)
    found = run.figures()
    return {name: found[name] for name in FIGURES} | {
        "image_auroc_per_kind": {kind: row["image_auroc"] for kind, row in found["per_kind"].items()}
    }


def calibrated(scorer: Scorer, data: Path) -> Scorer:
    """The same networks, their threshold set on the held-out good images."""
    split = split_dataset(scan_dataset(data / "good"), scorer.config)
    return scorer.with_calibration(calibrate_scorer(scorer, split.early_stop, split.calibrate))


def alone(scorer: Scorer, weights: tuple[float, float, float]) -> Scorer:
    """By one part of the score: weights of residual, discrimination and head."""
    score = with_weights(scorer.config.score, weights, scorer.config.score.smoothing_sigma)
    return with_sections(scorer, score=score)


WITHOUT: dict[str, Callable[[Scorer], Scorer]] = {
    "without memory": lambda scorer: Scorer(replace(scorer.model, memory=None)),
    "without search": lambda scorer: Scorer(scorer.model, steps=0),
    "residual alone": lambda scorer: alone(scorer, (1.0, 0.0, 0.0)),
    "discrimination alone": lambda scorer: alone(scorer, (0.0, 1.0, 0.0)),
}


def parts_of(scorer: Scorer) -> list[str]:
    """What this model can be asked to do without."""
    memory, head = scorer.model.memory is not None, scorer.config.score.head_weight > 0
    search = scorer.config.search.steps > 0 and scorer.model.networks.encoder is not None
    has = {"without memory": memory, "without search": search}
    return [name for name in WITHOUT if has.get(name, head)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=WITHOUT, metavar="NAME", help=", ".join(WITHOUT))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    runtime = RuntimeConfig(device="cpu", threads=arguments.threads)
    scorer = load_scorer(arguments.model, runtime=runtime)
    names = [name for name in parts_of(scorer) if name in (arguments.only or WITHOUT)]
    if not names:
        parser.error(f"{arguments.model} has none of these parts")
    found = {"as it is": figures(scorer, arguments.data)}
    for name in names:
        less = calibrated(WITHOUT[name](scorer), arguments.data)
        found[name] = figures(less, arguments.data)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
