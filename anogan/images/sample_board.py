"""The sample set: one rendered board, photographed many times, with and without defects.

A line makes the same product all day, so there is one layout (`sample_layout`). What changes from
picture to picture is what changes on a line: light, sensor noise, focus, how the board lies under the
camera, how each part was placed, its shade, and the gloss of its solder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.errors import ConfigError, DataError, StorageError
from anogan.files import replacing
from anogan.images import sample_layout as layout
from anogan.images.sample_defects import DEFECT_KINDS, damage
from anogan.images.sample_layout import MARGIN, VIEW
from anogan.images.sample_render import Image, PlacedPart, Scene, new_scene, paint

__all__ = ["DEFECT_KINDS", "SampleItem", "draw_board", "plan_sample_set", "write_sample_set"]

MIN_SIZE, MAX_SIZE = 96, 1024
VISIBLE_DIFFERENCE = 10  # Grey levels in any channel; noise alone never makes a difference.
JPEG_QUALITY = 92
MAX_IMAGES = 1_000_000  # Each set seed owns this many image seeds, so that no two sets share one.

MAX_SHIFT, MAX_TURN = 0.25, 45.0

_PLACEMENT, _CAMERA, _NOISE, _DEFECT, _POSE = range(5)  # Independent random streams of one seed.
_TABLE = (36, 36, 38)  # What is seen beside a board that lies aside.


def draw_board(
    seed: int, size: int = 192, defect: str | None = None, *, shift: float = 0.0, turn: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One photograph of the board and the mask of its defect.

    The same arguments always give the same picture. With a defect, everything else stays as it is in the
    good picture of that seed, noise included.

    Args:
        seed: Names the board and the shot; at least 0.
        size: Width and height in pixels, 96 to 1024. Defects scale with it; at 192 the smallest are
            about 4 pixels across.
        defect: A name of `DEFECT_KINDS`, or None for a good board.
        shift: Share of the side by which the board lies aside at most, 0 to 0.25.
        turn: Degrees by which it is turned at most, 0 to 45.

    Returns:
        The picture, (size, size, 3) RGB uint8, and the defect mask, (size, size): the pixels that differ
        from the good picture of the same seed by more than 10 of 255 levels in some channel.

    Raises:
        ConfigError: If the size, the seed, the kind, the shift or the turn is none of these.
    """
    _check_size(size)
    _check_at_least("seed", seed, 0)
    pose = _pose(seed, shift, turn)
    good_scene = _assemble(seed, _supersampling(size) * size / VIEW)
    good = _photograph(paint(good_scene), seed, size, pose)
    if defect is None:
        return good, np.zeros((size, size), np.bool_)
    if defect not in DEFECT_KINDS:
        raise ConfigError(f"defect {defect!r} is unknown; choose one of {', '.join(DEFECT_KINDS)}.")
    rng = _stream(seed, _DEFECT, DEFECT_KINDS.index(defect))
    while True:
        scene = _assemble(seed, good_scene.brush.scale)
        damage(scene, defect, rng)
        image = _photograph(paint(scene), seed, size, pose)
        mask = _visible_difference(image, good)
        if np.count_nonzero(mask) >= _smallest_mask(size):
            return image, mask


def _check_size(size: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(
            f"size {size} is outside {MIN_SIZE} to {MAX_SIZE} pixels; give a size within these bounds."
        )


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} {value} is below {least}; give {least} or more.")


def _check_pose(shift: float, turn: float) -> None:
    for name, value, most in (("shift", shift, MAX_SHIFT), ("turn", turn, MAX_TURN)):
        if not 0 <= value <= most:
            raise ConfigError(f"{name} {value} is outside 0 to {most:g}; give a value within these bounds.")


@dataclass(frozen=True, slots=True)
class _Pose:
    """How far a board lies aside, units of the layout, and how it is turned, degrees."""

    x: float
    y: float
    turn: float


def _pose(seed: int, shift: float, turn: float) -> _Pose:
    _check_pose(shift, turn)
    x, y, turned = _stream(seed, _POSE).uniform(-1, 1, 3)
    return _Pose(float(x) * shift * VIEW, float(y) * shift * VIEW, float(turned) * turn)


