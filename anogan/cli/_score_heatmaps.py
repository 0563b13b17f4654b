"""Where the heatmaps of a `score` run go, and how they get there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from anogan.cli._folders import make_folder

if TYPE_CHECKING:
    from anogan.inspection import ScoredFile


_ENDING = "_heatmap.png"


def heatmap_paths(images: list[Path], folder: Path) -> dict[Path, Path]:
    """Image -> heatmap file; the folders below the images' common one come again below `folder`.

    Two images that differ in their suffix alone keep it in the name, so that neither overwrites the other.
    """
    places = dict(zip(images, _below_common_folder(images), strict=True))
    stems = Counter(str(place.with_suffix("")).casefold() for place in places.values())
    return {
        image: folder
        / place.with_name(
            (place.stem if stems[str(place.with_suffix("")).casefold()] == 1 else place.name) + _ENDING
        )
        for image, place in places.items()
    }


def is_heatmap(path: Path) -> bool:
    """Whether the file is named as `heatmap_paths` names them."""
    return path.name.endswith(_ENDING)


def _below_common_folder(images: list[Path]) -> Iterator[Path]:
    # Without `..`, which could lead out of the folder; links stay, for two may lead to one file.
    resolved = [Path(os.path.abspath(image)) for image in images]  # noqa: PTH100
    first, *others = [path.parent for path in resolved]
    common = next(
        (p for p in (first, *first.parents) if all(other.is_relative_to(p) for other in others)), None
    )
    for path in resolved:
        # Images on two Windows drives have no folder in common.
        yield path.relative_to(path.anchor if common is None else common)


def write_heatmap(file: ScoredFile, target: Path) -> None:
    """Writes the picture of one result, if there is one.

    Raises:
        StorageError: The folder cannot be made.
    """
    if file.inspection is None or file.image is None:
        return
    from anogan.images.decode import write_image
    from anogan.report.overlay import inspection_panel

    make_heatmap_folder(target.parent)
    write_image(target, inspection_panel(file.inspection, file.image))


def make_heatmap_folder(folder: Path) -> None:
    """Makes the folder of heatmaps.

    Raises:
        StorageError: It cannot be made.
    """
    make_folder(folder, "Heatmaps", "give --out another folder, or --no-heatmaps")
