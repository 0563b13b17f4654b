"""Each converter takes the real layout of its download, drawn here in miniature."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from anogan.errors import DataError, ImageError
from anogan.images.decode import read_as_stored
from anogan.images.folders import Dataset, read_mask, scan_dataset
from tests.datasets import downloads
from tests.datasets.conftest import DATASETS, converter
from tests.datasets.downloads import (
    BOARD,
    SIZE,
    fake_btad,
    fake_deeppcb,
    fake_kolektor,
    fake_kolektor_2,
    fake_magnetic_tile,
    fake_mvtec,
    fake_visa,
    label,
    photograph,
)


def kinds(data: Dataset) -> Counter[str]:
    return Counter(sample.kind for sample in data.test)


def assert_masks_are_the_labels(data: Dataset) -> None:
    """Every defective image has a mask, true exactly where `label` draws, and visible to a person."""
    expected = np.zeros(SIZE, np.bool_)
    expected[4:8, 6:12] = True
    defective = [sample for sample in data.test if sample.kind != "good"]
    assert defective
    for sample in defective:
        assert sample.mask_path is not None
        np.testing.assert_array_equal(read_mask(sample.mask_path, SIZE), expected)
        assert set(np.unique(read_as_stored(sample.mask_path))) == {0, 255}


@pytest.mark.parametrize("product", [None, "bottle"])
def test_mvtec_ad_as_a_whole_or_one_product(convert, source: Path, product: str | None) -> None:
    fake_mvtec(source / product if product else source)
    root = convert("mvtec_ad")
    data = scan_dataset(root / product if product else root)
    assert [path.name for path in data.good] == ["000.png", "001.png", "002.png"]
    assert kinds(data) == {"good": 1, "broken_large": 2, "contamination": 2}
    assert_masks_are_the_labels(data)


def test_btad_with_the_suffixes_of_each_product(convert, source: Path) -> None:
    suffixes = {"01": (".bmp", ".png"), "02": (".png", ".png"), "03": (".bmp", ".bmp")}
    for name, pair in suffixes.items():
        fake_btad(source / name, *pair)
    root = convert("btad")
    for name in suffixes:
        data = scan_dataset(root / name)
        assert len(data.good) == 3
        assert kinds(data) == {"good": 2, "defect": 2}
        assert_masks_are_the_labels(data)


def test_visa_by_its_split_table(convert, source: Path) -> None:
    fake_visa(source)
    root = convert("visa")
    for name in ("candle", "pcb1"):
        data = scan_dataset(root / name)
        assert [path.name for path in data.good] == ["0000.JPG", "0001.JPG", "0002.JPG"]
        assert kinds(data) == {"good": 1, "anomaly": 1}
        assert_masks_are_the_labels(data)


def test_kolektor_sdd_keeps_the_images_of_a_part_on_one_side(convert, source: Path) -> None:
    fake_kolektor(source)
    data = scan_dataset(convert("kolektor_sdd"))
    assert kinds(data) == {"good": 4, "defect": 10}
    assert len(data.good) == 16
    tested = {sample.path.name.split("_")[0] for sample in data.test if sample.kind == "good"}
    assert tested == {"kos05", "kos10"}
    assert tested.isdisjoint(path.name.split("_")[0] for path in data.good)
    assert_masks_are_the_labels(data)


def test_kolektor_sdd_2_never_fits_on_a_defective_image(convert, source: Path) -> None:
    fake_kolektor_2(source)
    data = scan_dataset(convert("kolektor_sdd"))
    assert [path.name for path in data.good] == ["10001.png", "10002.png", "10003.png"]
    assert kinds(data) == {"good": 3, "defect": 1}
    assert_masks_are_the_labels(data)


@pytest.mark.parametrize("inside", ["", "PCBData"])
def test_deeppcb_fits_on_templates_and_fills_its_boxes(convert, source: Path, inside: str) -> None:
    fake_deeppcb(source / inside)
    root = convert("deeppcb")
    data = scan_dataset(root)
    assert [path.stem for path in data.good] == ["00041000", "00041001", "00041002"]
    template = source / inside / "group00041" / "00041" / "00041000_temp.jpg"
    assert data.good[0].read_bytes() == template.read_bytes()
    assert [(sample.kind, sample.path.stem) for sample in data.test] == [
        ("defect", "00041003"),
        ("defect", "00041004"),
        ("good", "00041003"),
        ("good", "00041004"),
    ]
    assert_masks_are_the_labels(data)
    assert (root / "boxes" / "defect" / "00041003.txt").read_text() == "6 4 11 7 mousebite\n"


def test_magnetic_tile_holds_out_every_fifth_free_tile(convert, source: Path) -> None:
    fake_magnetic_tile(source)
    data = scan_dataset(convert("magnetic_tile"))
    assert len(data.good) == 8
    assert kinds(data) == {"good": 2, "blowhole": 2, "break": 1, "crack": 1, "fray": 1, "uneven": 1}
    assert_masks_are_the_labels(data)


@pytest.mark.parametrize("link", [False, True])
def test_images_keep_their_bytes_and_are_linked_on_request(convert, source: Path, link: bool) -> None:
    fake_mvtec(source)
    data = scan_dataset(convert("mvtec_ad", link=link))
    original = source / "train" / "good" / "000.png"
    assert data.good[0].read_bytes() == original.read_bytes()
    assert data.good[0].samefile(original) == link


def test_a_box_that_reaches_over_the_edge_marks_what_lies_inside(convert, source: Path) -> None:
    fake_deeppcb(source)
    (source / BOARD).write_text("-3 -2 0 0 3\n23 15 40 40 1\n")
    sample = next(s for s in scan_dataset(convert("deeppcb")).test if s.kind == "defect")
    assert sample.mask_path is not None
    assert np.argwhere(read_mask(sample.mask_path, SIZE)).tolist() == [[0, 0], [15, 23]]


def test_a_list_saved_with_a_byte_order_mark_is_read(convert, source: Path) -> None:
    fake_deeppcb(source)
    table = source / "trainval.txt"
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert len(scan_dataset(convert("deeppcb")).good) == 3


def test_a_normal_row_needs_no_field_for_a_mask(convert, source: Path) -> None:
    fake_visa(source)
    table = source / "split_csv" / "1cls.csv"
    table.write_text(table.read_text().replace("JPG,\n", "JPG\n"))
    assert len(scan_dataset(convert("visa") / "pcb1").good) == 3


@pytest.mark.parametrize("name", ["mvtec_ad", "btad", "visa", "kolektor_sdd", "deeppcb", "magnetic_tile"])
def test_a_folder_that_is_no_such_download_is_refused(convert, target: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"does not exist, so this is no .* download"):
        convert(name)
    assert not target.exists()


def test_a_mask_of_another_size_leaves_no_half_target(convert, source: Path, target: Path) -> None:
    fake_mvtec(source)
    label(source / "ground_truth" / "contamination" / "001_mask.png", size=(16, 20))
    with pytest.raises(ImageError, match="001_mask"):
        convert("mvtec_ad")
    assert list(target.parent.iterdir()) == []


def test_a_target_with_content_is_never_touched(convert, source: Path, target: Path) -> None:
    fake_mvtec(source)
    kept = photograph(target / "mine.png")
    with pytest.raises(DataError, match="is not empty"):
        convert("mvtec_ad")
    assert list(target.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("fake", "name", "ending"),
    [
        ("kolektor", "kolektor_sdd", "_label.bmp"),
        ("kolektor_2", "kolektor_sdd", "_GT.png"),
        ("magnetic_tile", "magnetic_tile", ".png"),
    ],
)
def test_labels_may_end_in_capitals(convert, source: Path, fake: str, name: str, ending: str) -> None:
    getattr(downloads, f"fake_{fake}")(source)
    for path in list(source.rglob(f"*{ending}")):
        path.rename(path.with_suffix(path.suffix.upper()))
    assert_masks_are_the_labels(scan_dataset(convert(name)))


def test_the_command_line_counts_what_it_laid_out_and_exits_2_on_a_mistake(
    source: Path, target: Path
) -> None:
    fake_mvtec(source)
    command = [sys.executable, str(DATASETS / "convert_mvtec_ad.py"), str(source), str(target)]
    environment = {**os.environ, "PYTHONPATH": str(DATASETS.parent), "PYTHONIOENCODING": "utf-8"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
        )

    first = run()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == f"{target}: 3 good; test: 1 good, 4 defective, 4 masks\n"
    second = run()
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"{target} exists and is not empty; give a new folder.\n"


def test_the_current_folder_may_be_the_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path, target: Path
) -> None:
    fake_mvtec(source)
    target.mkdir(parents=True)
    monkeypatch.chdir(target)
    module = converter(monkeypatch, "convert_mvtec_ad")
    assert module.main(module.convert, [str(source), "."]) == 0
    assert capsys.readouterr().out == ".: 3 good; test: 1 good, 4 defective, 4 masks\n"
    # The very folder that a shell stands in, not another one at its place.
    assert sorted(os.listdir()) == ["good", "ground_truth", "test"]  # noqa: PTH208 - Says which one is meant.
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_target_is_filled(convert, source: Path, target: Path) -> None:
    fake_mvtec(source)
    target.mkdir(parents=True)
    assert len(scan_dataset(convert("mvtec_ad")).good) == 3
