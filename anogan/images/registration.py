"""Lays a part over the reference pose that the model was trained in, and maps results back.

Per-pixel calibration and whole-image networks know where everything belongs; a part that lies two pixels
off looks anomalous along all its edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.spread import evenly_spread

Pixels = NDArray[Any]
Motion = Literal["translation", "euclidean"]
FloatMap = NDArray[np.float32]

SEARCH_SIDE = 320  # Pixels of the longer side on which the motion is estimated; finer ones cost without gain.
REFERENCE_IMAGES = 15
_ITERATIONS, _EPSILON, _BLUR = 100, 1e-6, 5
_MIN_CORRELATION = 0.3  # Below it the two pictures do not show the same part.
_MAX_SHIFT = 0.25  # Of the side; a part further off is not in its fixture.
_MAX_ROTATION = math.radians(20)
_SLACK = 0.1  # Pixels outside of the photograph that still come from it by nine tenths.


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where the pixels of a registered image come from.

    Attributes:
        warp: (2, 3) float32; reference coordinates (x, y, 1) -> image coordinates, pixels.
        correlation: Enhanced correlation coefficient with the reference, in [-1, 1].
        converged: False: no trustworthy motion was found and `warp` is the identity.
    """

    warp: FloatMap
    correlation: float
    converged: bool

    def to_reference(self, image: NDArray[Any]) -> FloatMap:
        """The image in the reference's pose, (H, W, C) float32; its edge is repeated where it ends."""
        import cv2

        pixels = np.ascontiguousarray(image, np.float32)
        height, width = pixels.shape[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(
            pixels, self.warp, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped, np.float32).reshape(pixels.shape)

    def from_reference(self, values: NDArray[Any], outside: float | None = None) -> FloatMap:
        """Values in the reference's pose back in the image's own, (H, W) or (H, W, C) float32.

        Args:
            values: (H, W) or (H, W, C).
            outside: Given to image pixels that the reference does not cover; None repeats the edge.
        """
        import cv2

        pixels = np.ascontiguousarray(values, np.float32)
        height, width = pixels.shape[:2]
        border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
        warped = cv2.warpAffine(
            pixels,
            self.warp,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=border,
            borderValue=[0.0 if outside is None else outside] * 4,
        )
        return np.asarray(warped, np.float32).reshape(pixels.shape)

    def seen(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W): pixels of the registered image that come from the photograph by nine tenths at least.

        ECC is right to some hundredths of a pixel: a part that lies straight must not lose its first row.
        """
        height, width = size
        y, x = np.mgrid[:height, :width].astype(np.float32)
        from_x = self.warp[0, 0] * x + self.warp[0, 1] * y + self.warp[0, 2]
        from_y = self.warp[1, 0] * x + self.warp[1, 1] * y + self.warp[1, 2]
        in_x = (from_x >= -_SLACK) & (from_x <= width - 1 + _SLACK)
        in_y = (from_y >= -_SLACK) & (from_y <= height - 1 + _SLACK)
        return np.asarray(in_x & in_y, np.bool_)


@dataclass(frozen=True, eq=False)
class Aligner:
    """Registers images to one reference.

    Attributes:
        reference: (H, W) float32 grey in [0, 1], at the size at which images are tiled.
        motion: What may differ from the reference: shift, or shift and rotation.
    """

    reference: FloatMap
    motion: Motion

    def align(self, image: NDArray[Any], top: float) -> tuple[FloatMap, Alignment]:
        """The image in the reference's pose, and how it came there.

        Enhanced correlation coefficient (Evangelidis & Psarakis 2008, doi:10.1109/TPAMI.2008.113), which does
        not see a change of brightness or contrast, started from phase correlation.

        Args:
            image: (H, W, C) in [0, top].
            top: Greatest pixel value, such as 255.

        Returns:
            The registered image (H, W, C) float32 in [0, top] and its alignment; an image that cannot be
            registered comes back as it was, with `converged` False.

        Raises:
            ShapeError: The image is not of the reference's size.
        """
        if image.ndim != 3 or image.shape[:2] != self.reference.shape:
            raise ShapeError(
                f"cannot register an image of shape {image.shape} to a reference of {self.reference.shape}; "
                "set images.size, so that all are alike."
            )
        alignment = estimate(self.reference, grey(image, top), self.motion)
        if not alignment.converged:
            return np.asarray(image, np.float32), alignment
        return alignment.to_reference(image), alignment


def align_all(images: Sequence[Pixels], aligner: Aligner) -> tuple[list[Pixels], int]:
    """Images in the reference's pose, in their own integer type, and how many could not be registered.

    Args:
        images: (H, W, C) uint8 or uint16 each.
        aligner: The reference.
    """
    aligned, failed = [], 0
    for image in images:
        top = float(np.iinfo(image.dtype).max)
        pixels, alignment = aligner.align(image, top)
        failed += not alignment.converged
        aligned.append(np.clip(np.rint(pixels), 0, top).astype(image.dtype))
    return aligned, failed


def grey(image: NDArray[Any], top: float) -> FloatMap:
    """(H, W) float32 in [0, 1]: the mean of the channels."""
    return np.asarray(image.astype(np.float32).mean(axis=2) / np.float32(top), np.float32)


def make_reference(images: Sequence[NDArray[Any]], motion: Motion) -> FloatMap:
    """The typical part in a typical pose, (H, W) float32 grey in [0, 1].

    Up to 15 images are registered to the one whose shift is most ordinary; their median shows the part
    sharply and without what is peculiar to one of them.

    Args:
        images: (H, W, C) uint8 or uint16 each, of one size, good parts.
        motion: As for `Aligner`.

    Raises:
        ShapeError: There is no image, or they differ in size.
    """
    if not images or any(image.shape != images[0].shape for image in images):
        raise ShapeError("a reference needs at least one image, and all of one size; set images.size.")
    places = evenly_spread(len(images), REFERENCE_IMAGES)
    greys = [grey(images[place], float(np.iinfo(images[place].dtype).max)) for place in places]
    shifts = np.stack([estimate(greys[0], other, motion).warp[:, 2] for other in greys])
    ordinary = int(np.abs(shifts - np.median(shifts, axis=0)).sum(axis=1).argmin())
    centre = greys[ordinary]
    registered = []
    for other in greys:
        alignment = estimate(centre, other, motion)
        if alignment.converged:
            registered.append(alignment.to_reference(other[..., None])[..., 0])
    return np.asarray(np.median(np.stack(registered or [centre]), axis=0), np.float32)


def estimate(reference: FloatMap, image: FloatMap, motion: Motion) -> Alignment:
    """The motion between two grey pictures of one size; see `Aligner.align`."""
    import cv2

    scale = min(1.0, SEARCH_SIDE / max(reference.shape))
    small_reference, small = _shrink(reference, scale), _shrink(image, scale)
    kind = cv2.MOTION_TRANSLATION if motion == "translation" else cv2.MOTION_EUCLIDEAN
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _EPSILON)
    warp = _first_guess(small_reference, small)
    everywhere = np.full(small.shape, 255, np.uint8)
    try:
        correlation, found = cv2.findTransformECC(
            small_reference, small, warp, kind, criteria, inputMask=everywhere, gaussFiltSize=_BLUR
        )
    except cv2.error:  # OpenCV's way of saying that the iteration did not converge.
        return _unregistered()
    warp = np.asarray(found, np.float32)
    # Half-pixel centres, as the resizing has them: x = s X + (s - 1) / 2 between large X and small x.
    shift = warp[:, 2].astype(np.float64)
    half = (scale - 1) / 2
    warp[:, 2] = (shift + warp[:, :2] @ np.full(2, half) - half) / scale
    return (
        Alignment(warp, float(correlation), True) if _plausible(warp, correlation, image) else _unregistered()
    )


def _first_guess(reference: FloatMap, image: FloatMap) -> FloatMap:
    """The identity or the shift by phase correlation, whichever matches better.

    ECC climbs the nearest hill, and a board of parallel tracks has one every few pixels.
    """
    import cv2

    height, width = reference.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    # Copies: OpenCV 5.0 multiplies the window into the pictures that it is given.
    (dx, dy), _ = cv2.phaseCorrelate(reference.copy(), image.copy(), window)
    guesses = [np.eye(2, 3, dtype=np.float32), np.array([[1, 0, dx], [0, 1, dy]], np.float32)]
    warped = [Alignment(guess, 0.0, True).to_reference(image[..., None])[..., 0] for guess in guesses]
    return guesses[int(np.argmax([_correlation(reference, other) for other in warped]))]


def _correlation(a: FloatMap, b: FloatMap) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))


def _shrink(picture: FloatMap, scale: float) -> FloatMap:
    from anogan.images.resize import resize

    if scale == 1.0:
        return np.ascontiguousarray(picture, np.float32)
    size = (max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale)))
    return np.ascontiguousarray(resize(picture[..., None], size)[..., 0])


def _plausible(warp: FloatMap, correlation: float, image: FloatMap) -> bool:
    height, width = image.shape
    # The shift of the centre: a rotation about the corner moves everything else.
    centre = np.array([(width - 1) / 2, (height - 1) / 2, 1.0])
    moved = np.abs(warp @ centre - centre[:2]) / (width, height)
    rotation = abs(math.atan2(float(warp[1, 0]), float(warp[0, 0])))
    return bool(
        np.isfinite(warp).all()
        and correlation >= _MIN_CORRELATION
        and moved.max() <= _MAX_SHIFT
        and rotation <= _MAX_ROTATION
    )


def _unregistered() -> Alignment:
    return Alignment(np.eye(2, 3, dtype=np.float32), 0.0, False)
