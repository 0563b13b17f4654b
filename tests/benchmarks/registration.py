"""How near registration comes to where sample boards lie, and what it costs.

    python tests/benchmarks/registration.py [--size 256] [--boards 40] [--seed 0]

Boards of one design, each with its own components, light, grain and play, are drawn twice as large, moved by
a known motion and shrunk; the reference is made of others. The corner error is the greatest distance of a
corner of the picture from where the known motion takes it from the place that was found before.
"""

from __future__ import annotations

import argparse
import math
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.images.pose import Floats, moved
from anogan.images.registration import grey, make_aligner
from anogan.images.sample_board import MAX_SIZE, draw_board

FURTHEST = ((0.03, 2.0), (0.06, 4.0), (0.2, 18.0))  # Share of the side, degrees.
_REFERENCE_BOARDS = 15


def photograph(seed: int, size: int, shift: NDArray[np.float64], degrees: float) -> NDArray[np.uint8]:
    """A board whose content is shifted (x, y pixels) and turned about the centre, (size, size, 3)."""
    large = 2 * size
    board = draw_board(seed, large)[0]
    matrix = cv2.getRotationMatrix2D(((large - 1) / 2, (large - 1) / 2), degrees, 1.0)
    matrix[:, 2] += 2 * shift
    there = cv2.warpAffine(board, matrix, (large, large), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(there, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def corner_error(
    before: Floats, after: Floats, shift: NDArray[np.float64], degrees: float, size: int
) -> float:
    """Pixels between where the corners lie after the known motion and where they are said to lie."""
    x, y = np.array([-1, 1, -1, 1]) * size / 2, np.array([-1, -1, 1, 1]) * size / 2
    there = moved(np.array([*shift, -math.sin(math.radians(degrees))]), *moved(before, x, y))
    found = moved(after, x, y)
    return float(np.hypot(found[0] - there[0], found[1] - there[1]).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--boards", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    size, n = arguments.size, arguments.boards
    if 2 * size > MAX_SIZE:
        parser.error(f"--size is {size}; boards are drawn with at most {MAX_SIZE // 2} pixels here")
    cv2.setNumThreads(1)
    still = np.zeros(2)
    unmoved = [photograph(n + i, size, still, 0.0) for i in range(_REFERENCE_BOARDS)]
    aligner = make_aligner(unmoved, "euclidean")
    search = aligner.pose_search
    before = [search.find(grey(photograph(i, size, still, 0.0), 255))[0] for i in range(n)]
    print("shifted by, turned by  corner error px, median  greatest  lost  ms per image")
    for share, most in FURTHEST:
        rng = np.random.default_rng(arguments.seed)
        errors, lost, seconds = [], 0, 0.0
        for seed in range(n):
            shift, degrees = rng.uniform(-share, share, 2) * size, float(rng.uniform(-most, most))
            picture = grey(photograph(seed, size, shift, degrees), 255)
            started = time.process_time()
            motion, _ = search.find(picture)
            seconds += time.process_time() - started
            lost += not aligner.estimate(picture).converged
            errors.append(corner_error(before[seed], motion, shift, degrees, size))
        told, ms = f"{share:.0%}, {most:.0f} degrees", 1000 * seconds / n
        print(f"{told:<21}  {np.median(errors):>22.3f}  {max(errors):>8.3f}  {lost:>4}  {ms:>12.0f}")


if __name__ == "__main__":
    main()
