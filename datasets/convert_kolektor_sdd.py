"""Lays out KolektorSDD (Tabernik et al. 2020) or KolektorSDD2 (Bozic et al. 2021).

KolektorSDD: SOURCE holds kos01/ to kos50/ with Part0.jpg and Part0_label.bmp. It has no split for
one-class learning, so the good images of every fifth commutator are for the test: all images of one
part stay on one side.
KolektorSDD2: SOURCE holds train/ and test/ with 10000.png and 10000_GT.png. Defective images of
train/ are left out, since only good ones may be fitted on.

Example: python datasets/convert_kolektor_sdd.py downloads/KolektorSDD2 data/kolektor2
"""

from __future__ import annotations

from pathlib import Path

from convert_common import DEFECT, GOOD, Layout, folders_in, images_in, main, require

from anogan.images.decode import probe
from anogan.images.folders import read_mask

TEST_EVERY = 5


def convert(source: Path, layout: Layout) -> None:
    if (source / "train").is_dir():
        _convert_second(source, layout)
    else:
        _convert_first(source, layout)


def _convert_first(source: Path, layout: Layout) -> None:
    parts = [folder for folder in folders_in(source) if folder.name.startswith("kos")]
    if not parts:
        require(source / "kos01", "KolektorSDD")
    for i, part in enumerate(parts):
        for image in images_in(part):
            if image.stem.endswith("_label"):
                continue
            label = require(image.with_name(f"{image.stem}_label.bmp"), "KolektorSDD")
            name = f"{part.name}_{image.name}"
            if _is_defective(image, label):
                layout.add_test(image, DEFECT, label, name)
            elif i % TEST_EVERY == TEST_EVERY - 1:
                layout.add_test(image, GOOD, name=name)
            else:
                layout.add_good(image, name)


def _convert_second(source: Path, layout: Layout) -> None:
    for split in ("train", "test"):
        for image in images_in(require(source / split, "KolektorSDD2")):
            label = image.with_name(f"{image.stem}_GT.png")
            if not label.is_file():  # The labels themselves, and stray copies that the download has.
                continue
            defective = _is_defective(image, label)
            if split == "test":
                layout.add_test(image, DEFECT if defective else GOOD, label if defective else None)
            elif not defective:
                layout.add_good(image)


def _is_defective(image: Path, label: Path) -> bool:
    info = probe(image)
    return bool(read_mask(label, (info.height, info.width)).any())


if __name__ == "__main__":
    raise SystemExit(main(convert))
