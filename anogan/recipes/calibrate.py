"""Threshold from good images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anogan.bundle import Bundle, default_model_path, load_bundle, save_bundle
from anogan.calibration import (
    HELD_OUT,
    Calibration,
    MapMoments,
    MapStatistics,
    calibrate,
    recalibrated,
)
from anogan.config import config_from_dict
from anogan.errors import CalibrationError, DataError
from anogan.images.folders import GOOD, file_digest, parts_of, scan_dataset
from anogan.recipes.cross_fit import Crossed, why_not_together
from anogan.recipes.good_images import TRAINED_ON, hashes_in, part_names
from anogan.recipes.models import scorer_of
from anogan.recipes.score import gather_evidence
from anogan.scoring.evidence import image_score
from anogan.scoring.judge import Judge

OnImage = Callable[[str, int, int], None]


def _silent(*_: object) -> None:
    pass


def measure_statistics(
    scorer: Judge, paths: Sequence[Path], on_image: OnImage = _silent
) -> dict[str, MapStatistics]:
    """What each kind of evidence looks like on good images.

    Use images that neither trained the networks nor set the threshold: statistics fitted on the
    threshold's own images would make these look more ordinary than new ones.
    """
    config = scorer.config.calibration
    moments: dict[str, MapMoments] = {}
    for index, (path, _, evidence) in enumerate(gather_evidence(scorer, paths)):
        if isinstance(evidence, str):
            raise DataError(f"Calibration needs every image: {evidence}")
        for name, values in evidence.parts.items():
            moments.setdefault(name, MapMoments(config.map, config.prior_images)).add(values)
        on_image(str(path), index + 1, len(paths))
    return {name: own.statistics() for name, own in moments.items()}


def good_scores(
    scorer: Judge,
    statistics: dict[str, MapStatistics],
    paths: Sequence[Path],
    on_image: OnImage = _silent,
) -> list[float]:
    """Image scores of good images under these statistics."""
    # Any threshold will do: only the map is used.
    unset = calibrate([0.0], false_reject=0.4, review_share=0, statistics=statistics)
    provisional = scorer.with_calibration(unset)
    scores = []
    for index, (path, _, evidence) in enumerate(gather_evidence(scorer, paths)):
        if isinstance(evidence, str):
            raise DataError(f"Calibration needs every image: {evidence}")
        scores.append(image_score(provisional.anomaly_map(evidence), scorer.config.score))
        on_image(str(path), index + 1, len(paths))
    return scores


def calibrate_scorer(
    scorer: Judge,
    statistics_paths: Sequence[Path],
    threshold_paths: Sequence[Path],
    on_image: OnImage = _silent,
    *,
    crossed: Sequence[Crossed] = (),
    event: Callable[[str], None] = _silent,
) -> Calibration:
    """Map statistics from one set of good images, the threshold from another.

    Args:
        scorer: The model.
        statistics_paths: Good images for the statistics.
        threshold_paths: Held-out good images for the threshold.
        on_image: Told (path, index, total) after each image.
        crossed: Training images, which count for the threshold as well, unless `why_not_together` says why
            they must not.
        event: Told in a sentence that they do not count.

    Raises:
        DataError: An image cannot be scored.
    """
    numbers = itertools.count(1)
    total = len(statistics_paths) + len(threshold_paths) + sum(len(share.paths) for share in crossed)

    def told(path: str, *_: int) -> None:
        on_image(path, next(numbers), total)

    statistics = measure_statistics(scorer, statistics_paths, told)
    held_out = good_scores(scorer, statistics, threshold_paths, told)
    alone = _calibrated(scorer, statistics, threshold_paths, held_out)
    if not crossed:
        return alone
    paths, trained = list(threshold_paths), []
    for share in crossed:
        paths += share.paths
        trained += good_scores(share.scorer, statistics, share.paths, told)
    together = _calibrated(scorer, statistics, paths, held_out + trained, n_trained=len(trained))
    if (why := why_not_together(np.array(trained), np.array(held_out), together)) is None:
        return together
    event(
        f"{why}; so the threshold stands on the held-out images alone. Turn calibration.cross_fit off, and "
        "raise split.calibrate for a surer threshold."
    )
    return alone


def _calibrated(
    scorer: Judge,
    statistics: dict[str, MapStatistics],
    paths: Sequence[Path],
    scores: Sequence[float],
    n_trained: int = 0,
) -> Calibration:
    """As the scorer's config asks; the last `n_trained` images trained the networks."""
    config = scorer.config.calibration
    return calibrate(
        scores,
        false_reject=config.false_reject,
        review_share=config.review_share,
        statistics=statistics,
        names=[path.name for path in paths],
        parts=parts_of(paths, scorer.config.split.part_of),
        leave_out_outliers=config.leave_out_outliers,
        trained=[False] * (len(paths) - n_trained) + [True] * n_trained,
    )


