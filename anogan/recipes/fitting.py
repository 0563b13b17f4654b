"""From a folder of good parts to a calibrated model on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from anogan.bundle import Bundle, check_save_target, save_bundle
from anogan.calibration import Calibration, images_needed
from anogan.config import Config, config_to_dict
from anogan.errors import BundleError, DataError, StorageError
from anogan.gan import ranks
from anogan.gan.alarms import Alarm, health, health_sentence, judge_gan
from anogan.gan.device import pick_device, set_threads
from anogan.gan.encoder import EncoderStage
from anogan.gan.keeping import kept_record
from anogan.gan.logbook import Logbook, event_files, history_csv
from anogan.gan.loop import History, LoopSettings, Metrics, Stage, run_stage
from anogan.gan.networks import feature_stack
from anogan.gan.processes import share_out, together
from anogan.gan.tiles import TileSource, load_images
from anogan.gan.training import GanStage
from anogan.images.decode import probe
from anogan.images.folders import (
    Dataset,
    Split,
    common_size,
    file_digest,
    most_common_size,
    scan_dataset,
)
from anogan.images.registration import Aligner, Pixels, align_all, make_reference
from anogan.images.tiling import scaled_size
from anogan.inspection import Inspection
from anogan.recipes.calibrate import HELD_OUT, calibrate_scorer
from anogan.recipes.pictures import fit_pictures
from anogan.recipes.selection import pick_score_settings, with_score_settings
from anogan.recipes.variants import split_dataset, variants_of, with_variants
from anogan.scoring import Model, Scorer
from anogan.scoring.head import HeadStage
from anogan.scoring.inverter import Inverter
from anogan.scoring.maps import measure_feature_scales
from anogan.scoring.perceptual import load_perceptual

DEFAULT_MODEL = Path("anogan-model")
FEATURE_SCALE_BATCHES = 8
TRAIN_STREAM, HELD_OUT_STREAM, HEAD_STREAM = 0, 1, 2
FOLLOWER = "anogan.recipes.follower"  # What each further process of a fit on several devices runs.
_NOTE = "run.sha256"  # Says which run the checkpoints beside it belong to.


@dataclass(frozen=True)
class FitResult:
    """What `fit` made.

    Attributes:
        path: The model's folder.
        scorer: The model, ready to score.
        metadata: What the manifest says of data, split, figures and health.
    """

    path: Path
    scorer: Scorer
    metadata: dict[str, Any]

    @property
    def calibration(self) -> Calibration:
        """The threshold and what may be promised with it."""
        assert self.scorer.calibration is not None
        return self.scorer.calibration

    def score(self, images: Path | str | Sequence[Pixels] | Pixels) -> Inspection | list[Inspection]:
        """What the model says of images, see `Scorer.score`."""
        return self.scorer.score(images)


@dataclass(frozen=True)
class Reporter:
    """Whom to tell about progress; the defaults are silent."""

    progress: Callable[[str, int, int, Metrics], None] = lambda *_: None
    event: Callable[[str], None] = lambda *_: None


@dataclass(frozen=True)
class _Good:
    """Good images at network resolution, and the variant of each product (None without variants)."""

    images: list[Pixels]
    variants: list[str | None]


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
            logbook.add if ranks.is_first() else lambda *_: None,
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
    data: Path | str,
    out: Path | str = DEFAULT_MODEL,
    config: Config | None = None,
    *,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> FitResult:
    """Trains on good images, calibrates on held-out good images, writes a model folder.

    Args:
        data: Folder with good images, or a data set with `good/`; from `test/` nothing is learned.
        out: Where the model folder goes; checkpoints lie beside it until the end.
        config: Every setting; None for the defaults.
        resume: Go on from the checkpoints of an interrupted run with the same config and data.
        reporter: Told about progress and events.

    Raises:
        DataError: Too few, unreadable or differing images, or one that is in `test/` as well.
        ConfigError: The device is not there, or `runtime.devices` cannot share a batch out.
        BundleError: Something else than a model lies at `out`, or other checkpoints than those to resume.
        StorageError: Nothing can be written at `out`.
        TrainingError: Training failed for good.
    """
    started = time.monotonic()
    data, out, config, reporter = Path(data), Path(out), config or Config(), reporter or Reporter()
    check_save_target(out)
    dataset = scan_dataset(data)
    config = with_variants(config, dataset)
    split = split_dataset(dataset, config)
    hashes = _hashes(split)
    _refuse_leak(dataset, hashes)
    _warn_of_shortfall(config, len(split.calibrate), reporter)
    image_size = network_image_size(split, config)
    set_threads(config.runtime)
    device = pick_device(config.runtime)
    devices = share_out(config, device)
    good, held_out = _read_good(split, config, image_size)
    # Last of all checks: a run that is refused leaves the checkpoints of an earlier one alone.
    work = _work_folder(out, _run_digest(config, hashes), resume, reporter)
    run = _Run(config, device, work, reporter, resume)
    with together(devices, FOLLOWER, config, device, _job(split, image_size, run)) as run.device:
        model = _train(run, good, held_out, image_size)
    scorer, picked = _pick_score(Scorer(model), held_out, reporter)
    calibration = calibrate_scorer(
        scorer,
        split.early_stop,
        split.calibrate,
        lambda _, done, total: reporter.progress("calibrate", done, total, {}),
    )
    metadata = _metadata(run, hashes, image_size, data, time.monotonic() - started) | picked
    bundle = Bundle(
        config=scorer.config,
        weights=scorer.model.to_arrays(),
        calibration=calibration.to_json_dict(),
        calibration_arrays=calibration.to_arrays(),
        metadata=metadata,
        attachments=_attachments(run, scorer, split),
    )
    save_bundle(out, bundle)
    shutil.rmtree(run.work, ignore_errors=True)
    if metadata["health"]["verdict"] != "healthy":
        reporter.event(health_sentence(metadata["health"]))
    return FitResult(out, scorer.with_calibration(calibration), metadata)


def _job(split: Split, image_size: tuple[int, int] | None, run: _Run) -> dict[str, Any]:
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
        job: From the first process, see `_job`.
        device: This process's.
    """
    size = None if job["image_size"] is None else (int(job["image_size"][0]), int(job["image_size"][1]))
    good, held_out = (
        _Good(load_images(paths, config, size)[0], variants_of(config, paths))
        for paths in ([Path(path) for path in job[part]] for part in ("train", "held_out"))
    )
    _train(_Run(config, device, Path(job["work"]), Reporter(), job["resume"]), good, held_out, size)


