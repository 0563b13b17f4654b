"""Each converter takes the real layout of its download, drawn here in miniature."""

import importlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from anogan.errors import DataError, ImageError
from anogan.images.decode import read_as_stored
from anogan.images.folders import Dataset, read_mask, scan_dataset

DATASETS = Path(__file__).parents[2] / "datasets"
SIZE = (16, 24)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "download 下载"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "out"


def converter(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(DATASETS))
    return importlib.import_module(name)


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch, source: Path, target: Path):
    def run(name: str, *, link: bool = False) -> Path:
        module = converter(monkeypatch, f"convert_{name}")
        converter(monkeypatch, "convert_common").convert_to(target, source, module.convert, link=link)
        return target

    return run


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())
    return path


def photograph(path: Path) -> Path:
    return save(path, np.random.default_rng(len(str(path))).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def label(path: Path, value: int = 255, size: tuple[int, int] = SIZE) -> Path:
    pixels = np.zeros(size, np.uint8)
    pixels[4:8, 6:12] = value
    return save(path, pixels)


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


def fake_mvtec(root: Path) -> None:
    for i in range(3):
        photograph(root / "train" / "good" / f"{i:03d}.png")
    photograph(root / "test" / "good" / "000.png")
    for kind in ("broken_large", "contamination"):
        for i in range(2):
            photograph(root / "test" / kind / f"{i:03d}.png")
            label(root / "ground_truth" / kind / f"{i:03d}_mask.png")
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")


def fake_btad(root: Path, image_suffix: str, mask_suffix: str) -> None:
    for folder, n in (("train/ok", 3), ("test/ok", 2), ("test/ko", 2)):
        for i in range(n):
            photograph(root / folder / f"{i:04d}{image_suffix}")
    for i in range(2):
        label(root / "ground_truth" / "ko" / f"{i:04d}{mask_suffix}")


def fake_visa(root: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        for i, split in enumerate(("train", "train", "train", "test")):
            image = f"{name}/Data/Images/Normal/{i:04d}.JPG"
            photograph(root / image)
            rows.append(f"{name},{split},normal,{image},")
        image, mask = f"{name}/Data/Images/Anomaly/000.JPG", f"{name}/Data/Masks/Anomaly/000.png"
        photograph(root / image)
        label(root / mask, value=3)
        rows.append(f"{name},test,anomaly,{image},{mask}")
    table = root / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")


def fake_kolektor(root: Path) -> None:
    for part in range(1, 11):
        for i in range(3):
            photograph(root / f"kos{part:02d}" / f"Part{i}.jpg")
            label(root / f"kos{part:02d}" / f"Part{i}_label.bmp", value=255 if i == 1 else 0)


def fake_kolektor_2(root: Path) -> None:
    for split, first in (("train", 10000), ("test", 20000)):
        for i in range(4):
            photograph(root / split / f"{first + i}.png")
            label(root / split / f"{first + i}_GT.png", value=255 if i == 0 else 0)
    label(root / "train" / "10003_GT (copy).png")


def fake_deeppcb(root: Path) -> None:
    for name, boards in (("trainval.txt", range(3)), ("test.txt", range(3, 5))):
        lines = []
        for i in boards:
            stem = f"group00041/00041/{41000 + i:08d}"
            notes = f"group00041/00041_not/{41000 + i:08d}.txt"
            photograph(root / f"{stem}_temp.jpg")
            photograph(root / f"{stem}_test.jpg")
            (root / notes).parent.mkdir(exist_ok=True)
            (root / notes).write_text("6 4 11 7 3\n")
            lines.append(f"{stem}.jpg {notes}\n")
        (root / name).write_text("".join(lines))


def fake_magnetic_tile(root: Path) -> None:
    for kind, n in (("Free", 10), ("Blowhole", 2), ("Break", 1), ("Crack", 1), ("Fray", 1), ("Uneven", 1)):
        for i in range(n):
            photograph(root / f"MT_{kind}" / "Imgs" / f"exp1_num_{i}.jpg")
            label(root / f"MT_{kind}" / "Imgs" / f"exp1_num_{i}.png", value=0 if kind == "Free" else 255)
    (root / "README.md").write_text("cite the paper")


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


def test_a_damaged_box_file_names_its_line(convert, source: Path) -> None:
    fake_deeppcb(source)
    (source / "group00041" / "00041_not" / "00041003.txt").write_text("6 4 11 7 9\n")
    with pytest.raises(DataError, match=r"00041003\.txt: the line '6 4 11 7 9'"):
        convert("deeppcb")


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
