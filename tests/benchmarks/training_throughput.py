"""A training step against the same DCGAN step in plain PyTorch, side by side in one process.

    python tests/benchmarks/training_throughput.py --rounds 5 --steps 10

Both train width 32 at 64 x 64 pixels, batch 64, non-saturating, without an encoder, in the same precision
and memory layout, from the same tile source. Ours includes the averaged generator, one look of the monitor
per 100 steps (its cost is spread over them) and the finiteness check. Rounds alternate, and the median of
the rounds' ratios is what counts: other load on the machine then hits both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn, optim
from torch.nn import functional as F

from anogan.config import Config, config_from_dict
from anogan.gan.device import autocast, training_precision
from anogan.gan.networks import build_discriminator, build_generator
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from anogan.images.sample_board import draw_board

LOOKS_EACH = 100


def plain_step(config: Config, source: TileSource, device: torch.device) -> Callable[[int], None]:
    """The reference: what a person writes who follows the DCGAN tutorial with care for speed."""
    size, width, n = config.tiles.size, config.network.width, config.gan.batch_size
    layout = torch.channels_last
    generator = (
        build_generator(size, 3, config.network.latent_dim, 1, width).to(device).to(memory_format=layout)
    )
    discriminator = build_discriminator(size, 3, width).to(device).to(memory_format=layout)
    g_optimiser = optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999), foreach=True)
    d_optimiser = optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999), foreach=True)
    precision = training_precision(config.runtime, device)

    def step(index: int) -> None:
        real = source.batch(index, n).to(device, memory_format=layout)
        z = torch.randn(n, config.network.latent_dim, 1, 1, device=device)
        _requires_grad(discriminator, True)
        with autocast(device, precision):
            fake = generator(z)
            on_real, on_fake = discriminator(real).float(), discriminator(fake.detach()).float()
        d_optimiser.zero_grad(set_to_none=True)
        (F.softplus(-on_real).mean() + F.softplus(on_fake).mean()).backward()
        d_optimiser.step()
        _requires_grad(discriminator, False)
        with autocast(device, precision):
            loss = F.softplus(-discriminator(fake).float()).mean()
        g_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        g_optimiser.step()
        loss.item()

    return step


def _requires_grad(network: nn.Module, wanted: bool) -> None:
    network.requires_grad_(wanted)


def seconds(step: Callable[[int], object], first: int, steps: int, device: torch.device) -> float:
    """Mean seconds of a step."""
    started = time.perf_counter()
    for index in range(first, first + steps):
        step(index)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def measure(rounds: int, steps: int, width: int, precision: str) -> dict[str, object]:
    """Alternating rounds of both loops; ratios above 1 mean that ours is slower."""
    tree = {
        "tiles": {"size": 64},
        "network": {"latent_dim": 100, "width": width},
        "gan": {"steps": 10**6, "batch_size": 64},
        "encoder": {"mode": "none"},
        "runtime": {"precision": precision},
    }
    config = config_from_dict(tree, "the benchmark")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = TileSource([draw_board(seed, 192)[0] for seed in range(8)], config)
    stage, plain = GanStage(config, source, source, device), plain_step(config, source, device)
    seconds(stage.step, 0, 1, device), seconds(plain, 0, 1, device), stage.look(0)  # Warm up.
    ours, theirs, looks = [], [], []
    for index in range(rounds):
        theirs.append(seconds(plain, index * steps, steps, device))
        ours.append(seconds(stage.step, index * steps, steps, device))
        looks.append(seconds(stage.look, 0, 1, device))
    ratios = [(own + look / LOOKS_EACH) / other for own, look, other in zip(ours, looks, theirs, strict=True)]
    return {
        "device": str(device),
        "precision": str(training_precision(config.runtime, device)),
        "threads": torch.get_num_threads(),
        "plain_ms": round(1000 * statistics.median(theirs), 1),
        "ours_ms": round(1000 * statistics.median(ours), 1),
        "look_ms": round(1000 * statistics.median(looks), 1),
        "ratio_with_monitor": round(statistics.median(ratios), 3),
        "images_per_second": round(64 / statistics.median(ours), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.rounds, arguments.steps, arguments.width, arguments.precision)
    print(json.dumps(found, indent=1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "training_throughput.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
