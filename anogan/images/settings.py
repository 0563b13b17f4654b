"""Settings of a fit, with what its images say by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from anogan.config import DEFAULT_CONFIG, Config, find_config, load_config
from anogan.errors import ImageError
from anogan.images.decode import ImageInfo, probe, read_as_stored
from anogan.images.folders import scan_dataset
from anogan.images.spread import evenly_spread
from anogan.images.synthetic_defects import two_levels

_PROBED = 16
_LOOKED_AT = 8
_ALIKE = 0.5  # Correlation of thumbnails: 0.8 of one design in one place, 0 of different boards.
_BOARDS = "The images are binarised and show different designs"
_OWN_SIZES = "The images are grey and most have a size of their own"
# By what was named; `edge` says which computer, not which product.
_FOR_BOARDS: Mapping[str | None, str] = {None: "pcb", "edge": "pcb-edge"}
_FOR_OWN_SIZES: Mapping[str | None, str] = {None: "magnetic-tile"}
_SIZE_KEYS = ("images.size=", "images.on_mixed_sizes=")


def fitting_config(named: str | None, overrides: Sequence[str], data: Path) -> tuple[Config, str | None]:
    """The config for training, with channels and bit depth taken from the images unless it names them.

    Args:
        named: A YAML file or a shipped config's name; None for the shipped one that suits the images: `pcb`
            for binarised images of many designs, `magnetic-tile` for grey ones that have each its own size
            (unless `overrides` say what size they get), else `default`. For binarised ones `edge` means
            `pcb-edge`.
        overrides: `key.path=value` each.
        data: Folder with good images, or a data set with `good/`.

    Returns:
        The config, and what to tell when the images decided otherwise than the defaults.

    Raises:
        ConfigError: A file, key or value is wrong.
        DataError: The folder is missing, empty or of no known layout.
    """
    images = _FirstLook(data)
    named, notes = _suited(named, overrides, images)
    path = find_config(named)
    config, note = _with_kind_of_images(path, overrides, images)
    return config, " ".join([*notes, *([] if note is None else [note])]) or None


class _FirstLook:
    """Some of the good images, from all over the folder; what cannot be read is left to `fit` to name."""

    def __init__(self, data: Path) -> None:
        good = scan_dataset(data).good
        self._paths = [good[place] for place in evenly_spread(len(good), _PROBED)]

    @cached_property
    def infos(self) -> list[ImageInfo]:
        found = []
        for path in self._paths:
            try:
                found.append(probe(path))
            except ImageError:
                continue
        return found

    @property
    def kind(self) -> tuple[int, int] | None:
        """(channels, bit depth) that most of them have; None when none can be read."""
        kinds = Counter((info.channels, info.bit_depth) for info in self.infos)
        return kinds.most_common(1)[0][0] if kinds else None

    @property
    def are_grey(self) -> bool:
        """Whether most of them have one channel."""
        return self.kind is not None and self.kind[0] == 1

    @property
    def have_own_sizes(self) -> bool:
        """Whether more than half of them are as large as no other."""
        sizes = Counter((info.height, info.width) for info in self.infos)
        return 2 * sum(count == 1 for count in sizes.values()) > max(2, len(self.infos))

    @property
    def are_binarised_boards(self) -> bool:
        """Whether they have two levels each, and are not of one design in one place."""
        thumbnails = []
        for place in evenly_spread(len(self._paths), _LOOKED_AT):
            try:
                image = read_as_stored(self._paths[place])
            except ImageError:
                continue
            if two_levels([image]) is None:
                return False
            small = cv2.resize(image.mean(axis=2), (64, 64), interpolation=cv2.INTER_AREA)
            thumbnails.append(small.ravel())
        if len(thumbnails) < 2:
            return False
        correlation = np.corrcoef(thumbnails)[np.triu_indices(len(thumbnails), 1)]
        return bool(np.median(correlation) < _ALIKE)


def _suited(named: str | None, overrides: Sequence[str], images: _FirstLook) -> tuple[str | None, list[str]]:
    """The name of the config to take, and what to tell of the choice."""
    if named not in (None, DEFAULT_CONFIG, *_FOR_BOARDS):
        return named, []
    if images.are_binarised_boards:
        what, better = _BOARDS, _FOR_BOARDS
    elif images.are_grey and images.have_own_sizes and not _sizes_are_settled(overrides):
        what, better = _OWN_SIZES, _FOR_OWN_SIZES
    else:
        return named, []
    if named in better:
        return better[named], [f"{what}, so the settings are those of --config {better[named]}."]
    return named, [f"{what}; --config {better[None]} is made for these."]


def _sizes_are_settled(overrides: Sequence[str]) -> bool:
    return any(override.startswith(_SIZE_KEYS) for override in overrides)


def _with_kind_of_images(
    path: Path, overrides: Sequence[str], images: _FirstLook
) -> tuple[Config, str | None]:
    config = load_config(path, overrides)
    open_keys = {"channels", "bit_depth"} - config.images.model_fields_set
    if not open_keys or images.kind is None:
        return config, None
    found = dict(zip(("channels", "bit_depth"), images.kind, strict=True))
    changed = {key: found[key] for key in sorted(open_keys) if found[key] != getattr(config.images, key)}
    if not changed:
        return config, None
    settings = [f"images.{key}={value}" for key, value in changed.items()]
    colour = "grey" if found["channels"] == 1 else "colour"
    note = f"The images are {found['bit_depth']}-bit {colour}, so {' and '.join(settings)}."
    return load_config(path, [*overrides, *settings]), note
