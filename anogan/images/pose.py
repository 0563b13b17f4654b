"""Where a part lies: the rigid motion from a reference to a photograph, in a fixed number of steps.

A coarse picture is compared with the reference at every shift and turn, by normalised cross-correlation.
From the best one, Gauss-Newton steps on finer and finer pictures fit motion, contrast and brightness at once:
Lucas & Kanade 1981, in the inverse compositional form of Baker & Matthews 2004
(doi:10.1023/B:VISI.0000011205.11775.fd). All of it is sums and look-ups that ONNX has as well;
`anogan.export.pose` writes the same into the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from anogan.images.resize import resize_weights

Motion = Literal["translation", "euclidean"]
Floats = NDArray[np.float64]
T = TypeVar("T", np.float32, np.float64)

MAX_SHIFT = 0.25  # Of the side; a part further off is not in its fixture.
MAX_ROTATION = math.radians(20)
STEPS = 4  # On each picture; three come as near on sample boards, six no nearer.
PULL = 2.0  # Pixels of its picture that a step moves at most, at its edge if it turns.
STEEPEST = 0.7  # Sine of the greatest turn on the way; a picture of a few pixels could pull further.
# Rounded to 1 / 4096 pixel and a sine of one millionth, so that the last bits of a sum next to never decide.
SHIFT_GRID, TURN_GRID = 2.0**12, 2.0**20
RIDGE = 1e-9  # Of a column's square; a reference without edges in one direction has no motion along it.
LEAST_CONTRAST = 1e-6
# A part that lies straight below a glaring spot may match nowhere on the coarse picture: the search begins
# there as well, and goes on from there where that fits better by so much.
CLEARLY_BETTER = 0.01
NOTHING = 1e-12

_COARSE_SIDE, _LEAST_SIDE = 32, 8
_FINEST_SIDE = 320  # Finer pictures cost without gain.
_TURN = math.radians(4)  # Between coarse candidates: at the corner less than a pixel from the nearest.
_BLUR = np.array([1, 4, 6, 4, 1]) / 16


@dataclass(frozen=True, eq=False)
class Raster:
    """The pixels of a coarser picture.

    Attributes:
        rows: (h, H); with `columns` (w, W) a grey picture P becomes coarse, rows P columns^T.
        columns: See `rows`.
        size: Height and width of the whole picture, in which a pixel is 1 high; see `PoseSearch`.
    """

    rows: Floats
    columns: Floats
    size: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w)."""
        return len(self.rows), len(self.columns)

    @cached_property
    def places(self) -> tuple[Floats, Floats]:
        """(h w,) each: x and y of its pixels in the whole picture, from the centre."""
        (height, width), (h, w) = self.size, self.shape
        y, x = np.mgrid[:h, :w] + 0.5
        return (x * (width / w) - width / 2).ravel(), (y * (height / h) - height / 2).ravel()

    def of(self, picture: Floats) -> Floats:
        """(h, w): a whole picture (H, W) in these pixels."""
        return np.asarray(self.rows @ picture @ self.columns.T)

    def seen(self, coarse: Floats, motion: Floats) -> tuple[Floats, Floats]:
        """(h w,) each: what a picture (h, w) shows under moved pixels; how far it reaches there, 0 to 1."""
        (height, width), (h, w) = self.size, self.shape
        x, y = moved(motion, *self.places)
        x, y = (x + width / 2) * (w / width) - 0.5, (y + height / 2) * (h / height) - 0.5
        inside = reach(x, w) * reach(y, h)
        return sample(coarse[None], x, y)[0], inside


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every shift and turn of the coarse reference.

    Attributes:
        raster: The coarse picture's.
        windows: (S, h w) int64; for each shift the places of the coarse picture under those of the reference,
            h w where there are none.
        templates: (K, h w); the reference at each turn less its mean, 0 where a turn left nothing.
        masks: (K, h w); 1 where it left something.
        motions: (S K, 3); shift x, shift y and the sine of the turn.
    """

    raster: Raster
    windows: NDArray[np.int64]
    templates: Floats
    masks: Floats
    motions: Floats

    @cached_property
    def overlaps(self) -> tuple[Floats, Floats, Floats]:
        """(S, K) each: pixels in the overlap with the picture, the reference's sum and spread there."""
        under = np.asarray(self.windows < self.windows.shape[1], np.float64)
        n, theirs = under @ self.masks.T, under @ self.templates.T
        return n, theirs, under @ self.templates.T**2 - theirs**2 / n

    def best(self, picture: Floats) -> Floats:
        """(3,): the motion whose overlap is correlated highest."""
        coarse = self.raster.of(picture).ravel()
        seen = np.append(coarse - coarse.mean(), 0.0)[self.windows]
        masks, templates = self.masks.T, self.templates.T
        n, theirs, their_spread = self.overlaps
        ours = seen @ masks
        covariance = seen @ templates - ours * theirs / n
        spread = (seen**2 @ masks - ours**2 / n) * their_spread
        correlation = covariance / np.sqrt(np.maximum(spread, NOTHING))
        return np.asarray(self.motions[int(correlation.argmax())])


