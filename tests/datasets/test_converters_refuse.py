"""A download that is incomplete or damaged is refused in a sentence; nothing is left out silently."""

import shutil
from pathlib import Path

import pytest

from anogan.errors import DataError
from tests.datasets import downloads
from tests.datasets.downloads import BOARD, fake_deeppcb, fake_visa


@pytest.mark.parametrize("line", ["6 4 11 7 9", "6.5 4 11 7 3", "6 4 11 7", "6 4 eleven 7 3"])
def test_a_damaged_box_file_names_its_line(convert, source: Path, line: str) -> None:
    fake_deeppcb(source)
    (source / BOARD).write_text(f"6 4 11 7 3\n\n{line}\n")
    with pytest.raises(DataError, match=rf"00041003\.txt, line 3: '{line}' is not x1 y1 x2 y2 in whole pix"):
        convert("deeppcb")


@pytest.mark.parametrize(
    "line", ["24 4 30 7 3", "6 16 11 20 3", "-9 4 -1 7 3", "6 -9 11 -5 3", "11 4 6 7 3", "6 7 11 4 3"]
)
def test_a_box_that_would_mark_nothing_of_its_board_is_refused(convert, source: Path, line: str) -> None:
    fake_deeppcb(source)
    (source / BOARD).write_text(f"6 4 11 7 3\n{line}\n")
    with pytest.raises(DataError, match=rf"00041003\.txt, line 2: '{line}' marks no pixel .* 24x16"):
        convert("deeppcb")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_board_without_a_box_is_refused(convert, source: Path, text: str) -> None:
    fake_deeppcb(source)
    (source / BOARD).write_text(text)
    with pytest.raises(DataError, match=r"00041003\.txt holds no box"):
        convert("deeppcb")


def test_a_list_line_without_its_annotation_is_named(convert, source: Path) -> None:
    fake_deeppcb(source)
    with (source / "test.txt").open("a") as file:
        file.write("group00041/00041/00041000.jpg\n")
    with pytest.raises(DataError, match=r"test\.txt, line 3: 'group00041/00041/00041000\.jpg' is not an im"):
        convert("deeppcb")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
@pytest.mark.parametrize(
    ("fake", "name", "path"),
    [
        ("fake_deeppcb", "deeppcb", Path("trainval.txt")),
        ("fake_deeppcb", "deeppcb", BOARD),
        ("fake_visa", "visa", Path("split_csv", "1cls.csv")),
    ],
)
def test_a_list_saved_as_utf_16_is_named(
    convert, source: Path, fake: str, name: str, path: Path, encoding: str
) -> None:
    getattr(downloads, fake)(source)
    (source / path).write_text((source / path).read_text(), encoding=encoding)
    with pytest.raises(DataError, match=rf"{path.name} is not UTF-8 text; save it as UTF-8"):
        convert(name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("pcb1,test", "has no image, label, mask;"),
        ("pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG", "has no mask;"),
        ("pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,", "has no mask;"),
        (",test,normal,pcb1/Data/Images/Normal/0000.JPG,", "has no object;"),
        ("pcb1,tes,normal,pcb1/Data/Images/Normal/0000.JPG,", "has the split 'tes'; expected train or test"),
        ("pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,,pcb1,train", "has more fields"),
    ],
)
def test_a_damaged_row_of_the_split_table_is_named(convert, source: Path, row: str, message: str) -> None:
    fake_visa(source)
    table = source / "split_csv" / "1cls.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], row]) + "\n")
    with pytest.raises(DataError, match=rf"1cls\.csv, line {len(lines)} {message}"):
        convert("visa")


def test_a_quotation_mark_that_is_never_closed_is_named(convert, source: Path) -> None:
    fake_visa(source)
    with (source / "split_csv" / "1cls.csv").open("a") as file:
        file.write(f'pcb1,train,normal,"{"x" * 140_000}')
    with pytest.raises(DataError, match=r"1cls\.csv, after line 11: field larger than field limit"):
        convert("visa")


