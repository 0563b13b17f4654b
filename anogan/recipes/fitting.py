"""From a folder of good parts to a calibrated model on disk."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anogan.bundle import Bundle, check_save_target, save_bundle
from anogan.calibration import CROSS_FITTED, HELD_OUT, Calibration, images_needed
from anogan.config import FEWEST_TO_COMPARE, Config, Override
from anogan.errors import ConfigError
from anogan.files import DEFAULT_MODEL
from anogan.gan.alarms import health, health_sentence
from anogan.gan.device import pick_device, set_threads
from anogan.gan.keeping import best_head_look, kept_record
from anogan.gan.logbook import event_files, history_csv
from anogan.gan.loop import History
from anogan.gan.processes import share_out, together
from anogan.images.decode import unused_bits
from anogan.images.exposure import too_bright, white_share
from anogan.images.folders import passed_over, passed_over_sentence, scan_dataset
from anogan.images.registration import Pixels
from anogan.images.settings import fitting_config
from anogan.images.split import Split, n_parts
from anogan.inspection import Inspection
from anogan.recipes.calibrate import calibrate_scorer
from anogan.recipes.cross_fit import Crossed
from anogan.recipes.good_images import (
    Good,
    hashes_of,
    kinds_left_out,
    network_image_size,
    part_names,
    read_good,
    refuse_leak,
    refuse_test_folder,
    refuse_unfit_tiles,
)
from anogan.recipes.pictures import fit_pictures
from anogan.recipes.score_trial import MIN_PARTS, shown
from anogan.recipes.selection import pick_score_settings, try_memory, with_score_settings
from anogan.recipes.shared_stages import SharedStages, shared
from anogan.recipes.training import Reporter, Run, Trained, job_for, train
from anogan.recipes.variants import split_dataset, with_variants
from anogan.recipes.work_folder import AFTER_TRAINING, RUN, run_digest, sole_fit, work_folder
from anogan.scoring import Scorer
from anogan.scoring.head import fixed_from

FOLLOWER = "anogan.recipes.follower"  # What each further process of a fit on several devices runs.


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


def fit(
    data: Path | str,
    out: Path | str = DEFAULT_MODEL,
    config: Config | Path | str | None = None,
    *,
    overrides: Sequence[Override] = (),
    resume: bool = False,
    reporter: Reporter | None = None,
    stages: SharedStages | None = None,
) -> FitResult:
    """Trains on good images, calibrates on held-out good images, writes a model folder.

    Args:
        data: Folder with good images, or a data set with `good/`; from `test/` nothing is learned.
        out: Where the model folder goes; checkpoints lie beside it until the end.
        config: Every setting; or a YAML file or a shipped config's name, None for the one that suits the
            images, with channels and bit depth as these have them (`fitting_config`).
        overrides: `key.path=value` each, for a config by its name.
        resume: Go on from the checkpoints of an interrupted run with the same config and data.
        reporter: Told about progress and events.
        stages: Finished stages of other fits: those that this one would only repeat are taken from there, and
            those that it trains are added.

    Raises:
        DataError: Too few, unreadable or differing images, or one that is in `test/` as well.
        ConfigError: The device is not there, or `runtime.devices` cannot share a batch out.
        BundleError: Something else than a model lies at `out`, or other checkpoints than those to resume, or
            another fit is writing there.
        StorageError: Nothing can be written at `out`.
        TrainingError: Training failed for good.
    """
    started = time.monotonic()
    data, out, reporter = Path(data), Path(out), reporter or Reporter()
    if not isinstance(config, Config):
        config = _config_by_name(config, overrides, data, reporter)
    elif overrides:
        raise ConfigError("overrides change a config that is given by name; change this one by model_copy.")
    out = out if out.name else out.resolve()  # `.` has no name, beside which checkpoints could lie.
    check_save_target(out)
    refuse_test_folder(data, "give {root}, of which the good ones alone are taken")
    dataset = scan_dataset(data)
    config = with_variants(config, dataset)
    if unused := passed_over(dataset):
        reporter.event(passed_over_sentence(dataset, unused))
    split = split_dataset(dataset, config)
    hashes = hashes_of(split)
    refuse_leak(dataset, hashes)
    _tell_copies(hashes["train"], reporter)
    _warn_of_shortfall(config, n_parts(_calibrating(split, config), config.split.part_of), reporter)
    image_size = network_image_size(split, config)
    set_threads(config.runtime)
    device = pick_device(config.runtime)
    devices = share_out(config, device)
    good, held_out = _read_fit_images(split, config, image_size, reporter)
    with sole_fit(out):
        digest = run_digest(config, hashes, without=AFTER_TRAINING)
        # Last of all checks: a run that is refused leaves the checkpoints of an earlier one alone.
        work = work_folder(out, digest, resume, reporter)
        run = Run(config, device, work, reporter, resume)
        with (
            shared(stages, run, hashes) as saved,
            together(devices, FOLLOWER, config, device, job_for(split, image_size, run)) as run.device,
        ):
            trained = train(run, good, held_out, image_size)
        scorer, picked = _pick_score(Scorer(trained.model), held_out, reporter)
        calibration = _calibrate(scorer, split, _crossed(scorer, split, good, trained, reporter), reporter)
        seconds = time.monotonic() - started + saved  # As if it had trained all by itself.
        metadata = _metadata(run, split, hashes, image_size, data, seconds) | picked
        calibrated_on = CROSS_FITTED if calibration.estimate.n_trained else HELD_OUT
        metadata |= {"calibrated_on": calibrated_on, RUN: digest}
        save_bundle(out, _bundle(scorer, calibration, metadata, _attachments(run, scorer, split)))
        shutil.rmtree(run.work, ignore_errors=True)
        if metadata["health"]["verdict"] != "healthy":
            reporter.event(health_sentence(metadata["health"]))
        return FitResult(out, scorer.with_calibration(calibration), metadata)


def _config_by_name(
    named: Path | str | None, overrides: Sequence[Override], data: Path, reporter: Reporter
) -> Config:
    config, note = fitting_config(None if named is None else str(named), overrides, data)
    if note is not None:
        reporter.event(note)
    return config


def _read_fit_images(
    split: Split, config: Config, image_size: tuple[int, int] | None, reporter: Reporter
) -> tuple[Good, Good]:
    """Images to train on and to stop on, once it is sure that a training can learn from them."""
    good, held_out = read_good(split, config, image_size)
    _warn_of_light(good.images, config, reporter)
    refuse_unfit_tiles(good, config)
    if config.head.enabled and (without := kinds_left_out(good.images, config)):
        reporter.event(
            f"The images are binarised, so of defects.kinds {', '.join(without)} are not drawn: they would "
            "not show, or look like good details."
        )
    return good, held_out


def _crossed(scorer: Scorer, split: Split, good: Good, trained: Trained, reporter: Reporter) -> list[Crossed]:
    """The training images, share by share, and who scores them; none without `calibration.cross_fit`."""
    if not _may_cross_fit(split, scorer.config):
        if scorer.config.calibration.cross_fit:
            reporter.event(
                f"Fewer than {FEWEST_TO_COMPARE} good images are held out for calibration: too few to tell "
                "whether training images score like others. The threshold stands on these alone."
            )
        return []
    if scorer.model.memory is None:
        return [Crossed(scorer, split.train)]
    if not trained.left_out:
        reporter.event(
            "Too few false alarms to leave a share of the training images out of the memory; the threshold "
            "stands on the held-out images alone (calibration.cross_fit)."
        )
    return [
        Crossed(
            Scorer(replace(scorer.model, memory=memory)),
            [path for path, own in zip(split.train, good.shares, strict=True) if own == share],
        )
        for share, memory in enumerate(trained.left_out)
    ]


def _calibrate(scorer: Scorer, split: Split, crossed: Sequence[Crossed], reporter: Reporter) -> Calibration:
    found = calibrate_scorer(
        scorer,
        split.early_stop,
        split.calibrate,
        lambda _, done, total: reporter.progress("calibrate", done, total, {}),
        crossed=crossed,
        event=reporter.event,
    )
    if (warning := found.outlier_warning()) is not None:
        reporter.event(warning)
    return found


def _pick_score(scorer: Scorer, held_out: Good, reporter: Reporter) -> tuple[Scorer, dict[str, Any]]:
    """The scorer under the settings that `score.select` asks for, and what the metadata says of them.

    By the images that picked the checkpoint: those that set the threshold stay unseen.
    """
    if not scorer.config.score.select:
        return scorer, {}

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, total: reporter.progress(what, done, total, {})

    looked_at = shown(scorer, held_out.images, held_out.variants, held_out.parts)
    if not looked_at.suffices:
        reporter.event(
            f"Held-out good images of fewer than {MIN_PARTS} parts (split.early_stop) tell no score settings "
            "apart, so these stay as configured (score.select)."
        )
    said: dict[str, Any] = {}
    if (tried := try_memory(scorer, looked_at, told("trying the memory"))) is not None:
        said["memory_trial"] = tried.to_dict()
        if not tried.helps:
            reporter.event(
                "Drawn defects are told better without the memory of false alarms, so the model does without "
                f"it ({tried}). memory.patches: 0 saves the time."
            )
            scorer = Scorer(replace(scorer.model, memory=None))
    found = pick_score_settings(scorer, looked_at, told("picking score settings"))
    return with_score_settings(scorer, found.chosen), said | {"score_selection": found.to_dict()}


def _calibrating(split: Split, config: Config) -> Sequence[Path]:
    return split.calibrate + (split.train if _may_cross_fit(split, config) else ())


def _may_cross_fit(split: Split, config: Config) -> bool:
    return config.calibration.may_cross_fit(n_parts(split.calibrate, config.split.part_of))


def _tell_copies(train: Sequence[str], reporter: Reporter) -> None:
    """Of training images, by their SHA-256."""
    different = len(set(train))
    if different < len(train):
        reporter.event(
            f"Of {len(train)} training images {len(train) - different} are copies of others, so the networks "
            f"learn from {different}; `anogan doctor` names them."
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


def _warn_of_light(images: Sequence[Pixels], config: Config, reporter: Reporter) -> None:
    told = unused_bits([int(image.max()) for image in images if image.dtype == np.uint16])
    if told is not None:
        reporter.event(f"The images {told}")
    as_loaded = config.images.model_copy(update={"exposure": "keep"})  # It has its exposure already.
    white = too_bright((white_share(image, as_loaded) for image in images), config.images)
    if white is not None:
        reporter.event(white)


def _metadata(
    run: Run,
    split: Split,
    hashes: Mapping[str, Sequence[str]],
    image_size: tuple[int, int] | None,
    data: Path,
    seconds: float,
) -> dict[str, Any]:
    joined = "".join(sorted(digest for values in hashes.values() for digest in values))
    return {
        "image_size": None if image_size is None else list(image_size),
        "data": {
            "source": str(data.resolve()),  # `export` and `benchmark` look there, from any folder.
            "sha256": hashlib.sha256(joined.encode()).hexdigest(),
            **{f"n_{name}": len(values) for name, values in hashes.items()},
            **{f"{name}_hashes": list(values) for name, values in hashes.items()},
            "trained_parts": sorted(part_names(run.config, split.train + split.early_stop)),
        },
        "seed": run.config.seed,
        "device": str(run.device),
        "devices": share_out(run.config, run.device),
        "torch": torch.__version__,
        "training_seconds": round(seconds, 1),
        "metrics": _last_values(run.histories),
        "health": health(run.histories) | _kept(run),
    }


def _kept(run: Run) -> dict[str, Any]:
    """Which look's weights each network has."""
    kept: dict[str, Any] = {"kept": kept_record(run.config, run.histories["gan"].points)}
    if "head" in run.histories:
        step = best_head_look(run.histories["head"].points, fixed_from(run.config))
        kept["kept_head"] = {"step": run.config.head.steps if step is None else step}
    return kept


def _bundle(
    scorer: Scorer, calibration: Calibration, metadata: dict[str, Any], attachments: dict[str, bytes]
) -> Bundle:
    return Bundle(
        config=scorer.config,
        weights=scorer.model.to_arrays(),
        calibration=calibration.to_json_dict(),
        calibration_arrays=calibration.to_arrays(),
        metadata=metadata,
        attachments=attachments,
    )


def _last_values(histories: dict[str, History]) -> dict[str, float]:
    return {
        f"{stage}.{name}": points[-1][1]
        for stage, history in histories.items()
        for name, points in history.points.items()
    }


def _attachments(run: Run, scorer: Scorer, split: Split) -> dict[str, bytes]:
    logs = {"history.csv": history_csv(run.histories)} | event_files(run.logs)
    return logs | fit_pictures(scorer, split.early_stop, run.histories)
