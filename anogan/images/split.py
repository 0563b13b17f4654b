"""The good images in parts: to train, to stop early and to calibrate, no part of a product in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anogan.errors import DataError, ImageError
from anogan.images.folders import Dataset, natural

MIN_GOOD_IMAGES = 5

PartOf = Callable[[Path], str | None]


def _no_part(_: Path) -> str | None:
    return None


@dataclass(frozen=True)
class Split:
    """Disjoint parts of the good images."""

    train: tuple[Path, ...]
    early_stop: tuple[Path, ...]
    calibrate: tuple[Path, ...]


def split_good(
    paths: Sequence[Path], early_stop: float, calibrate: float, seed: int, part_of: PartOf = _no_part
) -> Split:
    """Divides the good images by their content.

    The same files give the same split wherever they lie and however they are listed; files with equal
    content stay together, since a copy of a training image would calibrate too low a threshold.

    Args:
        paths: Image files.
        early_stop: Share held out to pick the checkpoint, in (0, 1).
        calibrate: Share held out for the threshold, in (0, 1).
        seed: Another seed, another split.
        part_of: What part a photograph shows; those of one part stay together. None: it is not told.

    Returns:
        Three disjoint parts, none empty, each in natural order.

    Raises:
        DataError: Fewer than five images, or fewer than three different ones or parts.
    """
    n = len(set(paths))
    if n < MIN_GOOD_IMAGES:
        where = f" ({paths[0].parent})" if paths else ""
        raise DataError(
            f"{n} good image{'' if n == 1 else 's'}{where} cannot be divided into training, early stop and "
            f"calibration; at least {MIN_GOOD_IMAGES} are needed, so capture more."
        )
    groups = _shuffled_groups(set(paths), seed, part_of)
    if len(groups) < 3:
        raise DataError(
            f"the {n} good images in {paths[0].parent} are {len(groups)} different ones and copies, or "
            "photographs of one part; at least 3 different ones are needed, so capture more."
        )
    calibration = _take(groups, round(n * calibrate), keep=2)
    stopping = _take(groups, round(n * early_stop), keep=1)
    rest = [path for group in groups for path in group]
    return Split(natural(rest), natural(stopping), natural(calibration))


def split_variants(
    dataset: Dataset, early_stop: float, calibrate: float, seed: int, part_of: PartOf = _no_part
) -> Split:
    """`split_good` of each variant by itself, so that each is trained on, stopped on and calibrated with.

    Raises:
        DataError: A variant has too few images, or one image lies in two variants.
    """
    folders: dict[str, Path] = {}
    for path in dataset.good:
        first = folders.setdefault(file_digest(path), path)
        if first.parent != path.parent:
            raise DataError(
                f"{first} and {path} are the same image in two variants; keep it where it belongs."
            )
    own = [[path for path in dataset.good if path.parent.name == name] for name in dataset.variants]
    splits = [split_good(paths, early_stop, calibrate, seed, part_of) for paths in own]
    return Split(
        tuple(path for split in splits for path in split.train),
        tuple(path for split in splits for path in split.early_stop),
        tuple(path for split in splits for path in split.calibrate),
    )


def shares_of(paths: Sequence[Path], n: int, seed: int, part_of: PartOf = _no_part) -> list[int]:
    """Parts images into n shares, photographs of one part and equal files together.

    Args:
        paths: Images.
        n: Shares; fewer where there are not so many different parts.
        seed: Decides which image goes where.
        part_of: The part that a photograph shows, or None.

    Returns:
        The number of each image's share, from 0 on, each number at least once.
    """
    number = {
        path: index % n
        for index, files in enumerate(_shuffled_groups(paths, seed, part_of))
        for path in files
    }
    return [number[path] for path in paths]


def parts_of(paths: Sequence[Path], part_of: PartOf = _no_part) -> list[str]:
    """What part each image shows: equal files are one, as are photographs that `part_of` calls one.

    Args:
        paths: Images.
        part_of: The part that a photograph shows, or None.

    Returns:
        A name for each image, equal where the part is.

    Raises:
        ImageError: A file cannot be read.
    """
    shown = {path: files[0].as_posix() for files in _groups(paths, part_of) for path in files}
    return [shown[path] for path in paths]


def n_parts(paths: Sequence[Path], part_of: PartOf = _no_part) -> int:
    """How many parts the images show, see `parts_of`."""
    return len(set(parts_of(paths, part_of)))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        ImageError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error


def _shuffled_groups(paths: Iterable[Path], seed: int, part_of: PartOf) -> list[list[Path]]:
    """Files of equal content or one part together, in an order that depends on content and seed alone."""
    groups = _groups(paths, part_of)
    order = np.random.default_rng(seed).permutation(len(groups))
    return [groups[i] for i in order]


def _groups(paths: Iterable[Path], part_of: PartOf) -> list[list[Path]]:
    """Files of equal content or one part together, in an order that depends on content alone."""
    copies: dict[str, list[Path]] = {}
    for path in paths:
        copies.setdefault(file_digest(path), []).append(path)
    return _joined([copies[digest] for digest in sorted(copies)], part_of)


def _joined(groups: Sequence[list[Path]], part_of: PartOf) -> list[list[Path]]:
    """Those that show one part become one, in the order of their first members."""
    joined = dict(enumerate(groups))
    home: dict[str, int] = {}  # Where the files of each part are, or were before they moved,
    moved: dict[int, int] = {}  # and where they moved to.
    for number, files in enumerate(groups):
        for part in {part for path in files if (part := part_of(path)) is not None}:
            ends = []
            for end in (home.setdefault(part, number), number):
                while end in moved:
                    end = moved[end]
                ends.append(end)
            first, last = min(ends), max(ends)
            if first != last:
                joined[first] = joined[first] + joined.pop(last)
                moved[last] = first
    return list(joined.values())


def _take(groups: list[list[Path]], target: int, keep: int) -> list[Path]:
    """Removes about `target` images, at least one, and leaves at least `keep` groups."""
    taken: list[Path] = []
    for group in list(groups):
        if len(groups) > keep and len(taken) + len(group) <= target:
            taken += group
            groups.remove(group)
    if not taken:
        smallest = min(groups, key=len)
        taken += smallest
        groups.remove(smallest)
    return taken
