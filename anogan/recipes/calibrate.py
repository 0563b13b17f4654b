"""Threshold from good images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from anogan.bundle import Bundle, default_model_path, load_bundle, save_bundle
from anogan.calibration import (
    CROSS_FITTED,
    FEWEST,
    HELD_OUT,
    LIMITED,
    Calibration,
    MapMoments,
    MapStatistics,
    calibrate,
    good_limits,
    recalibrated,
)
from anogan.config import Config, config_from_dict
from anogan.errors import CalibrationError, ConfigError, DataError
from anogan.images.folders import GOOD, passed_over, passed_over_sentence, scan_dataset
from anogan.images.split import file_digest, parts_of
from anogan.recipes.cross_fit import Crossed, why_not_together
from anogan.recipes.good_images import TRAINED_ON, hashes_in, part_names, refuse_test_folder, require_usable
from anogan.recipes.models import scorer_of
from anogan.recipes.score import gather_evidence
from anogan.recipes.variants import refuse_folders, variants_of
from anogan.scoring.evidence import image_score
from anogan.scoring.judge import Judge

OnImage = Callable[[str, int, int], None]


def _silent(*_: object) -> None:
    pass


def measure_statistics(
    scorer: Judge, paths: Sequence[Path], on_image: OnImage = _silent, parts: Sequence[str] | None = None
) -> dict[str, MapStatistics]:
    """What each kind of evidence looks like on good images.

    Use images that neither trained the networks nor set the threshold: statistics fitted on the
    threshold's own images would make these look more ordinary than new ones.

    Args:
        scorer: The model.
        paths: Good images.
        on_image: Told (path, index, total) after each image.
        parts: What part each shows, see `MapMoments`; by default each its own.

    Raises:
        DataError: An image cannot be scored.
    """
    config = scorer.config.calibration
    shown = [str(number) for number in range(len(paths))] if parts is None else list(parts)
    first = {part: number for number, part in reversed(list(enumerate(shown)))}
    together = sorted(range(len(paths)), key=lambda number: first[shown[number]])
    moments: dict[str, MapMoments] = {}
    found = gather_evidence(scorer, [paths[number] for number in together])
    for index, (path, _, evidence) in enumerate(found):
        if isinstance(evidence, str):
            raise DataError(f"Calibration needs every image: {evidence}")
        for name, values in evidence.parts.items():
            own = moments.setdefault(name, MapMoments(config.map, config.prior_images))
            own.add(values, shown[together[index]])
        on_image(str(path), index + 1, len(paths))
    return {name: own.statistics() for name, own in moments.items()}


def good_scores(
    scorer: Judge,
    statistics: dict[str, MapStatistics],
    paths: Sequence[Path],
    on_image: OnImage = _silent,
) -> list[float]:
    """Image scores of good images under these statistics."""
    return _all_scores(scorer, statistics, paths, on_image)["score"]


def _all_scores(
    scorer: Judge, statistics: dict[str, MapStatistics], paths: Sequence[Path], on_image: OnImage
) -> dict[str, list[float]]:
    """The image score under these statistics, and the scores that have limits, of each image."""
    # Any threshold will do: only the map is used.
    unset = calibrate([0.0], false_reject=0.4, review_share=0, statistics=statistics)
    provisional = scorer.with_calibration(unset)
    found: dict[str, list[float]] = {name: [] for name in ("score", *LIMITED)}
    for index, (path, _, evidence) in enumerate(gather_evidence(scorer, paths)):
        if isinstance(evidence, str):
            raise DataError(f"Calibration needs every image: {evidence}")
        found["score"].append(image_score(provisional.anomaly_map(evidence), scorer.config.score))
        for name in LIMITED:
            found[name].append(getattr(evidence, name))
        on_image(str(path), index + 1, len(paths))
    return found


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

    part_of = scorer.config.split.part_of
    statistics = measure_statistics(scorer, statistics_paths, told, parts_of(statistics_paths, part_of))
    held_out = _all_scores(scorer, statistics, threshold_paths, told)
    paths, scores = list(threshold_paths), list(held_out["score"])
    for share in crossed:
        paths += share.paths
        scores += good_scores(share.scorer, statistics, share.paths, told)
    config = scorer.config.calibration
    parts = parts_of(paths, part_of)
    together = calibrate(
        scores,
        false_reject=config.false_reject,
        review_share=config.review_share,
        statistics=statistics,
        names=[path.name for path in paths],
        parts=parts,
        leave_out_outliers=config.leave_out_outliers,
        trained=[index >= len(threshold_paths) for index in range(len(paths))],
        # Of images that G has learned by heart less is left over.
        limits=good_limits(held_out, parts[: len(threshold_paths)]),
    )
    return _without_unlike(together, event)


def _without_unlike(together: Calibration, event: Callable[[str], None]) -> Calibration:
    """The same, or by the held-out images alone where those that trained must not count."""
    if not any(together.trained) or (why := why_not_together(together)) is None:
        return together
    event(
        f"{why}; so the threshold stands on the held-out images alone. Turn calibration.cross_fit off, and "
        "raise split.calibrate for a surer threshold."
    )
    held_out = [index for index, known in enumerate(together.trained) if not known]
    alone = recalibrated(
        together,
        [together.scores[index] for index in held_out],
        together.estimate.requested,
        together.review_share,
        names=[together.names[index] for index in held_out],
    )
    # All scores stay: at another rate they may count.
    return replace(alone, scores=together.scores, names=together.names, trained=together.trained)


def calibrate_model(
    data: Path | None = None,
    model: Path | None = None,
    *,
    false_reject: float | None = None,
    review_share: float | None = None,
    leave_out_outliers: bool | None = None,
    on_image: OnImage = _silent,
    event: Callable[[str], None] = _silent,
) -> Calibration:
    """A new threshold for a saved model; the model is replaced.

    Args:
        data: A folder of good images, which alone set the threshold from now on; with `good/` and `test/`
            inside only `good/` is used. None: the good images that set the last one set this one, by the
            scores that the model keeps, for another rate.
        model: The model folder; see `default_model_path`.
        false_reject: Share of good parts rejected, at most; by default what was asked for last.
        review_share: Share of good parts that may be reviewed or rejected; by default as last.
        leave_out_outliers: Whether the threshold does without images that score far above the others; by
            default as last.
        on_image: Told (path, index, total) after each image.
        event: Told in a sentence what a person should know.

    Raises:
        ConfigError: A share is none that `calibration` in a config takes, or nothing is to change.
        DataError: There are no good images, they are test images, or a name lacks the part that `split.group`
            looks for.
        CalibrationError: Images that trained the model are among them, all scores are unusable, the model
            keeps no scores, or so few images promise less than the last threshold and than was asked for.
    """
    path = default_model_path(model)
    bundle = load_bundle(path)
    scorer = scorer_of(bundle)
    if (last := scorer.calibration) is None:
        raise CalibrationError(f"{path} was saved without map statistics; fit the model again.")
    rates = _rates(last, false_reject, review_share)
    if data is None:
        if false_reject is None and review_share is None and leave_out_outliers is None:
            raise ConfigError(
                "Nothing would change; give a folder of good images (--data), or another rate "
                "(--false-reject, --review-share) for those that set the threshold last."
            )
        calibration = _with_other_rates(last, rates, leave_out_outliers, path, event)
        changed = _with_calibration(bundle, calibration)
    else:
        images, parts, hashes = _fresh_images(data, bundle, event)
        require_usable(images, bundle.config, scorer.model.image_size)
        found = _all_scores(scorer, dict(last.statistics), images, on_image)
        calibration = recalibrated(
            last,
            found["score"],
            *rates,
            names=[path.name for path in images],
            parts=parts,
            leave_out_outliers=leave_out_outliers,
            limits=good_limits(found, parts),
        )
        _refuse_to_promise_less(last, calibration, path)
        changed = _with_calibration(bundle, calibration, str(data.resolve()), hashes)
        _tell_what_counts_no_more(last, calibration, event)
        _tell_missing_variants(bundle.config, images, event)
    save_bundle(path, changed)
    return calibration


def _refuse_to_promise_less(last: Calibration, new: Calibration, path: Path) -> None:
    # The last threshold's scores go with it: a handful of images would undo for good what hundreds allow.
    if new.estimate.false_reject <= last.estimate.false_reject or (why := new.estimate.warning()) is None:
        return
    least = math.ceil(1000 / (new.estimate.n_good + 1)) / 1000
    raise CalibrationError(
        f"The threshold of {path} stays as it was: {why} This many allow --false-reject {least:g}."
    )


def _tell_what_counts_no_more(last: Calibration, new: Calibration, event: Callable[[str], None]) -> None:
    if last.limits and not new.limits:
        event(
            f"Fewer than {FEWEST} good parts set no limits for brightness and what the search leaves over, "
            "so images unlike all good ones, such as blank frames, are no longer told (in_distribution)."
        )
    if (now := new.estimate.n_good) < (before := last.estimate.n_good):
        event(
            f"{now} good images set the threshold now, {before} did before: those do not count any more, "
            "and less can be promised."
        )


def _tell_missing_variants(config: Config, images: Sequence[Path], event: Callable[[str], None]) -> None:
    if missing := set(config.network.variants) - set(variants_of(config, images)):
        event(
            f"No image shows {' or '.join(sorted(missing))}, which this model knows as well; the threshold "
            "stands on the other variants alone."
        )


def _with_other_rates(
    last: Calibration,
    rates: tuple[float, float],
    leave_out_outliers: bool | None,
    path: Path,
    event: Callable[[str], None],
) -> Calibration:
    """From the scores that set the last threshold."""
    if len(last.names) != len(last.scores):
        raise CalibrationError(
            f"{path} was fitted by an older anogan and does not keep which image has which score; give a "
            "folder of good images (--data)."
        )
    together = recalibrated(
        last,
        last.scores,
        *rates,
        names=last.names,
        leave_out_outliers=leave_out_outliers,
        trained=last.trained,
    )
    return _without_unlike(together, event)


def _fresh_images(
    data: Path, bundle: Bundle, event: Callable[[str], None]
) -> tuple[Sequence[Path], Sequence[str] | None, list[str]]:
    """The good images of a folder, the part that each shows, and their SHA-256."""
    refuse_test_folder(data, "calibrate with others")
    dataset = scan_dataset(data)
    refuse_folders(bundle.config, dataset)
    images = dataset.good
    if not images:  # Its test images are no substitute, and some of them are defective.
        raise DataError(f"{data} holds test/ but no good/; name a folder of good images, or add good/ there.")
    if unused := passed_over(dataset):
        event(passed_over_sentence(dataset, unused))
    return images, parts_of(images, bundle.config.split.part_of), _fresh_hashes(bundle, images)


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


def _with_calibration(
    bundle: Bundle, calibration: Calibration, source: str | None = None, hashes: Sequence[str] = ()
) -> Bundle:
    """The bundle with another calibration; of other images, where they came from and the SHA-256 of each.

    By these `evaluate` knows a test image that set the threshold.
    """
    metadata = dict(bundle.metadata)
    metadata["calibrated_on"] = CROSS_FITTED if calibration.estimate.n_trained else HELD_OUT
    if source is not None:
        metadata["calibration_source"] = source
        metadata["data"] = dict(metadata.get("data", {})) | {
            "n_calibrate": len(hashes),
            "calibrate_hashes": list(hashes),
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
