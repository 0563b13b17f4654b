"""Models between disk and memory."""

from __future__ import annotations

from pathlib import Path

from anogan.bundle import Bundle, default_model_path, load_bundle
from anogan.calibration import Calibration
from anogan.config import RuntimeConfig
from anogan.gan.device import pick_device, set_threads
from anogan.scoring import Model, Scorer


def load_scorer(
    path: Path | str | None = None,
    *,
    threshold: float | None = None,
    steps: int | None = None,
    runtime: RuntimeConfig | None = None,
) -> Scorer:
    """A scorer from a model folder, verified against its hashes.

    Args:
        path: The folder; None takes `$ANOGAN_MODEL`, else `anogan-model`.
        threshold: Overrides the calibrated threshold.
        steps: Overrides `search.steps`.
        runtime: Device and threads; the model's own by default.

    Raises:
        BundleError: The model is missing, damaged or newer than this package.
    """
    folder = default_model_path(None if path is None else Path(path))
    return scorer_of(load_bundle(folder), threshold=threshold, steps=steps, runtime=runtime)


load = load_scorer  # `anogan.load`, what a library user types.


def scorer_of(
    bundle: Bundle,
    *,
    threshold: float | None = None,
    steps: int | None = None,
    runtime: RuntimeConfig | None = None,
) -> Scorer:
    """The scorer of a loaded bundle; see `load_scorer`."""
    runtime = runtime or bundle.config.runtime
    set_threads(runtime)
    size = bundle.metadata.get("image_size")
    model = Model.from_arrays(
        bundle.config,
        bundle.weights,
        None if size is None else (int(size[0]), int(size[1])),
        pick_device(runtime),
    )
    calibration = None
    if bundle.calibration:
        calibration = Calibration.from_json_dict(bundle.calibration, bundle.calibration_arrays)
    return Scorer(model, calibration, threshold=threshold, steps=steps)
