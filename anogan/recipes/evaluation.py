"""How good a model is on a labelled test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.bundle import Bundle, default_model_path, load_bundle
from anogan.calibration import HELD_OUT, ON_GOOD
from anogan.errors import CalibrationError, DataError, ImageError
from anogan.files import write_json
from anogan.gan.alarms import why_doubtful
from anogan.images.decode import probe, read_image
from anogan.images.folders import GOOD, Sample, read_mask, scan_dataset
from anogan.inspection import Inspection
from anogan.metrics import Evaluation, PixelCurves, evaluate_scores
from anogan.recipes.good_images import TRAINED_ON, hashes_in, readable_digest
from anogan.recipes.models import scorer_of
from anogan.recipes.score import score_files
from anogan.report import _words
from anogan.report.gathered import PICTURES, Gathered
from anogan.report.html import write_report
from anogan.report.plots import roc_curve, score_histogram
from anogan.scoring import Scorer
from anogan.scoring.judge import Judge


@dataclass(frozen=True)
class EvaluationRun:
    """An evaluation and everything it was made of.

    Attributes:
        evaluation: The figures.
        inspections: Of the images that could be scored, in order; maps and reconstructions have only those
            that the report shows.
        kinds: `good` or the defect kind of each of them.
        ms_per_image: Median scoring time.
        errors: Files that could not be scored.
        doubtful: Why the model's training is doubtful, if it is, as a sentence.
    """

    evaluation: Evaluation
    inspections: tuple[Inspection, ...]
    kinds: tuple[str, ...]
    ms_per_image: float
    errors: Mapping[Path, str] = field(default_factory=dict)
    doubtful: str | None = None

    def figures(self) -> dict[str, Any]:
        """Of all images together, machine-readable."""
        return {
            **self.evaluation.to_dict(),
            "ms_per_image": self.ms_per_image,
            "errors": {str(path): message for path, message in self.errors.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """The figures, and under `images` each image's path, kind, score and verdict."""
        images = [
            {
                "path": None if inspection.path is None else str(inspection.path),
                "kind": kind,
                "score": inspection.score,
                "verdict": str(inspection.verdict),
            }
            for inspection, kind in zip(self.inspections, self.kinds, strict=True)
        ]
        return self.figures() | {"images": images}


def evaluate(
    data: Path | str,
    model: Path | str | None = None,
    *,
    report: Path | str | None = None,
    on_image: Callable[[str, int, int], None] = lambda *_: None,
) -> EvaluationRun:
    """Scores a data set's `test/` at the threshold that was calibrated on good images.

    Args:
        data: A folder with `test/good`, `test/<kind>` and, for pixel figures, `ground_truth/<kind>`.
        model: The model folder; see `default_model_path`.
        report: A folder for `report.html` and `evaluation.json`.
        on_image: Told (path, index, total) after each image.

    Raises:
        DataError: There is no labelled test set, the model was fitted on some of it, or none of its images
            can be scored.
        CalibrationError: The threshold was not set on held-out good images.
    """
    data, path = Path(data), default_model_path(None if model is None else Path(model))
    bundle = load_bundle(path)
    _require_good_calibration(bundle, path)
    scorer = scorer_of(bundle)
    samples = scan_dataset(data).test
    if not samples:
        raise DataError(
            f"{data} has no test images; expected test/good/ and test/<defect kind>/. To score unlabelled "
            "images use `anogan score`."
        )
    _refuse_fitted_images(bundle, samples)
    run = evaluate_scorer(scorer, samples, on_image, pictures=0 if report is None else PICTURES)
    run = replace(run, doubtful=why_doubtful(bundle.metadata.get("health")))
    if report is not None:
        _write_report(Path(report), data, scorer, bundle, samples, run)
    return run


def _require_good_calibration(bundle: Bundle, path: Path) -> None:
    """Figures at a threshold that saw the test images would flatter the model."""
    calibrated_on = bundle.metadata.get("calibrated_on", "unknown images")
    if calibrated_on not in ON_GOOD:
        raise CalibrationError(
            f"The threshold of {path} was set on {calibrated_on}, expected {HELD_OUT}; run "
            "`anogan calibrate` with good images, then evaluate."
        )


def _refuse_fitted_images(bundle: Bundle, samples: Sequence[Sample]) -> None:
    known = hashes_in(bundle, (*TRAINED_ON, "calibrate"))
    leaked = [sample.path for sample in samples if readable_digest(sample.path) in known]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(samples)} test images, first {leaked[0]}, served to fit or calibrate "
            "this model, so the figures would be too good; take them out of test/, or fit and calibrate "
            "without them."
        )


