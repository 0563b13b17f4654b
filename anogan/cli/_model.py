"""From `--model` to something that scores: the one place that knows which kinds of model there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anogan.cli._options import Device

if TYPE_CHECKING:
    from anogan.scoring import Scorer


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to score.

    Attributes:
        path: Where it lies.
        scorer: Gives evidence and verdicts.
        metadata: What its manifest tells of data, split and calibration.
    """

    path: Path
    scorer: Scorer
    metadata: Mapping[str, Any]


def require_model(named: Path | None) -> Path:
    """The model's path, once its manifest is found to be whole.

    Before torch is imported, which takes seconds: a wrong path is told at once.

    Raises:
        BundleError: There is no model, it is damaged, or a newer anogan wrote it.
    """
    from anogan.bundle import default_model_path, read_manifest

    path = default_model_path(named)
    read_manifest(path)
    return path


def open_scorer(
    named: Path | None,
    *,
    threshold: float | None = None,
    steps: int | None = None,
    device: Device | None = None,
) -> OpenedModel:
    """Opens the model that `--model` means.

    Args:
        named: What was given; None takes `$ANOGAN_MODEL`, else `anogan-model`.
        threshold: Overrides the calibrated one.
        steps: Overrides `search.steps`.
        device: Overrides `runtime.device`.

    Raises:
        BundleError: There is no model, it is damaged, or a newer anogan wrote it.
        ConfigError: The device is not on this machine.
    """
    path = require_model(named)
    from anogan.bundle import load_bundle
    from anogan.recipes.models import scorer_of

    bundle = load_bundle(path)
    runtime = bundle.config.runtime
    if device is not None:
        runtime = runtime.model_copy(update={"device": str(device)})
    scorer = scorer_of(bundle, threshold=threshold, steps=steps, runtime=runtime)
    return OpenedModel(path, scorer, bundle.metadata)
