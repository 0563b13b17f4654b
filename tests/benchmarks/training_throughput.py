"""A training step against the same DCGAN step in plain PyTorch, and that step in each precision and layout.

    python tests/benchmarks/training_throughput.py --rounds 5 --steps 6

Width 32 at 64 x 64 pixels, batch 64, non-saturating, without an encoder, from the same tile source.
  1. ours against plain: in the same precision and memory layout. Ours includes the averaged generator, one
     look of the monitor per 100 steps (its cost is spread over them) and the finiteness check;
  2. the plain step in contiguous and channels-last layout, fp32 and bf16, eager and through torch.compile
     (the compilation is timed apart): what `runtime.precision: auto` and the layout were chosen by.
Rounds alternate, and the median of the rounds' ratios is what counts: other load on the machine then hits all
alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.nn import functional as F

from anogan.config import Config, RuntimeConfig, config_from_dict
from anogan.gan.device import autocast, pick_device, training_precision
from anogan.gan.networks import build_discriminator, build_generator
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from anogan.images.sample_board import draw_board

LOOKS_EACH, BATCH = 100, 64
Step = Callable[[int], object]


@dataclass(frozen=True)
class Variant:
    """One way to run the plain step."""

    precision: str
    layout: str
    compiled: bool = False

    @property
    def name(self) -> str:
        """As a row of the table."""
        return f"{self.precision}, {self.layout}" + (", torch.compile" if self.compiled else "")

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of images and convolution weights."""
        return torch.channels_last if self.layout == "channels-last" else torch.contiguous_format


VARIANTS = (
    Variant("fp32", "contiguous"),
    Variant("fp32", "channels-last"),
    Variant("bf16", "contiguous"),
    Variant("bf16", "channels-last"),
    Variant("fp32", "channels-last", compiled=True),
    Variant("bf16", "channels-last", compiled=True),
)
"""The first is what the others are compared with."""


def benchmark_config(width: int, precision: str) -> Config:
    """The DCGAN of both parts."""
    tree = {
        "tiles": {"size": 64},
        "network": {"latent_dim": 100, "width": width},
        "gan": {"steps": 10**6, "batch_size": BATCH},
        "encoder": {"mode": "none"},
        "runtime": {"precision": precision},
    }
    return config_from_dict(tree, "the benchmark")


def plain_step(config: Config, source: TileSource, device: torch.device, variant: Variant) -> Step:
    """The reference: what a person writes who follows the DCGAN tutorial with care for speed."""
    size, width, n = config.tiles.size, config.network.width, config.gan.batch_size
    layout = variant.memory_format
    generator = (
        build_generator(size, 3, config.network.latent_dim, 1, width).to(device).to(memory_format=layout)
    )
    discriminator = build_discriminator(size, 3, width).to(device).to(memory_format=layout)
    if variant.compiled:
        generator.compile()
        discriminator.compile()
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


def seconds(step: Step, first: int, steps: int, device: torch.device) -> float:
    """Mean seconds of a step."""
    started = time.perf_counter()
    for index in range(first, first + steps):
        step(index)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def against_plain(rounds: int, steps: int, width: int, precision: str) -> dict[str, object]:
    """Alternating rounds of both loops; ratios above 1 mean that ours is slower."""
    config, device = benchmark_config(width, precision), pick_device(RuntimeConfig())
    source = boards(config)
    stage = GanStage(config, source, source, device)
    plain = plain_step(config, source, device, Variant(precision, "channels-last"))
    seconds(stage.step, 0, 1, device), seconds(plain, 0, 1, device), stage.look(0)  # Warm up.
    ours, theirs, looks = [], [], []
    for index in range(rounds):
        theirs.append(seconds(plain, index * steps, steps, device))
        ours.append(seconds(stage.step, index * steps, steps, device))
        looks.append(seconds(stage.look, 0, 1, device))
    ratios = [(own + look / LOOKS_EACH) / other for own, look, other in zip(ours, looks, theirs, strict=True)]
    return {
        "precision": precision,
        "plain_ms": round(1000 * statistics.median(theirs), 1),
        "ours_ms": round(1000 * statistics.median(ours), 1),
        "look_ms": round(1000 * statistics.median(looks), 1),
        "ratio_with_monitor": round(statistics.median(ratios), 3),
        "images_per_second": round(BATCH / statistics.median(ours), 1),
    }


def compare_variants(
    variants: Sequence[Variant], rounds: int, steps: int, width: int
) -> list[dict[str, object]]:
    """Alternating rounds of the plain step; `speed` is how many times as fast as the first variant."""
    device = pick_device(RuntimeConfig())
    runs: list[Step] = []
    warm_up, spent = [], [[] for _ in variants]
    for variant in variants:
        config = benchmark_config(width, variant.precision)
        runs.append(plain_step(config, boards(config), device, variant))
        # Two steps: the second compiles what the first has changed, such as which weights learn.
        warm_up.append(2 * seconds(runs[-1], 0, 2, device))
    for index in range(rounds):
        for run, times in zip(runs, spent, strict=True):
            times.append(seconds(run, index * steps, steps, device))
    return [
        {
            "variant": variant.name,
            "ms": round(1000 * statistics.median(times), 1),
            "speed": round(statistics.median(a / b for a, b in zip(spent[0], times, strict=True)), 2),
            "compile_seconds": round(first - 2 * statistics.median(times), 1) if variant.compiled else None,
        }
        for variant, first, times in zip(variants, warm_up, spent, strict=True)
    ]


def boards(config: Config) -> TileSource:
    """Eight drawn boards, cut into tiles."""
    return TileSource([draw_board(seed, 192)[0] for seed in range(8)], config)


def tables(found: dict[str, Any]) -> str:
    """What was measured, in Markdown."""
    lines = ["| precision | plain, ms | ours, ms | with monitor | images/s |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['precision']} | {r['plain_ms']} | {r['ours_ms']} | {r['ratio_with_monitor']} "
        f"| {r['images_per_second']} |"
        for r in found["against_plain"]
    ]
    lines += ["", "| plain step | ms | speed | compile, s |", "|---|---|---|---|"]
    lines += [
        f"| {r['variant']} | {r['ms']} | {r['speed']} | {r['compile_seconds'] or ''} |"
        for r in found["variants"]
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures both parts, prints the tables and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="per round [default: 6]")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = (arguments.rounds, arguments.steps, arguments.width)
    variants = [
        v
        for v in VARIANTS
        if v.precision in arguments.precision and not (v.compiled and arguments.no_compile)
    ]
    found = {
        "device": str(pick_device(RuntimeConfig())),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "against_plain": [against_plain(*shape, precision) for precision in arguments.precision],
        "variants": compare_variants(variants, *shape),
    }
    print(tables(found))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "training_throughput.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
