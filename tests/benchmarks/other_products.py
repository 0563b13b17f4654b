"""Draws three products that are neither boards nor tiles, to see what `anogan fit` makes of them.

    python tests/benchmarks/other_products.py DIR [--seed 0]
    anogan fit --data DIR/fabric --out MODEL && anogan evaluate --data DIR/fabric --model MODEL

DIR/fabric: woven cloth in colour, a texture without places. DIR/flange: a turned metal part in grey, at any
turn, some way off the middle. DIR/label: a printed label in colour that always lies about alike. Each has 160
good images to train on, 40 good and 5 x 8 defective ones to test, 256 x 256 pixels, a mask for each defect.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
LARGE = 4  # Labels are printed at so many times the camera's pixels.
PAPER, INK, BLUE, GREEN = (237, 235, 224), (20, 20, 26), (26, 64, 153), (26, 115, 140)
N_GOOD, N_TEST_GOOD, N_PER_KIND = 160, 40, 8
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, str], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Product:
    """What to draw, and the kinds of its defects.

    Attributes:
        draw: (rng, kind, or "" for a good one) -> image (H, W, C) in [0, 1], what the defect covers (H, W).
        kinds: Of defects.
    """

    draw: Draw
    kinds: tuple[str, ...]


def smooth(rng: np.random.Generator, sigma: float, shape: tuple[int, ...] = (SIDE, SIDE)) -> Floats:
    """Noise of deviation 1 that changes over about `sigma` pixels."""
    found = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray((found - found.mean()) / found.std())


def spot(
    rng: np.random.Generator, low: float, high: float, middle: tuple[float, float] | None = None
) -> Floats:
    """A frayed blot of a radius between `low` and `high` pixels, in [0, 1]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    cx, cy = middle or rng.uniform(40, SIDE - 40, 2)
    a, b = rng.uniform(low, high, 2)
    turn = rng.uniform(0, np.pi)
    u, v = (
        (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn),
        (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn),
    )
    edge = np.hypot(u / a, v / b) + 0.12 * smooth(rng, 4)
    return np.asarray(np.clip((1.15 - edge) / 0.3, 0, 1))


