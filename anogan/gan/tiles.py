"""Training tiles: random crops of good images, augmented, optionally damaged; and those that scoring cuts.

Both come from every scale.

Everything random is a function of (seed, step), so a resumed run sees the batches that the interrupted one
would have seen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anogan.config import AugmentationStep, Config, ImagesConfig
from anogan.errors import ConfigError, DataError, ImageError
from anogan.gan.condition import tile_conditions, with_condition
from anogan.images.decode import read_image
from anogan.images.exposure import sized_and_exposed
from anogan.images.resize import resize
from anogan.images.synthetic_defects import draw_defects, two_levels
from anogan.images.tiling import TileGrid, scaled_size, tile_position

_SCORED = 2**40  # In the place of a step: the order of the tiles that scoring cuts.

Pixels = NDArray[Any]


@dataclass(frozen=True)
class DamagedBatch:
    """Tiles before and after synthetic damage: (N, C + K, t, t) in [-1, 1], mask (N, 1, t, t) in {0, 1}."""

    clean: Tensor
    damaged: Tensor
    mask: Tensor


@dataclass(frozen=True)
class _Crop:
    """A tile (t, t, C), the number of the scale that it comes from, and its condition."""

    tile: Pixels
    version: int
    condition: list[float]


class TileSource:
    """Gives batches of random tiles of a fixed set of good images, held in memory at network resolution.

    With several `tiles.scales` a tile comes from each scale in proportion to it: two of three from the full
    image with [1.0, 0.5]. Smaller versions have fewer different tiles, but each scale is scored alike.

    Behind its C colours each tile carries the K maps of its condition, see `anogan.gan.condition`; K is 0
    without one.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        config: Config,
        stream: int = 0,
        variants: Sequence[str | None] | None = None,
    ) -> None:
        """Holds the images.

        Args:
            images: (H, W, C) uint8 or uint16 each, at least tile size; see `load_images`.
            config: Tile size, augmentation, defects and seed.
            stream: Sources with different streams draw different batches from one seed.
            variants: Of the product on each image, where `network.condition` is `variant`.
        """
        if not images:
            raise DataError("There are no images to train on; give a folder with good parts.")
        self._images = images
        self._config = config
        self._stream = stream
        names: Sequence[str | None] = [None] * len(images) if variants is None else variants
        nowhere = np.zeros((1, 2), np.float32)
        # What is told of a whole image; a tile's place is told of each tile.
        self._told: list[list[float]] = [tile_conditions(config, nowhere, name)[0].tolist() for name in names]
        self._variants = names
        self._augment = _compose(config.augmentation, images[0][: config.tiles.size, : config.tiles.size])
        self._scales = config.tiles.scales
        self._versions = [images, *(_smaller(images, scale) for scale in self._scales[1:])]
        # Apart by scale: a binarised image that is made smaller has grey edges.
        self._levels = [two_levels(version) for version in self._versions]
        self._top = float(np.iinfo(images[0].dtype).max)

    @property
    def distinct_images(self) -> int:
        """How many images differ from all others in at least one pixel."""
        return len({hashlib.sha256(image.tobytes()).digest() for image in self._images})

    def with_stream(self, stream: int) -> TileSource:
        """The same images drawn in another random order."""
        return TileSource(self._images, self._config, stream, self._variants)

    def only(self, indices: Sequence[int]) -> TileSource:
        """Some of the images alone."""
        images = [self._images[index] for index in indices]
        return TileSource(images, self._config, self._stream, [self._variants[index] for index in indices])

    def plain(self) -> TileSource:
        """The same images without augmentation."""
        config = self._config.model_copy(update={"augmentation": ()})
        return TileSource(self._images, config, self._stream, self._variants)

    def batch(self, step: int, n: int) -> Tensor:
        """n clean tiles for a step, (n, C + K, t, t) float32 in [-1, 1]."""
        crops = self._crops(self._rng(step), n)
        return self._to_tensor([crop.tile for crop in crops], crops)

    @property
    def n_scored(self) -> int:
        """How many tiles scoring cuts of all images, at every scale."""
        return len(self._scored)

    def scored_batch(self, first: int, n: int) -> Tensor:
        """n of the tiles that scoring cuts, from number `first` on, (n, C + K, t, t) float32 in [-1, 1].

        As they are, without augmentation, each once, in an order that mixes images and scales: the first ones
        say of all what a random sample says. Fewer than n where they end.
        """
        places = self._scored[first : first + n].tolist()
        crops = [self._cut(version, index, top, left) for version, index, top, left in places]
        return self._to_tensor([crop.tile for crop in crops], crops)

    @cached_property
    def _scored(self) -> NDArray[np.int64]:
        """(n_scored, 4): scale, image, top and left."""
        tiles, places = self._config.tiles, []
        for version, images in enumerate(self._versions):
            for index, image in enumerate(images):
                grid = TileGrid((image.shape[0], image.shape[1]), tiles.size, tiles.overlap)
                owner = np.full((grid.n_tiles, 2), (version, index))
                places.append(np.concatenate([owner, grid.corners], axis=1))
        return self._rng(_SCORED).permutation(np.concatenate(places))

    def damaged_batch(self, step: int, n: int, *, clean_share: float = 0.25) -> DamagedBatch:
        """n tiles with synthetic defects; `clean_share` of them stay undamaged, with an empty mask.

        Defects are drawn on the tile in its own pixels, so those at a smaller scale are larger on the part.
        """
        rng = self._rng(step)
        crops = self._crops(rng, n)
        damaged, masks = [], []
        for crop in crops:
            if rng.random() < clean_share:
                bad, mask = crop.tile, np.zeros(crop.tile.shape[:2], np.bool_)
            else:
                bad, mask = draw_defects(crop.tile, self._config.defects, rng, self._levels[crop.version])
            damaged.append(bad)
            masks.append(mask)
        mask_tensor = torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))
        return DamagedBatch(
            self._to_tensor([crop.tile for crop in crops], crops),
            self._to_tensor(damaged, crops),
            mask_tensor,
        )

    def _rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self._config.seed, self._stream, step])

    def _crops(self, rng: np.random.Generator, n: int) -> list[_Crop]:
        size = self._config.tiles.size
        crops = []
        for _ in range(n):
            version = self._draw_version(rng)
            index = int(rng.integers(len(self._images)))
            image = self._versions[version][index]
            top = int(rng.integers(image.shape[0] - size + 1))
            left = int(rng.integers(image.shape[1] - size + 1))
            crop = self._cut(version, index, top, left)
            if self._augment is not None:
                self._augment.set_random_seed(int(rng.integers(2**31)))
                tile = self._augment(image=np.ascontiguousarray(crop.tile))["image"]
                # Some transforms drop the axis of a single channel.
                crop = replace(crop, tile=tile.reshape(crop.tile.shape))
            crops.append(crop)
        return crops

    def _cut(self, version: int, index: int, top: int, left: int) -> _Crop:
        size, image = self._config.tiles.size, self._versions[version][index]
        tile = image[top : top + size, left : left + size]
        return _Crop(tile, version, self._condition(index, image, top, left))

    def _condition(self, index: int, image: Pixels, top: int, left: int) -> list[float]:
        if self._config.network.condition != "tile-position":
            return self._told[index]
        side, (height, width) = self._config.tiles.size, image.shape[:2]
        return [tile_position(top, side, height), tile_position(left, side, width)]

    def _draw_version(self, rng: np.random.Generator) -> int:
        if len(self._scales) == 1:
            return 0
        shares = np.array(self._scales) / sum(self._scales)
        return int(rng.choice(len(shares), p=shares))

    def _to_tensor(self, tiles: Sequence[Pixels], crops: Sequence[_Crop]) -> Tensor:
        stacked = np.stack(tiles).astype(np.float32) * np.float32(2 / self._top) - 1
        images = torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
        return with_condition(images, torch.tensor([crop.condition for crop in crops]))


