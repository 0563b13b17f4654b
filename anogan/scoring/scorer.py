"""From raw pixels to an `Inspection`, in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anogan.calibration import PARTS, Calibration, combine, part_name, refuse_all_border, smooth, spread
from anogan.errors import CalibrationError, ConfigError, ImageError, ShapeError
from anogan.gan.condition import condition_dim, image_of, tile_conditions, with_condition
from anogan.gan.device import full_float32
from anogan.images.decode import Pixels, as_model_image, read_image, several
from anogan.images.exposure import brightness, sized_and_exposed
from anogan.images.registration import Alignment
from anogan.images.resize import from_network, resize, to_network
from anogan.images.tiling import TilePyramid
from anogan.images.variants import variant_of
from anogan.inspection import Inspection, check_overrides
from anogan.scoring.evidence import Evidence, FloatMap, image_score, score_weights
from anogan.scoring.inverter import Inverter
from anogan.scoring.maps import head_input, residual_map
from anogan.scoring.model import Model
from anogan.scoring.perceptual import perceptual_map
from anogan.scoring.search import residual_score

CHUNK_PIXELS = 2**19  # Tiles searched at once: half a million pixels keep memory under about 1 GiB.


@dataclass(frozen=True)
class _Prepared:
    """An image as the networks take it.

    Attributes:
        x: (C, h, w) in [-1, 1].
        gain: What its pixels were multiplied with.
        brightness: As it came, in [0, 1].
        alignment: How it was registered, or None.
    """

    x: FloatMap
    gain: np.float32
    brightness: float
    alignment: Alignment | None


class Scorer:
    """Scores images with a frozen model; an image's score never depends on other images."""

    def __init__(
        self,
        model: Model,
        calibration: Calibration | None = None,
        *,
        threshold: float | None = None,
        steps: int | None = None,
    ) -> None:
        """Takes a model apart.

        Args:
            model: Trained networks.
            calibration: Needed to `score`; `evidence` works without.
            threshold: Overrides the calibrated one.
            steps: Overrides `search.steps`.

        Raises:
            ConfigError: The threshold is not finite, the steps are below 0, or config and aligner disagree.
        """
        check_overrides(threshold, steps)
        if (model.aligner is None) != (model.config.images.registration == "none"):
            raise ConfigError("images.registration and the model's aligner go together; fit the model again.")
        self.model, self.config = model, model.config
        self.calibration = calibration
        self._threshold, self.steps = threshold, steps
        self._inverter = Inverter(model.config, model.networks, model.feature_scales, model.perceptual)
        self._aligner = model.aligner
        self._device = next(model.networks.generator.parameters()).device

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        return self._calibrated().estimate.threshold if self._threshold is None else self._threshold

    @property
    def review_threshold(self) -> float:
        """Scores above it are at least reviewed."""
        return min(self._calibrated().review_threshold, self.threshold)

    def promise(self) -> dict[str, Any]:
        """Thresholds in force and what the calibrated one promises; see `ThresholdEstimate.summary`.

        Raises:
            CalibrationError: The model has no calibration.
        """
        return self._calibrated().estimate.summary(self.threshold, self.review_threshold)

    def with_calibration(self, calibration: Calibration) -> Scorer:
        """The same model with another calibration, and without a threshold set by hand."""
        return Scorer(self.model, calibration, steps=self.steps)

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
            variant: Of the product that all of them show, for a model with `network.condition: variant`.

        Raises:
            CalibrationError: The model has no calibration.
            ConfigError: The variant is missing, or none that the model knows.
            ShapeError: One image was given, not several.
            ImageError: An image is not of the size, channels or bit depth that the model takes.
        """
        if isinstance(images, Path | str):
            return self.score_file(images, variant)
        self._calibrated()
        checked = [self._checked(image, f"image {i}") for i, image in enumerate(several(images))]
        found = self.evidence(checked, [variant] * len(checked))
        return [self.judge(evidence, image) for evidence, image in zip(found, checked, strict=True)]

    def score_file(self, path: Path | str, variant: str | None = None) -> Inspection:
        """The inspection of one image file.

        Args:
            path: The file.
            variant: Of the product; by default the name of its folder, if the model knows variants.

        Raises:
            CalibrationError: The model has no calibration.
            ConfigError: The variant is missing, or none that the model knows.
            ImageError: The file is missing or damaged, or the image does not fit the model.
        """
        self._calibrated()
        path, images = Path(path), self.config.images
        pixels = read_image(path, channels=images.channels, bit_depth=images.bit_depth)
        image = self._checked(pixels, str(path))
        variant = variant_of(path, self.config, variant)
        return replace(self.judge(self.evidence([image], [variant])[0], image), path=path)

    def _checked(self, image: NDArray[Any], name: str) -> Pixels:
        config = self.config.images
        pixels = as_model_image(image, channels=config.channels, bit_depth=config.bit_depth, name=name)
        try:
            self._check_size((pixels.shape[0], pixels.shape[1]))
        except (ImageError, ShapeError) as error:
            raise ImageError(f"{name}: {error}") from error
        return pixels

    def judge(self, evidence: Evidence, image: NDArray[np.generic]) -> Inspection:
        """Calibrated score, verdict and full-size pictures of one image's evidence."""
        started = time.perf_counter()
        anomaly_map = self.anomaly_map(evidence)
        score = image_score(anomaly_map, self.config.score)
        anomaly_map = spread(anomaly_map, self.config.score.spread)
        size = evidence.input_size
        reconstruction = evidence.reconstruction
        if reconstruction.shape[1:] != size:
            reconstruction = resize(reconstruction.transpose(1, 2, 0), size).transpose(2, 0, 1)
        limits = self._calibrated().limits
        return Inspection(
            score=score,
            threshold=self.threshold,
            verdict=evidence.verdict(score, self.threshold, self.review_threshold, limits),
            residual_score=evidence.residual_score,
            discrimination_score=evidence.discrimination_score,
            anomaly_score=evidence.anomaly_score,
            steps_used=evidence.steps_used,
            brightness=evidence.brightness,
            ms=evidence.ms + 1000 * (time.perf_counter() - started),
            anomaly_map=evidence.as_photographed(anomaly_map),
            reconstruction=from_network(reconstruction, self.config.images.bit_depth).astype(image.dtype),
            registered=evidence.registered,
            in_distribution=evidence.in_distribution(limits),
        )

    def anomaly_map(self, evidence: Evidence) -> FloatMap:
        """(h, w) at network resolution and in the reference's pose, in standard deviations of good parts."""
        statistics = self._calibrated().statistics
        return evidence.looked_at(combine(evidence.parts, statistics, score_weights(self.config.score)))

    def evidence(
        self, images: Sequence[NDArray[np.generic]], variants: Sequence[str | None] | None = None
    ) -> list[Evidence]:
        """The search's findings per image, uncalibrated.

        Args:
            images: (H, W, C) each.
            variants: Of the product on each image, for a model that knows variants.

        Raises:
            ConfigError: A variant is missing, or none that the model knows.
            ImageError: An image has another size than the model takes.
        """
        found: list[Evidence] = []
        named = iter([None] * len(images) if variants is None else variants)
        for group in self._groups(images):
            started = time.perf_counter()
            prepared = [self._prepare(image) for image in group]
            pyramids = [self._pyramid((p.x.shape[1], p.x.shape[2])) for p in prepared]
            tiles = [
                self._tiles(pyramid, p.x, next(named)) for pyramid, p in zip(pyramids, prepared, strict=True)
            ]
            results = self._inspect_tiles(torch.cat(tiles))
            ms = 1000 * (time.perf_counter() - started) / len(group)
            start = 0
            for pyramid, image, p in zip(pyramids, group, prepared, strict=True):
                own = {name: values[start : start + pyramid.n_tiles] for name, values in results.items()}
                start += pyramid.n_tiles
                found.append(self._stitch(own, pyramid, (image.shape[0], image.shape[1]), ms, p))
        return found

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise CalibrationError("This model has no threshold yet; run `anogan calibrate --data GOOD_DIR`.")
        return self.calibration

    def _groups(self, images: Sequence[NDArray[np.generic]]) -> Iterator[list[NDArray[np.generic]]]:
        """Images that fill one chunk of tiles together; a large image is a group of its own."""
        group: list[NDArray[np.generic]] = []
        pixels = 0
        for image in images:
            size = self.model.image_size or image.shape[:2]
            area = int(size[0] * size[1])
            if group and pixels + area > CHUNK_PIXELS:
                yield group
                group, pixels = [], 0
            group.append(image)
            pixels += area
        if group:
            yield group

    def _prepare(self, image: NDArray[np.generic]) -> _Prepared:
        """At network resolution, at the exposure of all others and in the reference's pose."""
        bit_depth = self.config.images.bit_depth
        self._check_size((image.shape[0], image.shape[1]))
        pixels, gain = sized_and_exposed(image, self.model.image_size, self.config.images)
        alignment = None
        if self._aligner is not None:
            pixels, alignment = self._aligner.align(pixels, 2.0**bit_depth - 1)
        return _Prepared(to_network(pixels, bit_depth), gain, float(brightness(image, bit_depth)), alignment)

    def _check_size(self, size: tuple[int, int]) -> None:
        """Refuses an image that the model neither takes as it is nor resizes."""
        wanted, config = self.model.image_size, self.config.images
        if wanted is None:
            self._pyramid(size)
            refuse_all_border(size, self.config.score.border)
        elif size != wanted and config.size is None and config.on_mixed_sizes != "resize":
            raise ImageError(
                f"the image is {size[1]}x{size[0]} pixels; this model expects {wanted[1]}x{wanted[0]}. "
                "Crop it alike, or retrain with images.on_mixed_sizes: resize."
            )

    def _pyramid(self, size: tuple[int, int]) -> TilePyramid:
        tiles = self.config.tiles
        return TilePyramid(size, tiles.size, tiles.overlap, tiles.scales)

    def _tiles(self, pyramid: TilePyramid, x: FloatMap, variant: str | None) -> Tensor:
        """(T, C + K, t, t): an image's tiles, each with its condition."""
        conditions = tile_conditions(self.config, pyramid.positions, variant)
        return with_condition(torch.from_numpy(pyramid.cut(x)), conditions)

    def _inspect_tiles(self, tiles: Tensor) -> dict[str, NDArray[Any]]:
        """Maps, reconstruction and scores of every tile, chunk by chunk."""
        per_chunk = max(1, CHUNK_PIXELS // self.config.tiles.size**2)
        results: dict[str, NDArray[Any]] = {}
        with full_float32(self._device):
            for start in range(0, len(tiles), per_chunk):
                chunk = self._inspect_chunk(tiles[start : start + per_chunk].to(self._device))
                for name, values in chunk.items():
                    found = values.numpy()
                    if name not in results:  # Chunks joined at the end would lie in memory twice.
                        results[name] = np.empty((len(tiles), *found.shape[1:]), found.dtype)
                    results[name][start : start + per_chunk] = found
        return results

    def _inspect_chunk(self, tiles: Tensor) -> dict[str, Tensor]:
        found = self._inverter.search(tiles, self.steps)
        with torch.inference_mode():
            x, reconstruction = image_of(tiles, condition_dim(self.config)), found.reconstruction
            discrimination = self._inverter.discrimination(tiles, reconstruction)
            results = {
                "reconstruction": reconstruction,
                "residual": residual_map(x, reconstruction),
                "discrimination": discrimination,
                "residual_score": residual_score(x, reconstruction),
                "discrimination_score": discrimination.flatten(1).mean(dim=1),
                "steps_used": found.steps_used,
            }
            if self.model.head is not None:
                window = self.config.head.contrast_window
                seen = head_input(tiles, reconstruction, discrimination, window)
                results["head"] = self.model.head(seen)
                if self.model.memory is not None:
                    results["head"] = self.model.memory(x, results["head"])
            if (perceptual := self.model.perceptual) is not None:
                size = (x.shape[2], x.shape[3])
                results["perceptual"] = perceptual_map(perceptual(x), perceptual(reconstruction), size)
        return {name: value.cpu() for name, value in results.items()}

    def _stitch(
        self,
        tiles: Mapping[str, NDArray[Any]],
        pyramid: TilePyramid,
        input_size: tuple[int, int],
        ms: float,
        prepared: _Prepared,
    ) -> Evidence:
        weight, alignment = self.config.search.lambda_, prepared.alignment
        reconstruction = pyramid.grids[0].stitch(pyramid.split(tiles["reconstruction"])[0])
        if prepared.gain != 1:  # As bright as the photograph that it is laid beside.
            reconstruction = (reconstruction + 1) / prepared.gain - 1
        if alignment is not None:
            reconstruction = alignment.from_reference(reconstruction.transpose(1, 2, 0)).transpose(2, 0, 1)
        residual, discrimination = tiles["residual_score"], tiles["discrimination_score"]
        return Evidence(
            parts=self._stitched_parts(tiles, pyramid),
            reconstruction=reconstruction,
            residual_score=float(residual.max()),
            discrimination_score=float(discrimination.max()),
            anomaly_score=float(((1 - weight) * residual + weight * discrimination).max()),
            steps_used=int(tiles["steps_used"].max()),
            input_size=input_size,
            ms=ms,
            brightness=prepared.brightness,
            alignment=alignment,
        )

    def _stitched_parts(self, tiles: Mapping[str, NDArray[Any]], pyramid: TilePyramid) -> dict[str, FloatMap]:
        sigma = self.config.score.smoothing_sigma
        return {
            part_name(kind, scale): smooth(grid.stitch(own)[0], sigma)
            for kind in PARTS
            if kind in tiles
            for scale, grid, own in zip(
                pyramid.scales, pyramid.grids, pyramid.split(tiles[kind]), strict=True
            )
        }
