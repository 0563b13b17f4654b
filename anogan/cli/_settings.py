"""Which config a command line means."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anogan.errors import ConfigError

if TYPE_CHECKING:
    from anogan.config import Config

_PACKAGE = Path(__file__).resolve().parents[1]
# Inside an installed package; beside the package in a checkout.
_CONFIG_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
_PROBED = 16
DEFAULT_CONFIG = "default"


def shipped_configs() -> dict[str, Path]:
    """Name -> file of every config that comes with the package, by name."""
    found = {path.stem: path for folder in reversed(_CONFIG_FOLDERS) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def shipped_config_names() -> list[str]:
    """Their names alone."""
    return list(shipped_configs())


def find_config(named: str | None) -> Path:
    """The file that `--config` means: an existing file, else a shipped config's name, `default` for none.

    Raises:
        ConfigError: It is neither; the sentence lists the shipped names.
    """
    shipped = shipped_configs()
    if named is None:
        return shipped[DEFAULT_CONFIG]
    path = Path(named)
    if path.is_file():
        return path
    if named in shipped:
        return shipped[named]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"did you mean {near[0]}? Shipped" if near else "give an existing YAML file, or one of the shipped"
    raise ConfigError(f"--config {named} is no file and no shipped config; {hint}: {', '.join(shipped)}.")


def chosen_config(named: str | None, overrides: Sequence[str]) -> Config:
    """The config of `--config` and `--set`.

    Raises:
        ConfigError: A file, key or value is wrong.
    """
    from anogan.config import load_config

    return load_config(find_config(named), overrides)


def fitting_config(named: str | None, overrides: Sequence[str], data: Path) -> tuple[Config, str | None]:
    """The config for training, with channels and bit depth taken from the images unless it names them.

    Returns:
        The config, and one sentence when the images decided otherwise than the defaults.

    Raises:
        ConfigError: A file, key or value is wrong.
        DataError: The folder is missing, empty or of no known layout.
    """
    config = chosen_config(named, overrides)
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
    return chosen_config(named, [*overrides, *settings]), note


def _usual_kind(data: Path) -> tuple[int, int] | None:
    """(channels, bit depth) that most of the first images have; None when none can be read."""
    from anogan.errors import ImageError
    from anogan.images.decode import probe
    from anogan.images.folders import scan_dataset

    kinds: Counter[tuple[int, int]] = Counter()
    for path in scan_dataset(data).good[:_PROBED]:
        try:
            info = probe(path)
        except ImageError:
            continue  # `fit` will say so, and of the others too.
        kinds[info.channels, info.bit_depth] += 1
    return kinds.most_common(1)[0][0] if kinds else None
