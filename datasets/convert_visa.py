"""Lays out VisA (Zou et al. 2022), all products, by its official one-class split.

SOURCE holds split_csv/1cls.csv (object,split,label,image,mask) and the folders candle/, capsules/, ...
with Data/Images and Data/Masks. The masks' label numbers become 255.

Example: python datasets/convert_visa.py downloads/VisA data/visa
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from convert_common import GOOD, Layout, main, read_text, require

from anogan.errors import DataError

COLUMNS = {"object", "split", "label", "image", "mask"}
SPLITS = ("train", "test")
BEYOND = "beyond the last column"


def convert(source: Path, layout: Layout) -> None:
    table = require(source / "split_csv" / "1cls.csv", "VisA")
    for row in _rows(table):
        _add(row, source, layout.product(row["object"]))


def _rows(table: Path) -> Iterator[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(read_text(table)), restkey=BEYOND, restval="")
    try:
        if not COLUMNS.issubset(rows.fieldnames or ()):
            raise DataError(f"{table} has columns {rows.fieldnames}; expected {sorted(COLUMNS)}.")
        for row in rows:
            _require_complete(row, f"{table}, line {rows.line_num}")
            yield row
    except csv.Error as error:
        raise DataError(
            f"{table}, after line {rows.line_num}: {error}; unpack the download again."
        ) from error


def _require_complete(row: dict[str, str], where: str) -> None:
    """Refuses a row that was cut short or runs into the next; only a normal image has no mask."""
    if BEYOND in row:
        raise DataError(f"{where} has more fields than the table has columns; unpack the download again.")
    needed = COLUMNS - {"mask"} if row["label"] == "normal" else COLUMNS
    if missing := sorted(column for column in needed if not row[column]):
        raise DataError(f"{where} has no {', '.join(missing)}; unpack the download again.")
    if row["split"] not in SPLITS:
        raise DataError(f"{where} has the split {row['split']!r}; expected {' or '.join(SPLITS)}.")


def _add(row: dict[str, str], source: Path, layout: Layout) -> None:
    image = source / row["image"]
    if row["label"] != "normal":
        layout.add_test(image, row["label"], source / row["mask"])
    elif row["split"] == "train":
        layout.add_good(image)
    else:
        layout.add_test(image, GOOD)


if __name__ == "__main__":
    raise SystemExit(main(convert))
