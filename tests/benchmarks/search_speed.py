"""Our batched latent search against one-at-a-time searches as public AnoGAN code does them.

    python tests/benchmarks/search_speed.py [--tiles 64] [--steps 20] [--rounds 3] [--device cuda]

Both search the same tiles with the same networks (DCGAN 64 x 64) in one run; the weights are random, as speed
does not depend on them. The public way: for each image a fresh z, a fresh torch.optim.Adam, batch 1, f(x)
computed again in every step, gradients of all weights computed and thrown away. A step costs the same however
many there are, so some tiles and steps stand for all of them; the 500 steps of Schlegl et al. 2017 are put in
by multiplication.
Writes results/search_speed_cpu.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from anogan.config import config_from_dict
from anogan.gan.networks import Networks, build_networks, feature_stack, features, sample_prior
from anogan.scoring.search import Objective, latent_search

HERE = Path(__file__).parent
PAPER_STEPS = 500
SETTINGS = {
    "tiles": {"size": 64},
    "network": {"latent_dim": 100, "width": 32},
    "encoder": {"mode": "none"},
    "search": {"learning_rate": 0.02, "prior_weight": 0.0},
}


def batched(networks: Networks, x: Tensor, steps: int) -> None:
    """The package's search."""
    config = config_from_dict(SETTINGS, "the benchmark")
    stages = feature_stack(networks.discriminator)
    objective = Objective(networks.generator, stages, torch.ones(len(stages), device=x.device))
    starts = sample_prior(len(x), config, torch.Generator().manual_seed(0), x.device)
    latent_search(x, starts[None], objective, config.search, steps)


def one_at_a_time(networks: Networks, x: Tensor, steps: int) -> None:
    """Each image by itself, as in the public implementations of the paper's section 2.2."""
    config = config_from_dict(SETTINGS, "the benchmark")
    stages = feature_stack(networks.discriminator)
    for image in x:
        query = image[None]
        z = torch.randn(1, config.network.latent_dim, 1, 1, device=x.device, requires_grad=True)
        optimiser = torch.optim.Adam([z], lr=config.search.learning_rate)
        for _ in range(steps):
            optimiser.zero_grad()
            generated = networks.generator(z)
            residual = (query - generated).abs().sum()
            wanted, got = features(stages, query), features(stages, generated)
            discrimination = (wanted[-1] - got[-1]).abs().sum()
            loss = 0.9 * residual + 0.1 * discrimination
            loss.backward()
            optimiser.step()


def seconds(search: Callable[[], None], device: torch.device) -> float:
    """Wall time after a warm-up by the caller."""
    _wait(device)
    started = time.perf_counter()
    search()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(x: Tensor, single_tiles: int, steps: int, rounds: int) -> dict[str, float]:
    """Milliseconds per step and tile of both ways, and the median of the rounds' ratios.

    The two alternate, so that other load on the machine hits both alike.
    """
    device = x.device
    networks = build_networks(config_from_dict(SETTINGS, "the benchmark"))
    trainable = copy.deepcopy(networks)  # Public code freezes nothing.
    for module in trainable.modules().values():
        module.eval().to(device)
    for module in networks.eval_frozen().modules().values():
        module.to(device)
    one_at_a_time(trainable, x[:1], 2)
    batched(networks, x, 2)
    singles, batches = [], []
    for _ in range(rounds):
        few = x[:single_tiles]
        spent = seconds(lambda few=few: one_at_a_time(trainable, few, steps), device)  # type: ignore[misc]
        singles.append(1000 * spent / (single_tiles * steps))
        spent = seconds(lambda: batched(networks, x, steps), device)
        batches.append(1000 * spent / (len(x) * steps))
    ratio = statistics.median(single / batch for single, batch in zip(singles, batches, strict=True))
    default_steps = config_from_dict({}, "the defaults").search.steps
    return {
        "one_at_a_time_ms_per_step_and_tile": round(statistics.median(singles), 4),
        "batched_ms_per_step_and_tile": round(statistics.median(batches), 4),
        "ratio_at_equal_steps": round(ratio, 2),
        "paper_steps": PAPER_STEPS,
        "default_steps": default_steps,
        "ratio_default_against_paper": round(ratio * PAPER_STEPS / default_steps, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--single-tiles", type=int, default=2, help="tiles searched one at a time per round")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    x = torch.rand(arguments.tiles, 3, 64, 64, device=device) * 2 - 1
    result = {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "device": arguments.device,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "tiles": arguments.tiles,
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        **measure(x, arguments.single_tiles, arguments.steps, arguments.rounds),
    }
    print(json.dumps(result, indent=1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"search_speed_{device.type}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