def load_images(
    paths: Sequence[Path], config: Config, size: tuple[int, int] | None
) -> tuple[list[Pixels], dict[Path, ImageError]]:
    """Good images at network resolution, and the files that could not be used.

    Pixels keep the camera's integer type: the rounding after a resize, half a grey level, lies far
    below sensor noise, and a quarter of the memory of floats is what fits a line's archive.
    """
    images, errors = [], {}
    for path in paths:
        try:
            image: Pixels = read_image(
                path, channels=config.images.channels, bit_depth=config.images.bit_depth
            )
        except ImageError as error:
            errors[path] = error
            continue
        images.append(_at_network_resolution(image, config.images, size))
    return images, errors


def _at_network_resolution(image: Pixels, config: ImagesConfig, size: tuple[int, int] | None) -> Pixels:
    pixels, _ = sized_and_exposed(image, size, config)
    return image if pixels is image else _whole(pixels, image.dtype)


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    return _whole(resize(image, size), image.dtype)


def _whole(pixels: NDArray[Any], kind: np.dtype[Any]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(pixels), 0, np.iinfo(kind).max).astype(kind)
    return rounded


def _smaller(images: Sequence[Pixels], scale: float) -> list[Pixels]:
    return [_resized(image, scaled_size((image.shape[0], image.shape[1]), scale)) for image in images]


def _compose(steps: Sequence[AugmentationStep], tile: Pixels) -> Any:
    """An albumentations pipeline, or None.

    Args:
        steps: Names and arguments.
        tile: (t, t, C), what it will be given.

    Raises:
        ConfigError: A name is not an albumentations transform, its arguments do not fit, or it does not make
            another tile of the tile.
    """
    if not steps:
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # It asks the network at import otherwise.
    import albumentations

    transforms = []
    for step in steps:
        kind = getattr(albumentations, step.name, None)
        if not isinstance(kind, type) or not issubclass(kind, albumentations.BasicTransform):
            raise ConfigError(
                f"augmentation: {step.name} is not an albumentations transform; "
                "see its list, such as HorizontalFlip or RandomBrightnessContrast."
            )
        try:
            # Strict: otherwise it warns of an argument that it does not know, and leaves it out.
            transforms.append(kind(**step.args, strict=True))
            always = kind(**{**step.args, "p": 1.0}, strict=True)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())  # It comes in lines; ours is one sentence.
            raise ConfigError(f"augmentation: {step.name} refuses {step.args}: {reason}") from error
        _try_out(step, albumentations.Compose([always], seed=0), tile)
    return albumentations.Compose(transforms, seed=0)


def _try_out(step: AugmentationStep, transform: Any, tile: Pixels) -> None:
    """Once on a real tile: what turns it into floats, as for a network elsewhere, would teach black tiles."""
    try:
        found = transform(image=np.ascontiguousarray(tile))["image"]
    except Exception as error:  # Its own errors, OpenCV's and NumPy's share no base class.
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"augmentation: {step.name} cannot take tiles of {tile.dtype} and shape {tile.shape}: {reason}"
        ) from error
    if found.dtype != tile.dtype or found.size != tile.size or found.shape[:2] != tile.shape[:2]:
        raise ConfigError(
            f"augmentation: {step.name} makes {found.dtype} of shape {found.shape} of a tile of {tile.dtype} "
            f"and shape {tile.shape}; take one that keeps both, and leave scaling and cropping to anogan."
        )