@dataclass(frozen=True, eq=False)
class Level:
    """The reference at one resolution, as the equations of a step need it.

    Attributes:
        raster: Its pixels, slightly blurred.
        design: (h w, 2 + M) float32; 1, the reference less its mean, and how it changes per pixel of shift in
            x and y (and with a turn by 1 / `radius`) of the whole picture.
        radius: Half of the whole picture's longer side.
    """

    raster: Raster
    design: NDArray[np.float32]
    radius: float

    @cached_property
    def exact_design(self) -> Floats:
        """`design` in the precision of the sums."""
        return self.design.astype(np.float64)

    @property
    def pull(self) -> float:
        """How far a step moves at most."""
        return PULL * self.raster.size[1] / self.raster.shape[1]

    def step(self, coarse: Floats, motion: Floats) -> Floats:
        """(3,): a better motion."""
        values, weights = self.raster.seen(coarse, motion)
        design = self.exact_design
        weighted = design * weights[:, None]
        normal = weighted.T @ design
        normal += np.diag(RIDGE * np.diag(normal) + NOTHING)
        found = np.linalg.solve(normal, weighted.T @ values)
        change = np.clip(found[2:] / max(found[1], LEAST_CONTRAST), -self.pull, self.pull)
        sine = motion[2]
        if len(change) == 3:
            turn = np.clip(change[2] / self.radius, -STEEPEST, STEEPEST)
            sine = np.clip(turned_back(sine, turn), -STEEPEST, STEEPEST)
        back = moved(np.array([0, 0, sine]), *change[:2])
        return np.array([motion[0] - back[0], motion[1] - back[1], sine])

    def stepped(self, coarse: Floats, motion: Floats) -> Floats:
        """(3,): the motion after `STEPS` steps."""
        for _ in range(STEPS):
            motion = self.step(coarse, motion)
        return motion

    def correlation(self, coarse: Floats, motion: Floats) -> float:
        """Of the reference and the picture under it, where it reaches; 0 for one without contrast."""
        values, weights = self.raster.seen(coarse, motion)
        total = max(float(weights.sum()), NOTHING)
        ours, theirs = (v - (weights @ v) / total for v in (values, self.exact_design[:, 1]))
        spread = float(weights @ ours**2) * float(weights @ theirs**2)
        return float(weights @ (ours * theirs)) / math.sqrt(max(spread, NOTHING))


