"""Lays a part over the reference pose that the model was trained in, and maps results back.

Per-pixel calibration and whole-image networks know where everything belongs; a part that lies two pixels
off looks anomalous along all its edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.images.pose import Floats, Motion, PoseSearch, sample
from anogan.images.spread import evenly_spread

Pixels = NDArray[Any]
FloatMap = NDArray[np.float32]

REFERENCE_IMAGES = 15
_BLOCK = 2**16  # Pixels.
# Below it the two pictures do not show the same part: boards of unlike designs reach 0.39.
MIN_CORRELATION = 0.4
SLACK = 0.1  # Pixels outside of the photograph that still come from it by nine tenths.


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where the pixels of a registered image come from.

    Attributes:
        warp: (2, 3) float64; reference coordinates (x, y, 1) -> image coordinates, pixels.
        correlation: With the reference at the best motion that was found, in [-1, 1].
        converged: False: that motion is not to be trusted, and `warp` is the identity.
    """

    warp: Floats
    correlation: float
    converged: bool

    def to_reference(self, image: NDArray[Any]) -> FloatMap:
        """The image in the reference's pose, (H, W, C) float32; its edge is repeated where it ends."""
        return _warped(image, self.warp)

    def from_reference(self, values: NDArray[Any], outside: float | None = None) -> FloatMap:
        """Values in the reference's pose back in the image's own, (H, W) or (H, W, C) float32.

        Args:
            values: (H, W) or (H, W, C).
            outside: Given to image pixels that the reference does not cover; None repeats the edge.
        """
        back = np.linalg.inv(self.warp[:, :2])
        return _warped(values, np.concatenate([back, -back @ self.warp[:, 2:]], axis=1), outside)

    def seen(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W): pixels of the registered image that come from the photograph by nine tenths at least.

        Motions are right to some hundredths of a pixel: a part that lies straight must not lose a row.
        """
        height, width = size
        x, y = _places(self.warp, size)
        in_x = (x >= -SLACK) & (x <= width - 1 + SLACK)
        in_y = (y >= -SLACK) & (y <= height - 1 + SLACK)
        return np.asarray((in_x & in_y).reshape(size), np.bool_)


@dataclass(frozen=True, eq=False)
class Aligner:
    """Registers images to one reference.

    Attributes:
        reference: (H, W) float32 grey in [0, 1], at the size at which images are tiled.
        motion: What may differ from the reference: shift, or shift and rotation.
        aspect: Width of a pixel by its height, in the world: not 1 where resizing has stretched the images.
    """

    reference: FloatMap
    motion: Motion
    aspect: float = 1.0

    @cached_property
    def pose_search(self) -> PoseSearch:
        """What finds the reference in a picture."""
        return PoseSearch.of(self.reference, self.motion, self.aspect)

    def align(self, image: NDArray[Any], top: float) -> tuple[FloatMap, Alignment]:
        """The image in the reference's pose, and how it came there.

        See `anogan.images.pose`; a change of brightness or contrast moves nothing.

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
        alignment = self.estimate(grey(image, top))
        if not alignment.converged:
            return np.asarray(image, np.float32), alignment
        return alignment.to_reference(image), alignment

    def estimate(self, picture: FloatMap) -> Alignment:
        """Where the part lies in a grey picture of the reference's size, (H, W) in [0, 1]."""
        motion, correlation = self.pose_search.find(picture)
        if plausible(motion, correlation, self.pose_search):
            return Alignment(_warp(motion, self.pose_search), correlation, True)
        return Alignment(np.eye(2, 3), correlation, False)


def align_all(images: Sequence[Pixels], aligner: Aligner) -> tuple[list[Pixels], list[Alignment]]:
    """Images in the reference's pose, in their own integer type, and how each came there.

    Args:
        images: (H, W, C) uint8 or uint16 each.
        aligner: The reference.
    """
    aligned, alignments = [], []
    for image in images:
        top = float(np.iinfo(image.dtype).max)
        pixels, alignment = aligner.align(image, top)
        alignments.append(alignment)
        aligned.append(np.clip(np.rint(pixels), 0, top).astype(image.dtype))
    return aligned, alignments


