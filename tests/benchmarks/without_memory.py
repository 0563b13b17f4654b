"""What a model's memory of false alarms brings on a labelled test set, and what is left without it.

    python tests/benchmarks/without_memory.py MODEL DATA [--threads 1]

DATA holds good/, that the model was fitted on, and test/<kind>/. Without the memory the threshold is set anew
on the good images that set the model's own. A memory of patterns knows the parts that trained: where
`test/good` shows the same parts under another light, as a random split of magnetic tile does, new parts may
expect the figures without it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from anogan.bundle import load_bundle
from anogan.config import RuntimeConfig
from anogan.images.folders import scan_dataset
from anogan.recipes.calibrate import calibrate_scorer
from anogan.recipes.evaluation import evaluate_scorer
from anogan.recipes.models import scorer_of
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


def without_memory(scorer: Scorer, data: Path) -> Scorer:
    """The same networks, calibrated on the same images."""
    split = split_dataset(scan_dataset(data / "good"), scorer.config)
    plain = Scorer(replace(scorer.model, memory=None))
    return plain.with_calibration(calibrate_scorer(plain, split.early_stop, split.calibrate))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    runtime = RuntimeConfig(device="cpu", threads=arguments.threads)
    scorer = scorer_of(load_bundle(arguments.model), runtime=runtime)
    if scorer.model.memory is None:
        parser.error(f"{arguments.model} has no memory")
    found = {
        "with": figures(scorer, arguments.data),
        "without": figures(without_memory(scorer, arguments.data), arguments.data),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