@dataclass(frozen=True, eq=False)
class PoseSearch:
    """Finds where the part of one reference lies.

    Motions are rigid in the world. Where resizing has stretched the picture, a pixel is as wide as `aspect`
    and 1 high; a shift is in these units.

    Attributes:
        size: (H, W) of reference and pictures, pixels.
        aspect: Width of a pixel by its height.
        candidates: Where the search begins.
        levels: From coarse to fine.
    """

    size: tuple[int, int]
    aspect: float
    candidates: Candidates
    levels: tuple[Level, ...]

    @classmethod
    def of(cls, reference: NDArray[Any], motion: Motion, aspect: float = 1.0) -> PoseSearch:
        """Prepares a reference.

        Args:
            reference: (H, W) grey in [0, 1].
            motion: What may differ from it: shift, or shift and rotation.
            aspect: Width of a pixel by its height.
        """
        picture = np.asarray(reference, np.float64)
        height, width = picture.shape
        size = (float(height), width * aspect)
        sides = [min(_FINEST_SIDE, max(height, width))]
        while sides[-1] >= 2.5 * _COARSE_SIDE:
            sides.append(sides[-1] // 2)
        levels = tuple(_level(picture, size, side, motion) for side in reversed(sides))
        return cls((height, width), aspect, _candidates(picture, size, motion), levels)

    @property
    def limits(self) -> Floats:
        """(3,): the greatest shift x, shift y and sine of a turn by which a part may lie aside."""
        height, width = self.size
        return np.array([MAX_SHIFT * width * self.aspect, MAX_SHIFT * height, math.sin(MAX_ROTATION)])

    def find(self, picture: NDArray[Any]) -> tuple[Floats, float]:
        """The motion and how well it fits.

        Args:
            picture: (H, W) grey in [0, 1].

        Returns:
            (3,): shift x and y and the sine of the turn about the centre, from the place of the reference to
            that of the picture; and the correlation there, in [-1, 1].
        """
        exact = np.asarray(picture, np.float64)
        first, *finer = self.levels
        coarse = first.raster.of(exact)
        motion, straight = (
            first.stepped(coarse, start) for start in (self.candidates.best(exact), np.zeros(3))
        )
        if first.correlation(coarse, straight) - first.correlation(coarse, motion) > CLEARLY_BETTER:
            motion = straight
        for level in finer:
            coarse = level.raster.of(exact)
            motion = level.stepped(coarse, motion)
        grid = np.array([SHIFT_GRID, SHIFT_GRID, TURN_GRID])
        motion = np.round(motion * grid) / grid
        return motion, self.levels[-1].correlation(coarse, motion)


def moved(motion: Floats, x: Any, y: Any) -> tuple[Any, Any]:
    """Where places seen from the centre come to lie."""
    sine = motion[2]
    cosine = np.sqrt(1 - sine * sine)
    return cosine * x - sine * y + motion[0], sine * x + cosine * y + motion[1]


def turned_back(sine: Any, change: Any) -> Any:
    """The sine of a turn less another, both given by their sines: roots are the same on any machine."""
    return sine * np.sqrt(1 - change * change) - np.sqrt(1 - sine * sine) * change


def reach(places: Floats, n: int) -> Floats:
    """How much of a place lies on an axis of n pixels: 1 inside, falling to 0 a pixel beyond its ends."""
    return np.clip(places + 1, 0, 1) * np.clip(n - places, 0, 1)


def sample(pictures: NDArray[T], x: Floats, y: Floats, *, outside: float | None = None) -> NDArray[T]:
    """Pictures between their pixels, linearly.

    Args:
        pictures: (C, h, w).
        x: (P,) columns.
        y: (P,) rows.
        outside: The value beyond the edges; None repeats them.

    Returns:
        (C, P), of the pictures' type.
    """
    channels, h, w = pictures.shape
    kind = pictures.dtype.type
    flat = pictures.reshape(channels, h * w)
    left, top = np.floor(x), np.floor(y)
    total = np.zeros((channels, len(x)), kind)
    for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            near_row, near_column = np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)
            values = flat[:, (near_row * w + near_column).astype(np.int64)]
            if outside is not None:
                values = np.where((near_row == row) & (near_column == column), values, kind(outside))
            total += values * (share_x * share_y).astype(kind)
    return total