@pytest.mark.parametrize(
    ("fake", "name", "lost", "message"),
    [
        ("btad_products", "btad", "02/train/ok", r"train.ok does not exist, so this is no complete BTAD"),
        ("btad_products", "btad", "02/train", r"train.ok does not exist, so this is no complete BTAD"),
        ("btad_products", "btad", "02/test/ok", r"test.ok does not exist, so this is no complete BTAD"),
        ("btad_products", "btad", "02/test/ok/*", r"test.ok holds no images, so the BTAD download"),
        ("btad_products", "btad", "02/test/ko/*", r"test.ko holds no images, so the BTAD download"),
        ("btad_products", "btad", "02/test/ko/0001.bmp", r"ko.0001\.png has no image; the download"),
        ("btad_products", "btad", "02/ground_truth", r"ko.0000\.bmp has no mask \(1 more like it\)"),
        ("mvtec_products", "mvtec_ad", "cable/train", r"cable.train.good does not exist"),
        ("mvtec_products", "mvtec_ad", "cable/train/good/*", r"cable.train.good holds no images"),
        ("mvtec_products", "mvtec_ad", "cable/test", r"cable.test.good does not exist"),
        ("mvtec_products", "mvtec_ad", "cable/test/contamination", r"test.contamination does not exist"),
        ("mvtec_products", "mvtec_ad", "cable/test/contamination/*", r"contamination holds no images"),
        (
            "mvtec_products",
            "mvtec_ad",
            "cable/ground_truth/contamination/001_mask.png",
            r"contamination.001\.png has no mask; the download is incomplete",
        ),
        ("kolektor", "kolektor_sdd", "kos03/*", r"kos03 holds no images"),
        ("kolektor", "kolektor_sdd", "kos03/Part1.jpg", r"Part1_label\.bmp has no image"),
        ("kolektor", "kolektor_sdd", "kos03/Part1_label.bmp", r"Part1\.jpg has no mask"),
        ("kolektor_2", "kolektor_sdd", "test", r"test does not exist"),
        ("kolektor_2", "kolektor_sdd", "train", r"train does not exist, so this is no complete KolektorSDD2"),
        ("kolektor_2", "kolektor_sdd", "train/10001_GT.png", r"10001\.png has no mask"),
        ("kolektor_2", "kolektor_sdd", "test/20000_GT.png", r"20000\.png has no mask"),
        ("kolektor_2", "kolektor_sdd", "test/20000.png", r"20000_GT\.png has no image"),
        ("magnetic_tile", "magnetic_tile", "MT_Crack/Imgs", r"Imgs does not exist, .* magnetic tile"),
        ("magnetic_tile", "magnetic_tile", "MT_Crack", r"Imgs does not exist, .* magnetic tile"),
        ("magnetic_tile", "magnetic_tile", "MT_Crack/Imgs/*", r"Imgs holds no images"),
        ("magnetic_tile", "magnetic_tile", "MT_Blowhole/Imgs/exp1_num_1.png", r"num_1\.jpg has no mask"),
        ("magnetic_tile", "magnetic_tile", "MT_Blowhole/Imgs/exp1_num_1.jpg", r"num_1\.png has no image"),
    ],
)
def test_an_incomplete_download_is_refused(
    convert, source: Path, target: Path, fake: str, name: str, lost: str, message: str
) -> None:
    getattr(downloads, f"fake_{fake}")(source)
    for path in list(source.glob(lost)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        convert(name)
    assert not target.exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("pcb1,train,", r"pcb1 gives no good images to fit on; the download is incomplete"),
        ("pcb1,test,normal", r"pcb1 gives no good test images;"),
        ("pcb1,test,anomaly", r"pcb1 gives no defective test images;"),
        ("pcb1,test,", r"pcb1 gives no good test images and no defective test images;"),
    ],
)
def test_a_product_without_good_or_test_images_is_refused(
    convert, source: Path, target: Path, rows: str, message: str
) -> None:
    fake_visa(source)
    table = source / "split_csv" / "1cls.csv"
    kept = [line for line in table.read_text().splitlines() if not line.startswith(rows)]
    table.write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match=message):
        convert("visa")
    assert list(target.parent.iterdir()) == []