def grey(image: NDArray[Any], top: float) -> FloatMap:
    """(H, W) float32 in [0, 1]: the mean of the channels."""
    return np.asarray(image.astype(np.float32).mean(axis=2) / np.float32(top), np.float32)


def make_aligner(images: Sequence[NDArray[Any]], motion: Motion, aspect: float = 1.0) -> Aligner:
    """Registers images to the typical part in a typical pose, see `make_reference`."""
    return Aligner(make_reference(images, motion, aspect), motion, aspect)


def make_reference(images: Sequence[NDArray[Any]], motion: Motion, aspect: float = 1.0) -> FloatMap:
    """The typical part in a typical pose, (H, W) float32 grey in [0, 1].

    Up to 15 images are registered to one of them in an ordinary place; their median shows the part
    sharply and without what is peculiar to one of them.

    Args:
        images: (H, W, C) uint8 or uint16 each, of one size, good parts.
        motion: As for `Aligner`.
        aspect: As for `Aligner`.

    Raises:
        ShapeError: There is no image, or they differ in size.
    """
    if not images or any(image.shape != images[0].shape for image in images):
        raise ShapeError("a reference needs at least one image, and all of one size; set images.size.")
    places = evenly_spread(len(images), REFERENCE_IMAGES)
    greys = [grey(images[place], float(np.iinfo(images[place].dtype).max)) for place in places]
    centre = _typical(greys, motion, aspect)
    registered = []
    for other in greys:
        alignment = centre.estimate(other)
        if alignment.converged:
            registered.append(alignment.to_reference(other[..., None])[..., 0])
    return np.asarray(np.median(np.stack(registered or [centre.reference]), axis=0), np.float32)


def _typical(greys: Sequence[FloatMap], motion: Motion, aspect: float) -> Aligner:
    """One of them over which all can be laid, of ordinary shift; where there is none, that of most."""
    best, most = Aligner(greys[0], motion, aspect), -1
    for grey_picture in greys:
        aligner = Aligner(grey_picture, motion, aspect)
        found = [aligner.estimate(other) for other in greys]
        if all(alignment.converged for alignment in found):
            shifts = np.stack([alignment.warp[:, 2] for alignment in found])
            ordinary = int(np.abs(shifts - np.median(shifts, axis=0)).sum(axis=1).argmin())
            return Aligner(greys[ordinary], motion, aspect)
        if (n := sum(alignment.converged for alignment in found)) > most:
            best, most = aligner, n
    return best


def plausible(motion: Floats, correlation: float, search: PoseSearch) -> bool:
    """Whether a part may lie so, and the picture shows it.

    Args:
        motion: (3,) of `PoseSearch.find`.
        correlation: Its fit.
        search: What found it.
    """
    return bool(correlation >= MIN_CORRELATION and np.all(np.abs(motion) <= search.limits))


def _warp(motion: Floats, search: PoseSearch) -> Floats:
    """The (2, 3) matrix, between pixels, of a motion about the centre."""
    centre = (np.array([search.size[1], search.size[0]]) - 1) / 2
    sine, aspect = motion[2], search.aspect
    cosine = np.sqrt(1 - sine * sine)
    turn = np.array([[cosine, -sine / aspect], [sine * aspect, cosine]])
    shift = motion[:2] / (aspect, 1)
    return np.concatenate([turn, (centre + shift - turn @ centre)[:, None]], axis=1)


def _places(warp: Floats, size: tuple[int, ...]) -> tuple[Floats, Floats]:
    """(H W,) each: where x and y of every pixel come from."""
    y, x = (axis.ravel() for axis in np.mgrid[: size[0], : size[1]])
    return warp[0, 0] * x + warp[0, 1] * y + warp[0, 2], warp[1, 0] * x + warp[1, 1] * y + warp[1, 2]


def _warped(values: NDArray[Any], warp: Floats, outside: float | None = None) -> FloatMap:
    """(H, W) or (H, W, C) float32: every pixel from where it comes."""
    pixels = np.asarray(values, np.float32)
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    x, y = _places(warp, pixels.shape[:2])
    # A few rows at a time stay in the cache.
    blocks = [
        sample(planes, x[i : i + _BLOCK], y[i : i + _BLOCK], outside=outside)
        for i in range(0, len(x), _BLOCK)
    ]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1).T).reshape(pixels.shape)
