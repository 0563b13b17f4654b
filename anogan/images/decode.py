"""From a file to pixels and back: the only place where image files are opened.

Every fault of a file is one `ImageError`, raised before its pixels are allocated where the header
shows it. Files are read as bytes and handed to OpenCV, whose own file functions do not take names
with Chinese characters on Windows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.errors import ImageError, ShapeError
from anogan.files import replacing
from anogan.images.headers import (
    HeaderError,
    ImageInfo,
    check_complete,
    decoding_as_stored,
    parse_header,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "ImageInfo",
    "Pixels",
    "as_model_image",
    "probe",
    "read_as_stored",
    "read_image",
    "several",
    "write_image",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 100_000_000
MIN_SIDE = 8
_MAX_BYTES = 8 * MAX_PIXELS + 2**26  # Four 16-bit channels uncompressed, and room for metadata.
_HEAD_BYTES = 2**16
_DEPTHS = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def read_image(path: Path, *, channels: int, bit_depth: int) -> Pixels:
    """One image file as a model takes it.

    The EXIF orientation is ignored on purpose: a station gets raw pixels from its camera, and a model
    must see in training what it will see there.

    Args:
        path: A png, jpg, bmp, tif or webp file; the content decides, not the suffix.
        channels: 1 or 3. A colour file whose channels are equal serves 1; alpha is dropped.
        bit_depth: 8 or 16.

    Returns:
        (H, W, channels), RGB order, uint8 in [0, 255] or uint16 in [0, 65535].

    Raises:
        ImageError: Missing, damaged, too small or large, or of other channels or bit depth.
    """
    return as_model_image(read_as_stored(path), channels=channels, bit_depth=bit_depth, name=str(path))


def read_as_stored(path: Path) -> Pixels:
    """One image file with the channels and bit depth that it has.

    Returns:
        (H, W, 1) or (H, W, 3) in RGB order, uint8 or uint16, alpha dropped.

    Raises:
        ImageError: Missing, damaged, too small or large, or not of 8 or 16 bits.
    """
    data = _read_bytes(path)
    info = _checked_header(path, data)
    try:
        check_complete(data)
    except HeaderError as error:
        raise ImageError(f"{path} {error}; capture or copy it again.") from error
    with _quiet_opencv:
        image = _decode(decoding_as_stored(data))
    if image is None or image.shape[:2] != (info.height, info.width):
        raise ImageError(f"{path} is damaged: its pixels cannot be decoded; capture or copy it again.")
    # OpenCV widens grey with alpha, and grey palettes, to colour.
    image = image[..., :1] if info.channels == 1 else image[..., 2::-1]
    return np.ascontiguousarray(image)


def probe(path: Path) -> ImageInfo:
    """Size, channels and bit depth of a file from its header, without decoding its pixels.

    Raises:
        ImageError: Missing, not an image, too small or too large.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        parse_header(head)
    except (OSError, HeaderError):
        head = _read_bytes(path)  # Headers may lie behind much metadata; errors are told from here.
    return _checked_header(path, head)


def unused_bits(highest: Sequence[int]) -> str | None:
    """What to tell where 16-bit images hold the pixels of a 10, 12 or 14 bit camera; None where they do not.

    Args:
        highest: Greatest value of each 16-bit image of a folder; none where there are no such images.
    """
    used = max(1, max(highest, default=0).bit_length())
    if not highest or used > 14:
        return None
    return (
        f"use {used} of their 16 bits, so networks see them nearly black and small defects not at all: "
        f"multiply the pixels by {2 ** (16 - used)} before they are saved, here and at the station."
    )


