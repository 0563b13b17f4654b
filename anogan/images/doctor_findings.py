"""What can be wrong with a folder of photographs: one function per kind of fault.

Limits are relative to the folder where they can be: a product may be white, dark or soft by nature, and
only an image unlike its siblings is worth a person's time.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import FEWEST_TO_COMPARE, Config
from anogan.errors import DataError
from anogan.images.alike import Floats, near_duplicate_pairs, outlier_z, spread
from anogan.images.decode import unused_bits
from anogan.images.doctor_looks import Look
from anogan.images.exposure import too_bright
from anogan.images.folders import GOOD, Dataset
from anogan.images.resize import lost_below
from anogan.images.split import n_parts, split_good, split_variants
from anogan.images.tiling import scaled_size

Severity = Literal["error", "warning", "note"]

_NAMED = 3
_KEEP_ONE = "keep one of each, since copies make the calibration look surer than it is."

# Good photographs, real and rendered, stay below 5.5; a missing block measures 8.6 and more.
_OUTLIER_Z = 7.0
_DETAIL_WEIGHT = 0.1  # A tenth of fine detail more or less is as much as 0.01 in the histogram.
_SOFT_Z = 6.0
_SOFT_FACTOR = 4.0  # A blurred image has this many times less fine detail than its siblings.
_EXPOSURE_Z = 6.0
_EXPOSURE_SHARE = 0.1  # And this share of the image more than they is clipped.
_MIN_FOR_STATISTICS = 10


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: What, such as `near-duplicate`.
        severity: `error`: training or the figures would be wrong; `warning`: look at these; `note`.
        message: One sentence: what, where, next step.
        paths: The images concerned, worst or first ones first.
    """

    kind: str
    severity: Severity
    message: str
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Folder:
    """All that a finder may look at."""

    root: Path
    looks: Sequence[Look]
    config: Config
    seed: int
    variants: tuple[str, ...] = ()

    @property
    def good(self) -> list[Look]:
        """The images to train on."""
        return [look for look in self.looks if look.part == GOOD]

    @property
    def pictured(self) -> list[Look]:
        """The good images that show something."""
        return [look for look in self.good if not look.blank]

    def finding(
        self, kind: str, severity: Severity, looks: Sequence[Look], fault: str, advice: str
    ) -> Iterator[Finding]:
        """One finding that names the first images, or none without images."""
        if looks:
            paths = tuple(look.path for look in looks)
            names = ", ".join(path.relative_to(self.root).as_posix() for path in paths[:_NAMED])
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            subject = "1 image is" if len(paths) == 1 else f"{len(paths)} images are"
            yield Finding(kind, severity, f"{subject} {fault} ({names}{more}): {advice}", paths)


def _too_small(folder: Folder) -> Iterator[Finding]:
    tile, scale = folder.config.tiles.size, folder.config.tiles.scales[-1]
    if folder.config.images.size is None:
        looks = folder.looks
        if folder.config.images.on_mixed_sizes == "resize":  # The odd ones get the size of the others.
            usual = _unlike_most(folder.good, _size)[0]
            looks = [look for look in folder.good if _size(look) == usual]
        sizes = [scaled_size((look.info.height, look.info.width), scale) for look in looks]
        small = [look for look, size in zip(looks, sizes, strict=True) if min(size) < tile]
        where = "" if scale == 1 else f" at scale {scale:g} of tiles.scales"
        fault = f"smaller than the network's {tile}x{tile} pixels{where}"
        advice = "capture them larger, lower tiles.size, or set images.size."
        yield from folder.finding("too-small", "error", small, fault, advice)


def _mixed_sizes(folder: Folder) -> Iterator[Finding]:
    usual, odd = _unlike_most(folder.looks, _size)
    images = folder.config.images
    policy = "resize" if images.size is not None else images.on_mixed_sizes
    advice = {
        "error": "remove them, or set images.on_mixed_sizes: resize.",
        "resize": "they will be resized.",
        "keep": "each is taken at its own size.",
    }[policy]
    severity: Severity = "error" if policy == "error" else "note"
    yield from folder.finding("mixed-sizes", severity, odd, f"not of the most common size, {usual}", advice)


