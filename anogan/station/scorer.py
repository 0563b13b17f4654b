"""From raw pixels to an `Inspection`, in ONNX Runtime: no torch, no onnx package."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import refuse_all_border
from anogan.errors import BundleError, ConfigError, ImageError, ShapeError, is_out_of_memory, too_large
from anogan.images.decode import Pixels, as_model_image, read_image, several
from anogan.images.exposure import brightness
from anogan.images.tiling import TilePyramid
from anogan.images.variants import variant_index
from anogan.inspection import Inspection, ScoredFile, Verdict, check_overrides
from anogan.station.manifest import InputContract, StepsCalibration, parse_manifest
from anogan.station.sealed import PIECE_KEY, read_sealed
from anogan.station.session import Session

BATCH_PIXELS = 2**19  # Images of one call: tiles are chunked inside the file, whole maps are not.
VERDICTS = (Verdict.PASS, Verdict.REVIEW, Verdict.REJECT)


@dataclass(frozen=True, slots=True)
class BudgetedInspection(Inspection):
    """An inspection under a time budget.

    Attributes:
        steps_wanted: The steps that the model searches without a budget; fewer were allowed here, and
            `threshold` is the one that was calibrated with so few.
    """

    steps_wanted: int = 0

    def to_dict(self) -> dict[str, object]:
        """The machine-readable line, marked as cut."""
        # Not super(): slots make another class than the one that a bare super() would look for.
        return Inspection.to_dict(self) | {"steps_cut": True, "steps_wanted": self.steps_wanted}


class Runner(Protocol):
    """What scores pixels: a session of the whole file, or of its pieces."""

    provider: str

    @property
    def metadata(self) -> dict[str, str]:
        """The file's `metadata_props`."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Output name -> array."""


