"""All stages of training in order, in one process or in several."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from anogan.config import Config
from anogan.gan import ranks
from anogan.gan.alarms import Alarm, judge_gan, judge_head
from anogan.gan.encoder import EncoderStage
from anogan.gan.logbook import Logbook
from anogan.gan.loop import History, LoopSettings, Metrics, Stage, run_stage
from anogan.gan.networks import feature_stack
from anogan.gan.tiles import TileSource, load_images
from anogan.gan.training import GanStage
from anogan.images.split import Split
from anogan.recipes.good_images import Good, aligner_for, laid_in_place, pixel_aspect
from anogan.recipes.variants import variants_of
from anogan.scoring import Model
from anogan.scoring.head import HeadStage
from anogan.scoring.inverter import Inverter
from anogan.scoring.maps import measure_feature_scales
from anogan.scoring.memory import Memories, Memory, learn_memories
from anogan.scoring.perceptual import load_perceptual

FEATURE_SCALE_BATCHES = 8
TRAIN_STREAM, HELD_OUT_STREAM, HEAD_STREAM, MEMORY_STREAM = range(4)
_JUDGES = {GanStage.name: judge_gan, HeadStage.name: judge_head}


@dataclass(frozen=True)
class Reporter:
    """Whom to tell about progress; the defaults are silent."""

    progress: Callable[[str, int, int, Metrics], None] = lambda *_: None
    event: Callable[[str], None] = lambda *_: None


@dataclass
class Run:
    """What the stages of one fit share."""

    config: Config
    device: torch.device
    work: Path
    reporter: Reporter
    resume: bool
    histories: dict[str, History] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def train(self, stage: Stage) -> None:
        """One stage to its end, with its checkpoint, its log and the monitor's judgement."""
        monitor = self.config.monitor
        logbook = Logbook(self.logs, stage.name, stage.pictures if isinstance(stage, GanStage) else None)
        settings = LoopSettings(
            monitor.interval,
            monitor.checkpoint_interval,
            self.work / f"{stage.name}.safetensors",
            self.reporter.progress,
            self.reporter.event,
            logbook.add if ranks.is_first() else lambda *_: None,
            partial(self._judge, stage.name),
            monitor.alarms.get("non-finite") == "stop",
        )
        started = time.monotonic()
        try:
            self.histories[stage.name] = run_stage(stage, settings, resume=self.resume)
        finally:
            logbook.close()
        self.seconds[stage.name] = time.monotonic() - started

    def _judge(self, stage: str, history: History) -> Sequence[Alarm]:
        judge = _JUDGES.get(stage)
        return () if judge is None else judge(self.config, history.points)

    @property
    def logs(self) -> Path:
        """Where TensorBoard looks while the training goes on."""
        return self.work / "logs"


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        model: All that is kept.
        left_out: For `calibration.cross_fit`, the memory that each share of the training images is scored
            with, none of whose images it knows.
    """

    model: Model
    left_out: tuple[Memory, ...] = ()


def job_for(split: Split, image_size: tuple[int, int] | None, run: Run) -> dict[str, Any]:
    """What `follow_fit` must know, in JSON's types."""
    paths = {
        "train": [str(path) for path in split.train],
        "held_out": [str(path) for path in split.early_stop],
    }
    return paths | {"image_size": image_size, "work": str(run.work), "resume": run.resume}


def follow_fit(config: Config, job: Mapping[str, Any], device: torch.device) -> None:
    """The part of a further process in a `fit` on several devices: the same training, silently.

    Args:
        config: The fit's.
        job: From the first process, see `job_for`.
        device: This process's.
    """
    size = None if job["image_size"] is None else (int(job["image_size"][0]), int(job["image_size"][1]))
    good, held_out = (
        Good(
            load_images(paths, config, size)[0], variants_of(config, paths), aspect=pixel_aspect(paths, size)
        )
        for paths in ([Path(path) for path in job[part]] for part in ("train", "held_out"))
    )
    train(Run(config, device, Path(job["work"]), Reporter(), job["resume"]), good, held_out, size)


def train(run: Run, good: Good, held_out_good: Good, image_size: tuple[int, int] | None) -> Trained:
    """All stages in order: GAN (with a joint encoder), separate encoder, head."""
    config, device = run.config, run.device
    perceptual = load_perceptual(config.features)  # First: a wrong file must not cost hours.
    if perceptual is not None:
        perceptual.to(device)
    aligner = aligner_for(config, good.images, good.aspect)
    source, held_out = (
        TileSource(laid_in_place(own.images, aligner, run.reporter.event), config, stream, own.variants)
        for own, stream in ((good, TRAIN_STREAM), (held_out_good, HELD_OUT_STREAM))
    )
    gan = GanStage(config, source, held_out, device)
    run.train(gan)
    networks = gan.finish()
    if config.encoder.mode not in ("none", "joint"):
        encoder = EncoderStage(config, source, held_out, networks, device)
        run.train(encoder)
        networks = encoder.finish()
    stages = feature_stack(networks.discriminator)
    tiles = [
        source.batch(20_000_000 + i, config.gan.batch_size).to(device) for i in range(FEATURE_SCALE_BATCHES)
    ]
    scales = measure_feature_scales(stages, tiles)
    head = memories = None
    if config.head.enabled:
        inverter = Inverter(config, networks, scales, perceptual)
        stage = HeadStage(config, source.with_stream(HEAD_STREAM), held_out, inverter, device)
        run.train(stage)
        head = stage.finish()
        memories = _memories(run, _shares(source, good), held_out, inverter, head)
    memory, left_out = (None, ()) if memories is None else (memories.whole, memories.without)
    trained = Model(config, networks, scales, head, image_size, aligner, perceptual, memory)
    # As it will be loaded: training's memory layout rounds otherwise, and the threshold must not.
    return Trained(
        Model.from_arrays(config, trained.to_arrays(), image_size, device),
        tuple(memory.to(device) for memory in left_out),
    )


def _shares(source: TileSource, good: Good) -> list[TileSource]:
    """The training tiles of each share of the images; of all together where there are no shares."""
    if not good.shares:
        return [source]
    members = [np.flatnonzero(np.array(good.shares) == share) for share in range(max(good.shares) + 1)]
    return [source.only(indices.tolist()) for indices in members]


def _memories(
    run: Run, sources: Sequence[TileSource], held_out: TileSource, inverter: Inverter, head: nn.Module
) -> Memories | None:
    if not run.config.remembers or not ranks.is_first():  # The first process saves the model.
        return None
    memories = learn_memories(
        run.config,
        [source.with_stream(MEMORY_STREAM) for source in sources],
        held_out,
        inverter,
        head,
        lambda done, total: run.reporter.progress("false alarms", done, total, {}),
    )
    if memories is None:
        run.reporter.event("The head hardly marks good tiles; memory.patches has nothing to remember.")
    return memories