def _train(run: _Run, good: _Good, held_out_good: _Good, image_size: tuple[int, int] | None) -> Model:
    """All stages in order: GAN (with a joint encoder), separate encoder, head."""
    config, device = run.config, run.device
    perceptual = load_perceptual(config.features)  # First: a wrong file must not cost hours.
    if perceptual is not None:
        perceptual.to(device)
    aligner = _aligner(config, good.images)
    source, held_out = (
        TileSource(_registered(own.images, aligner, run.reporter), config, stream, own.variants)
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
    head = None
    if config.head.enabled:
        inverter = Inverter(config, networks, scales, perceptual)
        stage = HeadStage(config, source.with_stream(HEAD_STREAM), held_out, inverter, device)
        run.train(stage)
        head = stage.finish()
    reference = None if aligner is None else aligner.reference
    trained = Model(config, networks, scales, head, image_size, reference, perceptual)
    # As it will be loaded: training's memory layout rounds otherwise, and the threshold must not.
    return Model.from_arrays(config, trained.to_arrays(), image_size, device)


def _pick_score(scorer: Scorer, held_out: _Good, reporter: Reporter) -> tuple[Scorer, dict[str, Any]]:
    """The scorer under the settings that `score.select` asks for, and what the metadata says of them.

    By the images that picked the checkpoint: those that set the threshold stay unseen.
    """
    if not scorer.config.score.select:
        return scorer, {}
    found = pick_score_settings(
        scorer,
        held_out.images,
        lambda done, total: reporter.progress("picking score settings", done, total, {}),
        variants=held_out.variants,
    )
    return with_score_settings(scorer, found.chosen), {"score_selection": found.to_dict()}


def _hashes(split: Split) -> dict[str, list[str]]:
    """SHA-256 of every good image, by the part that it is in."""
    parts = {"train": split.train, "early_stop": split.early_stop, "calibrate": split.calibrate}
    return {name: [file_digest(path) for path in paths] for name, paths in parts.items()}


def _refuse_leak(dataset: Dataset, hashes: Mapping[str, Sequence[str]]) -> None:
    """A test image among the good ones would make every later figure too good."""
    known = {digest for digests in hashes.values() for digest in digests}
    leaked = [sample.path for sample in dataset.test if file_digest(sample.path) in known]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(dataset.test)} test images, first {leaked[0]}, are among the good images "
            "too; keep each in training or in test, not in both. `anogan doctor` names them all."
        )