class Scorer:
    """Scores images with one exported file; may be called from several threads."""

    def __init__(
        self,
        path: Path | str,
        *,
        providers: Sequence[str] | None = None,
        threshold: float | None = None,
        steps: int | None = None,
        budget_ms: float | None = None,
        threads: int | None = None,
    ) -> None:
        """Loads and verifies a scorer file.

        Args:
            path: A file that `anogan export` wrote.
            providers: `tensorrt`, `cuda`, `openvino` or `cpu`, in order of preference; None takes CUDA
                where it works, else the CPU.
            threshold: Overrides the calibrated one.
            steps: Overrides the model's number of search steps; the thresholds are those of so many steps
                where the export calibrated them (`--cut-steps`), else the model's.
            budget_ms: Wall time that one image may take. The search is cut to the most steps that fit, among
                those that the export calibrated.
            threads: CPU threads of one call, at most one per core; None is every core.

        Raises:
            BundleError: The file is missing, damaged, not a scorer, or newer than this package.
            ConfigError: The provider is missing, or the settings contradict each other.
        """
        self.path = Path(path)
        self._session = self._load(providers, threads)
        self.manifest = parse_manifest(self._session.metadata, str(self.path))
        self._threshold, self._steps, self._budget_ms = threshold, steps, budget_ms
        self._check_settings()
        self._cost: _Cost | None = None
        if budget_ms is not None:
            self._cost = self._measure_cost()

    def _load(self, providers: Sequence[str] | None, threads: int | None) -> Runner:
        session = Session(read_sealed(self.path), str(self.path), providers, threads)
        if PIECE_KEY in session.metadata:
            raise BundleError(
                f"{self.path} is one of three pieces for hosts that drive the search's steps; name the whole "
                "file, or give its name to StepwiseScorer."
            )
        return session

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what runs the search, such as CPUExecutionProvider."""
        return self._session.provider

    @property
    def threshold(self) -> float:
        """Scores above it are rejected (without a time budget)."""
        return self._unhurried().threshold if self._threshold is None else self._threshold

    @property
    def review_threshold(self) -> float:
        """Scores above it are at least reviewed (without a time budget)."""
        return min(self._unhurried().review_threshold, self.threshold)

    def with_steps(self, steps: int) -> Scorer:
        """The same loaded file, searching another number of steps; see `steps` above."""
        other = copy(self)
        other._steps, other._budget_ms, other._cost = steps, None, None
        other._check_settings()
        return other

    @property
    def variants(self) -> tuple[str, ...]:
        """The product variants that it must be told of; empty for a model of one product."""
        return tuple(self.manifest.config["network"].get("variants", ()))

    @overload
    def score(self, images: Path | str, variant: str | None = None) -> Inspection: ...
    @overload
    def score(
        self, images: Sequence[NDArray[Any]] | NDArray[Any], variant: str | None = None
    ) -> list[Inspection]: ...
    def score(
        self, images: Path | str | Sequence[NDArray[Any]] | NDArray[Any], variant: str | None = None
    ) -> Inspection | list[Inspection]:
        """One inspection per image, in order; for a file's path its inspection, see `score_file`.

        Args:
            images: (H, W) or (H, W, C) uint8 or uint16 each, RGB; or one array (N, H, W, C).
            variant: Of the product that all of them show, one of `variants`.

        Raises:
            ConfigError: The variant is missing, or none that the model knows.
            ShapeError: One image was given, not several.
            ImageError: An image is not of the size, channels or bit depth that the model takes.
        """
        if isinstance(images, Path | str):
            return self.score_file(images, variant)
        checked = [self._checked(image, f"image {i}") for i, image in enumerate(several(images))]
        found: dict[int, Inspection] = {}
        for group in _groups(checked):
            inspections = self._score_alike([checked[i] for i in group], variant)
            found.update(zip(group, inspections, strict=True))
        return [found[index] for index in range(len(checked))]

    def score_file(self, path: Path | str, variant: str | None = None) -> Inspection:
        """The inspection of one image file.

        Args:
            path: The file.
            variant: Of the product; by default the name of its folder, if the model has `variants`.

        Raises:
            ConfigError: The variant is missing, or none that the model knows.
            ImageError: The file is missing or damaged, or the image does not fit the model.
        """
        return self._score_one(self.read(Path(path)), Path(path), variant)

    def score_files(self, paths: Sequence[Path], variant: str | None = None) -> Iterator[ScoredFile]:
        """Scores files in order, each given when it is known; a bad one is told and the rest goes on."""
        for path in paths:
            try:
                image = self.read(path)
                scored = ScoredFile(path, self._score_one(image, path, variant), image)
            except ImageError as error:
                scored = ScoredFile(path, error=str(error))
            except ConfigError as error:
                scored = ScoredFile(path, error=f"{path}: {error}")
            except (BundleError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                scored = ScoredFile(path, error=f"{path}: {too_large(error)}")
            yield scored

    def read(self, path: Path) -> Pixels:
        """The pixels of a file as this model takes them; ImageError if it cannot take them."""
        contract = self.manifest.input
        image = read_image(path, channels=contract.channels, bit_depth=contract.bit_depth)
        return self._checked(image, str(path))

    def _score_one(self, image: Pixels, path: Path, variant: str | None) -> Inspection:
        if variant is None and self.variants:
            variant = path.absolute().parent.name
        return replace(self._score_alike([image], variant)[0], path=path)

    def _told(self, variant: str | None, n: int) -> dict[str, NDArray[np.int64]]:
        """The input `variant` for n images; none for a model that knows no variants."""
        index = variant_index(self.variants, variant)
        return {} if index is None else {"variant": np.full(n, index, np.int64)}

    def _checked(self, image: NDArray[Any], name: str) -> Pixels:
        contract = self.manifest.input
        pixels = as_model_image(image, channels=contract.channels, bit_depth=contract.bit_depth, name=name)
        _check_size(pixels, contract, self.manifest.config["score"]["border"], name)
        return pixels

    def _score_alike(self, images: list[Pixels], variant: str | None) -> list[Inspection]:
        """Scores images of one size in one call."""
        started = time.perf_counter()
        calibration, is_cut = self._calibration(images[0].shape[:2])
        threshold = calibration.threshold if self._threshold is None else self._threshold
        results = self._session.run(
            {
                "image": np.stack(images),
                **self._told(variant, len(images)),
                "steps": np.array(calibration.steps, np.int64),
                "threshold": np.array(threshold, np.float32),
                "review_threshold": np.array(calibration.review_threshold, np.float32),
            }
        )
        if "brightness" not in results:  # Of files that were exported before it was told.
            depth = self.manifest.input.bit_depth
            results["brightness"] = np.array([brightness(image, depth) for image in images])
        ms = 1000 * (time.perf_counter() - started) / len(images)
        found = [_inspection(results, i, threshold, ms) for i in range(len(images))]
        if not is_cut:
            return found
        wanted = self.manifest.calibrations[0].steps
        return [BudgetedInspection(**_fields(inspection), steps_wanted=wanted) for inspection in found]

    def _unhurried(self) -> StepsCalibration:
        """Steps and thresholds without a time budget."""
        default, *others = self.manifest.calibrations
        if self._steps is None:
            return default
        calibrated = (own for own in (default, *others) if own.steps == self._steps)
        return next(calibrated, default.model_copy(update={"steps": self._steps}))

    def _calibration(self, size: tuple[int, ...]) -> tuple[StepsCalibration, bool]:
        """Steps and thresholds for an image of this size, and whether the budget cut them."""
        default = self._unhurried()
        if self._budget_ms is None or self._cost is None:
            return default, False
        tiles = _tile_count(self.manifest.input, size)
        ladder = sorted(self.manifest.calibrations, key=lambda c: c.steps, reverse=True)
        fitting = [c for c in ladder if self._cost.predict_ms(tiles, c.steps) <= self._budget_ms]
        chosen = fitting[0] if fitting else ladder[-1]
        return chosen, chosen.steps < default.steps

    def _check_settings(self) -> None:
        check_overrides(self._threshold, self._steps)
        if self._budget_ms is None:
            return
        if self._steps is not None:
            raise ConfigError("Both steps and budget_ms were given; a budget chooses the steps, so give one.")
        if not self._budget_ms > 0:
            raise ConfigError(f"budget_ms is {self._budget_ms}; expected more than 0 milliseconds.")
        if len(self.manifest.calibrations) == 1:
            raise ConfigError(
                f"{self.path} is calibrated for {self.manifest.calibrations[0].steps} steps only, so a time "
                "budget cannot cut them; export again with --cut-steps, such as --cut-steps 0,1."
            )

    def _measure_cost(self) -> _Cost:
        """Times a grey image with no step and with one, after one run that warms up."""
        contract = self.manifest.input
        size = contract.size or (contract.tile_size, contract.tile_size)
        image = np.full((1, *size, contract.channels), 2 ** (contract.bit_depth - 1))
        pixels = image.astype(np.uint8 if contract.bit_depth == 8 else np.uint16)
        times = []
        for steps in (1, 0, 1):
            started = time.perf_counter()
            told = self._told(self.variants[0] if self.variants else None, 1)
            self._session.run({"image": pixels, "steps": np.array(steps, np.int64), **told})
            times.append(1000 * (time.perf_counter() - started))
        tiles = _tile_count(contract, size)
        return _Cost(base_ms=times[1] / tiles, step_ms=max(0.0, times[2] - times[1]) / tiles)


@dataclass(frozen=True)
class _Cost:
    """Milliseconds per tile: once, and per step."""

    base_ms: float
    step_ms: float

    def predict_ms(self, tiles: int, steps: int) -> float:
        return tiles * (self.base_ms + steps * self.step_ms)


def _inspection(results: dict[str, NDArray[Any]], i: int, threshold: float, ms: float) -> Inspection:
    return Inspection(
        score=float(results["score"][i]),
        threshold=threshold,
        verdict=VERDICTS[int(results["verdict"][i])],
        residual_score=float(results["residual_score"][i]),
        discrimination_score=float(results["discrimination_score"][i]),
        anomaly_score=float(results["anomaly_score"][i]),
        steps_used=int(results["steps_used"][i]),
        brightness=float(results["brightness"][i]),
        ms=ms,
        anomaly_map=results["anomaly_map"][i],
        reconstruction=results["reconstruction"][i],
        registered=_flag(results, "registered", i),
        in_distribution=_flag(results, "in_distribution", i),
    )


def _flag(results: dict[str, NDArray[Any]], name: str, i: int) -> bool | None:
    """What not every model tells."""
    return bool(results[name][i]) if name in results else None


def _fields(inspection: Inspection) -> dict[str, Any]:
    return {name: getattr(inspection, name) for name in Inspection.__dataclass_fields__}


def _groups(images: Sequence[Pixels]) -> Iterator[list[int]]:
    """Indices of images of one size, few enough to be scored at once; a large image is alone."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(index)
    for shape, indices in by_size.items():
        most = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
        yield from (indices[start : start + most] for start in range(0, len(indices), most))


def _check_size(image: Pixels, contract: InputContract, border: int, name: str) -> None:
    size = (image.shape[0], image.shape[1])
    if contract.size is None:
        try:
            _pyramid(contract, size)
            refuse_all_border(size, border)
        except ShapeError as error:
            raise ImageError(f"{name}: {error}") from error
    elif size != contract.size and not contract.resizes:
        raise ImageError(
            f"{name} is {size[1]}x{size[0]} pixels; this model expects "
            f"{contract.size[1]}x{contract.size[0]}. Crop it alike, or retrain with "
            "images.on_mixed_sizes: resize."
        )


def _tile_count(contract: InputContract, size: tuple[int, ...]) -> int:
    height, width = contract.size or (size[0], size[1])
    return _pyramid(contract, (height, width)).n_tiles


def _pyramid(contract: InputContract, size: tuple[int, int]) -> TilePyramid:
    return TilePyramid(size, contract.tile_size, contract.tile_overlap, contract.tile_scales)
