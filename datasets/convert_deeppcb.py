"""Lays out DeepPCB (Tang et al. 2019) by its own trainval and test lists.

SOURCE is the repository or its PCBData folder, with trainval.txt, test.txt and
group00041/00041/00041000_temp.jpg, ..._test.jpg, group00041/00041_not/00041000.txt. Defect-free
templates of trainval are the good images, templates and boards of test the test images; masks are the
filled bounding boxes, and the boxes themselves go to boxes/defect/<name>.txt (x1 y1 x2 y2 kind).

Example: python datasets/convert_deeppcb.py downloads/DeepPCB data/deeppcb
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from convert_common import DEFECT, GOOD, Layout, main, numbered_lines, require
from numpy.typing import NDArray

from anogan.errors import DataError
from anogan.images.decode import probe

KINDS = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "copper", 6: "pinhole"}

_WHOLE = re.compile(r"-?[0-9]{1,9}")

Box = tuple[int, int, int, int, str]


def convert(source: Path, layout: Layout) -> None:
    root = source / "PCBData" if (source / "PCBData").is_dir() else source
    for image, _ in _listed(root, "trainval.txt"):
        layout.add_good(_variant(image, "temp"), f"{image.stem}.jpg")
    for image, annotation in _listed(root, "test.txt"):
        layout.add_test(_variant(image, "temp"), GOOD, name=f"{image.stem}.jpg")
        _add_board(_variant(image, "test"), annotation, layout)


def _listed(root: Path, name: str) -> Iterator[tuple[Path, Path]]:
    table = require(root / name, "DeepPCB")
    for number, line in numbered_lines(table):
        paths = line.split()
        if len(paths) != 2:
            raise DataError(
                f"{table}, line {number}: {line!r} is not an image and its annotation; unpack it again."
            )
        yield root / paths[0], root / paths[1]


def _variant(image: Path, variant: str) -> Path:
    """The lists name 00041000.jpg; the files are 00041000_temp.jpg and 00041000_test.jpg."""
    return image.with_name(f"{image.stem}_{variant}{image.suffix}")


def _add_board(image: Path, annotation: Path, layout: Layout) -> None:
    info = probe(image)
    shape = info.height, info.width
    boxes = list(_read_boxes(require(annotation, "DeepPCB"), shape))
    if not boxes:
        raise DataError(f"{annotation} holds no box, but every board has a defect; unpack it again.")
    name = annotation.stem
    layout.add_test(image, DEFECT, _filled(boxes, shape), f"{name}{image.suffix}")
    table = layout.root / "boxes" / DEFECT / f"{name}.txt"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(" ".join(map(str, box)) + "\n" for box in boxes), encoding="utf-8")


def _read_boxes(path: Path, shape: tuple[int, int]) -> Iterator[Box]:
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}: {line!r}"
        texts = re.split(r"[\s,]+", line.strip())
        if len(texts) != 5 or not all(map(_WHOLE.fullmatch, texts)) or int(texts[4]) not in KINDS:
            raise DataError(
                f"{where} is not x1 y1 x2 y2 in whole pixels and a kind from 1 to 6; unpack it again."
            )
        x1, y1, x2, y2, kind = map(int, texts)
        if max(x1, 0) > min(x2, shape[1] - 1) or max(y1, 0) > min(y2, shape[0] - 1):
            raise DataError(
                f"{where} marks no pixel of its image, which has {shape[1]}x{shape[0]}; correct the box."
            )
        yield x1, y1, x2, y2, KINDS[kind]


def _filled(boxes: list[Box], shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for x1, y1, x2, y2, _ in boxes:
        mask[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1] = True  # Corners belong to the box.
    return mask


if __name__ == "__main__":
    raise SystemExit(main(convert))
