"""Which files are what: the layouts of image folders, masks, and the split of the good images."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anogan.errors import DataError, ImageError
from anogan.images.decode import IMAGE_SUFFIXES, probe, read_as_stored

GOOD = "good"
MIN_GOOD_IMAGES = 5

_NEARLY_GOOD = {GOOD, "ok", "normal"}
PartOf = Callable[[Path], str | None]


def _no_part(_: Path) -> str | None:
    return None


@dataclass(frozen=True)
class Sample:
    """One test image.

    Attributes:
        path: The image file.
        kind: `good`, or the name of the defect.
        mask_path: Its defect mask, if there is one.
    """

    path: Path
    kind: str
    mask_path: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """The images of one product.

    Attributes:
        root: The folder that was scanned.
        good: Images of good parts to fit on, in natural order; never any from `test/`.
        test: Labelled test images; empty if the folder has none.
        variants: Folders in `good/` that hold its images, one per product variant; empty where they lie in
            `good/` itself.
    """

    root: Path
    good: tuple[Path, ...]
    test: tuple[Sample, ...] = ()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Disjoint parts of the good images."""

    train: tuple[Path, ...]
    early_stop: tuple[Path, ...]
    calibrate: tuple[Path, ...]


def scan_dataset(root: Path) -> Dataset:
    """The images of a folder in one of four layouts.

    - `good/`, `test/<kind>/`, `ground_truth/<kind>/<name>_mask.png` (or `<name>.png`);
    - the same with `train/good/` (MVTec AD);
    - images directly in the folder: all good, no test;
    - one of the first two with a folder more for each product variant: `good/<variant>/`,
      `test/<kind>/<variant>/`, `ground_truth/<kind>/<variant>/`.

    `good/` and `test/` may each stand alone. Given the `good` folder itself, its images are the good
    ones and the neighbouring `test/` is left alone.

    Raises:
        DataError: The folder is missing, empty or of another layout.
    """
    _require_folder(root)
    good_folder = next((f for f in (root / "train" / GOOD, root / GOOD) if f.is_dir()), None)
    test_folder = root / "test"
    if good_folder is None and not test_folder.is_dir():
        good, variants = _good_images(root) if root.resolve().name == GOOD else ((), ())
        return Dataset(root, good, (), variants) if variants else Dataset(root, _plain_folder(root))
    good, variants = ((), ()) if good_folder is None else _good_images(good_folder)
    below = bool(variants) or good_folder is None
    test = tuple(_scan_test(root, below_variants=below)) if test_folder.is_dir() else ()
    if not good and (good_folder is not None or not test):
        raise DataError(f"{good_folder or test_folder} holds no images; put {_suffix_text()} files there.")
    return Dataset(root, good, test, variants)


def find_images(patterns: Sequence[str | Path]) -> list[Path]:
    """Files, folders (searched in depth) and globs as one list without repetition.

    A named image file that does not exist stays in the list when others were found, so that it is
    reported in its place and the rest is still scored.

    Raises:
        DataError: A pattern matches nothing, or no image exists.
    """
    found: dict[Path, Path] = {}  # By absolute path: `1.png` and `/parts/1.png` may be one file.
    for pattern in patterns:
        for path in _expand(pattern):
            found.setdefault(path.absolute(), path)
    if not any(path.exists() for path in found):
        names = ", ".join(map(str, patterns)) or "an empty list"
        raise DataError(
            f"no image was found for {names}; give existing {_suffix_text()} files, folders or globs."
        )
    return list(found.values())


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A ground-truth mask.

    Args:
        path: An image file; every pixel that is not black is defect.
        shape: (H, W) of the image that it belongs to.

    Returns:
        (H, W), true where the part is defective.

    Raises:
        ImageError: Unreadable, or of another size than the image.
    """
    mask: NDArray[np.bool_] = np.any(read_as_stored(path) != 0, axis=2)
    if mask.shape != tuple(shape):
        raise ImageError(
            f"{path} is a mask of {mask.shape[1]}x{mask.shape[0]} pixels; its image has "
            f"{shape[1]}x{shape[0]}, so draw it again at that size."
        )
    return mask


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
    return Split(_natural(rest), _natural(stopping), _natural(calibration))


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


def natural_key(path: Path) -> tuple[object, ...]:
    """Sort key by which `2.png` comes before `10.png`."""
    pieces = re.split(r"(\d+)", path.as_posix().casefold())
    numbers = tuple(int(piece) if i % 2 else piece for i, piece in enumerate(pieces))
    return numbers, path.as_posix()  # A pair: beside a longer name the path would stand against a number.


def _natural(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=natural_key))


def _is_image(path: Path) -> bool:
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
        return False
    # A link that leads nowhere is told when it is read: a share that is not mounted must not go unnoticed.
    return path.is_file() or (path.is_symlink() and not path.exists())


def _images_in(folder: Path) -> tuple[Path, ...]:
    return _natural(path for path in folder.iterdir() if _is_image(path))


def _good_images(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """A folder's images and no variants; or, where it has none, those in its folders and their names."""
    filled = [(below.name, found) for below in _folders_in(folder) if (found := _images_in(below))]
    if loose := _images_in(folder):
        if filled:
            raise DataError(
                f"{folder} holds images, first {loose[0].name}, and folders of images, first {filled[0][0]}; "
                "put all into the folder itself, or each into the folder of its variant; what is no "
                "photograph of a good part, such as heatmaps of an earlier run, belongs elsewhere."
            )
        return loose, ()
    return tuple(path for _, found in filled for path in found), tuple(name for name, _ in filled)


