"""Modes that each loss and remedy covers where the answer is known; writes the table of docs/training.md.

    python tests/benchmarks/mode_coverage.py                   all that results/mode_coverage.json lacks
    python tests/benchmarks/mode_coverage.py ring --seeds 1    some of it
    python tests/benchmarks/mode_coverage.py --table           the table of what is there; trains nothing

ring: 8 Gaussians on a circle; grid: 5 x 5 Gaussians; glyphs: three drawn digits in three channels, 1000
modes. Every row is plain GAN (non-saturating, one discriminator, Adam, no average) with one thing changed, on
the same number of generator steps. On the Gaussians the discriminator learns ten times slower than the
generator, where plain GAN loses modes (as in Metz et al. 2017, appendix A); the WGANs, whose critic must be
ahead, and the row of two rates set its rate themselves. Each finished run is kept at once: a run that was cut
short goes on where it stopped. Seconds are those of the processor, so that other load does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn, optim

from anogan.config import GanConfig, config_from_dict
from anogan.files import write_json
from anogan.gan.adversary import Adversary
from anogan.gan.blocks import minibatch_layer
from anogan.gan.ema import Ema
from anogan.gan.losses import feature_matching_loss, mode_seeking_loss
from anogan.gan.networks import feature_stack, features
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage

REMEDIES: Mapping[str, dict[str, Any]] = {
    "plain (non-saturating)": {},
    "minimax": {"loss": "minimax"},
    "LSGAN": {"loss": "lsgan"},
    "hinge": {"loss": "hinge"},
    "WGAN, clipping": {
        "loss": "wgan",
        "n_critic": 5,
        "weight_clip": 0.1,
        "discriminator_learning_rate": 1e-3,
    },
    "WGAN-GP": {
        "loss": "wgan-gp",
        "n_critic": 5,
        "beta1": 0.0,
        "beta2": 0.9,
        "gradient_penalty_weight": 0.1,
        "discriminator_learning_rate": 1e-3,
    },
    "gradient penalty": {"gradient_penalty_weight": 0.1},
    "R1": {"r1_weight": 0.1, "r1_interval": 1},
    "R1, lazy": {"r1_weight": 0.1, "r1_interval": 16},
    "spectral norm": {"spectral_norm": True},
    "dropout in D": {"dropout": 0.3},
    "label smoothing": {"label_smoothing": 0.1},
    "instance noise": {"instance_noise": 0.3},
    "feature matching": {"feature_matching_weight": 10.0},
    "minibatch discrimination": {"minibatch": "discrimination"},
    "minibatch stddev": {"minibatch": "stddev"},
    "mode seeking": {"mode_seeking_weight": 0.1},
    "packing 2": {"packing": 2},
    "packing 4": {"packing": 4},
    "3 discriminators": {"discriminators": 3},
    "unrolled 5": {"unroll_steps": 5},
    "n_critic 5": {"n_critic": 5},
    "two rates (D 4x G)": {"generator_learning_rate": 2.5e-4, "discriminator_learning_rate": 1e-3},
    "pause D above 0.75": {"pause_above": 0.75},
    "EMA 0.99": {"ema_decay": 0.99},
}
GAUSSIAN_DEFAULTS = {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-4, "ema_decay": 0.0}
# Fewer rows, since a run is dearer, and at the settings that the papers give for images.
GLYPH_REMEDIES: Mapping[str, dict[str, Any]] = {
    "plain (non-saturating)": {},
    "minimax": {"loss": "minimax"},
    "LSGAN": {"loss": "lsgan"},
    "hinge": {"loss": "hinge"},
    "WGAN, clipping": {"loss": "wgan", "n_critic": 5, "weight_clip": 0.05},
    "WGAN-GP": {"loss": "wgan-gp", "n_critic": 5, "beta1": 0.0, "beta2": 0.9},
    "R1": {"r1_weight": 1.0, "r1_interval": 1},
    "spectral norm": {"spectral_norm": True},
    "minibatch stddev": {"minibatch": "stddev"},
    "packing 2": {"packing": 2},
    "EMA 0.99": {"ema_decay": 0.99},
}
GLYPH_DEFAULTS = {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-3, "ema_decay": 0.0}
NEEDS_GROUP_NORM = ("wgan-gp",)
LATENT, HIDDEN, BATCH, SAMPLES = 32, 128, 128, 2500


@dataclass(frozen=True)
class Result:
    """One trained generator: modes with a good sample, share of good samples, seconds of training."""

    modes: int
    good: float
    seconds: float


def ring() -> tuple[Tensor, float]:
    """Centres (8, 2) and standard deviation (Metz et al. 2017, appendix A)."""
    angle = torch.arange(8) * (2 * torch.pi / 8)
    return 2 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.02


def grid() -> tuple[Tensor, float]:
    """Centres (25, 2) and standard deviation (Srivastava et al. 2017, arXiv:1705.07761, section 4.1)."""
    side = 2.0 * torch.arange(5) - 4
    return torch.cartesian_prod(side, side), 0.05


def train_gaussians(centres: Tensor, sigma: float, options: dict[str, Any], steps: int, seed: int) -> Result:
    """A GAN of two small perceptrons on a mixture of equal Gaussians."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    config = GanConfig(steps=steps, batch_size=BATCH, **(GAUSSIAN_DEFAULTS | options))
    generator = perceptron(LATENT, 2)
    adversary = Adversary(config, [critic(config) for _ in range(config.discriminators)])
    stages = feature_stack(adversary.discriminators[0])
    optimiser = optim.Adam(
        generator.parameters(), config.generator_learning_rate, (config.beta1, config.beta2), foreach=True
    )
    average = Ema(generator, config.ema_decay)
    started = time.process_time()
    for step in range(steps):
        for _ in range(config.n_critic):
            which = torch.randint(len(centres), (BATCH,), generator=draw)
            real = centres[which] + sigma * torch.randn(BATCH, 2, generator=draw)
            z = torch.randn(BATCH, LATENT, generator=draw)
            fake = generator(z)
            adversary.learn(step, real, [fake], draw)
        loss = adversary.judge(step, fake, draw, real)
        if config.mode_seeking_weight > 0:
            loss = loss + config.mode_seeking_weight * mode_seeking_loss(z, fake)
        if config.feature_matching_weight > 0:
            wanted, got = features(stages, real)[-1], features(stages, fake)[-1]
            loss = loss + config.feature_matching_weight * feature_matching_loss(wanted, got)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update(generator, step)
    seconds = time.process_time() - started
    with torch.no_grad():
        samples = average.network(torch.randn(SAMPLES, LATENT, generator=draw))
    return judge_gaussians(samples, centres, sigma, seconds)


