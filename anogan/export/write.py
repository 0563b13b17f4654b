"""Writes a scorer file: build, check against PyTorch, calibrate for fewer steps, seal, put in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx

from anogan import __version__
from anogan.calibration import FEWEST, HELD_OUT, LIMITED, Calibration, around, good_limits, recalibrated
from anogan.config import SplitConfig, config_to_dict
from anogan.errors import CalibrationError, ExportError, StorageError
from anogan.export.build import build_scorer, resizes
from anogan.export.files import replace_file, serialised, write_file
from anogan.export.graph import Precision
from anogan.export.parity import Images, Parity, Tolerance, measure_parity, require_parity, tolerance_for
from anogan.export.quantise import quantised_encoder
from anogan.export.write_pieces import write_pieces
from anogan.images.split import parts_of
from anogan.scoring import Scorer
from anogan.station import Scorer as StationScorer
from anogan.station.manifest import InputContract, ScorerManifest, StepsCalibration

_MINIMUM_GOOD = 2


@dataclass(frozen=True)
class Exported:
    """A written scorer file.

    Attributes:
        path: The file.
        n_bytes: Its size.
        parity: How it compares with PyTorch.
        manifest: What it says of itself.
        pieces: The files for hosts that drive the steps themselves, if they were asked for.
    """

    path: Path
    n_bytes: int
    parity: Parity
    manifest: ScorerManifest
    pieces: tuple[Path, ...] = ()


def export_scorer(
    scorer: Scorer,
    out: Path,
    *,
    images: Images,
    precision: Precision = "fp32",
    model_sha256: str | None = None,
    calibrated_on: str = "unknown",
    doubtful: str | None = None,
    cut_steps: Sequence[int] = (),
    good_images: Images = (),
    good_paths: Sequence[Path] | None = None,
    tolerance: Tolerance | None = None,
    single_step: bool = False,
    event: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Exports a calibrated model to one ONNX file, if the file decides as PyTorch does.

    Args:
        scorer: The PyTorch scorer.
        out: The file; an older one is replaced at the very end, or not at all.
        images: Held-out images that both score for the comparison, at least one.
        precision: fp32, fp16 (weights stored in half), mixed (convolutions in half as well) or int8 (the
            encoder in 8 bits); all but fp32 get thresholds of their own.
        model_sha256: Names the model in the manifest.
        calibrated_on: Which images set the model's threshold, for its reports.
        doubtful: Why the model's training is doubtful, if it is.
        cut_steps: Fewer search steps that a station's time budget may cut to.
        good_images: Held-out good images; thresholds other than the model's come from them.
        good_paths: Their files, for their parts (`split.group`) and to name outliers.
        tolerance: What the comparison allows.
        single_step: Also write the pieces for hosts that drive the search's steps; see `pieces`.
        event: Told what is being done.

    Raises:
        ExportError: The model cannot be exported, or the file decides otherwise.
        CalibrationError: The model has no threshold, or too few good images were given.
        StorageError: `out` cannot be written.
    """
    if out.is_dir():  # Before minutes of work, which a rename would end.
        raise StorageError(f"{out} is a folder; name the file to write, such as -o {out / 'scorer.onnx'}.")
    calibration = _calibration_to_export(scorer, images, precision, cut_steps)
    fewer = _fewer(scorer, cut_steps)
    if fewer or precision != "fp32":
        _refuse_few(good_images)
    tolerance = tolerance or tolerance_for(scorer.config, precision)
    temporary = out.with_name(out.name + ".tmp")
    good = _Good(scorer.config.split, good_images, good_paths, event)
    try:
        encoder = _quantised(scorer, good_images, event) if precision == "int8" else None
        draft = _Draft(scorer, precision, temporary, encoder, model_sha256, calibrated_on, doubtful)
        built = draft.write(calibration)
        if precision != "fp32":
            event(f"setting the threshold anew for {precision} from {len(good_images)} good images")
            steps = scorer.config.search.steps
            new = good.recalibrated(calibration, built.station, steps)
            # Half precision leaves over what full does, so few images need not set limits of their own.
            calibration = new if new.limits else replace(new, limits=calibration.limits)
            built = draft.write(calibration)
        cut = {steps: good.recalibrated(calibration, built.station, steps) for steps in fewer}
        widened = good.widened(calibration, cut.values())
        if widened.limits != calibration.limits:
            calibration = widened
            built = draft.write(calibration)
        event(f"comparing with PyTorch on {len(images)} images")
        own = Scorer(scorer.model, calibration)
        parity = _gate(own, built.station, images, tolerance)
        shorter = [_for_steps(steps, own) for steps, own in cut.items()]
        manifest = built.manifest.model_copy(
            update={"parity": parity.to_dict(), "calibrations": (*built.manifest.calibrations, *shorter)}
        )
        content = serialised(built.model, manifest)
        pieces: tuple[Path, ...] = ()
        if single_step:
            event("writing the pieces for hosts that drive the steps")
            pieces = write_pieces(own, out, content, built.station, manifest, images, tolerance, encoder)
        write_file(temporary, content)
        replace_file(temporary, out)
    finally:
        with suppress(OSError):  # Where nothing can be written there is nothing to remove.
            temporary.unlink(missing_ok=True)
    return Exported(out, len(content), parity, manifest, pieces)


