"""What the converters share: a target folder in this project's layout, and a command line.

    TARGET/good/                               to fit on
    TARGET/test/good/, TARGET/test/<kind>/     to evaluate on, never to fit or choose settings
    TARGET/ground_truth/<kind>/<name>_mask.png 255 where the part is defective

A download that holds several products gets one such folder for each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anogan.errors import AnoganError, DataError, StorageError
from anogan.images.decode import IMAGE_SUFFIXES, probe, write_image
from anogan.images.folders import GOOD as GOOD
from anogan.images.folders import natural_key, read_mask, scan_dataset

DEFECT = "defect"


@dataclass(frozen=True)
class Layout:
    """The target of a conversion.

    Attributes:
        root: Folder of one product.
        link: Hard-link images instead of copying them, where the file system can.
    """

    root: Path
    link: bool = False

    def product(self, name: str) -> Layout:
        """The target of one product of several."""
        return replace(self, root=self.root / name)

    def add_good(self, image: Path, name: str | None = None) -> None:
        """An image to fit on; `name` (with suffix) where its own is not unique."""
        self._place(image, self.root / GOOD / (name or image.name))

    def add_test(
        self,
        image: Path,
        kind: str,
        mask: Path | NDArray[np.bool_] | None = None,
        name: str | None = None,
    ) -> None:
        """A test image, with its mask as a file (not black is defect) or as (H, W) bool."""
        placed = self.root / "test" / kind / (name or image.name)
        self._place(image, placed)
        if mask is None:
            return
        if isinstance(mask, Path):
            info = probe(image)
            mask = read_mask(mask, (info.height, info.width))
        target = self.root / "ground_truth" / kind / f"{placed.stem}_mask.png"
        _make_folder(target.parent)
        write_image(target, mask.astype(np.uint8) * 255)

    def _place(self, source: Path, target: Path) -> None:
        if not source.is_file():
            raise DataError(f"{source} is missing from the download; unpack it again.")
        if target.exists():
            raise DataError(f"two files of the download would both become {target.name}; report this layout.")
        _make_folder(target.parent)
        if self.link:
            with contextlib.suppress(OSError):  # Another drive, or a file system without links.
                os.link(source, target)
                return
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise StorageError(f"{target} cannot be written ({error.strerror}); free space first.") from error


Convert = Callable[[Path, Layout], None]


def convert_to(target: Path, source: Path, convert: Convert, *, link: bool = False) -> None:
    """Runs a conversion wholly or not at all: the target appears when it is complete.

    Raises:
        DataError: The source is not such a download or lacks a part of it, or the target is not empty.
        StorageError: The target cannot be written.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder; give the folder of the unpacked download.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists and is not empty; give a new folder.")
    place = target.resolve()  # `.` has no name to put `.partial` behind.
    partial = place.parent / f"{place.name}.partial"
    if partial.exists():
        raise DataError(f"{partial} is left from an interrupted run; delete it first.")
    try:
        convert(source, Layout(partial, link))
        if not partial.exists():
            raise DataError(f"{source} holds no images in the expected layout; see datasets/README.md.")
        for root in _products(partial):
            _require_all_sets(root, source if root == partial else source / root.name)
        _put_in_place(partial, place)
    except OSError as error:
        raise StorageError(f"{target} cannot be written ({error.strerror}); check the folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main(convert: Convert, arguments: Sequence[str] | None = None) -> int:
    """The command line of one converter; its module's docstring is the help.

    Returns:
        Exit code: 0 converted, 2 the user's mistake, told in one sentence on stderr.
    """
    parser = argparse.ArgumentParser(
        description=sys.modules[convert.__module__].__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of the unpacked download")
    parser.add_argument("target", type=Path, metavar="TARGET", help="new folder to lay it out in")
    parser.add_argument("--link", action="store_true", help="hard-link images instead of copying them")
    options = parser.parse_args(arguments)
    try:
        convert_to(options.target, options.source, convert, link=options.link)
        _print_counts(options.target)
    except AnoganError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder in natural order; none if it does not exist."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted((path for path in found if not path.name.startswith(".")), key=natural_key)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder in natural order; none if it does not exist."""
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted((path for path in found if not path.name.startswith(".")), key=natural_key)


def products_in(source: Path) -> list[Path]:
    """The folders of a download that each hold a product, also one of which only a part was unpacked."""
    parts = ("train", "test", "ground_truth")
    return [folder for folder in folders_in(source) if any((folder / part).is_dir() for part in parts)]


def require(path: Path, dataset: str) -> Path:
    """The path, which must exist in every download of the data set."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist, so this is no complete {dataset} download; see datasets/README.md."
        )
    return path


def require_images(folder: Path, dataset: str) -> list[Path]:
    """The images of a folder that holds some in every download of the data set."""
    images = images_in(require(folder, dataset))
    if not images:
        raise DataError(
            f"{folder} holds no images, so the {dataset} download is incomplete; unpack it again."
        )
    return images


def with_masks(images: list[Path], masks: Iterable[Path], ending: str = "") -> list[tuple[Path, Path]]:
    """Each image with its mask `<stem><ending>`, whatever the mask's suffix.

    Raises:
        DataError: One has no mask, or a mask no image: left out silently, a part of the data would be missing
            from every figure.
    """
    by_stem = {mask.stem: mask for mask in masks}
    expected = {f"{image.stem}{ending}" for image in images}
    _refuse_lone([image for image in images if f"{image.stem}{ending}" not in by_stem], "mask")
    _refuse_lone([mask for stem, mask in by_stem.items() if stem not in expected], "image")
    return [(image, by_stem[f"{image.stem}{ending}"]) for image in images]


def read_text(path: Path) -> str:
    """A list or table of the download; it must be UTF-8, as all of them are published."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); unpack the download again.") from error
    if "\ufffd" in text or "\0" in text:  # UTF-16 without its mark decodes, with a zero beside each letter.
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8, or unpack the download again.")
    return text


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not blank, each with its number from 1."""
    return ((n, line) for n, line in enumerate(read_text(path).splitlines(), 1) if line.strip())


def _refuse_lone(found: list[Path], lacks: str) -> None:
    if found:
        more = f" ({len(found) - 1} more like it)" if len(found) > 1 else ""
        raise DataError(f"{found[0]} has no {lacks}{more}; the download is incomplete, so unpack it again.")


def _require_all_sets(root: Path, source: Path) -> None:
    """Refuses a product that nothing could be fitted on or evaluated with; no published one is so."""
    kinds = {folder.name for folder in folders_in(root / "test")}
    sets = {
        "good images to fit on": (root / GOOD).is_dir(),
        "good test images": GOOD in kinds,
        "defective test images": bool(kinds - {GOOD}),
    }
    missing = [name for name, there in sets.items() if not there]
    if missing:
        raise DataError(
            f"{source} gives no {' and no '.join(missing)}; the download is incomplete, so unpack it again."
        )


def _put_in_place(partial: Path, target: Path) -> None:
    if target == Path.cwd():  # Replaced, it would leave the user's shell in a deleted folder.
        for entry in partial.iterdir():
            entry.replace(target / entry.name)
        return
    if target.exists():
        target.rmdir()
    partial.replace(target)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); check the permissions.") from error


def _products(target: Path) -> list[Path]:
    """The folders of a laid out data set that are each in this project's layout."""
    single = (target / GOOD).is_dir() or (target / "test").is_dir()
    return [target] if single else folders_in(target)


def _print_counts(target: Path) -> None:
    for root in _products(target):
        data = scan_dataset(root)
        good = sum(sample.kind == GOOD for sample in data.test)
        masks = sum(sample.mask_path is not None for sample in data.test)
        defective = len(data.test) - good
        print(f"{root}: {len(data.good)} good; test: {good} good, {defective} defective, {masks} masks")
