"""Which of several products an image shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anogan.config import Config
from anogan.errors import ConfigError


def variant_index(known: Sequence[str], variant: str | None) -> int | None:
    """The place of a variant among those that a model knows; None for a model that knows none.

    Raises:
        ConfigError: The model knows no variants and one is named, or it does and none of them is.
    """
    if not known:
        if variant is not None:
            raise ConfigError(
                f"The variant {variant!r} was given to a model that knows no variants; leave it out, or fit "
                "with network.condition: variant."
            )
        return None
    if variant not in known:
        got = "no variant was given" if variant is None else f"got {variant!r}"
        raise ConfigError(
            f"The model must be told the variant of the product, one of {', '.join(known)}, but {got}; name "
            "it with --variant, or put the image into a folder of its variant's name (in a data set "
            "test/<kind>/<variant>/)."
        )
    return known.index(variant)


def variant_of(path: Path, config: Config, named: str | None = None) -> str | None:
    """The variant of an image's product: the named one, else its folder's name; None without variants."""
    if named is not None or config.network.condition != "variant":
        return named
    return path.absolute().parent.name
