"""Settings of a fit, with what its images say by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anogan.config import Config, find_config, load_config
from anogan.errors import ImageError
from anogan.images.decode import probe
from anogan.images.folders import scan_dataset

_PROBED = 16


def fitting_config(named: str | None, overrides: Sequence[str], data: Path) -> tuple[Config, str | None]:
    """The config for training, with channels and bit depth taken from the images unless it names them.

    Args:
        named: A YAML file or a shipped config's name; None for `default`.
        overrides: `key.path=value` each.
        data: Folder with good images, or a data set with `good/`.

    Returns:
        The config, and one sentence when the images decided otherwise than the defaults.

    Raises:
        ConfigError: A file, key or value is wrong.
        DataError: The folder is missing, empty or of no known layout.
    """
    path = find_config(named)
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
