"""Lays out the magnetic tile defect data set (Huang et al. 2018).

SOURCE holds MT_Free/Imgs, MT_Blowhole/Imgs, MT_Break/Imgs, MT_Crack/Imgs, MT_Fray/Imgs and
MT_Uneven/Imgs with exp1_num_4727.jpg and, as its mask, exp1_num_4727.png. Of the tiles that are free
of defects every fifth is for the test, 80 % to fit on as in the published protocol.

Example: python datasets/convert_magnetic_tile.py downloads/Magnetic-tile-defect-datasets. data/tiles
"""

from __future__ import annotations

from pathlib import Path

from convert_common import GOOD, Layout, folders_in, main, require, require_images, with_masks

TEST_EVERY = 5
KINDS = ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven")


def convert(source: Path, layout: Layout) -> None:
    for kind in KINDS:
        require(source / f"MT_{kind}" / "Imgs", "magnetic tile")
    for folder in folders_in(source):
        if not folder.name.startswith("MT_"):
            continue
        files = require_images(folder / "Imgs", "magnetic tile")
        photographs = [path for path in files if path.suffix.lower() == ".jpg"]
        if folder.name == "MT_Free":
            _add_free(photographs, layout)
            continue
        for image, mask in with_masks(photographs, (p for p in files if p.suffix.lower() == ".png")):
            layout.add_test(image, folder.name.removeprefix("MT_").lower(), mask)


def _add_free(photographs: list[Path], layout: Layout) -> None:
    for i, image in enumerate(photographs):
        if i % TEST_EVERY == TEST_EVERY - 1:
            layout.add_test(image, GOOD)
        else:
            layout.add_good(image)


if __name__ == "__main__":
    raise SystemExit(main(convert))
