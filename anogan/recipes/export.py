"""From a model folder to one ONNX file for stations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from anogan.bundle import Bundle, bundle_digest, default_model_path, load_bundle
from anogan.config import RuntimeConfig
from anogan.errors import DataError
from anogan.export import Exported, export_scorer
from anogan.export.graph import Precision
from anogan.gan.alarms import why_doubtful
from anogan.images.decode import read_image
from anogan.images.folders import GOOD, scan_dataset
from anogan.images.split import file_digest
from anogan.images.spread import evenly_spread
from anogan.images.tiling import TilePyramid
from anogan.recipes.good_images import TRAINED_ON, hashes_in, part_names
from anogan.recipes.models import scorer_of
from anogan.recipes.variants import refuse_folders

GATE_IMAGES = 8
# Search steps of tiles: a large board, or a search of hundreds of steps, says as much in two images.
GATE_TILE_STEPS = 1024
CALIBRATION_IMAGES = 400


def export_model(
    out: Path,
    model: Path | None = None,
    *,
    data: Path | None = None,
    precision: Precision = "fp32",
    cut_steps: Sequence[int] = (),
    single_step: bool = False,
    event: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Writes a model as one ONNX file, once it decides as PyTorch does on images held out of training.

    Args:
        out: The file.
        model: The model folder; see `default_model_path`.
        data: Images for the comparison: a folder, or a data set with `good/` and `test/`. None takes the
            folder that the model was last calibrated on, by `fit` or `calibrate`, if it is still there.
        precision: See `export_scorer`; another than fp32 gets its threshold from held-out good images.
        cut_steps: Fewer search steps that a station's time budget may cut to; each gets thresholds from
            held-out good images.
        single_step: Also write the pieces for hosts that drive the search's steps themselves.
        event: Told what is being done.

    Raises:
        DataError: No held-out image was found.
        ExportError: The model cannot be exported, or the file decides otherwise.
        BundleError: The model is missing or damaged.
    """
    path = default_model_path(model)
    bundle = load_bundle(path)
    # On the CPU, where the exported file is compared: another device rounds otherwise.
    runtime = RuntimeConfig(device="cpu", threads=bundle.config.runtime.threads)
    source = _source(bundle, data)
    good = _held_out_good(bundle, source)
    chosen = _spread(_test_images(source), GATE_IMAGES // 2)
    chosen += _spread(good, GATE_IMAGES - len(chosen))
    if not chosen:
        raise DataError(
            f"{source} has no image that this model was not trained on; give --data a folder with held-out "
            "or test images."
        )
    calibrating = good[:CALIBRATION_IMAGES] if cut_steps or precision != "fp32" else []
    part_names(bundle.config, calibrating)  # A name without its part is told before minutes of work.
    images = _within_steps(bundle, [_read(bundle, image) for image in chosen])
    if (doubtful := why_doubtful(bundle.metadata.get("health"))) is not None:
        event(doubtful)
    return export_scorer(
        scorer_of(bundle, runtime=runtime),
        out,
        images=images,
        precision=precision,
        model_sha256=bundle_digest(path),
        calibrated_on=str(bundle.metadata.get("calibrated_on", "unknown")),
        doubtful=doubtful,
        cut_steps=cut_steps,
        single_step=single_step,
        good_images=_OnDisk(bundle, calibrating),
        good_paths=calibrating,
        event=event,
    )


def some_images(model: Path, data: Path | None, n: int) -> list[NDArray[np.generic]]:
    """At most n images that a model did not train on, from `data` or from where it was fitted.

    Raises:
        DataError: There is none.
    """
    bundle = load_bundle(model)
    source = _source(bundle, data)
    found = _spread(_test_images(source), n) or _spread(_held_out_good(bundle, source), n)
    return [_read(bundle, path) for path in found]


def _source(bundle: Bundle, data: Path | None) -> Path:
    if data is not None:
        return data
    fitted_on = bundle.metadata.get("data", {}).get("source", "")
    # Where `calibrate` set the threshold since: one for half precision has to be from there too.
    source = str(bundle.metadata.get("calibration_source", fitted_on))
    if not source or not Path(source).is_dir():
        raise DataError(
            f"The images that this model was fitted or calibrated on ({source or 'an unknown folder'}) are "
            "not on this machine, and the exported file must be compared with PyTorch on some; give them, "
            "or others like them, with --data."
        )
    return Path(source)


def _held_out_good(bundle: Bundle, source: Path) -> list[Path]:
    """Good images that trained nothing; those of the calibration first."""
    seen, calibrate = hashes_in(bundle, TRAINED_ON), hashes_in(bundle, ("calibrate",))
    dataset = scan_dataset(source)
    refuse_folders(bundle.config, dataset)
    good = dataset.good
    digests = {path: file_digest(path) for path in good}
    fresh = [path for path in good if digests[path] not in seen]
    return sorted(fresh, key=lambda path: digests[path] not in calibrate)


def _test_images(source: Path) -> list[Path]:
    """Defects first: good parts that were held out are there anyway."""
    root = source.parent if source.name == "good" and (source.parent / "test").is_dir() else source
    samples = scan_dataset(root).test
    defective = [sample.path for sample in samples if sample.kind != GOOD]
    return defective or [sample.path for sample in samples]


def _spread(paths: Sequence[Path], n: int) -> list[Path]:
    """At most n of them, evenly spaced."""
    return [paths[place] for place in evenly_spread(len(paths), n)]


class _OnDisk(Sequence[NDArray[np.generic]]):
    """Images that are read each time they are asked for; hundreds of large ones would fill the memory."""

    def __init__(self, bundle: Bundle, paths: Sequence[Path]) -> None:
        self._bundle, self._paths = bundle, paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.generic]: ...
    @overload
    def __getitem__(self, index: slice) -> _OnDisk: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.generic] | _OnDisk:
        chosen = self._paths[index]
        return _read(self._bundle, chosen) if isinstance(chosen, Path) else _OnDisk(self._bundle, chosen)


def _read(bundle: Bundle, path: Path) -> NDArray[np.generic]:
    images = bundle.config.images
    return read_image(path, channels=images.channels, bit_depth=images.bit_depth)


def _within_steps(bundle: Bundle, images: list[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """The first images whose searches are few enough steps together; at least two, where there are two."""
    steps = 0
    kept: list[NDArray[np.generic]] = []
    for image in images:
        size = bundle.metadata.get("image_size") or image.shape[:2]
        config = bundle.config.tiles
        sides = (int(size[0]), int(size[1]))
        tiles = TilePyramid(sides, config.size, config.overlap, config.scales).n_tiles
        steps += tiles * max(1, bundle.config.search.steps)
        if len(kept) >= 2 and steps > GATE_TILE_STEPS:
            break
        kept.append(image)
    return kept
