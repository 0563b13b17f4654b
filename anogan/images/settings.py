"""Settings of a fit, with what its images say by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from anogan.config import DEFAULT_CONFIG, Config, find_config, load_config
from anogan.errors import ImageError
from anogan.images.decode import probe, read_as_stored
from anogan.images.folders import scan_dataset
from anogan.images.synthetic_defects import two_levels

_PROBED = 16
_LOOKED_AT = 8
_ALIKE = 0.5  # Correlation of thumbnails: 0.8 of one design in one place, 0 of different boards.
_BOARDS = "The images are binarised and show different designs"
_FOR_BOARDS = {None: "pcb", "edge": "pcb-edge"}  # `edge` says which computer, not which product.


def fitting_config(named: str | None, overrides: Sequence[str], data: Path) -> tuple[Config, str | None]:
    """The config for training, with channels and bit depth taken from the images unless it names them.

    Args:
        named: A YAML file or a shipped config's name; None for the shipped one that suits the images: `pcb`
            for binarised images of many designs, else `default`. For such images `edge` means `pcb-edge`.
        overrides: `key.path=value` each.
        data: Folder with good images, or a data set with `good/`.

    Returns:
        The config, and what to tell when the images decided otherwise than the defaults.

    Raises:
        ConfigError: A file, key or value is wrong.
        DataError: The folder is missing, empty or of no known layout.
    """
    notes = []
    if named in (*_FOR_BOARDS, DEFAULT_CONFIG) and _are_binarised_boards(data):
        if named == DEFAULT_CONFIG:
            notes = [f"{_BOARDS}; --config {_FOR_BOARDS[None]} is made for these."]
        else:
            named = _FOR_BOARDS[named]
            notes = [f"{_BOARDS}, so the settings are those of --config {named}."]
    path = find_config(named)
    config, note = _with_kind_of_images(path, overrides, data)
    return config, " ".join([*notes, *([] if note is None else [note])]) or None


def _with_kind_of_images(path: Path, overrides: Sequence[str], data: Path) -> tuple[Config, str | None]:
    config = load_config(path, overrides)
    open_keys = {"channels", "bit_depth"} - config.images.model_fields_set
    kind = _usual_kind(data) if open_keys else None
    if kind is None:
        return config, None
    found = {"channels": kind[0], "bit_depth": kind[1]}
    changed = {key: found[key] for key in sorted(open_keys) if found[key] != getattr(config.images, key)}
    if not changed:
        return config, None
    settings = [f"images.{key}={value}" for key, value in changed.items()]
    colour = "grey" if kind[0] == 1 else "colour"
    note = f"The images are {kind[1]}-bit {colour}, so {' and '.join(settings)}."
    return load_config(path, [*overrides, *settings]), note


def _usual_kind(data: Path) -> tuple[int, int] | None:
    """(channels, bit depth) that most of the first images have; None when none can be read."""
    kinds: Counter[tuple[int, int]] = Counter()
    for path in scan_dataset(data).good[:_PROBED]:
        try:
            info = probe(path)
        except ImageError:
            continue  # `fit` will say so, and of the others too.
        kinds[info.channels, info.bit_depth] += 1
    return kinds.most_common(1)[0][0] if kinds else None


def _are_binarised_boards(data: Path) -> bool:
    """Whether the first images have two levels each, and are not of one design in one place."""
    thumbnails = []
    for path in scan_dataset(data).good[:_LOOKED_AT]:
        try:
            image = read_as_stored(path)
        except ImageError:
            continue  # `fit` will say so.
        if two_levels([image]) is None:
            return False
        thumbnails.append(cv2.resize(image.mean(axis=2), (64, 64), interpolation=cv2.INTER_AREA).ravel())
    if len(thumbnails) < 2:
        return False
    correlation = np.corrcoef(thumbnails)[np.triu_indices(len(thumbnails), 1)]
    return bool(np.median(correlation) < _ALIKE)