def calibrate_model(
    data: Path,
    model: Path | None = None,
    *,
    false_reject: float | None = None,
    review_share: float | None = None,
    leave_out_outliers: bool | None = None,
    on_image: OnImage = _silent,
) -> Calibration:
    """A new threshold for a saved model from other good images; the model is replaced.

    Args:
        data: A folder of good images; with `good/` and `test/` inside only `good/` is used.
        model: The model folder; see `default_model_path`.
        false_reject: Share of good parts rejected, at most; by default what was asked for last.
        review_share: Share of good parts that may go to review; by default what was asked for last.
        leave_out_outliers: Whether the threshold does without images that score far above the others; by
            default as last.
        on_image: Told (path, index, total) after each image.

    Raises:
        ConfigError: A share is none that `calibration` in a config takes.
        DataError: There are no good images, or one whose name lacks the part that `split.group` looks for.
        CalibrationError: Images that trained the model are among them, or all scores are unusable.
    """
    path = default_model_path(model)
    bundle = load_bundle(path)
    scorer = scorer_of(bundle)
    if scorer.calibration is None:
        raise CalibrationError(f"{path} was saved without map statistics; fit the model again.")
    rates = _rates(scorer.calibration, false_reject, review_share)
    images = scan_dataset(data).good
    if not images:  # Its test images are no substitute, and some of them are defective.
        raise DataError(f"{data} holds test/ but no good/; name a folder of good images, or add good/ there.")
    parts = parts_of(images, scorer.config.split.part_of)
    hashes = _fresh_hashes(bundle, images)
    scores = good_scores(scorer, dict(scorer.calibration.statistics), images, on_image)
    calibration = recalibrated(
        scorer.calibration,
        scores,
        *rates,
        names=[path.name for path in images],
        parts=parts,
        leave_out_outliers=leave_out_outliers,
    )
    save_bundle(path, with_calibration(bundle, calibration, source=str(data.resolve()), hashes=hashes))
    return calibration


def _rates(
    calibration: Calibration, false_reject: float | None, review_share: float | None
) -> tuple[float, float]:
    """What to promise, by the rules that hold for a config; told before the images are scored.

    Not the config's rates where none is given: an earlier `calibrate` may have asked for others.
    """
    asked = {
        "false_reject": calibration.estimate.requested if false_reject is None else false_reject,
        "review_share": calibration.review_share if review_share is None else review_share,
    }
    config = config_from_dict({"calibration": asked}, where="The new threshold").calibration
    return config.false_reject, config.review_share


def with_calibration(
    bundle: Bundle, calibration: Calibration, *, source: str, hashes: Sequence[str]
) -> Bundle:
    """The bundle with another calibration, where it came from, and the SHA-256 of each image of it.

    By these `evaluate` knows a test image that set the threshold.
    """
    data = dict(bundle.metadata.get("data", {}))
    data |= {"n_calibrate": len(hashes), "calibrate_hashes": list(hashes)}
    metadata = dict(bundle.metadata) | {
        "data": data,
        "calibrated_on": HELD_OUT,
        "calibration_source": source,
    }
    return replace(
        bundle,
        calibration=calibration.to_json_dict(),
        calibration_arrays=calibration.to_arrays(),
        metadata=metadata,
    )


def _fresh_hashes(bundle: Bundle, images: Sequence[Path]) -> list[str]:
    """SHA-256 of each image; refuses those that trained the model, or show a part that did."""
    hashes = [file_digest(path) for path in images]
    known = hashes_in(bundle, TRAINED_ON)
    known_parts = set(bundle.metadata.get("data", {}).get("trained_parts", ()))
    repeated = [
        path
        for path, digest in zip(images, hashes, strict=True)
        if digest in known or part_names(bundle.config, [path]) & known_parts
    ]
    if repeated:
        learned = "trained this model" + (", or show parts that did (split.group)" if known_parts else "")
        raise CalibrationError(
            f"{len(repeated)} of {len(images)} images, first {repeated[0]}, {learned}; a threshold "
            f"from them promises too much. Calibrate with {GOOD} images that it has not seen."
        )
    return hashes