def _folders_in(folder: Path) -> tuple[Path, ...]:
    return _natural(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _require_folder(root: Path) -> None:
    if not root.exists():
        raise DataError(
            f"{root} does not exist; give a folder of images, or a data set with good/ and test/."
        )
    if not root.is_dir():
        raise DataError(f"{root} is a file; give the folder that holds the images.")


def _suffix_text() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))


def _plain_folder(root: Path) -> tuple[Path, ...]:
    images = _images_in(root)
    if not images:
        got = ""
        if inside := [folder.name for folder in _folders_in(root)[:5]]:
            got = f" but only the folders {', '.join(inside)}"
        elif others := {path.suffix.lower() for path in root.iterdir() if path.is_file()} - {""}:
            got = f" but {', '.join(sorted(others))} files"
        raise DataError(
            f"{root} holds no images{got}; expected {_suffix_text()} files, good/ or train/good/."
        )
    return images


def _scan_test(root: Path, *, below_variants: bool) -> Iterable[Sample]:
    loose = _images_in(root / "test")
    if loose:
        raise DataError(
            f"{loose[0]} lies directly in test/, so its label is unknown; "
            f"move it to test/{GOOD}/ or test/<kind of defect>/."
        )
    for folder in _folders_in(root / "test"):
        if folder.name != GOOD and folder.name.casefold() in _NEARLY_GOOD:
            raise DataError(
                f"{folder} would be a kind of defect by its name; call it {GOOD} if its parts are."
            )
        if not below_variants:
            _refuse_folders_of_images(folder)
        for path in _good_images(folder)[0] if below_variants else _images_in(folder):
            truth = root / "ground_truth" / path.parent.relative_to(root / "test")
            mask = None if folder.name == GOOD else _find_mask(truth, path.stem)
            yield Sample(path, folder.name, mask)


def _refuse_folders_of_images(kind: Path) -> None:
    """Images that nobody counts would make figures of the others look like those of all."""
    for below in _folders_in(kind):
        if _images_in(below):
            raise DataError(
                f"{below} lies a folder deeper than test/<kind of defect>/; move its images to {kind}. Only "
                f"where {GOOD}/ has a folder for each variant of the product are there folders below a kind."
            )


def _find_mask(folder: Path, stem: str) -> Path | None:
    names = (
        f"{name}{suffix}" for name in (f"{stem}_mask", stem) for suffix in (".png", *sorted(IMAGE_SUFFIXES))
    )
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _expand(pattern: str | Path) -> tuple[Path, ...]:
    path = Path(pattern)
    if path.is_dir():
        if below := _images_below(path):
            return below
        # Beside other folders, too: a camera that wrote nothing must not go unnoticed.
        raise DataError(f"no image was found in {path}; expected {_suffix_text()} files.")
    if path.exists():  # Before globbing: a file may be called `part[1].png`.
        return (path,)
    if not glob.has_magic(str(pattern)):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return (path,)
        raise DataError(f"{pattern} does not exist; give image files, folders or globs.")
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern.
    matches = _natural(map(Path, found))
    images = [
        p for match in matches for p in (_images_below(match) if match.is_dir() else (match,)) if _is_image(p)
    ]
    if not images:
        raise DataError(f"{pattern} matches no image; expected {_suffix_text()} files.")
    return tuple(images)


def _images_below(folder: Path) -> tuple[Path, ...]:
    """In depth, through linked folders too, each folder once."""
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=_tell_unreadable, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:  # A link may lead to what was walked already, or in a circle.
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [path for path in (Path(parent, name) for name in names) if _is_image(path)]
    return _natural(found)


def _tell_unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); check its permissions.") from error


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
