"""From a folder of good parts to a calibrated model on disk."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from anogan.bundle import Bundle, check_save_target, save_bundle
from anogan.calibration import Calibration, images_needed
from anogan.config import Config, config_to_dict
from anogan.errors import BundleError, DataError
from anogan.gan.alarms import Alarm, health, health_sentence, judge_gan
from anogan.gan.device import pick_device, set_threads
from anogan.gan.encoder import EncoderStage
from anogan.gan.logbook import Logbook, event_files, history_csv
from anogan.gan.loop import History, LoopSettings, Metrics, Stage, run_stage
from anogan.gan.networks import feature_stack
from anogan.gan.tiles import TileSource, load_images
from anogan.gan.training import GanStage
from anogan.images.folders import Split, common_size, file_digest, most_common_size, scan_dataset, split_good
from anogan.images.registration import Aligner, Pixels, align_all, make_reference
from anogan.recipes.calibrate import HELD_OUT, calibrate_scorer
from anogan.recipes.pictures import fit_pictures
from anogan.scoring import Model, Scorer
from anogan.scoring.head import HeadStage
from anogan.scoring.inverter import Inverter
from anogan.scoring.maps import measure_feature_scales

FEATURE_SCALE_BATCHES = 8
TRAIN_STREAM, HELD_OUT_STREAM, HEAD_STREAM = 0, 1, 2


@dataclass(frozen=True)
class FitResult:
    """What `fit` made."""

    path: Path
    calibration: Calibration
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Reporter:
    """Whom to tell about progress; the defaults are silent."""

    progress: Callable[[str, int, int, Metrics], None] = lambda *_: None
    event: Callable[[str], None] = lambda *_: None


@dataclass
class _Run:
    """What the stages of one fit share."""

    config: Config
    device: torch.device
    work: Path
    reporter: Reporter
    resume: bool
    histories: dict[str, History] = field(default_factory=dict)

    def train(self, stage: Stage) -> None:
        monitor, watched = self.config.monitor, isinstance(stage, GanStage)
        logbook = Logbook(self.logs, stage.name, stage.pictures if isinstance(stage, GanStage) else None)
        settings = LoopSettings(
            monitor.interval,
            monitor.checkpoint_interval,
            self.work / f"{stage.name}.safetensors",
            self.reporter.progress,
            self.reporter.event,
            logbook.add,
            self._judge if watched else lambda _: (),
            monitor.alarms.get("non-finite") == "stop",
        )
        try:
            self.histories[stage.name] = run_stage(stage, settings, resume=self.resume)
        finally:
            logbook.close()

    def _judge(self, history: History) -> list[Alarm]:
        return judge_gan(self.config, history.points)

    @property
    def logs(self) -> Path:
        """Where TensorBoard looks while the training goes on."""
        return self.work / "logs"


def fit(
    data: Path, out: Path, config: Config, *, resume: bool = False, reporter: Reporter | None = None
) -> FitResult:
    """Trains on good images, calibrates on held-out good images, writes a model folder.

    Args:
        data: Folder with good images, or a data set with `good/`; `test/` is never read.
        out: Where the model folder goes; checkpoints lie beside it until the end.
        config: Every setting.
        resume: Go on from the checkpoints of an interrupted run with the same config and data.
        reporter: Told about progress and events.

    Raises:
        DataError: Too few, unreadable or differing images.
        StorageError: Nothing can be written at `out`.
        TrainingError: Training failed for good.
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    check_save_target(out)
    split = split_good(scan_dataset(data).good, config.split.early_stop, config.split.calibrate, config.seed)
    _warn_of_shortfall(config, len(split.calibrate), reporter)
    image_size = network_image_size(split, config)
    set_threads(config.runtime)
    run = _Run(
        config, pick_device(config.runtime), _work_folder(out, config, split, resume), reporter, resume
    )
    model = _train(run, split, image_size)
    scorer = Scorer(model)
    calibration = calibrate_scorer(
        scorer,
        split.early_stop,
        split.calibrate,
        lambda _, done, total: reporter.progress("calibrate", done, total, {}),
    )
    metadata = _metadata(run, split, image_size, data, time.monotonic() - started)
    bundle = Bundle(
        config=config,
        weights=model.to_arrays(),
        calibration=calibration.to_json_dict(),
        calibration_arrays=calibration.to_arrays(),
        metadata=metadata,
        attachments=_attachments(run, scorer, split),
    )
    save_bundle(out, bundle)
    shutil.rmtree(run.work, ignore_errors=True)
    if metadata["health"]["verdict"] != "healthy":
        reporter.event(health_sentence(metadata["health"]))
    if (warning := calibration.estimate.warning()) is not None:
        reporter.event(warning)
    return FitResult(out, calibration, metadata)


