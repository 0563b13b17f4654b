"""What is wrong with a folder of photographs, before hours of training on it.

`examine` reads every image once, keeps a small `Look` of each, and lets one function per kind of fault
search these. Limits are relative to the folder where they can be: a product may be white, dark or
soft by nature, and only an image unlike its siblings is worth a person's time.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.config import Config, ImagesConfig
from anogan.errors import DataError, ImageError
from anogan.images.alike import Floats, near_duplicate_pairs, outlier_z, spread
from anogan.images.decode import ImageInfo, Pixels, as_model_image, probe, read_as_stored
from anogan.images.folders import Dataset, file_digest, scan_dataset, split_good, split_variants
from anogan.images.tiling import scaled_size

Severity = Literal["error", "warning", "note"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_THUMBNAIL = 32
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_BINS = 16
_GOOD = "good"
_NAMED = 3
_KEEP_ONE = "keep one of each, since copies make the calibration look surer than it is."

# Good photographs, real and rendered, stay below 5.5; a missing block measures 8.6 and more.
_OUTLIER_Z = 7.0
_DETAIL_WEIGHT = 0.1  # A tenth of fine detail more or less is as much as 0.01 in the histogram.
_SOFT_Z = 6.0
_SOFT_FACTOR = 4.0  # A blurred image has this many times less fine detail than its siblings.
_EXPOSURE_Z = 6.0
_EXPOSURE_SHARE = 0.1  # And this share of the image more than they is clipped.
_BLANK = 1 / 255  # Standard deviation of grey levels in [0, 1]; the sensor alone brings about this.
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
class DoctorReport:
    """All that was found, errors first.

    Attributes:
        root: The folder.
        n_good: Good images to train on, unreadable ones included.
        n_test: Test images.
        findings: Empty for a clean folder.
    """

    root: Path
    n_good: int
    n_test: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """No finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types; paths are relative to `root`."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "n_good": self.n_good,
            "n_test": self.n_test,
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "message": finding.message,
                    "paths": [path.relative_to(self.root).as_posix() for path in finding.paths],
                }
                for finding in self.findings
            ],
        }


@dataclass(frozen=True)
class _Look:
    """What is kept of one image.

    Attributes:
        part: `good` of the training images, `test/<kind>` of the others.
        thumbnail: (32, 32) grey in [0, 1].
        histogram: (16,) shares of grey levels.
        blank: All pixels are about equal.
        detail: log of the Laplacian's variance over the grey levels' variance; falls with blur.
        bright: Share of pixels at the upper end of the range.
        dark: Share of pixels at the lower end.
        fits: It has the channels and the bit depth that the config names.
    """

    path: Path
    part: str
    info: ImageInfo
    digest: str
    thumbnail: Floats = field(repr=False)
    histogram: Floats = field(repr=False)
    blank: bool
    detail: float
    bright: float
    dark: float
    fits: bool


@dataclass(frozen=True)
class _Folder:
    root: Path
    looks: Sequence[_Look]
    config: Config
    seed: int
    variants: tuple[str, ...] = ()

    @property
    def good(self) -> list[_Look]:
        return [look for look in self.looks if look.part == _GOOD]

    @property
    def pictured(self) -> list[_Look]:
        """The good images that show something."""
        return [look for look in self.good if not look.blank]

    def finding(
        self, kind: str, severity: Severity, looks: Sequence[_Look], fault: str, advice: str
    ) -> Iterator[Finding]:
        """One finding that names the first images, or none without images."""
        if looks:
            paths = tuple(look.path for look in looks)
            names = ", ".join(path.relative_to(self.root).as_posix() for path in paths[:_NAMED])
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            subject = "1 image is" if len(paths) == 1 else f"{len(paths)} images are"
            yield Finding(kind, severity, f"{subject} {fault} ({names}{more}): {advice}", paths)


_Finder = Callable[[_Folder], Iterator[Finding]]


def examine(root: Path, *, seed: int = 0, config: Config | None = None) -> DoctorReport:
    """Looks for what would spoil training or make its figures wrong.

    Args:
        root: A folder in one of the layouts of `scan_dataset`.
        seed: Of the split into training and calibration images, as for `fit`.
        config: The settings that `fit` would use; without them the defaults, and any channels and bit depth.

    Returns:
        The findings, errors first. Kinds: unreadable, too-small, mixed-sizes, mixed-modes, wrong-mode, leak,
        near-leak, duplicate, near-duplicate, blank, outlier, blurred, over-exposed, under-exposed, too-few.

    Raises:
        DataError: The folder is missing, empty or of no known layout.
    """
    dataset = scan_dataset(root)
    looks, findings = _look_at_all(dataset, None if config is None else config.images)
    folder = _Folder(root, looks, config or Config(), seed, dataset.variants)
    for finder in _FINDERS:
        findings.extend(finder(folder))
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    return DoctorReport(root, len(dataset.good), len(dataset.test), tuple(findings))


