"""An invisible mark for images that were generated, so that nobody takes them for inspection pictures.

Quantisation index modulation (Chen & Wornell 2001, doi:10.1109/18.923725): twelve low and middle frequencies
of each 8 x 8 block's brightness are moved to a lattice whose offsets are drawn from a fixed key. The mark
survives PNG and JPEG at quality 90 and above, and a crop that keeps the upper left corner; any other crop, or
resizing, removes it. It states an origin and is no protection against somebody who wants to remove it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.errors import ShapeError

BLOCK, KEY = 8, 0x414E4F47
STEP = 14.0  # Lattice spacing of an 8-bit DCT coefficient: above JPEG 90's own, below what an eye sees.
COEFFICIENTS = (
    (0, 1),
    (1, 0),
    (1, 1),
    (0, 2),
    (2, 0),
    (1, 2),
    (2, 1),
    (2, 2),
    (0, 3),
    (3, 0),
    (1, 3),
    (3, 1),
)
MIN_SCORE = 6.0  # Standard deviations above chance: one image in a thousand million by accident.
ROUNDS = 3  # Rounding and clipping to pixels move coefficients off the lattice; a few passes bring them back.
PNG_KEYWORD, PNG_TEXT = b"Comment", b"anogan: synthetic image, not an inspection picture"


@dataclass(frozen=True)
class WatermarkCheck:
    """Whether an image carries the mark.

    Attributes:
        marked: The score is at least 6.
        score: Standard deviations above what an unmarked image gives; about N(0, 1) without the mark.
    """

    marked: bool
    score: float


def embed_watermark(image: NDArray[Any]) -> NDArray[Any]:
    """The image with the mark, a change of about 2 of 255 grey levels.

    Args:
        image: (H, W) or (H, W, 1 or 3) uint8 or uint16, at least 8 x 8 pixels.

    Returns:
        The same shape and dtype.

    Raises:
        ShapeError: If the image is smaller or of another type.
    """
    _check(image)
    top = float(np.iinfo(image.dtype).max)
    pixels = image.astype(np.float32).reshape(*image.shape[:2], -1) * np.float32(255 / top)
    marked = pixels
    for _ in range(ROUNDS):
        change = _quantised(_luma(marked)) - _luma(marked)
        scaled = np.rint((marked + change[:, :, None]) * (top / 255)).clip(0, top)
        marked = (scaled * (255 / top)).astype(np.float32)
    whole: NDArray[Any] = np.rint(marked * (top / 255)).astype(image.dtype)
    return whole.reshape(image.shape)


def check_watermark(image: NDArray[Any]) -> WatermarkCheck:
    """Looks for the mark.

    Args:
        image: As for `embed_watermark`.

    Raises:
        ShapeError: If the image is smaller than 8 x 8 pixels or of another type.
    """
    _check(image)
    scale = 255 / float(np.iinfo(image.dtype).max)
    luma = _luma(image.astype(np.float32).reshape(*image.shape[:2], -1) * np.float32(scale))
    blocks = _to_blocks(luma)
    offsets = _offsets(blocks.shape[:2])
    coefficients = np.stack([_dct(blocks)[..., i, j] for i, j in COEFFICIENTS], axis=-1)
    agreement = np.cos(2 * np.pi * (coefficients - offsets) / STEP)
    # A uniform phase has mean 0 and variance 1/2.
    score = float(agreement.sum() / math.sqrt(agreement.size / 2))
    return WatermarkCheck(score >= MIN_SCORE, score)


def png_with_note(png: bytes) -> bytes:
    """A PNG file with a text chunk that says that the image is synthetic.

    Raises:
        ShapeError: If the bytes are no PNG.
    """
    header_end = 8 + 25  # Signature and IHDR, which must come first.
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < header_end:
        raise ShapeError("Expected the bytes of a PNG file.")
    body = b"tEXt" + PNG_KEYWORD + b"\0" + PNG_TEXT
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return png[:header_end] + chunk + png[header_end:]


def encode_marked_png(image: NDArray[Any]) -> bytes:
    """The bytes of a PNG file with the note, for an RGB or grey image that `embed_watermark` made."""
    _check(image)
    pixels = image[:, :, ::-1] if image.ndim == 3 else image
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not done:
        raise ShapeError(f"OpenCV cannot encode {image.dtype} {image.shape} as PNG.")
    return png_with_note(data.tobytes())


def _check(image: NDArray[Any]) -> None:
    fits = image.ndim in (2, 3) and (image.ndim == 2 or image.shape[2] in (1, 3))
    if not fits or image.dtype not in (np.uint8, np.uint16) or min(image.shape[:2]) < BLOCK:
        raise ShapeError(
            f"Expected an image (H, W) or (H, W, 1 or 3) of uint8 or uint16, at least {BLOCK} x {BLOCK} "
            f"pixels, got {image.dtype} {image.shape}."
        )


def _luma(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) brightness of RGB or grey pixels; an equal change of all channels changes it by as much."""
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _quantised(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    blocks = _to_blocks(luma)
    frequencies, offsets = _dct(blocks), _offsets(blocks.shape[:2])
    for k, (i, j) in enumerate(COEFFICIENTS):
        from_lattice = (frequencies[..., i, j] - offsets[..., k]) / STEP
        frequencies[..., i, j] = np.rint(from_lattice) * STEP + offsets[..., k]
    basis = _basis()
    restored = np.einsum("ki,rckl,lj->rcij", basis, frequencies, basis)
    out = luma.copy()
    rows, columns = blocks.shape[0] * BLOCK, blocks.shape[1] * BLOCK
    out[:rows, :columns] = restored.transpose(0, 2, 1, 3).reshape(rows, columns)
    return out


def _to_blocks(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns, 8, 8); what does not fill a block at the right and lower border is left out."""
    rows, columns = luma.shape[0] // BLOCK, luma.shape[1] // BLOCK
    cut = luma[: rows * BLOCK, : columns * BLOCK]
    return cut.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)


def _dct(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    basis = _basis()
    return np.asarray(np.einsum("ki,rcij,lj->rckl", basis, blocks, basis), np.float32)


def _basis() -> NDArray[np.float32]:
    return np.asarray(cv2.dct(np.eye(BLOCK, dtype=np.float32), flags=cv2.DCT_ROWS).T)


def _offsets(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The key's lattice offset of each coefficient, in [0, STEP); a block's are the same in every size."""
    rows, columns = shape
    drawn = [np.random.default_rng([KEY, row]).random((columns, len(COEFFICIENTS))) for row in range(rows)]
    return np.asarray(np.stack(drawn) * STEP, np.float32)
