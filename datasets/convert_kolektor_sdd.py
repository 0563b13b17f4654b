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

from convert_common import DEFECT, GOOD, Layout, folders_in, main, require, require_images, with_masks

from anogan.images.decode import probe
from anogan.images.folders import read_mask

TEST_EVERY = 5


def convert(source: Path, layout: Layout) -> None:
    if (source / "train").is_dir() or (source / "test").is_dir():
        _convert_second(source, layout)
    else:
        _convert_first(source, layout)


def _convert_first(source: Path, layout: Layout) -> None:
    parts = [folder for folder in folders_in(source) if folder.name.startswith("kos")]
    if not parts:
        require(source / "kos01", "KolektorSDD")
    for i, part in enumerate(parts):
        for image, label in _labelled(require_images(part, "KolektorSDD"), "_label"):
            name = f"{part.name}_{image.name}"
            if _is_defective(image, label):
                layout.add_test(image, DEFECT, label, name)
            elif i % TEST_EVERY == TEST_EVERY - 1:
                layout.add_test(image, GOOD, name=name)
            else:
                layout.add_good(image, name)


def _convert_second(source: Path, layout: Layout) -> None:
    for split in ("train", "test"):
        files = require_images(source / split, "KolektorSDD2")
        # The published train/ has `10301 (copy).png` and `10301_GT (copy).png`, which belong to nothing.
        files = [path for path in files if not path.stem.endswith(" (copy)")]
        for image, label in _labelled(files, "_GT"):
            defective = _is_defective(image, label)
            if split == "test":
                layout.add_test(image, DEFECT if defective else GOOD, label if defective else None)
            elif not defective:
                layout.add_good(image)


def _labelled(files: list[Path], ending: str) -> list[tuple[Path, Path]]:
    """The photographs of a folder that also holds their labels, which have such an ending."""
    labels = [path for path in files if path.stem.endswith(ending)]
    return with_masks([path for path in files if not path.stem.endswith(ending)], labels, ending)


def _is_defective(image: Path, label: Path) -> bool:
    info = probe(image)
    return bool(read_mask(label, (info.height, info.width)).any())


if __name__ == "__main__":
    raise SystemExit(main(convert))
