"""Which files are what: the layouts of image folders, and masks."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anogan.errors import DataError, ImageError
from anogan.files import DEFAULT_MODEL, DEFAULT_REPORT
from anogan.images.decode import IMAGE_SUFFIXES, read_as_stored

GOOD = "good"

_LOSSY = {".jpg", ".jpeg"}
_NEARLY_GOOD = {GOOD, "ok", "normal"}


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


def passed_over(dataset: Dataset) -> tuple[Path, ...]:
    """Image files below or beside the good ones that no layout takes, so that nothing uses them."""
    if not dataset.good:
        return ()
    root, used = dataset.root, set(dataset.good)
    near = _images_below(root) if dataset.good[0].parent == root else _images_in(root)
    return tuple(path for path in near if path not in used and not _is_written_by_us(path, root))


def _is_written_by_us(path: Path, root: Path) -> bool:
    """Whether it lies where `fit` and `score` write, run in the folder of images."""
    return path.relative_to(root).parts[0].startswith((DEFAULT_MODEL.name, DEFAULT_REPORT.name))


def passed_over_sentence(dataset: Dataset, paths: Sequence[Path]) -> str:
    """What to tell of the images that were `passed_over`, at least one."""
    where = dataset.good[0].parent if not dataset.variants else dataset.good[0].parent.parent
    images = f"{len(paths)} image{'' if len(paths) == 1 else 's'}"
    return f"Of {dataset.root} only what lies in {where} is used: {images}, first {paths[0]}, lie elsewhere."


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
        path: An image file; every pixel that is not black is defect. In a JPEG, whose compression leaves
            noise around edges, every pixel above half of the range.
        shape: (H, W) of the image that it belongs to.

    Returns:
        (H, W), true where the part is defective.

    Raises:
        ImageError: Unreadable, or of another size than the image.
    """
    stored = read_as_stored(path)
    above = np.iinfo(stored.dtype).max // 2 if path.suffix.lower() in _LOSSY else 0
    mask: NDArray[np.bool_] = np.any(stored > above, axis=2)
    if mask.shape != tuple(shape):
        raise ImageError(
            f"{path} is a mask of {mask.shape[1]}x{mask.shape[0]} pixels; its image has "
            f"{shape[1]}x{shape[0]}, so draw it again at that size."
        )
    return mask


def natural_key(path: Path) -> tuple[object, ...]:
    """Sort key by which `2.png` comes before `10.png`."""
    pieces = re.split(r"(\d+)", path.as_posix().casefold())
    numbers = tuple(int(piece) if i % 2 else piece for i, piece in enumerate(pieces))
    return numbers, path.as_posix()  # A pair: beside a longer name the path would stand against a number.


def natural(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Sorted by `natural_key`."""
    return tuple(sorted(paths, key=natural_key))


def _is_image(path: Path) -> bool:
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
        return False
    # A link that leads nowhere is told when it is read: a share that is not mounted must not go unnoticed.
    return path.is_file() or (path.is_symlink() and not path.exists())


def _images_in(folder: Path) -> tuple[Path, ...]:
    return natural(path for path in folder.iterdir() if _is_image(path))


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
    return natural(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


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
    matches = natural(map(Path, found))
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
    return natural(found)


def _tell_unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}); check its permissions.") from error
