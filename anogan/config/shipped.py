"""The configs that come with the package, by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from anogan.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
# Inside an installed package; beside the package in a checkout.
_CONFIG_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
DEFAULT_CONFIG = "default"


def shipped_configs() -> dict[str, Path]:
    """Name -> file of every config that comes with the package, by name."""
    found = {path.stem: path for folder in reversed(_CONFIG_FOLDERS) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def shipped_config_names() -> list[str]:
    """Their names alone."""
    return list(shipped_configs())


def find_config(named: str | None) -> Path:
    """The file that a name means: an existing file, else a shipped config's name, `default` for none.

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
    raise ConfigError(f"{named} is no file and no shipped config; {hint}: {', '.join(shipped)}.")
