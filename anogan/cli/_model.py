"""From `--model` to something that scores: the one place that knows which kinds of model there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anogan.cli._options import Device
from anogan.errors import BundleError, ConfigError
from anogan.report._words import warned

if TYPE_CHECKING:
    from anogan.inspection import ScoredFile

EXPORTED = ".onnx"


class Thresholds(Protocol):
    """What a scorer of either kind says of its thresholds."""

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        ...

    @property
    def review_threshold(self) -> float:
        """Scores above it are at least reviewed."""
        ...


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to score, in PyTorch or in ONNX Runtime.

    Attributes:
        path: Where it lies.
        scorer: Its thresholds.
        score_files: Files -> one result each, in order, each as soon as it is known.
        calibrated_on: Which images set the threshold.
        promise: The calibration in the terms of the report, as far as it holds.
        unpromised: Why no false-reject rate is promised for these scores, if so, as a sentence.
        doubtful: Why the model's training is doubtful, if it is, as a sentence.
        config: Every setting, plain JSON types.
    """

    path: Path
    scorer: Thresholds
    score_files: Callable[[Sequence[Path]], Iterator[ScoredFile]]
    calibrated_on: str
    promise: Mapping[str, Any]
    unpromised: str | None
    doubtful: str | None
    config: Mapping[str, Any]


def require_model(named: Path | None, *, exported: bool = False) -> Path:
    """The model's path, once its manifest (of an exported file: its seal) is found to be whole.

    Before torch is imported, which takes seconds: a wrong path is told at once.

    Args:
        named: What was given; None takes `$ANOGAN_MODEL`, else `anogan-model`.
        exported: Whether an exported `.onnx` file will do as well.

    Raises:
        BundleError: There is no model, it is damaged, or a newer anogan wrote it.
    """
    from anogan.bundle import default_model_path, read_manifest

    path = default_model_path(named)
    if not exported:
        require_folder(path)
    if is_exported(path):
        from anogan.station.sealed import read_sealed

        read_sealed(path)
    else:
        read_manifest(path)
    return path


def require_folder(path: Path) -> None:
    """Refuses an exported file where only a model folder will do.

    Raises:
        BundleError: It is one.
    """
    if is_exported(path):
        raise BundleError(
            f"{path} is an exported file, which `anogan score` and `anogan benchmark` take; this command "
            "needs the model folder that it was exported from."
        )


def is_exported(path: Path) -> bool:
    """Whether a model's path means an exported file rather than a folder."""
    return path.suffix.lower() == EXPORTED and not path.is_dir()


def open_scorer(
    named: Path | None,
    *,
    threshold: float | None = None,
    steps: int | None = None,
    device: Device | None = None,
    variant: str | None = None,
) -> OpenedModel:
    """Opens the model that `--model` means.

    Args:
        named: What was given; None takes `$ANOGAN_MODEL`, else `anogan-model`.
        threshold: Overrides the calibrated one.
        steps: Overrides `search.steps`.
        device: Overrides `runtime.device`.
        variant: Of the product on all images that it will score; None takes each image's folder.

    Raises:
        BundleError: There is no model, it is damaged, or a newer anogan wrote it.
        ConfigError: The device is not on this machine, or the model does not know the variant.
    """
    path = require_model(named, exported=True)
    if is_exported(path):
        return _open_exported(path, threshold, steps, device, variant)
    return _open_folder(path, threshold, steps, device, variant)


def _open_folder(
    path: Path, threshold: float | None, steps: int | None, device: Device | None, variant: str | None
) -> OpenedModel:
    from anogan.bundle import load_bundle
    from anogan.config import config_to_dict
    from anogan.gan.alarms import why_doubtful
    from anogan.images.variants import variant_index
    from anogan.recipes import score_files
    from anogan.recipes.models import scorer_of

    bundle = load_bundle(path)
    if variant is not None:
        variant_index(bundle.config.network.variants, variant)  # Before the first image, not once for each.
    runtime = bundle.config.runtime
    if device is not None:
        runtime = runtime.model_copy(update={"device": str(device)})
    scorer = scorer_of(bundle, threshold=threshold, steps=steps, runtime=runtime)
    why = _unpromised(threshold, steps, [bundle.config.search.steps])
    doubtful = why_doubtful(bundle.metadata.get("health"))
    promise = scorer.promise() if scorer.calibration is not None else {}
    return OpenedModel(
        path=path,
        scorer=scorer,
        score_files=lambda paths: score_files(scorer, paths, variant),
        calibrated_on=str(bundle.metadata.get("calibrated_on", "unknown")),
        promise=warned(_promised(scorer, why, promise), doubtful),
        unpromised=why,
        doubtful=doubtful,
        config=config_to_dict(bundle.config),
    )


def _open_exported(
    path: Path, threshold: float | None, steps: int | None, device: Device | None, variant: str | None
) -> OpenedModel:
    from anogan.calibration import ThresholdEstimate
    from anogan.images.variants import variant_index
    from anogan.station import Scorer as StationScorer

    scorer = StationScorer(path, providers=providers_of(device), threshold=threshold, steps=steps)
    if variant is not None:
        variant_index(scorer.variants, variant)  # Before the first image, not once for each.
    calibrations = scorer.manifest.calibrations
    why = _unpromised(threshold, steps, [calibration.steps for calibration in calibrations])
    if steps in (None, calibrations[0].steps):
        estimate = ThresholdEstimate(**scorer.manifest.promise)
        promise = estimate.summary(scorer.threshold, scorer.review_threshold)
    else:
        promise = next((c.model_dump() for c in calibrations if c.steps == steps), {})
    return OpenedModel(
        path=path,
        scorer=scorer,
        score_files=lambda paths: scorer.score_files(paths, variant),
        calibrated_on=scorer.manifest.calibrated_on,
        promise=warned(_promised(scorer, why, promise), scorer.manifest.doubtful),
        unpromised=why,
        doubtful=scorer.manifest.doubtful,
        config=scorer.manifest.config,
    )


def _unpromised(threshold: float | None, steps: int | None, calibrated: Sequence[int]) -> str | None:
    if threshold is not None:
        return "The threshold was given by hand, so no false-reject rate is promised."
    if steps is None or steps in calibrated:
        return None
    return (
        f"The threshold was set at {calibrated[0]} search steps; what it promises does not hold at {steps}."
    )


def _promised(scorer: Thresholds, why_not: str | None, promise: Mapping[str, Any]) -> Mapping[str, Any]:
    if why_not is None:
        return promise
    limits = {"threshold": scorer.threshold, "review_threshold": scorer.review_threshold}
    return limits | {"warning": why_not}


def providers_of(device: Device | None) -> list[str] | None:
    """ONNX Runtime's provider for a `--device`; None is its own choice.

    Raises:
        ConfigError: ONNX Runtime has no such device.
    """
    if device is Device.MPS:
        raise ConfigError("--device mps is for PyTorch; an exported file runs on cpu or cuda.")
    return None if device in (None, Device.AUTO) else [str(device)]
