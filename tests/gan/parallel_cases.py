"""What two processes do together in test_several_devices.py; run as a module, it is the second one."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from anogan.config import Config, config_from_dict
from anogan.errors import TrainingError
from anogan.gan import ranks
from anogan.gan.alarms import Alarm
from anogan.gan.encoder import EncoderStage
from anogan.gan.loop import History, LoopSettings, Stage, run_stage
from anogan.gan.processes import follow
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from anogan.images.sample_board import draw_board
from anogan.scoring.head import HeadStage
from anogan.scoring.inverter import Inverter
from tests.gan.conftest import TINY, merged

MODULE = "tests.gan.parallel_cases"
CPU = torch.device("cpu")
STEPS = 4
WIDE = {"network": {"latent_grid": 4}, "head": {"width": 8, "batch_size": 8, "steps": STEPS}}

# Name -> changes to the tiny config. Each trains a few steps of the stage that its name begins with.
CASES: dict[str, dict[str, Any]] = {
    "gan": {},
    "gan joint": {"encoder": {"mode": "joint"}, "gan": {"minibatch": "stddev"}},
    "gan penalties through batch norm": {
        "gan": {"gradient_penalty_weight": 1.0, "r1_weight": 1.0, "r1_interval": 1}
    },
    "gan drawn noise": {
        "gan": {"minibatch": "discrimination", "dropout": 0.3, "instance_noise": 0.1},
        "network": {"discriminator_norm": "none"},
    },
    "gan statistics of the batch": {"gan": {"mode_seeking_weight": 0.1, "feature_matching_weight": 1.0}},
    "gan packs": {
        "gan": {
            "packing": 2,
            "diffaugment": ["color", "translation", "cutout", "flip"],
            "ada_target": 0.6,
            "instance_noise": 0.1,
        }
    },
    "gan many": {
        "gan": {
            "unroll_steps": 1,
            "discriminators": 2,
            "spectral_norm": True,
            "n_critic": 2,
            "pause_above": 0.9,
        }
    },
    "encoder izi_f": {"encoder": {"mode": "izi_f", "steps": STEPS}},
    "encoder ziz": {"encoder": {"mode": "ziz", "steps": STEPS}},
    "head": {**WIDE, "encoder": {"mode": "joint"}, "search": {"steps": 2}},
}


class BrokenOnce(TileSource):
    """Sample 1 of step 4, which is in the second process's share, holds a NaN."""

    def batch(self, step: int, n: int) -> Tensor:
        x = super().batch(step, n)
        if step == 4:
            x[1, 0, 3, 3] = float("nan")
        return x


def config_of(case: str) -> Config:
    changes = merged(
        {"gan": {"steps": 9 if case not in CASES else STEPS, "keep": "best"}}, CASES.get(case, {})
    )
    return config_from_dict(merged(TINY, changes), "the test")


def stage_of(case: str, config: Config) -> Stage:
    boards = [draw_board(seed, 96)[0] for seed in range(6)]
    source = (BrokenOnce if case == "nan" else TileSource)(boards[:4], config, 0)
    held_out = TileSource(boards[4:], config, 1)
    gan = GanStage(config, source, held_out, CPU)
    if case.startswith("encoder"):
        return EncoderStage(config, source, held_out, gan.finish(), CPU)
    if case == "head":
        inverter = Inverter(config, gan.finish(), torch.ones(3))
        return HeadStage(config, source, held_out, inverter, CPU)
    return gan


def train(case: str, folder: Path) -> tuple[dict[str, Tensor], History]:
    """Weights and history of a case, trained by every process that is there."""
    config = config_of(case)

    def judge(history: History) -> list[Alarm]:
        late = case == "stop" and history.points["g_loss"][-1][0] >= 6
        return [Alarm("collapse", "All alike.", "stop")] if late else []

    def die(_: str, step: int, *__: object) -> None:
        if case == "killed" and step == 3 and not ranks.is_first():
            os.kill(os.getpid(), signal.SIGKILL)

    stage = stage_of(case, config)
    loop = LoopSettings(2, 3, folder / f"{case}.safetensors", judge=judge, on_progress=die)
    history = History()
    try:
        history = run_stage(stage, loop, resume=False)
    except TrainingError as error:
        history.up = [str(error)]
    return weights_of(stage), history


def weights_of(stage: Stage) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.detach().clone().contiguous()
        for name, module in stage.modules().items()
        for key, value in module.state_dict().items()
    }


def train_together(case: str, folder: Path) -> tuple[dict[str, Tensor], History]:
    with ranks.joined(ranks._group.fabric, config_of(case).gan.packing):
        return train(case, folder)


def second(_: Config, job: Mapping[str, Any], device: torch.device) -> None:
    """The second process: all cases of the job, its weights to files."""
    folder = Path(job["folder"])
    for case in job["cases"]:
        weights, history = train_together(case, folder)
        words = {"up": " ".join(history.up), "alarms": " ".join(a["action"] for a in history.alarms)}
        save_file(weights, folder / f"{case}.second", words)


if __name__ == "__main__":
    follow(second)