def _stream(seed: int, *path: int) -> np.random.Generator:
    return np.random.default_rng([seed, *path])


def _supersampling(size: int) -> int:
    """Drawn pixels per final pixel: 4, more where strokes get thin, less where memory gets short."""
    if size < VIEW:
        return 8
    return 4 if size <= 512 else 2


def _smallest_mask(size: int) -> int:
    """A defect hidden by chance (dark on dark) is drawn elsewhere; 8 pixels at 192."""
    return max(3, round(8 * (size / VIEW) ** 2))


def _visible_difference(image: Image, good: Image) -> NDArray[np.bool_]:
    return np.asarray(cv2.absdiff(image, good).max(axis=2) > VISIBLE_DIFFERENCE, np.bool_)


def _assemble(seed: int, scale: float) -> Scene:
    """The good board of this seed: every part a little off, as a placement machine leaves it."""
    scene = new_scene(scale)
    for index, part in enumerate(layout.PARTS):
        rng = _stream(seed, _PLACEMENT, index)
        small = len(layout.pads_of(part.kind)) == 2
        x, y = np.clip(rng.normal(0, 0.35 if small else 0.2, 2), -0.8, 0.8)
        turn = float(np.clip(rng.normal(0, 1.2 if small else 0.3), -2.5, 2.5))
        gloss = rng.uniform(-0.9, 0.9, (len(layout.pads_of(part.kind)), 2))
        tint = float(rng.uniform(0.9, 1.1))
        scene.parts.append(PlacedPart(layout.moved(part, float(x), float(y), turn), tint, gloss))
    return scene


def _photograph(artwork: Image, seed: int, size: int, pose: _Pose) -> Image:
    """What the camera makes of the artwork, (size, size, 3)."""
    rng = _stream(seed, _CAMERA)
    sharp = _frame(artwork, rng, size, pose).astype(np.float32)
    blurred = cv2.GaussianBlur(sharp, (0, 0), rng.uniform(0.3, 0.6) * size / VIEW)
    image = np.asarray(blurred, np.float32) * _illumination(rng, size)
    noise = _stream(seed, _NOISE).standard_normal(image.shape, dtype=np.float32)
    noisy = image + noise * np.sqrt(1.5 + 0.016 * image)  # Read and shot noise, 1.2 to 2.4 levels.
    return np.asarray(np.clip(np.round(noisy), 0, 255), np.uint8)


