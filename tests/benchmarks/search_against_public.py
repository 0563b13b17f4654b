"""A trained model's search against 500 steps per image as public code runs them: time and A(x) reached.

    python tests/benchmarks/search_against_public.py MODEL IMAGE_OR_FOLDER... [--tiles 4] [--batched 16]

Both minimise the model's own A(x) on good tiles, and both are judged by it. The public way (in the manner
of Schlegl et al. 2017, section 2.2): each image by itself from a random code, a new Adam, 500 steps,
gradients of all weights computed and thrown away; with several learning rates, of which the lowest A(x)
counts. The package's way: tiles together, from the encoder's codes, few steps. Times are per tile, of the
same run.
Writes results/search_against_public.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from search_objective import inverter_of, plain_objective, tiles
from torch import Tensor

from anogan.gan.networks import features
from anogan.recipes import load_scorer
from anogan.scoring import Model
from anogan.scoring.inverter import Inverter
from anogan.scoring.search import search_objective

HERE = Path(__file__).parent
PAPER_STEPS = 500
PUBLIC_RATES = (0.02, 0.1)
OWN = [("Adam", 0), ("Adam", 5), ("Adam", 20), ("Adam", 50), ("L-BFGS", 5), ("L-BFGS", 10), ("L-BFGS", 20)]


def one_at_a_time(inverter: Inverter, x: Tensor, steps: int, rate: float) -> Tensor:
    """z of each tile, (N, d, g, g), searched alone with trainable networks."""
    objective = copy.deepcopy(inverter.objective)
    for module in (objective.generator, *objective.stages):
        module.requires_grad_(True)
    settings = inverter.config.search.model_copy(update={"residual": "l1", "mask": 0.0})
    codes = []
    for index in range(len(x)):
        query = x[index : index + 1]
        torch.manual_seed(index)
        z = torch.randn_like(inverter.fixed_starts[:1]).requires_grad_(True)
        optimiser = torch.optim.Adam([z], lr=rate)
        for _ in range(steps):
            optimiser.zero_grad()
            wanted = [f.detach() for f in features(objective.stages, query)]
            value, _, _ = search_objective(query, wanted, z, objective, settings)
            value.sum().backward()
            optimiser.step()
        codes.append(z.detach())
    return torch.cat(codes)


def measure(model: Model, x: Tensor, single: int) -> dict[str, Any]:
    """Seconds per tile and A(x) reached on the first `single` tiles."""
    few, public, own = x[:single], [], []
    inverter = inverter_of(model, {}, model.config.search.steps)
    for rate in PUBLIC_RATES:
        started = time.perf_counter()
        z = one_at_a_time(inverter, few, PAPER_STEPS, rate)
        spent = (time.perf_counter() - started) / single
        reached = plain_objective(inverter, model.config, few, z)
        public.append({"learning_rate": rate, "seconds_per_tile": spent, "objective": reached})
    for method, steps in OWN:
        searcher = inverter_of(model, {"polish": float(method == "L-BFGS")}, steps)
        searcher.search(x)
        started = time.perf_counter()
        found = searcher.search(x)
        spent = (time.perf_counter() - started) / len(x)
        reached = plain_objective(inverter, model.config, few, found.z[:single])
        own.append({"method": method, "steps": steps, "seconds_per_tile": spent, "objective": reached})
    best = min(public, key=lambda row: row["objective"])
    for row in own:
        row["times_faster"] = best["seconds_per_tile"] / row["seconds_per_tile"]
        row["objective_share"] = row["objective"] / best["objective"]
    return {"public": public, "package": own}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--tiles", type=int, default=4, help="searched one at a time")
    parser.add_argument("--batched", type=int, default=16, help="searched together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_scorer(arguments.model).model
    x = tiles(model, arguments.images, arguments.batched).clean
    found = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "tile_size": model.config.tiles.size,
        "tiles_one_at_a_time": arguments.tiles,
        "tiles_together": len(x),
        **measure(model, x, arguments.tiles),
    }
    text = json.dumps(found, indent=1)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "search_against_public.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