def _shrunk(folder: Folder) -> Iterator[Finding]:
    size = folder.config.images.size
    if size is None:
        return
    widths = [lost_below((look.info.height, look.info.width), size) or 0 for look in folder.good]
    shrunk = [look for look, width in zip(folder.good, widths, strict=True) if width]
    fault = f"more than twice as large as the {size[1]}x{size[0]} pixels of images.size"
    advice = (
        f"a defect narrower than {max(widths, default=0)} pixels hardly shows; cut out what matters, "
        "or raise images.size."
    )
    yield from folder.finding("shrunk", "note", shrunk, fault, advice)


def _modes(folder: Folder) -> Iterator[Finding]:
    usual, odd = _unlike_most(folder.looks, _mode)
    odd = [look for look in odd if not look.fits]  # Grey that was stored as colour fits a grey model.
    advice = f"capture all with the same channels and bit depth ({', '.join(sorted(set(map(_mode, odd))))})."
    yield from folder.finding("mixed-modes", "error", odd, f"not {usual} as most others are", advice)
    wrong = [look for look in folder.looks if look.fits is False and _mode(look) == usual]
    images = folder.config.images
    asked = f"images.channels {images.channels} and images.bit_depth {images.bit_depth} of the config"
    advice = "set these to what the camera gives."
    yield from folder.finding("wrong-mode", "error", wrong, f"{usual}, which does not fit {asked}", advice)


def _unused_bits(folder: Folder) -> Iterator[Finding]:
    if folder.config.images.exposure != "keep":
        return  # They are made brighter.
    deep = [look for look in folder.good if look.info.bit_depth == 16]
    told = unused_bits([look.highest for look in deep])
    if told is not None:
        paths = tuple(look.path for look in deep)
        yield Finding("unused-bits", "warning", f"{len(deep)} 16-bit images {told}", paths)


def _too_bright(folder: Folder) -> Iterator[Finding]:
    told = too_bright((look.white for look in folder.good), folder.config.images)
    if told is not None:
        yield Finding("too-bright", "warning", told)


def _duplicates(folder: Folder) -> Iterator[Finding]:
    groups: dict[str, list[Look]] = defaultdict(list)
    for look in folder.looks:
        groups[look.digest].append(look)
    copies = [group for group in groups.values() if len(group) > 1]
    leaks = [look for group in copies if len({look.part for look in group}) > 1 for look in group]
    same = [look for group in copies if len({look.part for look in group}) == 1 for look in group]
    fault = "the same file in training and test or under different labels"
    advice = "remove the copies, since figures measured on them are worth nothing."
    yield from folder.finding("leak", "error", leaks, fault, advice)
    yield from folder.finding("duplicate", "warning", same, "exact copies of one another", _KEEP_ONE)


def _near_duplicates(folder: Folder) -> Iterator[Finding]:
    # Not the defects: a photograph with a small defect may well be a near copy of one without.
    unique = {look.digest: look for look in folder.looks if look.part in (GOOD, f"test/{GOOD}")}
    looks = list(unique.values())
    pairs = near_duplicate_pairs(_stack([look.thumbnail for look in looks]))
    crossing = [pair for pair in pairs if looks[pair[0]].part != looks[pair[1]].part]
    within = [pair for pair in pairs if looks[pair[0]].part == looks[pair[1]].part]
    fault = "nearly the same photograph as another one"
    for kind, found, advice in (
        ("near-leak", crossing, "look at them and keep each in training or in test, not in both."),
        ("near-duplicate", within, _KEEP_ONE),
    ):
        concerned = [looks[i] for i in dict.fromkeys(i for pair in found for i in pair)]
        yield from folder.finding(kind, "warning", concerned, fault, advice)


def _blank(folder: Folder) -> Iterator[Finding]:
    found = [look for look in folder.looks if look.blank]
    advice = "check light and lens cap, and remove them."
    yield from folder.finding("blank", "warning", found, "of one level all over", advice)


def _outliers(folder: Folder, good: Sequence[Look]) -> Iterator[Finding]:
    small = [cv2.resize(look.thumbnail, (16, 16), interpolation=cv2.INTER_AREA) for look in good]
    histograms = [look.histogram for look in good]
    details = [np.array(_DETAIL_WEIGHT * look.detail) for look in good]
    found = _beyond(good, outlier_z([_stack(small), _stack(histograms), _stack(details)]), _OUTLIER_Z)
    advice = "look whether the part is good, in place and of this product, and remove what is not."
    yield from folder.finding("outlier", "warning", found, "unlike the other good ones", advice)


