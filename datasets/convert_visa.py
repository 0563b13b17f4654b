"""Lays out VisA (Zou et al. 2022), all products, by its official one-class split.

SOURCE holds split_csv/1cls.csv (object,split,label,image,mask) and the folders candle/, capsules/, ...
with Data/Images and Data/Masks. The masks' label numbers become 255.

Example: python datasets/convert_visa.py downloads/VisA data/visa
"""

from __future__ import annotations

import csv
from pathlib import Path

from convert_common import GOOD, Layout, main, require

from anogan.errors import DataError

COLUMNS = {"object", "split", "label", "image", "mask"}


def convert(source: Path, layout: Layout) -> None:
    table = require(source / "split_csv" / "1cls.csv", "VisA")
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not COLUMNS.issubset(rows.fieldnames or ()):
            raise DataError(f"{table} has columns {rows.fieldnames}; expected {sorted(COLUMNS)}.")
        for row in rows:
            _add(row, source, layout.product(row["object"]))


def _add(row: dict[str, str], source: Path, layout: Layout) -> None:
    image = source / row["image"]
    if row["label"] != "normal":
        layout.add_test(image, row["label"], source / row["mask"] if row["mask"] else None)
    elif row["split"] == "train":
        layout.add_good(image)
    else:
        layout.add_test(image, GOOD)


if __name__ == "__main__":
    raise SystemExit(main(convert))