def _calibration_to_export(
    scorer: Scorer, images: Images, precision: Precision, cut_steps: Sequence[int]
) -> Calibration:
    """The model's calibration, if it and what was asked for can be exported."""
    if scorer.calibration is None:
        raise CalibrationError("This model has no threshold yet; run `anogan calibrate --data GOOD_DIR`.")
    if not images:
        raise ExportError(
            "No image was given to compare the exported file with PyTorch; give some with --data."
        )
    if scorer.config.network.variants and (cut_steps or precision != "fp32"):
        raise ExportError(
            "A model with network.condition: variant is exported in fp32 with all its search steps; leave "
            "out --precision and --cut-steps, whose thresholds the export cannot set for several variants."
        )
    return scorer.calibration


@dataclass(frozen=True)
class _Built:
    """A file that was written under its temporary name, and what went into it."""

    model: onnx.ModelProto
    manifest: ScorerManifest
    station: StationScorer


@dataclass(frozen=True)
class _Draft:
    """The file before it is known to be good; the fields are those of `export_scorer`."""

    scorer: Scorer
    precision: Precision
    path: Path
    encoder: onnx.ModelProto | None
    model_sha256: str | None
    calibrated_on: str
    doubtful: str | None

    def write(self, calibration: Calibration) -> _Built:
        """The whole file with these thresholds, loaded as a station does."""
        manifest = self._manifest(calibration)
        model = build_scorer(
            self.scorer.model, calibration, precision=self.precision, quantised_encoder=self.encoder
        )
        write_file(self.path, serialised(model, manifest))
        # The scorer that it is compared with computes on the CPU, and another device rounds otherwise.
        return _Built(model, manifest, StationScorer(self.path, providers=["cpu"]))

    def _manifest(self, calibration: Calibration) -> ScorerManifest:
        config, model = self.scorer.config, self.scorer.model
        return ScorerManifest(
            package_version=__version__,
            precision=self.precision,
            model_sha256=self.model_sha256,
            input=InputContract(
                channels=config.images.channels,
                bit_depth=config.images.bit_depth,
                size=model.image_size,
                resizes=resizes(model),
                tile_size=config.tiles.size,
                tile_overlap=config.tiles.overlap,
                tile_scales=config.tiles.scales,
            ),
            calibrations=(_for_steps(config.search.steps, calibration),),
            # Thresholds of the export's own stand on held-out images alone.
            calibrated_on=self.calibrated_on if self.precision == "fp32" else HELD_OUT,
            promise=asdict(calibration.estimate),
            limits=dict(calibration.limits),
            doubtful=self.doubtful,
            parity={},
            config=config_to_dict(config),
        )


