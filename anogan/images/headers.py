"""What an image file says of itself, read from its first bytes and before anything is decoded.

A header that claims 60,000 x 60,000 pixels must be refused without allocating them, and a file that
was cut short must be refused even where the codec would fill the rest with grey. Understands PNG,
JPEG, BMP, TIFF and WebP; pure functions of bytes, no OpenCV.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 4: 1, 6: 3}  # Colour type -> channels without alpha; 3 is a palette.
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})
# In entropy-coded data FF 00 is a plain FF, FF D0..D7 a restart, FF FF padding; all else ends it.
_JPEG_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}
_TIFF_AS_STORED = {274: 1, 338: 0}  # Orientation: upright. Extra samples: of a kind that is not told.


@dataclass(frozen=True)
class ImageInfo:
    """What a file holds.

    Attributes:
        width: Pixels.
        height: Pixels.
        channels: 1 grey, 3 colour; alpha is not counted, a palette of greys is grey.
        bit_depth: Bits per channel after decoding: 8 or 16, or 32 and 64 for files that are no photographs.
    """

    width: int
    height: int
    channels: int
    bit_depth: int


class HeaderError(ValueError):
    """The bytes are no image that can be read; the message is a verb phrase for the file's name."""


def parse_header(data: bytes) -> ImageInfo:
    """Size, channels and bit depth from the beginning of a file.

    Args:
        data: The file, or its beginning; a beginning that is too short raises like a truncated file.

    Raises:
        HeaderError: Not an image of a known format, or the header is cut short or contradicts itself.
    """
    try:
        info = _parse(data)
    except (struct.error, IndexError) as error:
        raise HeaderError("is truncated inside its header") from error
    if info.width < 1 or info.height < 1:
        raise HeaderError(f"has a damaged header that claims {info.width}x{info.height} pixels")
    return info


def check_complete(data: bytes) -> None:
    """Refuses a file whose end is missing or whose parts fail their own checksum.

    Raises:
        HeaderError: Says what is missing.
    """
    try:
        if data.startswith(_PNG):
            _check_png(data)
        elif data.startswith(b"\xff\xd8"):
            _check_jpeg(data)
        elif data.startswith((b"II*\0", b"MM\0*")):
            _check_tiff(data)
        elif data.startswith(b"RIFF") and struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
            raise HeaderError("is truncated (the WebP container is longer than the file)")
    except (struct.error, IndexError) as error:
        raise HeaderError("is truncated") from error


def decoding_as_stored(data: bytes) -> bytes:
    """A complete file whose pixels decode in the order and with the values in which they are stored.

    OpenCV turns a TIFF's pixels by its orientation tag whatever it is told, and multiplies them with an alpha
    that is tagged as not multiplied yet; those of no other format.
    """
    if not data.startswith((b"II*\0", b"MM\0*")):
        return data
    changed = bytearray(data)
    for tag, layout, at in _tiff_entries(data):
        if tag in _TIFF_AS_STORED:
            n = len(struct.unpack_from(layout, data, at))
            struct.pack_into(layout, changed, at, *[_TIFF_AS_STORED[tag]] * n)
    return bytes(changed)


