"""The real layout of each public data set's download, drawn in miniature."""

from pathlib import Path

import cv2
import numpy as np

SIZE = (16, 24)
BOARD = Path("group00041", "00041_not", "00041003.txt")


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
    photograph(root / "train" / "10003 (copy).png")
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


def fake_btad_products(root: Path) -> None:
    for name in ("01", "02"):
        fake_btad(root / name, ".bmp", ".png")


def fake_mvtec_products(root: Path) -> None:
    for name in ("bottle", "cable"):
        fake_mvtec(root / name)
