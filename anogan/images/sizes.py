"""The size that the images of a folder share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anogan.errors import DataError
from anogan.images.decode import probe


def common_size(paths: Sequence[Path]) -> tuple[int, int]:
    """The (height, width) that all images share.

    Raises:
        DataError: They differ (up to three files are named), or there are none.
        ImageError: One of them cannot be read.
    """
    sizes = _sizes(paths)
    usual = _most_common(sizes)
    odd = [path for path, size in sizes.items() if size != usual]
    if odd:
        named = ", ".join(f"{path.name} ({_size_text(sizes[path])})" for path in odd[:3])
        raise DataError(
            f"{len(odd)} of {len(sizes)} images in {odd[0].parent} differ in size from the usual "
            f"{_size_text(usual)}: {named}; remove them, or set images.on_mixed_sizes: resize."
        )
    return usual


def most_common_size(paths: Sequence[Path]) -> tuple[int, int]:
    """The (height, width) that most images have; of equally frequent ones the larger.

    Raises:
        DataError: There are no images.
        ImageError: One of them cannot be read.
    """
    return _most_common(_sizes(paths))


def _sizes(paths: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    if not paths:
        raise DataError("there are no images to take a size from; give at least one.")
    infos = {path: probe(path) for path in paths}
    return {path: (info.height, info.width) for path, info in infos.items()}


def _most_common(sizes: dict[Path, tuple[int, int]]) -> tuple[int, int]:
    counts = Counter(sizes.values())
    return max(counts, key=lambda size: (counts[size], size[0] * size[1], size))


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
