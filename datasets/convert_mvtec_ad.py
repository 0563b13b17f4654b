"""Lays out MVTec AD (Bergmann et al. 2019), one product or the folder of all.

SOURCE holds train/good, test/<kind> and ground_truth/<kind>, or folders such as bottle/ that do.

Example: python datasets/convert_mvtec_ad.py downloads/mvtec_anomaly_detection data/mvtec
"""

from __future__ import annotations

from pathlib import Path

from convert_common import GOOD, Layout, find_mask, folders_in, images_in, main, require


def convert(source: Path, layout: Layout) -> None:
    if (source / "train").is_dir():
        _convert_product(source, layout)
        return
    products = [folder for folder in folders_in(source) if (folder / "train").is_dir()]
    if not products:
        require(source / "train" / GOOD, "MVTec AD")
    for product in products:
        _convert_product(product, layout.product(product.name))


def _convert_product(source: Path, layout: Layout) -> None:
    for image in images_in(require(source / "train" / GOOD, "MVTec AD")):
        layout.add_good(image)
    for kind in folders_in(source / "test"):
        masks = source / "ground_truth" / kind.name
        for image in images_in(kind):
            mask = None if kind.name == GOOD else find_mask(masks, f"{image.stem}_mask")
            layout.add_test(image, kind.name, mask)


if __name__ == "__main__":
    raise SystemExit(main(convert))
