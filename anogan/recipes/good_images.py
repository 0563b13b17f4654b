"""The good images of a fit: read, checked, at the size that the networks see, and laid in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anogan.bundle import Bundle
from anogan.config import Config, DefectKind
from anogan.errors import ConfigError, DataError, ImageError
from anogan.gan.tiles import TileSource, load_images
from anogan.images.decode import probe
from anogan.images.folders import GOOD, Dataset
from anogan.images.registration import Aligner, Pixels, align_all, make_aligner
from anogan.images.sizes import common_size, most_common_size
from anogan.images.split import Split, file_digest, parts_of, shares_of
from anogan.images.synthetic_defects import kinds_on, two_levels
from anogan.images.tiling import scaled_size
from anogan.recipes.variants import variants_of

SHARES = 4  # Of the training images, for `calibration.cross_fit`: three of them remember for the fourth.
DRAWN = 32  # Tiles on which a drawn defect must show once at least.


@dataclass(frozen=True)
class Good:
    """Good images at network resolution.

    Attributes:
        images: (H, W, C) each.
        variants: Of the product on each image; None without variants.
        shares: The number of each image's share where `calibration.cross_fit` parts a memory, else empty.
        parts: What part each shows, see `parts_of`; None where nobody asks.
        aspect: Width of a pixel by its height, which resizing may have changed.
    """

    images: list[Pixels]
    variants: list[str | None]
    shares: Sequence[int] = ()
    parts: Sequence[str] | None = None
    aspect: float = 1.0


def hashes_of(split: Split) -> dict[str, list[str]]:
    """SHA-256 of every good image, by the part that it is in."""
    parts = {"train": split.train, "early_stop": split.early_stop, "calibrate": split.calibrate}
    return {name: [file_digest(path) for path in paths] for name, paths in parts.items()}


def readable_digest(path: Path) -> str | None:
    """SHA-256 of a test image; None of one that cannot be read, of which scoring tells why."""
    try:
        return file_digest(path)
    except ImageError:
        return None


TRAINED_ON = ("train", "early_stop")
"""The parts of good/, as `hashes_of` names them, that a model has learned from."""


def hashes_in(bundle: Bundle, parts: Sequence[str]) -> set[str]:
    """SHA-256 of the good images that were in these parts of a model's fit."""
    data = bundle.metadata.get("data", {})
    return {digest for name in parts for digest in data.get(f"{name}_hashes", [])}


def part_names(config: Config, paths: Sequence[Path]) -> set[str]:
    """The parts that photographs show, by `split.group`, with their folder where that is a variant's.

    None without `split.group`.

    Raises:
        DataError: A name lacks the part.
    """
    names = {part for path in paths if (part := config.split.part_of(path)) is not None}
    return names if config.network.variants else {name.rpartition("/")[2] for name in names}


def refuse_test_folder(data: Path, advice: str) -> None:
    """Test images that train or set a threshold would make every later figure too good.

    Args:
        data: A folder of images that are said to be good.
        advice: How the sentence ends; `{root}` is the data set's folder.

    Raises:
        DataError: It is a data set's `test/`, or lies in it.
    """
    for folder in (data.resolve(), *data.resolve().parents[:2]):  # test/, a kind in it, a variant in that.
        root = folder.parent
        if folder.name == "test" and any((root / name).is_dir() for name in (GOOD, "train")):
            raise DataError(f"{data} holds test images; {advice.format(root=root)}.")


def refuse_leak(dataset: Dataset, hashes: Mapping[str, Sequence[str]]) -> None:
    """A test image among the good ones would make every later figure too good."""
    known = {digest for digests in hashes.values() for digest in digests}
    leaked = [sample.path for sample in dataset.test if readable_digest(sample.path) in known]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(dataset.test)} test images, first {leaked[0]}, are among the good images "
            "too; keep each in training or in test, not in both. `anogan doctor` names them all."
        )


def read_good(split: Split, config: Config, size: tuple[int, int] | None) -> tuple[Good, Good]:
    """Images to train on and to stop on.

    The images for calibration are decoded as well and let go: what is wrong with one of them must not be
    found after hours of training.
    """
    good, errors = load_images(split.train, config, size)
    held_out, failed = load_images(split.early_stop, config, size)
    errors |= failed | _unusable(split.calibrate, config, size)
    _refuse_unusable(errors, len(split.train + split.early_stop + split.calibrate))
    return (
        Good(
            good,
            variants_of(config, split.train),
            training_shares(config, split.train),
            aspect=pixel_aspect(split.train, size),
        ),
        Good(
            held_out,
            variants_of(config, split.early_stop),
            parts=parts_of(split.early_stop, config.split.part_of),
        ),
    )


def require_usable(paths: Sequence[Path], config: Config, size: tuple[int, int] | None) -> None:
    """Decodes good images one by one, before an hour's work with them.

    Raises:
        DataError: One of them cannot be used.
    """
    _refuse_unusable(_unusable(paths, config, size), len(paths))


def _unusable(paths: Sequence[Path], config: Config, size: tuple[int, int] | None) -> dict[Path, ImageError]:
    errors: dict[Path, ImageError] = {}
    for path in paths:
        errors |= load_images([path], config, size)[1]
    return errors


