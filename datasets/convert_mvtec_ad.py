"""Lays out MVTec AD (Bergmann et al. 2019), one product or the folder of all.

SOURCE holds train/good, test/<kind> and ground_truth/<kind>, or folders such as bottle/ that do.

Example: python datasets/convert_mvtec_ad.py downloads/mvtec_anomaly_detection data/mvtec
"""

from __future__ import annotations

from pathlib import Path

from convert_common import (
    GOOD,
    Layout,
    folders_in,
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
        require(source / "train" / GOOD, "MVTec AD")
    for product in products:
        _convert_product(product, layout.product(product.name))


def _convert_product(source: Path, layout: Layout) -> None:
    for image in require_images(source / "train" / GOOD, "MVTec AD"):
        layout.add_good(image)
    for image in require_images(source / "test" / GOOD, "MVTec AD"):
        layout.add_test(image, GOOD)
    truth = source / "ground_truth"
    # Of both: a kind of which only the masks were unpacked must not go unnoticed.
    kinds = {folder.name for folder in folders_in(source / "test") + folders_in(truth)} - {GOOD}
    for kind in sorted(kinds):
        images = require_images(source / "test" / kind, "MVTec AD")
        for image, mask in with_masks(images, images_in(truth / kind), "_mask"):
            layout.add_test(image, kind, mask)


if __name__ == "__main__":
    raise SystemExit(main(convert))