def stroke(rng: np.random.Generator, length: float, width: float) -> Floats:
    """A bent line somewhere, in [0, 1]."""
    start, turn, bend = rng.uniform(50, SIDE - 50, 2), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.5)
    t = np.linspace(0, 1, 40)[:, None]
    towards = np.array([np.cos(turn), np.sin(turn)])
    points = start + length * (t - 0.5) * towards + bend * length * (t - 0.5) ** 2 * towards[::-1] * (1, -1)
    found = np.zeros((4 * SIDE, 4 * SIDE), np.uint8)
    cv2.polylines(found, [np.round(points * 4).astype(np.int32)], False, 255, round(4 * width))
    return np.asarray(cv2.resize(found, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / 255)


def inside(edge: float, distance: Floats) -> Floats:
    """1 where the distance is below the edge, which is a pixel wide."""
    return np.asarray(np.clip(edge - distance + 0.5, 0, 1))


def photographed(rng: np.random.Generator, image: Floats, light: float = 0.06) -> Floats:
    """Under light of another strength and slope, through a lens, with a sensor's noise."""
    slope = np.linspace(-1, 1, SIDE)
    gain = 1 + rng.normal(0, light) + rng.normal(0, 0.03) * slope + rng.normal(0, 0.03) * slope[:, None]
    blurred = cv2.GaussianBlur(image * gain[..., None], (0, 0), rng.uniform(0.5, 0.7)).reshape(image.shape)
    return np.asarray(np.clip(blurred + rng.normal(0, 0.012, image.shape), 0, 1))


def fabric(rng: np.random.Generator, kind: str) -> tuple[Floats, Floats]:
    """Plain weave: a thread in eight pixels, warp and weft over each other in turn."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    turn = rng.normal(0, 0.02)
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    u, v = (
        (x + 1.2 * smooth(rng, 20)) / 8 + rng.uniform(0, 8),
        (y + 1.2 * smooth(rng, 20)) / 8 + rng.uniform(0, 8),
    )
    covered = np.zeros((SIDE, SIDE))
    n = int(max(u.max(), v.max()) - min(u.min(), v.min(), 0)) + 4
    shades = 1 + 0.05 * rng.normal(size=(2, n))  # No two threads are dyed alike.
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    warp, weft = np.sin(np.pi * (u % 1)) ** 0.7, np.sin(np.pi * (v % 1)) ** 0.7
    over = (column + row) % 2 == 0
    along = 0.5 + 0.5 * np.where(over, np.sin(np.pi * (v % 1)), np.sin(np.pi * (u % 1)))
    if kind in ("missing-thread", "thick-thread"):
        here, reach = column[SIDE // 2, int(rng.uniform(50, SIDE - 50))], rng.uniform(25, 50)
        middle = rng.uniform(70, SIDE - 70)
        covered = ((column == here) & (abs(y - middle) < reach)).astype(np.float64)
        if kind == "missing-thread":
            warp, over = np.where(covered > 0, 0.25, warp), over & (covered == 0)
        else:
            wide = ((abs(u - here - 0.5) < 0.95) & (abs(y - middle) < reach)).astype(np.float64)
            warp = np.where(
                wide > 0, np.maximum(np.cos(np.pi * (u - here - 0.5) / 1.9), 0) ** 0.5 * 1.1, warp
            )
            over, covered = over | (wide > 0), wide
    height = np.where(over, warp * shades[0, column % n], weft * shades[1, row % n]) * along
    image = (0.18 + 0.62 * height)[..., None] * np.where(
        over[..., None], (0.45, 0.62, 0.92), (0.62, 0.74, 0.9)
    )
    if kind == "stain":
        covered = spot(rng, 9, 18)
        image = image * (1 - 0.3 * covered[..., None] * (0.4, 0.7, 1))
    elif kind == "hole":
        covered = spot(rng, 5, 9)
        image = image * (1 - covered[..., None]) + 0.06 * covered[..., None]
    elif kind == "wrong-weave":
        covered = spot(rng, 10, 20)
        flat = (0.18 + 0.62 * warp * along)[..., None] * (0.45, 0.62, 0.92)
        image = image * (1 - covered[..., None]) + flat * covered[..., None]
    return photographed(rng, image), covered


def flange(rng: np.random.Generator, kind: str) -> tuple[Floats, Floats]:
    """A turned ring with six holes and a keyway, on a dark belt."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    cx, cy = SIDE / 2 + rng.uniform(-16, 16, 2)
    radius, angle = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
    turn, size = rng.uniform(0, 2 * np.pi), 92 * rng.normal(1, 0.005)
    metal = inside(size, radius) * (1 - inside(34, radius))
    holes = turn + np.arange(6) * np.pi / 3
    missing = rng.integers(6) if kind == "missing-hole" else -1
    covered = np.zeros((SIDE, SIDE))
    for number, at in enumerate(holes):
        hole = inside(8, np.hypot(x - cx - 63 * np.cos(at), y - cy - 63 * np.sin(at)))
        if number == missing:
            covered = hole
        else:
            metal = metal * (1 - hole)
    key = turn + np.pi / 6
    u = (x - cx) * np.cos(key) + (y - cy) * np.sin(key)
    v = (y - cy) * np.cos(key) - (x - cx) * np.sin(key)
    metal = metal * (1 - inside(6, abs(v)) * inside(42, abs(u)) * (u > 0))
    if kind == "chip":
        at = rng.uniform(0, 2 * np.pi)
        chip = spot(rng, 5, 9, (cx + size * np.cos(at), cy + size * np.sin(at)))
        covered, metal = chip * (metal > 0.5), metal * (1 - chip)
    grooves = np.interp(
        radius, np.arange(140), 1 + 0.05 * rng.normal(size=140)
    )  # Of the lathe, on each part others.
    shine = 0.52 + 0.13 * np.cos(2 * (angle - rng.normal(0.6, 0.1)))
    step = np.where(abs(radius - 48) < 2, 0.75, 1)
    surface = shine * grooves * step
    if kind == "scratch":
        covered = stroke(rng, rng.uniform(35, 70), 1.6) * (metal > 0.9)
        surface = surface * (1 - covered) + 0.85 * covered
    elif kind == "dent":
        at, far = rng.uniform(0, 2 * np.pi), rng.uniform(50, 84)
        covered = spot(rng, 6, 10, (cx + far * np.cos(at), cy + far * np.sin(at))) * (metal > 0.9)
        lit = cv2.Sobel(cv2.GaussianBlur(covered, (0, 0), 2), cv2.CV_64F, 1, 0) > 0.2
        surface = surface + 0.25 * lit - 0.12 * covered
    elif kind == "rust":
        at, far = rng.uniform(0, 2 * np.pi), rng.uniform(50, 84)
        covered = spot(rng, 7, 13, (cx + far * np.cos(at), cy + far * np.sin(at))) * (metal > 0.5)
        surface = surface * (1 - covered * (0.3 + 0.12 * smooth(rng, 1.5)))
    belt = 0.13 + 0.015 * smooth(rng, 1.5)
    image = (belt * (1 - metal) + surface * metal)[..., None]
    return photographed(rng, image), np.asarray(covered)


def label(rng: np.random.Generator, kind: str) -> tuple[Floats, Floats]:
    """A printed label: a logo, three lines, a bar code. It lies within three pixels and a degree."""
    lines = ["NORDVIK", "TYPE 40-C", "IP67  24 V"]
    right = print_label(lines, BLUE)
    if kind == "wrong-letter":
        row = int(rng.integers(3))
        place = int(rng.choice([i for i, letter in enumerate(lines[row]) if letter.isalnum()]))
        other = str(rng.choice([letter for letter in "AEHKMRSUX23589" if letter != lines[row][place]]))
        lines[row] = lines[row][:place] + other + lines[row][place + 1 :]
    printed = print_label(lines, GREEN if kind == "wrong-colour" else BLUE)
    if kind == "misprint":  # A blocked nozzle leaves a line out.
        y = int(LARGE * rng.uniform(28, 215))
        printed[y : y + round(2.5 * LARGE)] = PAPER
    covered = (abs(printed.astype(int) - right).max(2) > 12).astype(np.float64)
    motion = cv2.getRotationMatrix2D((SIDE * LARGE / 2,) * 2, rng.uniform(-1, 1), 1)
    motion[:, 2] += rng.uniform(-3, 3, 2) * LARGE

    def seen(picture: Floats) -> Floats:
        laid = cv2.warpAffine(picture, motion, (SIDE * LARGE,) * 2, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.resize(laid, (SIDE, SIDE), interpolation=cv2.INTER_AREA))

    image, covered = seen(printed / 255), seen(covered)
    image = image * (1 + 0.008 * smooth(rng, 1))[..., None]
    if kind == "smear":
        covered = stroke(rng, rng.uniform(30, 60), 6)
        image = image * (1 - 0.3 * covered[..., None])
    elif kind == "scratch":
        covered = stroke(rng, rng.uniform(40, 80), 1.5)
        image = image * (1 - covered[..., None]) + 0.75 * covered[..., None]
    return photographed(rng, image), covered


def print_label(lines: Sequence[str], logo: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The label as it is meant, `LARGE` times as large, (H, W, 3)."""
    page = np.full((SIDE * LARGE, SIDE * LARGE, 3), PAPER, np.uint8)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(LARGE * x), round(LARGE * y)

    cv2.rectangle(page, at(14, 14), at(242, 242), INK, 2 * LARGE)
    cv2.circle(page, at(62, 66), LARGE * 32, logo, -1)
    cv2.ellipse(page, at(62, 66), at(32, 12), 30, 0, 360, PAPER, 3 * LARGE)
    for row, (words, height) in enumerate(zip(lines, (20, 15, 13), strict=True)):
        font = cv2.FONT_HERSHEY_DUPLEX
        cv2.putText(page, words, at(108, 56 + 27 * row), font, LARGE * height / 22, INK, LARGE * height // 11)
    x = 32.0
    for number, width in enumerate(
        np.random.default_rng(7).integers(1, 4, 88)
    ):  # Every label has the same code.
        if number % 2 == 0 and x < 220:
            cv2.rectangle(page, at(x, 150), at(x + 1.6 * width, 214), INK, -1)
        x += 1.6 * width
    return page


PRODUCTS = {
    "fabric": Product(fabric, ("missing-thread", "thick-thread", "stain", "hole", "wrong-weave")),
    "flange": Product(flange, ("missing-hole", "chip", "scratch", "dent", "rust")),
    "label": Product(label, ("wrong-letter", "wrong-colour", "misprint", "smear", "scratch")),
}


def write(product: Product, folder: Path, seed: int) -> None:
    """One product's folders: `good/`, `test/<kind>/`, `ground_truth/<kind>/`."""
    counts = {"good": N_GOOD, "test/good": N_TEST_GOOD} | {
        f"test/{kind}": N_PER_KIND for kind in product.kinds
    }
    for where, (share, n) in enumerate(counts.items()):
        kind = share.rpartition("/")[2]
        for number in range(n):
            rng = np.random.default_rng([seed, where, number])
            while True:  # A scratch beside the part is none.
                image, covered = product.draw(rng, "" if kind == "good" else kind)
                if kind == "good" or (covered > 0.5).sum() >= 12:
                    break
            save(folder / share / f"{number:03}.png", image)
            if kind != "good":
                save(folder / "ground_truth" / kind / f"{number:03}_mask.png", (covered > 0.5)[..., None])


def save(path: Path, image: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.round(255 * np.asarray(image, np.float64)).astype(np.uint8)[..., ::-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name, product in PRODUCTS.items():
        write(product, given.folder / name, given.seed)