def _frame(artwork: Image, rng: np.random.Generator, size: int, pose: _Pose) -> Image:
    """Shift by up to 2 units and turn by up to 1 degree beside the pose, cut out the view, and shrink."""
    supersampled = _supersampling(size) * size
    scale = supersampled / VIEW
    turn = float(np.clip(rng.normal(0, 0.4), -1, 1)) + pose.turn
    shift = (np.clip(rng.normal(0, 0.8, 2), -2, 2) + (pose.x, pose.y)) * scale
    centre = artwork.shape[0] / 2 - 0.5
    matrix = np.asarray(cv2.getRotationMatrix2D((centre, centre), turn, 1.0), np.float64)
    matrix[:, 2] += shift - MARGIN * scale
    view = cv2.warpAffine(
        artwork, matrix, (supersampled, supersampled), flags=cv2.INTER_LINEAR, borderValue=_TABLE
    )
    return np.asarray(cv2.resize(view, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _illumination(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Gain, white balance and a slope of brightness across the board, (size, size, 3)."""
    gain = rng.uniform(0.92, 1.08)
    white_balance = rng.uniform(0.97, 1.03, 3)
    slope, heading = rng.uniform(0, 0.08), rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, size)
    gradient = 1 + slope * (np.cos(heading) * axis[None, :] + np.sin(heading) * axis[:, None])
    falloff = 1 - 0.04 * (axis[None, :] ** 2 + axis[:, None] ** 2)
    return np.asarray((gain * gradient * falloff)[:, :, None] * white_balance, np.float32)


@dataclass(frozen=True, slots=True)
class SampleItem:
    """One picture of a sample set; paths are relative to the set's folder."""

    image: Path
    seed: int
    defect: str | None = None
    mask: Path | None = None


def plan_sample_set(*, n_good: int, n_test_good: int, n_per_kind: int, seed: int) -> tuple[SampleItem, ...]:
    """Every picture of a set, in order; no two share an image seed.

    Raises:
        ConfigError: If a count or the seed is negative, or the set exceeds a million pictures.
    """
    counts = {"n_good": n_good, "n_test_good": n_test_good, "n_per_kind": n_per_kind, "seed": seed}
    for name, value in counts.items():
        _check_at_least(name, value, 0)
    total = n_good + n_test_good + n_per_kind * len(DEFECT_KINDS)
    if total > MAX_IMAGES:
        raise ConfigError(f"the set would hold {total} images; ask for at most {MAX_IMAGES}.")
    if not total:
        raise ConfigError("the set would hold no image; ask for good boards, or some of each kind of defect.")
    seeds = iter(range(seed * MAX_IMAGES, seed * MAX_IMAGES + total))
    items = [SampleItem(Path("good") / f"{i:03d}.jpg", next(seeds)) for i in range(n_good)]
    items += [SampleItem(Path("test", "good") / f"{i:03d}.jpg", next(seeds)) for i in range(n_test_good)]
    for kind in DEFECT_KINDS:
        for i in range(n_per_kind):
            mask = Path("ground_truth", kind) / f"{i:03d}_mask.png"
            items.append(SampleItem(Path("test", kind) / f"{i:03d}.jpg", next(seeds), kind, mask))
    return tuple(items)


def write_sample_set(
    root: Path,
    *,
    size: int = 192,
    n_good: int = 120,
    n_test_good: int = 30,
    n_per_kind: int = 6,
    seed: int = 0,
    shift: float = 0.0,
    turn: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes good/, test/good/, test/<kind>/ and ground_truth/<kind>/ under `root`.

    Pictures are JPEG, masks PNG (255 on the defect). Stopped half-way, it leaves nothing behind.

    Args:
        root: A folder that is empty or does not exist yet.
        size: Width and height of the pictures, 96 to 1024 pixels.
        n_good: Good boards to train on.
        n_test_good: Good boards to test on.
        n_per_kind: Boards for each of `DEFECT_KINDS`.
        seed: Another seed gives a set that shares no picture with this one.
        shift: As for `draw_board`.
        turn: As for `draw_board`.
        progress: Called as (done, total) after each picture.

    Raises:
        DataError: If `root` holds something already.
        ConfigError: If the size, a count, the seed, the shift or the turn is out of range.
        StorageError: If a file cannot be written.
    """
    _check_size(size)
    _check_pose(shift, turn)
    items = plan_sample_set(n_good=n_good, n_test_good=n_test_good, n_per_kind=n_per_kind, seed=seed)
    _check_free(root)
    try:
        for done, item in enumerate(items, start=1):
            _write_item(root, item, draw_board(item.seed, size, item.defect, shift=shift, turn=turn))
            if progress is not None:
                progress(done, len(items))
    except BaseException:
        for folder in ("good", "test", "ground_truth"):
            shutil.rmtree(root / folder, ignore_errors=True)
        raise


def _check_free(root: Path) -> None:
    try:
        free = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    except OSError as error:
        raise StorageError(
            f"{root} cannot be looked into ({error.strerror}); name a folder of your own."
        ) from error
    if not free:
        raise DataError(f"{root} is not an empty folder; name a new folder, or empty this one first.")


def _write_item(root: Path, item: SampleItem, drawn: tuple[NDArray[np.uint8], NDArray[np.bool_]]) -> None:
    image, mask = drawn
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _write(root / item.image, cv2.imencode(".jpg", image[:, :, ::-1], quality)[1])
    if item.mask is not None:
        _write(root / item.mask, cv2.imencode(".png", mask.astype(np.uint8) * 255)[1])


def _write(path: Path, encoded: NDArray[np.uint8]) -> None:
    with replacing(path, "free the disk or name another folder") as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encoded.tobytes())