def _refuse_few(good_images: Images) -> None:
    if len(good_images) < _MINIMUM_GOOD:
        raise CalibrationError(
            "Thresholds for another number of search steps or another precision, and the ranges of an "
            f"encoder in 8 bits, need held-out good images, and {len(good_images)} were given; give their "
            "folder with --data."
        )


def _quantised(scorer: Scorer, good_images: Images, event: Callable[[str], None]) -> onnx.ModelProto:
    event(f"measuring the ranges of the encoder on {len(good_images)} good images")
    return quantised_encoder(scorer.model, good_images)


def _gate(scorer: Scorer, station: StationScorer, images: Images, tolerance: Tolerance) -> Parity:
    """The comparison with PyTorch, under each variant if the model knows any; the least alike is returned.

    Raises:
        ExportError: The file decides otherwise.
    """
    names = scorer.config.network.variants or (None,)
    found = [measure_parity(scorer, station, images, tolerance, name) for name in names]
    for parity in found:
        require_parity(parity, tolerance)
    return max(found, key=lambda parity: parity.agreements[-1].score)


def _fewer(scorer: Scorer, cut_steps: Sequence[int]) -> list[int]:
    full = scorer.config.search.steps
    wrong = [steps for steps in cut_steps if not 0 <= steps < full]
    if wrong and not full:
        raise ExportError("This model searches no step, so there is none to be cut; leave out --cut-steps.")
    if wrong:
        raise ExportError(
            f"cut steps {wrong[0]} is not a cut: this model searches {full} steps; give numbers from "
            f"0 to {full - 1}."
        )
    return sorted(set(cut_steps), reverse=True)


def _for_steps(steps: int, calibration: Calibration) -> StepsCalibration:
    return StepsCalibration(
        steps=steps,
        threshold=calibration.threshold,
        review_threshold=calibration.review_threshold,
        false_reject=calibration.estimate.false_reject,
        n_good=calibration.estimate.n_good,
    )


@dataclass(frozen=True)
class _Good:
    """Held-out good images, from which thresholds other than the model's come."""

    split: SplitConfig
    images: Images
    paths: Sequence[Path] | None
    event: Callable[[str], None]

    def widened(self, calibration: Calibration, shorter: Iterable[Calibration]) -> Calibration:
        """With limits that hold what shorter searches leave over too, which is more."""
        limits = around(calibration.limits, *(own.limits for own in shorter))
        if calibration.limits and not limits:
            self.event(
                f"fewer than {FEWEST} good parts set no limits: the file does not tell in_distribution"
            )
        return replace(calibration, limits=limits)

    def recalibrated(self, calibration: Calibration, station: StationScorer, steps: int) -> Calibration:
        """The model's calibration with thresholds from what the exported file makes of these images."""
        searching = station.with_steps(steps)
        # One by one: hundreds of large photographs together would fill the memory.
        found: dict[str, list[float]] = {name: [] for name in ("score", *LIMITED)}
        for image in self.images:
            inspection = searching.score([image])[0]
            for name, values in found.items():
                values.append(getattr(inspection, name))
        parts = None if self.paths is None else parts_of(self.paths, self.split.part_of)
        limits = good_limits(found, parts) if calibration.limits else {}
        own = calibration.estimate
        # Not the config's rates: `calibrate` may have set others since the fit.
        new = recalibrated(
            calibration,
            found["score"],
            own.requested,
            calibration.review_share,
            names=None if self.paths is None else [path.name for path in self.paths],
            parts=parts,
            limits=limits,
        )
        if new.estimate.false_reject > max(own.requested, own.false_reject):
            weaker, stronger = (f"{100 * e.false_reject:.3g} %" for e in (new.estimate, own))
            self.event(
                f"the threshold for {steps} search steps stands on {new.estimate.n_good} good parts, which "
                f"promise that at most {weaker} of good parts are rejected and not {stronger} as the model "
                "does; give more held-out good images with --data"
            )
        if (warning := new.outlier_warning()) is not None:
            self.event(f"at {steps} search steps {warning[0].lower()}{warning[1:]}")
        return new