def _read_good(split: Split, config: Config, size: tuple[int, int] | None) -> tuple[_Good, _Good]:
    """Images to train on and to stop on.

    The images for calibration are decoded as well and let go: what is wrong with one of them must not be
    found after hours of training.
    """
    good, errors = load_images(split.train, config, size)
    held_out, failed = load_images(split.early_stop, config, size)
    errors |= failed
    for path in split.calibrate:
        errors |= load_images([path], config, size)[1]
    if errors:
        total = len(split.train + split.early_stop + split.calibrate)
        first = next(iter(errors.values()))
        raise DataError(f"{len(errors)} of {total} good images cannot be used; the first: {first}")
    return _Good(good, variants_of(config, split.train)), _Good(
        held_out, variants_of(config, split.early_stop)
    )


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
        _refuse_smaller_than_tiles(paths, config)
        return None
    size = most_common_size(paths) if config.images.on_mixed_sizes == "resize" else common_size(paths)
    if not _covers_a_tile(size, config):
        raise DataError(
            f"Images of {size[1]}x{size[0]} pixels are smaller than tiles.size {config.tiles.size}"
            f"{_at_smallest(config)}; set tiles.size lower, or images.size to enlarge them."
        )
    return size


def _covers_a_tile(size: tuple[int, int], config: Config) -> bool:
    return min(scaled_size(size, config.tiles.scales[-1])) >= config.tiles.size


def _at_smallest(config: Config) -> str:
    """Says at which scale, where there are several."""
    scales = config.tiles.scales
    return f" at scale {scales[-1]:g} of tiles.scales" if len(scales) > 1 else ""


def _refuse_smaller_than_tiles(paths: Sequence[Path], config: Config) -> None:
    infos = {path: probe(path) for path in paths}
    small = [path for path, info in infos.items() if not _covers_a_tile((info.height, info.width), config)]
    if small:
        info = infos[small[0]]
        raise DataError(
            f"{len(small)} of {len(paths)} good images are smaller than tiles.size {config.tiles.size}"
            f"{_at_smallest(config)}, first {small[0]} ({info.width}x{info.height}); remove them, or set "
            "tiles.size lower or images.size."
        )


def _warn_of_shortfall(config: Config, n: int, reporter: Reporter) -> None:
    """Before the training, not after it: the person can still add images or ask for another rate."""
    needed = images_needed(config.calibration.false_reject)
    if n < needed:
        reporter.event(
            f"{n} good images are left for calibration; a false-reject rate of "
            f"{config.calibration.false_reject:.3g} needs {needed}, so the promise will be "
            f"{1 / (n + 1):.3g}. Add good images, raise split.calibrate, or ask for a higher rate."
        )


def _work_folder(out: Path, digest: str, resume: bool, reporter: Reporter) -> Path:
    """Checkpoints' folder beside the model, emptied unless this run goes on with it.

    Raises:
        BundleError: The checkpoints there were made with another config or other images, or what lies
            there are no checkpoints.
        StorageError: The disk is full or read-only.
    """
    work = out.with_name(out.name + ".checkpoints")
    note = work / _NOTE
    if os.path.lexists(work) and not note.is_file() and not _is_empty_folder(work):
        raise BundleError(
            f"{work} is in the place of the checkpoints but holds none; move it away, or give --out another "
            "folder."
        )
    if resume and note.is_file() and note.read_text(encoding="ascii").strip() != digest:
        raise BundleError(
            f"{work} belongs to another config or other images; resume with those, or leave out --resume."
        )
    if resume and not note.is_file():
        reporter.event(f"{work} holds no checkpoint to go on from, so training starts at the beginning.")
    try:
        if not resume and work.is_dir():
            shutil.rmtree(work)
        work.mkdir(parents=True, exist_ok=True)
        note.write_text(digest, encoding="ascii")
    except OSError as error:
        raise StorageError(
            f"Checkpoints cannot be written to {work} ({error.strerror or error}); free space or permit "
            "writing there, or give --out another folder."
        ) from error
    return work


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _run_digest(config: Config, hashes: Mapping[str, Sequence[str]]) -> str:
    # The machine may change between start and resume; what is trained may not.
    settings = {key: value for key, value in config_to_dict(config).items() if key != "runtime"}
    return hashlib.sha256(repr((settings, hashes)).encode()).hexdigest()


def _metadata(
    run: _Run,
    hashes: Mapping[str, Sequence[str]],
    image_size: tuple[int, int] | None,
    data: Path,
    seconds: float,
) -> dict[str, Any]:
    joined = "".join(sorted(digest for values in hashes.values() for digest in values))
    return {
        "image_size": None if image_size is None else list(image_size),
        "data": {
            "source": str(data),
            "sha256": hashlib.sha256(joined.encode()).hexdigest(),
            **{f"n_{name}": len(values) for name, values in hashes.items()},
            **{f"{name}_hashes": list(values) for name, values in hashes.items()},
        },
        "calibrated_on": HELD_OUT,
        "seed": run.config.seed,
        "device": str(run.device),
        "devices": share_out(run.config, run.device),
        "torch": torch.__version__,
        "training_seconds": round(seconds, 1),
        "metrics": _last_values(run.histories),
        "health": health(run.histories) | {"kept": kept_record(run.config, run.histories["gan"].points)},
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