def _train(run: _Run, split: Split, image_size: tuple[int, int] | None) -> Model:
    """All stages in order: GAN (with a joint encoder), separate encoder, head."""
    config, device = run.config, run.device
    good = _images(split.train, config, image_size)
    aligner = _aligner(config, good)
    source = TileSource(_registered(good, aligner, run.reporter), config, TRAIN_STREAM)
    held_out_images = _images(split.early_stop, config, image_size)
    held_out = TileSource(_registered(held_out_images, aligner, run.reporter), config, HELD_OUT_STREAM)
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
    head = None
    if config.head.enabled:
        inverter = Inverter(config, networks, scales)
        stage = HeadStage(config, source.with_stream(HEAD_STREAM), held_out, inverter, device)
        run.train(stage)
        head = stage.finish()
    return Model(config, networks, scales, head, image_size, None if aligner is None else aligner.reference)


def _images(paths: tuple[Path, ...], config: Config, size: tuple[int, int] | None) -> list[Pixels]:
    images, errors = load_images(paths, config, size)
    if errors:
        first = next(iter(errors.values()))
        raise DataError(f"{len(errors)} of {len(paths)} good images cannot be used; the first: {first}")
    return images


def _aligner(config: Config, good: list[Pixels]) -> Aligner | None:
    motion = config.images.registration
    return None if motion == "none" else Aligner(make_reference(good, motion), motion)


def _registered(images: list[Pixels], aligner: Aligner | None, reporter: Reporter) -> list[Pixels]:
    if aligner is None:
        return images
    aligned, failed = align_all(images, aligner)
    if failed:
        reporter.event(
            f"{failed} of {len(images)} good images could not be registered and are used as they lie; look "
            "whether they show the same part, or set images.registration: none."
        )
    return aligned


def network_image_size(split: Split, config: Config) -> tuple[int, int] | None:
    """(height, width) for tiling, or None when each image keeps its own."""
    if config.images.size is not None:
        return config.images.size
    paths = split.train + split.early_stop + split.calibrate
    if config.images.on_mixed_sizes == "keep":
        return None
    size = most_common_size(paths) if config.images.on_mixed_sizes == "resize" else common_size(paths)
    if min(size) < config.tiles.size:
        raise DataError(
            f"Images of {size[1]}x{size[0]} pixels are smaller than tiles.size {config.tiles.size}; set "
            "tiles.size lower, or images.size to enlarge them."
        )
    return size


def _warn_of_shortfall(config: Config, n: int, reporter: Reporter) -> None:
    """Before the training, not after it: the person can still add images or ask for another rate."""
    needed = images_needed(config.calibration.false_reject)
    if n < needed:
        reporter.event(
            f"{n} good images are left for calibration; a false-reject rate of "
            f"{config.calibration.false_reject:.3g} needs {needed}, so the promise will be "
            f"{1 / (n + 1):.3g}. Add good images, raise split.calibrate, or ask for a higher rate."
        )


def _work_folder(out: Path, config: Config, split: Split, resume: bool) -> Path:
    """Checkpoints' folder beside the model, emptied unless this run goes on with it.

    Raises:
        BundleError: The checkpoints there were made with another config or other images.
    """
    work = out.with_name(out.name + ".checkpoints")
    digest = _run_digest(config, split)
    note = work / "run.sha256"
    if resume and note.exists() and note.read_text(encoding="ascii") != digest:
        raise BundleError(
            f"{work} belongs to another config or other images; resume with those, or leave out --resume."
        )
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(digest, encoding="ascii")
    return work


def _run_digest(config: Config, split: Split) -> str:
    # The machine may change between start and resume; what is trained may not.
    settings = {key: value for key, value in config_to_dict(config).items() if key != "runtime"}
    names = [path.name for path in split.train + split.early_stop + split.calibrate]
    return hashlib.sha256(repr((settings, names)).encode()).hexdigest()


def _metadata(
    run: _Run, split: Split, image_size: tuple[int, int] | None, data: Path, seconds: float
) -> dict[str, Any]:
    hashes = {
        name: [file_digest(path) for path in paths]
        for name, paths in (
            ("train", split.train),
            ("early_stop", split.early_stop),
            ("calibrate", split.calibrate),
        )
    }
    joined = "".join(sorted(digest for values in hashes.values() for digest in values))
    return {
        "image_size": None if image_size is None else list(image_size),
        "data": {
            "source": str(data),
            "sha256": hashlib.sha256(joined.encode()).hexdigest(),
            **{f"n_{name}": len(values) for name, values in hashes.items()},
            **{f"{name}_hashes": values for name, values in hashes.items()},
        },
        "calibrated_on": HELD_OUT,
        "seed": run.config.seed,
        "device": str(run.device),
        "torch": torch.__version__,
        "training_seconds": round(seconds, 1),
        "metrics": _last_values(run.histories),
        "health": health(run.histories),
    }


def _last_values(histories: dict[str, History]) -> dict[str, float]:
    return {
        f"{stage}.{name}": points[-1][1]
        for stage, history in histories.items()
        for name, points in history.points.items()
    }


def _attachments(run: _Run, scorer: Scorer, split: Split) -> dict[str, bytes]:
    logs = {"history.csv": history_csv(run.histories)} | event_files(run.logs)
    return logs | fit_pictures(scorer, split.early_stop, run.histories)