def as_model_image(image: NDArray[Any], *, channels: int, bit_depth: int, name: str) -> Pixels:
    """Checks pixels that are in memory as `read_image` checks a file.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or, with alpha, (H, W, 4); RGB order; uint8 or uint16.
        channels: 1 or 3, what the model takes.
        bit_depth: 8 or 16, what the model takes.
        name: The image's name in error messages.

    Returns:
        (H, W, channels), the same pixels.

    Raises:
        ImageError: One sentence with what the image is, what the model expects and what to do.
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ImageError(f"{name} has shape {image.shape}; expected (H, W), (H, W, 1) or (H, W, 3).")
    if image.dtype not in _DEPTHS:
        raise ImageError(f"{name} holds {image.dtype} pixels; expected uint8 or uint16.")
    height, width = image.shape[:2]
    _check_size(name, width, height)
    _check_depth(name, _DEPTHS[image.dtype], bit_depth)
    image = image[..., :3]
    if channels == 1 and image.shape[2] == 3 and _is_grey(image):
        image = image[..., :1]
    if image.shape[2] != channels:
        raise ImageError(f"{name} is {width}x{height} {_channel_advice(image.shape[2], channels)}")
    return np.ascontiguousarray(image)


def several(images: Sequence[NDArray[Any]] | NDArray[Any]) -> list[NDArray[Any]]:
    """The images of a list, or of one array (N, H, W, C), as arrays.

    Raises:
        ShapeError: A single image was given, whose rows would be taken for images.
    """
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ShapeError(
            f"score takes several images and got one array of shape {images.shape}; put a single image "
            "into a list: score([image])."
        )
    return [np.asarray(image) for image in images]


def write_image(path: Path, array: NDArray[Any]) -> None:
    """Writes an image in the format of its suffix, wholly or not at all.

    Args:
        path: Ends in one of `IMAGE_SUFFIXES`; PNG, BMP, TIFF and WebP are lossless, JPEG is not.
        array: (H, W), (H, W, 1) or (H, W, 3) in RGB order, uint8 or (PNG and TIFF) uint16.

    Raises:
        ShapeError: The array or the suffix does not fit.
        StorageError: The disk is full, or the folder is missing or not writable.
    """
    data = _encode(path, array)
    with replacing(path, "free space or choose another folder") as partial:
        partial.write_bytes(data)


class _QuietOpenCV:
    """Keeps OpenCV's log off the terminal while any thread decodes; our errors tell the fault."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                cv2.utils.logging.setLogLevel(self._level)


_quiet_opencv = _QuietOpenCV()


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder; expected an image file.")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ImageError(
                f"{path} has {size:,} bytes; at most {_MAX_BYTES:,} are read, so crop or downsize it."
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions."
        ) from error


def _checked_header(path: Path, data: bytes) -> ImageInfo:
    try:
        info = parse_header(data)
    except HeaderError as error:
        raise ImageError(f"{path} {error}; replace or remove the file.") from error
    _check_size(str(path), info.width, info.height)
    if info.bit_depth not in (8, 16):
        raise ImageError(f"{path} has {info.bit_depth} bits per channel; save it with 8 or 16.")
    return info


def _decode(data: bytes) -> NDArray[Any] | None:
    try:
        # IMREAD_UNCHANGED keeps the bit depth and ignores the EXIF orientation.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image is None or image.dtype not in _DEPTHS:
        return None
    return image[..., None] if image.ndim == 2 else image


def _encode(path: Path, array: NDArray[Any]) -> bytes:
    image = array[..., None] if array.ndim == 2 else array
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype not in _DEPTHS or image.size == 0:
        raise ShapeError(
            f"{path} cannot hold {array.dtype} of shape {array.shape}; "
            "expected uint8 or uint16, (H, W, 1 or 3)."
        )
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ShapeError(f"{path} has no image suffix that can be written; use one of {known}.")
    if image.dtype == np.uint16 and suffix not in {".png", ".tif", ".tiff"}:
        raise ShapeError(f"{path} cannot hold 16 bits per channel; use .png or .tif.")
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []  # Above 100 is lossless.
    done, data = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), lossless)
    if not done:
        raise ShapeError(f"{path}: OpenCV cannot encode {image.shape} as {suffix}; use .png.")
    return data.tobytes()


def _check_size(name: str, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} is {width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width}x{height} pixels; at most {MAX_PIXELS:,} in all are read, "
            "so crop or downsize it."
        )


def _check_depth(name: str, got: int, expected: int) -> None:
    if got != expected:
        raise ImageError(
            f"{name} has {got} bits per channel; the model expects {expected}. "
            f"Save it with {expected} bits, or retrain with images.bit_depth: {got}."
        )


def _is_grey(image: NDArray[Any]) -> bool:
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())


def _channel_advice(got: int, expected: int) -> str:
    kinds = {1: "grey", 3: "colour"}
    return (
        f"{kinds[got]}; the model expects {expected} channel{'s' if expected > 1 else ''}. "
        f"Capture in {kinds[expected]}, or retrain with images.channels: {got}."
    )
