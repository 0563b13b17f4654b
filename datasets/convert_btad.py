"""Lays out BTAD (Mishra et al. 2021), one product or all three.

SOURCE is BTech_Dataset_transformed with 01/, 02/ and 03/, each with train/ok, test/ok, test/ko and
ground_truth/ko (png or bmp), or one of these.

Example: python datasets/convert_btad.py downloads/BTech_Dataset_transformed data/btad
"""

from __future__ import annotations

from pathlib import Path

from convert_common import DEFECT, GOOD, Layout, find_mask, folders_in, images_in, main, require


def convert(source: Path, layout: Layout) -> None:
    if (source / "train").is_dir():
        _convert_product(source, layout)
        return
    products = [folder for folder in folders_in(source) if (folder / "train").is_dir()]
    if not products:
        require(source / "01" / "train" / "ok", "BTAD")
    for product in products:
        _convert_product(product, layout.product(product.name))


def _convert_product(source: Path, layout: Layout) -> None:
    for image in images_in(require(source / "train" / "ok", "BTAD")):
        layout.add_good(image)
    for image in images_in(source / "test" / "ok"):
        layout.add_test(image, GOOD)
    for image in images_in(require(source / "test" / "ko", "BTAD")):
        layout.add_test(image, DEFECT, find_mask(source / "ground_truth" / "ko", image.stem))


if __name__ == "__main__":
    raise SystemExit(main(convert))