def _parse(data: bytes) -> ImageInfo:
    if not data:
        raise HeaderError("is empty")
    if data.startswith(_PNG):
        return _parse_png(data)
    if data.startswith(b"\xff\xd8"):
        return _parse_jpeg(data)
    if data.startswith(b"BM"):
        return _parse_bmp(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _parse_tiff(data)
    if data.startswith((b"II+\0", b"MM\0+")):
        raise HeaderError("is a BigTIFF, which is not supported; save it as a classic TIFF or PNG")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _parse_webp(data)
    raise HeaderError("is not an image: its content is no PNG, JPEG, BMP, TIFF or WebP")


# --- PNG (ISO/IEC 15948) ---------------------------------------------------------------------------


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of body, length of body) of each chunk that the data has the beginning of."""
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, length
        position += 12 + length


def _parse_png(data: bytes) -> ImageInfo:
    if data[12:16] != b"IHDR":
        raise HeaderError("is a damaged PNG without a header chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    channels = _PNG_CHANNELS.get(colour) or _png_palette_channels(data)
    return ImageInfo(width, height, channels, 16 if depth == 16 else 8)


def _png_palette_channels(data: bytes) -> int:
    for kind, start, length in _png_chunks(data):
        if kind == b"PLTE":
            return _palette_channels(data[start : start + length], entry=3)
    raise HeaderError("is a damaged PNG without its palette")


def _palette_channels(palette: bytes, entry: int) -> int:
    grey = palette[0::entry] == palette[1::entry] == palette[2::entry]
    return 1 if grey else 3


def _check_png(data: bytes) -> None:
    for kind, start, length in _png_chunks(data):
        if start + length + 4 > len(data):
            break
        critical = kind[:1].isupper()
        (stored,) = struct.unpack_from(">I", data, start + length)
        if critical and zlib.crc32(data[start - 4 : start + length]) != stored:
            raise HeaderError(f"is damaged (checksum of its {kind.decode('latin-1')} chunk is wrong)")
        if kind == b"IEND":
            return
    raise HeaderError("is truncated (the PNG has no end chunk)")


# --- JPEG (ITU-T T.81) -----------------------------------------------------------------------------


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, position after the marker) up to and including end of image, scans skipped."""
    position = 2
    while True:
        if data[position] != 0xFF:
            raise HeaderError("is a damaged JPEG (a marker is missing)")
        while data[position] == 0xFF:  # Any number of fill bytes may come before a marker.
            position += 1
        marker = data[position]
        position += 1
        yield marker, position
        if marker == 0xD9:
            return
        if marker not in _JPEG_STANDALONE:
            position += struct.unpack_from(">H", data, position)[0]
        if marker == 0xDA:
            found = _JPEG_NEXT_MARKER.search(data, position)
            if found is None:
                raise HeaderError("is truncated (the JPEG has no end marker)")
            position = found.start()


def _parse_jpeg(data: bytes) -> ImageInfo:
    for marker, position in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in _JPEG_NO_FRAME:
            precision, height, width, components = struct.unpack_from(">BHHB", data, position + 2)
            return ImageInfo(width, height, 1 if components == 1 else 3, 8 if precision == 8 else 16)
        if marker == 0xDA:
            break
    raise HeaderError("is a damaged JPEG without a frame header")


def _check_jpeg(data: bytes) -> None:
    for _ in _jpeg_segments(data):
        pass


# --- BMP -------------------------------------------------------------------------------------------


def _parse_bmp(data: bytes) -> ImageInfo:
    pixels_at, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    entry = 3 if header_size == 12 else 4
    palette = data[14 + header_size : pixels_at]
    channels = _palette_channels(palette[: len(palette) // entry * entry], entry) if bits <= 8 else 3
    return ImageInfo(width, abs(height), channels, 8)  # A negative height means top row first.


# --- TIFF 6.0, first page --------------------------------------------------------------------------


def _tiff_entries(data: bytes) -> Iterator[tuple[int, str, int]]:
    """(tag, layout of its values, their position) of the first directory's integer tags."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, n = struct.unpack_from(f"{order}HHI", data, entry)
        if kind not in _TIFF_TYPES or n > len(data):
            continue
        layout = f"{order}{n}{_TIFF_TYPES[kind]}"
        at = entry + 8
        if struct.calcsize(layout) > 4:
            (at,) = struct.unpack_from(f"{order}I", data, at)
        yield tag, layout, at


def _tiff_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """The integer tags of the first directory."""
    return {tag: struct.unpack_from(layout, data, at) for tag, layout, at in _tiff_entries(data)}


def _parse_tiff(data: bytes) -> ImageInfo:
    tags = _tiff_tags(data)
    if 256 not in tags or 257 not in tags:
        raise HeaderError("is a damaged TIFF without width and height")
    bits = max(tags.get(258, (1,)))
    if bits <= 16 and {2, 3} & {*tags.get(339, ())}:
        raise HeaderError("holds signed or floating-point pixels; save them as unsigned ones of 8 or 16 bits")
    palette = tags.get(262, (1,))[0] == 3
    colour = palette or tags.get(277, (1,))[0] >= 3
    depth = 8 if bits <= 8 or palette else 16 if bits <= 16 else bits
    return ImageInfo(tags[256][0], tags[257][0], 3 if colour else 1, depth)


def _check_tiff(data: bytes) -> None:
    tags = _tiff_tags(data)
    for offsets, sizes in ((273, 279), (324, 325)):  # Strips, tiles.
        for start, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
            if start + size > len(data):
                raise HeaderError("is truncated (the TIFF's pixels end after the file does)")


# --- WebP (RFC 9649) -------------------------------------------------------------------------------


def _parse_webp(data: bytes) -> ImageInfo:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        width, height = 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    else:
        raise HeaderError("is a damaged WebP")
    return ImageInfo(width, height, 3, 8)