def _candidates(reference: Floats, size: tuple[float, float], motion: Motion) -> Candidates:
    height, width = size
    h, w = _scaled(size, min(_COARSE_SIDE, max(reference.shape)), reference.shape)
    rows, columns = (
        resize_weights(side, n).astype(np.float64) for side, n in zip(reference.shape, (h, w), strict=True)
    )
    raster = Raster(rows, columns, size)
    coarse = raster.of(reference)
    n_turns = 0 if motion == "translation" else round(MAX_ROTATION / _TURN)
    turns = [turn * _TURN for turn in range(-n_turns, n_turns + 1)]
    # The reference as a turned part shows it: looked up where the turn came from.
    turned = [raster.seen(coarse, np.array([0, 0, -math.sin(turn)])) for turn in turns]
    # A long narrow picture turned far lies beside itself.
    left = [i for i, (_, inside) in enumerate(turned) if 2 * np.sum(inside >= 1) >= h * w]
    turns, turned = [turns[i] for i in left], [turned[i] for i in left]
    masks = np.stack([np.asarray(inside >= 1, np.float64) for _, inside in turned])
    values = np.stack([v for v, _ in turned])
    means = (values * masks).sum(axis=1) / masks.sum(axis=1)
    y, x = (np.arange(-math.floor(MAX_SHIFT * n), math.floor(MAX_SHIFT * n) + 1) for n in (h, w))
    shifts = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    place_y, place_x = (axis.ravel() for axis in np.mgrid[:h, :w])
    at_y, at_x = place_y + shifts[:, :1], place_x + shifts[:, 1:]
    there = (at_y >= 0) & (at_y < h) & (at_x >= 0) & (at_x < w)
    pixels = shifts[:, ::-1] * (width / w, height / h)
    return Candidates(
        raster=raster,
        windows=np.where(there, at_y * w + at_x, h * w),
        templates=(values - means[:, None]) * masks,
        masks=masks,
        motions=np.array([(*shift, math.sin(turn)) for shift in pixels for turn in turns]),
    )


def _level(reference: Floats, size: tuple[float, float], side: int, motion: Motion) -> Level:
    shape = _scaled(size, side, reference.shape)
    rows, columns = (
        _blurring(n) @ resize_weights(pixels, n).astype(np.float64)
        for pixels, n in zip(reference.shape, shape, strict=True)
    )
    raster = Raster(rows, columns, size)
    coarse = raster.of(reference)
    padded = np.pad(coarse, 1, mode="edge")
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]).ravel() / 2 * shape[0] / size[0]
    along = (padded[1:-1, 2:] - padded[1:-1, :-2]).ravel() / 2 * shape[1] / size[1]
    radius = max(size) / 2
    x, y = raster.places
    design = [np.ones(len(x)), coarse.ravel() - coarse.mean(), along, down]
    if motion == "euclidean":
        design.append((down * x - along * y) / radius)
    return Level(raster, np.stack(design, axis=1).astype(np.float32), radius)


def _blurring(n: int) -> Floats:
    """(n, n): five binomial weights along an axis, its ends repeated."""
    weights = np.zeros((n, n))
    for offset, share in zip(range(-2, 3), _BLUR, strict=True):
        np.add.at(weights, (np.arange(n), np.clip(np.arange(n) + offset, 0, n - 1)), share)
    return weights


def _scaled(size: tuple[float, float], side: int, pixels: tuple[int, ...]) -> tuple[int, int]:
    """The size with `side` pixels on its longer side, and 8 on the other if there are so many."""
    scale = side / max(size)
    h, w = (max(min(_LEAST_SIDE, n), round(length * scale)) for n, length in zip(pixels, size, strict=True))
    return h, w
