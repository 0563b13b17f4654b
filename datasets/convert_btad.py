"""Lays out BTAD (Mishra et al. 2021), one product or all three.

SOURCE is BTech_Dataset_transformed with 01/, 02/ and 03/, each with train/ok, test/ok, test/ko and
ground_truth/ko (png or bmp), or one of these.

Example: python datasets/convert_btad.py downloads/BTech_Dataset_transformed data/btad
"""

from __future__ import annotations

from pathlib import Path

from convert_common import (
    DEFECT,
    GOOD,
    Layout,
    images_in,
    main,
    products_in,
    require,
    require_images,
    with_masks,
)


def convert(source: Path, layout: Layout) -> None:
    if (source / "train").is_dir():
        _convert_product(source, layout)
        return
    products = products_in(source)
    if not products:
        require(source / "01" / "train" / "ok", "BTAD")
    for product in products:
        _convert_product(product, layout.product(product.name))


def _convert_product(source: Path, layout: Layout) -> None:
    for image in require_images(source / "train" / "ok", "BTAD"):
        layout.add_good(image)
    for image in require_images(source / "test" / "ok", "BTAD"):
        layout.add_test(image, GOOD)
    defective = require_images(source / "test" / "ko", "BTAD")
    for image, mask in with_masks(defective, images_in(source / "ground_truth" / "ko")):
        layout.add_test(image, DEFECT, mask)


if __name__ == "__main__":
    raise SystemExit(main(convert))