def evaluate_scorer(
    scorer: Judge,
    samples: tuple[Sample, ...],
    on_image: Callable[[str, int, int], None] = lambda *_: None,
    *,
    pictures: int = 0,
) -> EvaluationRun:
    """Scores labelled images with anything that has a threshold.

    Args:
        scorer: A calibrated model or baseline.
        samples: The images.
        on_image: Told (path, index, total) after each image.
        pictures: Images whose maps are kept for a report; the figures need none, so that memory does not grow
            with the number of images.

    Raises:
        DataError: None of them can be scored.
        ImageError: A mask is unreadable, or of another size than its image; before anything is scored.
    """
    _refuse_unfit_masks(samples)
    gathered, pixels = Gathered(scorer.threshold, pictures), PixelCurves()
    kinds: list[str] = []
    errors: dict[Path, str] = {}
    files = score_files(scorer, [sample.path for sample in samples])
    for index, (sample, file) in enumerate(zip(samples, files, strict=True)):
        on_image(str(sample.path), index + 1, len(samples))
        if file.inspection is None:
            errors[sample.path] = file.error or ""
            continue
        if not np.isfinite(file.inspection.score):  # Reviewed by a person, but no figure can count it.
            errors[sample.path] = f"{sample.path}: its score is {file.inspection.score}, which is no number."
            continue
        anomaly_map = file.inspection.anomaly_map
        height, width = anomaly_map.shape
        truth = None if sample.mask_path is None else read_mask(sample.mask_path, (height, width))
        pixels.add(sample.kind, truth, anomaly_map)
        gathered.add(file.inspection)
        kinds.append(sample.kind)
    if not kinds:
        first = next(iter(errors.values()))
        raise DataError(f"None of the {len(samples)} test images could be scored: {first}")
    inspections = tuple(gathered.inspections)
    scores = [inspection.score for inspection in inspections]
    evaluation = evaluate_scores(kinds, scores, scorer.threshold, pixels=pixels, seed=scorer.config.seed)
    ms = float(np.median([inspection.ms for inspection in inspections]))
    return EvaluationRun(evaluation, inspections, tuple(kinds), ms, errors)


def _refuse_unfit_masks(samples: Sequence[Sample]) -> None:
    """Reads every mask once before anything is scored; none is kept."""
    for sample in samples:
        if sample.mask_path is None:
            continue
        try:
            info = probe(sample.path)
        except ImageError:
            continue  # Scoring tells why it cannot be read.
        read_mask(sample.mask_path, (info.height, info.width))


def _write_report(
    folder: Path,
    data: Path,
    scorer: Scorer,
    bundle: Bundle,
    samples: tuple[Sample, ...],
    run: EvaluationRun,
) -> None:
    metadata = bundle.metadata
    curves = bundle.attachments.get("training_curves.png")
    mask_paths = {sample.path: sample.mask_path for sample in samples}
    images = scorer.config.images

    def pixels(inspection: Inspection) -> NDArray[Any]:
        assert inspection.path is not None
        return read_image(inspection.path, channels=images.channels, bit_depth=images.bit_depth)

    def mask(inspection: Inspection, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        # Of the photograph's size: the map of a large one is kept reduced.
        path = mask_paths.get(inspection.path) if inspection.path is not None else None
        return None if path is None else read_mask(path, size)

    write_report(
        folder / "report.html",
        title=f"anogan: {data.name}",
        inspections=run.inspections,
        images=pixels,
        calibrated_on=str(metadata.get("calibrated_on", "unknown")),
        evaluation=run.evaluation.to_dict(),
        calibration=_words.warned(scorer.promise(), run.doubtful),
        errors=dict(run.errors),
        figures=_figures(scorer, run) | ({} if curves is None else {"Training curves": curves}),
        config=scorer.config.model_dump(mode="json", by_alias=True),
        masks=mask,
    )
    write_json(folder / "evaluation.json", run.to_dict())


def _figures(scorer: Scorer, run: EvaluationRun) -> dict[str, bytes]:
    scores = np.array([inspection.score for inspection in run.inspections])
    defect = np.array([kind != GOOD for kind in run.kinds])
    figures = {
        "Scores of good and defective parts": score_histogram(
            scores[~defect], scores[defect], scorer.threshold, scorer.review_threshold
        )
    }
    if defect.any() and not defect.all():
        figures["ROC curve"] = roc_curve(scores[~defect], scores[defect], scorer.threshold)
    return figures