def _refuse_unusable(errors: Mapping[Path, ImageError], total: int) -> None:
    if errors:
        first = next(iter(errors.values()))
        raise DataError(f"{len(errors)} of {total} good images cannot be used; the first: {first}")


def pixel_aspect(paths: Sequence[Path], size: tuple[int, int] | None) -> float:
    """Width by height of what a pixel of most images shows once they have this (height, width)."""
    if size is None:
        return 1.0
    height, width = most_common_size(paths)
    return (width / size[1]) / (height / size[0])


def aligner_for(config: Config, images: list[Pixels], aspect: float) -> Aligner | None:
    """What lays parts in the pose of these good ones, (H, W, C) each; None without `images.registration`."""
    motion = config.images.registration
    return None if motion == "none" else make_aligner(images, motion, aspect)


def laid_in_place(
    images: list[Pixels], aligner: Aligner | None, event: Callable[[str], None]
) -> list[Pixels]:
    """The images as the aligner lays them; `event` is told in a sentence how many it could not."""
    if aligner is None:
        return images
    aligned, alignments = align_all(images, aligner)
    if failed := sum(not alignment.converged for alignment in alignments):
        event(
            f"{failed} of {len(images)} good images could not be registered and are used as they lie; look "
            "whether they show the same part, or set images.registration: none."
        )
    return aligned


def training_shares(config: Config, train: Sequence[Path]) -> list[int]:
    """The share of each training image; none unless `calibration.cross_fit` parts a memory by them."""
    if not config.calibration.cross_fit or not config.remembers:
        return []
    return shares_of(train, SHARES, config.seed, config.split.part_of)


def refuse_unfit_tiles(good: Good, config: Config) -> None:
    """Tries augmentation and drawn defects on real tiles; told before the GAN's hours, not after them.

    Raises:
        ConfigError: An augmentation makes no tiles of them, or no kind of defect shows on them, so that the
            head would learn nothing.
    """
    source = TileSource(good.images, config, variants=good.variants)
    if config.head.enabled and not bool(source.damaged_batch(0, DRAWN, clean_share=0.0).mask.any()):
        without = kinds_left_out(good.images, config)
        binarised = f" (they are binarised: {', '.join(without)} would not show)" if without else ""
        raise ConfigError(
            f"defects.kinds {list(config.defects.kinds)} change nothing visible on {DRAWN} tiles of these "
            f"images{binarised}, so the head would learn nothing; add others, such as blob and scratch, or "
            "set head.enabled: false."
        )


def kinds_left_out(images: Sequence[Pixels], config: Config) -> list[DefectKind]:
    """Configured kinds of defects that are not drawn on such images, see `kinds_on`."""
    drawn = kinds_on(config.defects, two_levels(images))
    return [kind for kind in config.defects.kinds if kind not in drawn]


def network_image_size(split: Split, config: Config) -> tuple[int, int] | None:
    """(height, width) for tiling, or None when each image keeps its own.

    Raises:
        DataError: The images differ in size, or are smaller than a tile.
        ConfigError: The border that does not count leaves nothing of them.
    """
    size = _common_image_size(split, config)
    if size is not None:
        _refuse_border(size, config)
    return size


def _common_image_size(split: Split, config: Config) -> tuple[int, int] | None:
    if config.images.size is not None:
        return config.images.size
    paths = split.train + split.early_stop + split.calibrate
    if config.images.on_mixed_sizes == "keep":
        _refuse_too_small(paths, config)
        return None
    size = most_common_size(paths) if config.images.on_mixed_sizes == "resize" else common_size(paths)
    if not _covers_a_tile(size, config):
        raise DataError(
            f"Images of {size[1]}x{size[0]} pixels are smaller than tiles.size {config.tiles.size}"
            f"{_at_smallest(config)}; set tiles.size lower, or images.size to enlarge them."
        )
    return size


def _refuse_border(size: tuple[int, int], config: Config) -> None:
    """A border that leaves nothing to score would be found out only after the training."""
    border = config.score.border
    if 2 * border >= min(size):
        raise ConfigError(
            f"score.border {border} leaves nothing of an image of {size[1]}x{size[0]} pixels; set it lower."
        )


def _covers_a_tile(size: tuple[int, int], config: Config) -> bool:
    return min(scaled_size(size, config.tiles.scales[-1])) >= config.tiles.size


def _at_smallest(config: Config) -> str:
    """Says at which scale, where there are several."""
    scales = config.tiles.scales
    return f" at scale {scales[-1]:g} of tiles.scales" if len(scales) > 1 else ""


def _refuse_too_small(paths: Sequence[Path], config: Config) -> None:
    infos = {path: probe(path) for path in paths}
    small = [path for path, info in infos.items() if not _covers_a_tile((info.height, info.width), config)]
    if small:
        info = infos[small[0]]
        raise DataError(
            f"{len(small)} of {len(paths)} good images are smaller than tiles.size {config.tiles.size}"
            f"{_at_smallest(config)}, first {small[0]} ({info.width}x{info.height}); remove them, or set "
            "tiles.size lower or images.size."
        )
    smallest = min(infos.values(), key=lambda info: min(info.width, info.height))
    _refuse_border((smallest.height, smallest.width), config)
