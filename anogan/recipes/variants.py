"""Product variants: from the folders of good/ into the config, the split and the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anogan.config import Config
from anogan.errors import ConfigError, DataError
from anogan.images.folders import Dataset
from anogan.images.split import Split, split_good, split_variants


def with_variants(config: Config, dataset: Dataset) -> Config:
    """The config with the names of the data's variants, where it asks for variants.

    Raises:
        ConfigError: It names others.
        DataError: The data have variants and the config does not ask for them, or the other way round.
    """
    refuse_folders(config, dataset)
    network, names = config.network, dataset.variants
    if network.condition != "variant":
        return config
    if not names:
        raise DataError(
            f"The images of {dataset.root} lie in no folders of variants; put them into good/<variant>/, or "
            "set network.condition: none."
        )
    if network.variants and set(network.variants) != set(names):
        raise ConfigError(
            f"network.variants names {', '.join(network.variants)}, and {dataset.root} holds "
            f"{', '.join(names)}; leave network.variants out to take those."
        )
    filled = network.model_copy(update={"variants": network.variants or names})
    return config.model_copy(update={"network": filled})


def refuse_folders(config: Config, dataset: Dataset) -> None:
    """Raises DataError where good/ holds folders and the config knows no variants: not all may be good."""
    if dataset.variants and config.network.condition != "variant":
        raise DataError(
            f"good/ in {dataset.root} holds no images but the folders {', '.join(dataset.variants)}; put the "
            "images directly there, or set network.condition: variant for a model of these variants."
        )


def split_dataset(dataset: Dataset, config: Config) -> Split:
    """The good images in three parts, each with every variant.

    Raises:
        DataError: There are too few.
    """
    divide = config.split
    how = (divide.early_stop, divide.calibrate, config.seed, divide.part_of)
    return split_variants(dataset, *how) if dataset.variants else split_good(dataset.good, *how)


def variants_of(config: Config, paths: Sequence[Path]) -> list[str | None]:
    """The variant of each good image of a data set; None for a model that knows none."""
    known = config.network.condition == "variant"
    return [path.parent.name if known else None for path in paths]