def _look_at_all(dataset: Dataset, config: ImagesConfig | None) -> tuple[list[_Look], list[Finding]]:
    looks, findings = [], []
    parts = [(path, _GOOD) for path in dataset.good]
    parts += [(sample.path, f"test/{sample.kind}") for sample in dataset.test]
    for path, part in parts:
        try:
            looks.append(_look(path, part, config))
        except ImageError as error:
            findings.append(Finding("unreadable", "error", str(error), (path,)))
    return looks, findings


def _look(path: Path, part: str, config: ImagesConfig | None) -> _Look:
    info = probe(path)
    pixels = read_as_stored(path)
    top = 2**info.bit_depth - 1
    # Luma, which JPEG keeps at full resolution: re-encoding changes it least.
    weights = _LUMA if info.channels == 3 else np.ones(1, np.float32)
    grey = (pixels @ weights) / np.float32(top)
    thumbnail = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    counts, _ = np.histogram(grey, bins=_BINS, range=(0, 1))
    return _Look(
        path,
        part,
        info,
        file_digest(path),
        np.asarray(thumbnail, np.float32),
        (counts / grey.size).astype(np.float32),
        float(grey.std()) < _BLANK,
        math.log((float(cv2.Laplacian(grey, cv2.CV_32F).var()) + 1e-9) / (float(grey.var()) + 1e-6)),
        float((pixels >= 0.99 * top).all(axis=2).mean()),
        float((pixels <= 0.01 * top).all(axis=2).mean()),
        _fits(pixels, config),
    )


def _fits(pixels: Pixels, config: ImagesConfig | None) -> bool:
    if config is None:
        return True
    try:
        as_model_image(pixels, channels=config.channels, bit_depth=config.bit_depth, name="")
    except ImageError:
        return False
    return True


# ---- one function per kind of fault


def _too_small(folder: _Folder) -> Iterator[Finding]:
    tile, scale = folder.config.tiles.size, folder.config.tiles.scales[-1]
    if folder.config.images.size is None:
        sizes = [scaled_size((look.info.height, look.info.width), scale) for look in folder.looks]
        small = [look for look, size in zip(folder.looks, sizes, strict=True) if min(size) < tile]
        where = "" if scale == 1 else f" at scale {scale:g} of tiles.scales"
        fault = f"smaller than the network's {tile}x{tile} pixels{where}"
        advice = "capture them larger, lower tiles.size, or set images.size."
        yield from folder.finding("too-small", "error", small, fault, advice)


def _mixed_sizes(folder: _Folder) -> Iterator[Finding]:
    usual, odd = _unlike_most(folder.looks, lambda look: f"{look.info.width}x{look.info.height}")
    images = folder.config.images
    policy = "resize" if images.size is not None else images.on_mixed_sizes
    advice = {
        "error": "remove them, or set images.on_mixed_sizes: resize.",
        "resize": "they will be resized.",
        "keep": "each is taken at its own size.",
    }[policy]
    severity: Severity = "error" if policy == "error" else "note"
    yield from folder.finding("mixed-sizes", severity, odd, f"not of the most common size, {usual}", advice)


def _mixed_modes(folder: _Folder) -> Iterator[Finding]:
    usual, odd = _unlike_most(folder.looks, _mode)
    advice = f"capture all with the same channels and bit depth ({', '.join(sorted(set(map(_mode, odd))))})."
    yield from folder.finding("mixed-modes", "error", odd, f"not {usual} as most others are", advice)


def _wrong_mode(folder: _Folder) -> Iterator[Finding]:
    usual, odd = _unlike_most(folder.looks, _mode)
    wrong = [look for look in folder.looks if not look.fits and look not in odd]
    images = folder.config.images
    asked = f"images.channels {images.channels} and images.bit_depth {images.bit_depth} of the config"
    advice = "set these to what the camera gives."
    yield from folder.finding("wrong-mode", "error", wrong, f"{usual}, which does not fit {asked}", advice)


def _duplicates(folder: _Folder) -> Iterator[Finding]:
    groups: dict[str, list[_Look]] = defaultdict(list)
    for look in folder.looks:
        groups[look.digest].append(look)
    copies = [group for group in groups.values() if len(group) > 1]
    leaks = [look for group in copies if len({look.part for look in group}) > 1 for look in group]
    same = [look for group in copies if len({look.part for look in group}) == 1 for look in group]
    fault = "the same file in training and test or under different labels"
    advice = "remove the copies, since figures measured on them are worth nothing."
    yield from folder.finding("leak", "error", leaks, fault, advice)
    yield from folder.finding("duplicate", "warning", same, "exact copies of one another", _KEEP_ONE)