def _blurred(folder: Folder, good: Sequence[Look]) -> Iterator[Finding]:
    detail = np.array([look.detail for look in good])
    limit = max(math.log(_SOFT_FACTOR), _SOFT_Z * spread(detail))
    found = _beyond(good, np.median(detail) - detail, limit)
    advice = "check the focus and the exposure time, and remove them."
    yield from folder.finding("blurred", "warning", found, "less sharp than the other good ones", advice)


def _exposure(folder: Folder, good: Sequence[Look]) -> Iterator[Finding]:
    for kind, end, shares in (
        ("over-exposed", "brightest", np.array([look.bright for look in good])),
        ("under-exposed", "darkest", np.array([look.dark for look in good])),
    ):
        limit = max(_EXPOSURE_SHARE, _EXPOSURE_Z * spread(shares))
        found = _beyond(good, shares - np.median(shares), limit)
        fault = f"clipped at the {end} level over more of the picture than the other good ones"
        advice = "check the light and the exposure time, and remove them."
        yield from folder.finding(kind, "warning", found, fault, advice)


def _too_few(folder: Folder) -> Iterator[Finding]:
    good = tuple(look.path for look in folder.good)
    split, rate = folder.config.split, folder.config.calibration.false_reject
    how = (split.early_stop, split.calibrate, folder.seed, split.part_of)
    try:
        if folder.variants:  # As `fit` does it: each variant has to be large enough by itself.
            parts = split_variants(Dataset(folder.root, good, (), folder.variants), *how)
        else:
            parts = split_good(good, *how)
        held_out, trained = n_parts(parts.calibrate, split.part_of), n_parts(parts.train, split.part_of)
    except DataError as error:
        yield Finding("too-few", "error", str(error))
        return
    # The highest of n good scores is exceeded by the next good part with probability 1 / (n + 1).
    needed = math.ceil(1 / rate - 1e-9) - 1
    calibration = folder.config.calibration
    calibrating = held_out + (trained if calibration.may_cross_fit(held_out) else 0)
    if calibrating < needed:
        more = math.ceil((needed - held_out) / split.calibrate)
        if calibration.cross_fit:  # Or as many as let the training images calibrate too.
            until = max((FEWEST_TO_COMPARE - held_out) / split.calibrate, needed - held_out - trained)
            more = min(more, math.ceil(until))
        yield Finding(
            "too-few",
            "warning",
            f"{len(good)} good images leave {calibrating} to calibrate on, which promise a false-reject rate "
            f"of {1 / (calibrating + 1):.2%} and not {rate:.2%}: capture about {more} more, or raise "
            "calibration.false_reject.",
        )


_Finder = Callable[[Folder], Iterator[Finding]]


def _among_good(find: Callable[[Folder, Sequence[Look]], Iterator[Finding]]) -> _Finder:
    """Of a finder that holds good images against each other: it needs enough that show something."""

    def finder(folder: Folder) -> Iterator[Finding]:
        good = folder.pictured
        if len(good) >= _MIN_FOR_STATISTICS:
            yield from find(folder, good)

    return finder


FINDERS: tuple[_Finder, ...] = (
    _too_small,
    _mixed_sizes,
    _shrunk,
    _modes,
    _unused_bits,
    _too_bright,
    _duplicates,
    _near_duplicates,
    _blank,
    _among_good(_outliers),
    _among_good(_blurred),
    _among_good(_exposure),
    _too_few,
)


def _stack(arrays: Sequence[NDArray[np.generic]]) -> Floats:
    return np.array([np.ravel(array) for array in arrays], np.float32).reshape(
        len(arrays), -1 if arrays else 0
    )


def _unlike_most(looks: Sequence[Look], key: Callable[[Look], str]) -> tuple[str, list[Look]]:
    counts = Counter(map(key, looks))
    usual = counts.most_common(1)[0][0] if counts else ""
    return usual, [look for look in looks if key(look) != usual]


def _size(look: Look) -> str:
    return f"{look.info.width}x{look.info.height}"


def _mode(look: Look) -> str:
    return f"{look.info.bit_depth}-bit {'grey' if look.info.channels == 1 else 'colour'}"


def _beyond(looks: Sequence[Look], values: NDArray[np.float64], limit: float) -> list[Look]:
    """Those whose value is above the limit, highest first."""
    return [looks[i] for i in np.argsort(-values) if values[i] > limit]