def judge_gaussians(samples: Tensor, centres: Tensor, sigma: float, seconds: float) -> Result:
    """A sample is good within 3 sigma of a centre; a mode counts when one good sample is nearest to it."""
    distance, nearest = torch.cdist(samples, centres).min(dim=1)
    good = distance < 3 * sigma
    return Result(len(set(nearest[good].tolist())), float(good.float().mean()), seconds)


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 128."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def critic(config: GanConfig) -> nn.Sequential:
    """A perceptron with the same training-only layers as the package's discriminator."""
    layers: list[nn.Module] = []
    for inputs in (2 * config.packing, HIDDEN):
        layers += [nn.Linear(inputs, HIDDEN), nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(config.dropout)] if config.dropout else []
    comparison = minibatch_layer(config.minibatch, HIDDEN)
    extra = sum(layer.extra_features for layer in comparison)
    layers += [*comparison, nn.Linear(HIDDEN + extra, 1)]
    if config.spectral_norm:
        layers = [
            nn.utils.parametrizations.spectral_norm(layer) if isinstance(layer, nn.Linear) else layer
            for layer in layers
        ]
    return nn.Sequential(*layers)


def glyphs() -> np.ndarray:
    """The ten digits, (10, 32, 32) uint8, drawn with OpenCV's stroke font."""
    drawn = []
    for digit in range(10):
        image = np.zeros((32, 32), np.uint8)
        cv2.putText(image, str(digit), (7, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.85, 255, 2, cv2.LINE_AA)
        drawn.append(image)
    return np.stack(drawn)


def stacked_glyphs(n: int, seed: int) -> list[np.ndarray]:
    """n images (32, 32, 3), an independent digit in each channel, shifted by up to a pixel, with noise."""
    rng, digits = np.random.default_rng(seed), glyphs()
    images = []
    for _ in range(n):
        planes = [np.roll(digits[rng.integers(10)], rng.integers(-1, 2, 2), (0, 1)) for _ in range(3)]
        noisy = np.stack(planes, axis=2) + rng.normal(0, 6, (32, 32, 3))
        images.append(noisy.clip(0, 255).astype(np.uint8))
    return images


def read_glyphs(images: Tensor) -> tuple[Tensor, Tensor]:
    """The mode 0 to 999 of each image and whether all three digits are well drawn.

    The answer is known without a classifier: the best normalised correlation with the ten templates at the
    nine shifts; a digit is good above 0.8.
    """
    templates = torch.from_numpy(glyphs()).float()
    shifted = torch.stack(
        [templates.roll((i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)], dim=1
    ).flatten(2)
    planes = _standardise(images.flatten(2))
    scores = torch.einsum("ncp,dsp->ncds", planes, _standardise(shifted)).amax(dim=3)
    best, digit = scores.max(dim=2)
    return digit @ torch.tensor([100, 10, 1]), (best > 0.8).all(dim=1)


def _standardise(x: Tensor) -> Tensor:
    x = x - x.mean(dim=-1, keepdim=True)
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def train_glyphs(options: dict[str, Any], steps: int, seed: int) -> Result:
    """The package's own DCGAN (width 12) on stacked digits."""
    norm = "layer" if options.get("loss") in NEEDS_GROUP_NORM else "batch"
    config = config_from_dict(
        {
            "seed": seed,
            "tiles": {"size": 32, "overlap": 0},
            "network": {"latent_dim": LATENT, "width": 12, "discriminator_norm": norm},
            "gan": {"steps": steps, "batch_size": 64} | GLYPH_DEFAULTS | options,
            "encoder": {"mode": "none"},
            "runtime": {"precision": "fp32"},
        },
        "the benchmark",
    )
    source = TileSource(stacked_glyphs(4096, seed), config)
    stage = GanStage(config, source, source, torch.device("cpu"))
    started = time.process_time()
    for step in range(steps):
        stage.step(step)
    seconds = time.process_time() - started
    generator = stage.finish().generator
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        batches = [generator(torch.randn(500, LATENT, 1, 1, generator=draw)) for _ in range(20)]
    modes, good = read_glyphs(torch.cat(batches))
    return Result(len(set(modes[good].tolist())), float(good.float().mean()), seconds)


@dataclass(frozen=True)
class Task:
    """One test bed: its rows, its budget in generator steps, and how one generator is trained and judged."""

    modes: int
    steps: int
    rows: Mapping[str, dict[str, Any]]
    train: Callable[[dict[str, Any], int, int], Result]


TASKS: Mapping[str, Task] = {
    "ring": Task(8, 2000, REMEDIES, lambda *run: train_gaussians(*ring(), *run)),
    "grid": Task(25, 2000, REMEDIES, lambda *run: train_gaussians(*grid(), *run)),
    "glyphs": Task(1000, 600, GLYPH_REMEDIES, train_glyphs),
}


def missing(found: dict[str, Any], names: Sequence[str], seeds: int) -> Iterator[tuple[str, str, int]]:
    """(task, row, seed) that have no result for the options and steps of today, seed by seed.

    A row whose options or steps have changed since is emptied first: one row never mixes budgets.
    """
    for seed in range(seeds):
        for task in names:
            for name, options in TASKS[task].rows.items():
                settings = {"steps": TASKS[task].steps, "options": options}
                row = found.setdefault(task, {}).get(name, {})
                if {key: row.get(key) for key in settings} != settings:
                    found[task][name] = settings | {"results": {}}
                if str(seed) not in found[task][name]["results"]:
                    yield task, name, seed


def mean_and_range(values: Sequence[float], form: str) -> str:
    """`mean (lowest to highest)`."""
    return f"{statistics.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(task: str, rows: Mapping[str, Any]) -> str:
    """What was measured of one task, in Markdown."""
    steps, modes = TASKS[task].steps, TASKS[task].modes
    lines = [
        f"| {task}, {steps} steps | seeds | modes of {modes} | good samples | seconds |",
        "|---" * 5 + "|",
    ]
    for name in TASKS[task].rows:
        results = list(rows.get(name, {}).get("results", {}).values())
        if results:
            covered = mean_and_range([r["modes"] for r in results], ".3g")
            good = mean_and_range([r["good"] for r in results], ".0%")
            seconds = statistics.mean(r["seconds"] for r in results)
            lines.append(f"| {name} | {len(results)} | {covered} | {good} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all by default")
    parser.add_argument("--seeds", type=int, default=3, help="runs per row, seeds from 0 [default: 3]")
    parser.add_argument("--table", action="store_true", help="print what is there and train nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "mode_coverage.json")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.tasks if name not in TASKS]
    if unknown:
        parser.error(f"there is no task {unknown[0]}; expected one of {', '.join(TASKS)}")
    names = arguments.tasks or list(TASKS)
    torch.set_num_threads(1)
    found = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    for task, name, seed in () if arguments.table else missing(found, names, arguments.seeds):
        result = TASKS[task].train(TASKS[task].rows[name], TASKS[task].steps, seed)
        print(f"{task}, {name}, seed {seed}: {result}", flush=True)
        found[task][name]["results"][str(seed)] = asdict(result)
        write_json(arguments.out, found)
    print("\n".join(table(task, found.get(task, {})) for task in names))


if __name__ == "__main__":
    main()