def _near_duplicates(folder: _Folder) -> Iterator[Finding]:
    # Not the defects: a photograph with a small defect may well be a near copy of one without.
    unique = {look.digest: look for look in folder.looks if look.part in (_GOOD, f"test/{_GOOD}")}
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


def _blank(folder: _Folder) -> Iterator[Finding]:
    found = [look for look in folder.looks if look.blank]
    advice = "check light and lens cap, and remove them."
    yield from folder.finding("blank", "warning", found, "of one level all over", advice)


def _outliers(folder: _Folder) -> Iterator[Finding]:
    good = folder.pictured
    if len(good) < _MIN_FOR_STATISTICS:
        return
    small = [cv2.resize(look.thumbnail, (16, 16), interpolation=cv2.INTER_AREA) for look in good]
    histograms = [look.histogram for look in good]
    details = [np.array(_DETAIL_WEIGHT * look.detail) for look in good]
    found = _beyond(good, outlier_z([_stack(small), _stack(histograms), _stack(details)]), _OUTLIER_Z)
    advice = "look whether the part is good, in place and of this product, and remove what is not."
    yield from folder.finding("outlier", "warning", found, "unlike the other good ones", advice)


def _blurred(folder: _Folder) -> Iterator[Finding]:
    good = folder.pictured
    if len(good) < _MIN_FOR_STATISTICS:
        return
    detail = np.array([look.detail for look in good])
    limit = max(math.log(_SOFT_FACTOR), _SOFT_Z * spread(detail))
    found = _beyond(good, np.median(detail) - detail, limit)
    advice = "check the focus and the exposure time, and remove them."
    yield from folder.finding("blurred", "warning", found, "less sharp than the other good ones", advice)


def _exposure(folder: _Folder) -> Iterator[Finding]:
    good = folder.pictured
    if len(good) < _MIN_FOR_STATISTICS:
        return
    for kind, end, shares in (
        ("over-exposed", "brightest", np.array([look.bright for look in good])),
        ("under-exposed", "darkest", np.array([look.dark for look in good])),
    ):
        limit = max(_EXPOSURE_SHARE, _EXPOSURE_Z * spread(shares))
        found = _beyond(good, shares - np.median(shares), limit)
        fault = f"clipped at the {end} level over more of the picture than the other good ones"
        advice = "check the light and the exposure time, and remove them."
        yield from folder.finding(kind, "warning", found, fault, advice)


def _too_few(folder: _Folder) -> Iterator[Finding]:
    good = tuple(look.path for look in folder.good)
    split, rate = folder.config.split, folder.config.calibration.false_reject
    shares = (split.early_stop, split.calibrate, folder.seed)
    try:
        if folder.variants:  # As `fit` does it: each variant has to be large enough by itself.
            parts = split_variants(Dataset(folder.root, good, (), folder.variants), *shares)
        else:
            parts = split_good(good, *shares)
        held_out = len(parts.calibrate)
    except DataError as error:
        yield Finding("too-few", "error", str(error))
        return
    # The highest of n good scores is exceeded by the next good part with probability 1 / (n + 1).
    needed = math.ceil(1 / rate - 1e-9) - 1
    if held_out < needed:
        more = math.ceil((needed - held_out) / split.calibrate)
        yield Finding(
            "too-few",
            "warning",
            f"{len(good)} good images leave {held_out} to calibrate on, which promise a false-reject rate of "
            f"{1 / (held_out + 1):.2%} and not {rate:.2%}: capture about {more} more, or raise "
            "calibration.false_reject.",
        )


_FINDERS: tuple[_Finder, ...] = (
    _too_small,
    _mixed_sizes,
    _mixed_modes,
    _wrong_mode,
    _duplicates,
    _near_duplicates,
    _blank,
    _outliers,
    _blurred,
    _exposure,
    _too_few,
)


# ---- helpers


def _stack(arrays: Sequence[NDArray[np.generic]]) -> Floats:
    return np.array([np.ravel(array) for array in arrays], np.float32).reshape(
        len(arrays), -1 if arrays else 0
    )


def _unlike_most(looks: Sequence[_Look], key: Callable[[_Look], str]) -> tuple[str, list[_Look]]:
    counts = Counter(map(key, looks))
    usual = counts.most_common(1)[0][0] if counts else ""
    return usual, [look for look in looks if key(look) != usual]


def _mode(look: _Look) -> str:
    return f"{look.info.bit_depth}-bit {'grey' if look.info.channels == 1 else 'colour'}"


def _beyond(looks: Sequence[_Look], values: NDArray[np.float64], limit: float) -> list[_Look]:
    """Those whose value is above the limit, highest first."""
    return [looks[i] for i in np.argsort(-values) if values[i] > limit]
