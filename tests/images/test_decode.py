"""Files become pixels, or one sentence that says why not."""

import contextlib
import struct
import threading
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anogan.errors import AnoganError, ImageError, ShapeError, StorageError
from anogan.images.decode import as_model_image, probe, read_as_stored, read_image, write_image

LOSSLESS = [".png", ".bmp", ".tif", ".tiff", ".webp"]
ALL = [*LOSSLESS, ".jpg", ".jpeg"]


def colour_image(height: int = 40, width: int = 56, top: int = 255) -> np.ndarray:
    """Smooth (JPEG keeps it) and unlike in its three channels."""
    y, x = np.mgrid[:height, :width]
    channels = [x / width, y / height, (x + y) / (height + width) / 2]
    return (np.stack(channels, axis=2) * top).astype(np.uint8 if top == 255 else np.uint16)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bytes(width: int, height: int, depth: int, colour: int, rows: bytes, palette: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    plte = png_chunk(b"PLTE", palette) if palette else b""
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + plte + pixels + png_chunk(b"IEND", b"")


def tiff_bytes(width: int, height: int, pixels: bytes, bits: int = 8, orientation: int = 1) -> bytes:
    """An uncompressed grey TIFF whose directory lies before its pixels."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 144), (274, orientation)]
    tags += [(277, 1), (278, height), (279, height * width * bits // 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head.ljust(144, b"\0") + pixels


def transparent_tiff_bytes(colour: np.ndarray, alpha: int) -> bytes:
    """An uncompressed RGB TIFF with an alpha that its colours are not multiplied with."""
    height, width = colour.shape[:2]
    pixels = np.concatenate([colour, np.full((height, width, 1), alpha, np.uint8)], axis=2).tobytes()
    depths, first = 170, 178
    tags = [(256, 1, width), (257, 1, height), (258, 4, depths), (259, 1, 1), (262, 1, 2), (273, 1, first)]
    tags += [(277, 1, 4), (278, 1, height), (279, 1, len(pixels)), (284, 1, 1), (338, 1, 2)]
    entries = b"".join(struct.pack("<HHII", tag, 3 if tag == 258 else 4, n, value) for tag, n, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head.ljust(depths, b"\0") + struct.pack("<4H", 8, 8, 8, 8) + pixels


def huge_headers() -> dict[str, bytes]:
    jpeg = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 60000, 60000, 3) + b"\1\x11\0\2\x11\1\3\x11\1"
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6)
    webp = b"WEBPVP8X" + struct.pack("<IIHBHB", 10, 0, 59999, 0, 59999, 0)
    return {
        "png": png_bytes(60000, 60000, 8, 2, b"\0"),
        "jpg": jpeg + b"\xff\xd9",
        "bmp": bmp,
        "tif": tiff_bytes(60000, 60000, b""),
        "webp": b"RIFF" + struct.pack("<I", len(webp)) + webp,
    }


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def encoded(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_an_image_survives_writing_and_reading_in_rgb_order(tmp_path: Path, suffix: str) -> None:
    image = colour_image()
    write_image(tmp_path / f"part{suffix}", image)
    np.testing.assert_array_equal(read_image(tmp_path / f"part{suffix}", channels=3, bit_depth=8), image)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_keeps_colours_in_rgb_order(tmp_path: Path, suffix: str) -> None:
    image = colour_image()
    write_image(tmp_path / f"part{suffix}", image)
    back = read_image(tmp_path / f"part{suffix}", channels=3, bit_depth=8)
    assert np.abs(back.astype(int) - image).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_survive(tmp_path: Path, suffix: str, channels: int) -> None:
    image = colour_image(top=65535)[..., :channels]
    write_image(tmp_path / f"x{suffix}", image)
    back = read_image(tmp_path / f"x{suffix}", channels=channels, bit_depth=16)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, image)


def test_a_two_level_png_has_the_values_0_and_255(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png", png_bytes(16, 16, 1, 0, b"\0\xaa\x55" * 16))
    assert read_image(path, channels=1, bit_depth=8)[0, :4, 0].tolist() == [255, 0, 255, 0]


def test_grey_with_alpha_and_a_grey_palette_are_one_channel(tmp_path: Path) -> None:
    alpha = saved(tmp_path / "a.png", png_bytes(16, 16, 8, 4, (b"\0" + bytes(range(32))) * 16))
    ramp = bytes(v for v in range(16) for _ in range(3))
    palette = saved(tmp_path / "p.png", png_bytes(16, 16, 8, 3, (b"\0" + bytes(range(16))) * 16, ramp))
    for path, step in ((alpha, 2), (palette, 1)):
        assert probe(path).channels == 1
        assert read_image(path, channels=1, bit_depth=8)[3, :, 0].tolist() == list(range(0, 16 * step, step))
        with pytest.raises(ImageError, match="grey; the model expects 3"):
            read_image(path, channels=3, bit_depth=8)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    image = colour_image()
    bgra = np.dstack([image[..., ::-1], np.full(image.shape[:2], 7, np.uint8)])
    path = saved(tmp_path / "x.png", cv2.imencode(".png", bgra)[1].tobytes())
    np.testing.assert_array_equal(read_image(path, channels=3, bit_depth=8), image)


def test_the_exif_orientation_does_not_turn_the_pixels(tmp_path: Path) -> None:
    data = encoded(".jpg", colour_image(40, 56))
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    plain, marked = saved(tmp_path / "a.jpg", data), saved(tmp_path / "b.jpg", turned)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (56, 40)
    np.testing.assert_array_equal(read_as_stored(marked), read_as_stored(plain))


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_the_orientation_of_a_tiff_does_not_turn_the_pixels(tmp_path: Path, orientation: int) -> None:
    pixels = np.ascontiguousarray(colour_image(40, 56)[..., 2:])
    data = tiff_bytes(56, 40, pixels.tobytes(), orientation=orientation)
    turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert turned.shape != (40, 56) or (turned[..., None] != pixels).any()
    np.testing.assert_array_equal(read_as_stored(saved(tmp_path / "a.tif", data)), pixels)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_the_alpha_of_a_tiff_does_not_darken_the_pixels(tmp_path: Path, alpha: int) -> None:
    colour = colour_image(40, 56)
    data = transparent_tiff_bytes(colour, alpha)
    if alpha < 255:
        darkened = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert darkened[..., :3].mean() < 0.6 * colour.mean()
    np.testing.assert_array_equal(read_as_stored(saved(tmp_path / "a.tif", data)), colour)


def test_a_name_with_spaces_and_chinese_characters_works(tmp_path: Path) -> None:
    path = tmp_path / "电路 板" / "好 1.png"
    path.parent.mkdir()
    write_image(path, colour_image())
    assert read_image(path, channels=3, bit_depth=8).shape == (40, 56, 3)


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_header_tells_what_decoding_finds(tmp_path: Path, suffix: str, channels: int) -> None:
    path = tmp_path / f"x{suffix}"
    write_image(path, colour_image()[..., :channels])
    info, pixels = probe(path), read_as_stored(path)
    assert (info.height, info.width, info.channels, info.bit_depth) == (*pixels.shape, 8)


def test_a_header_behind_much_metadata_is_found(tmp_path: Path) -> None:
    data = encoded(".jpg", colour_image())
    comment = b"\xff\xfe" + struct.pack(">H", 65535) + bytes(65533)
    path = saved(tmp_path / "x.jpg", data[:2] + comment * 3 + data[2:])
    assert (probe(path).width, probe(path).height) == (56, 40)


@pytest.mark.parametrize("kind", huge_headers())
def test_a_header_of_60000_pixels_a_side_is_refused_without_allocating_them(
    tmp_path: Path, kind: str
) -> None:
    path = saved(tmp_path / f"huge.{kind}", huge_headers()[kind])
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"60000x60000 pixels; at most 100,000,000"):
        read_image(path, channels=3, bit_depth=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_a_truncated_file_is_an_error_and_nothing_is_printed(
    tmp_path: Path, suffix: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(suffix, noise)
    path = saved(tmp_path / f"cut{suffix}", data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"cut.*(truncated|damaged)"):
        read_image(path, channels=3, bit_depth=8)
    assert capfd.readouterr() == ("", "")


def test_a_tiff_whose_pixels_are_cut_off_is_truncated(tmp_path: Path) -> None:
    whole = tiff_bytes(20, 10, bytes(range(200)))
    assert read_as_stored(saved(tmp_path / "a.tif", whole)).ravel().tolist() == list(range(200))
    with pytest.raises(ImageError, match="truncated"):
        read_as_stored(saved(tmp_path / "b.tif", whole[:-90]))


def test_a_jpeg_without_its_end_marker_is_truncated_though_a_thumbnail_has_one(tmp_path: Path) -> None:
    data = encoded(".jpg", colour_image())
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
    with pytest.raises(ImageError, match="no end marker"):
        read_as_stored(saved(tmp_path / "x.jpg", data[:2] + thumbnail + data[2:-2]))


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    data = encoded(".jpg", colour_image())
    assert read_as_stored(saved(tmp_path / "x.jpg", data + b"serial=17")).shape == (40, 56, 3)


def test_a_png_with_a_flipped_bit_is_damaged(tmp_path: Path) -> None:
    data = bytearray(encoded(".png", colour_image()))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="checksum of its IDAT"):
        read_as_stored(saved(tmp_path / "x.png", bytes(data)))


@pytest.mark.parametrize("suffix", ALL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_damage_is_an_image_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(suffix, colour_image(24, 24)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = saved(tmp_path_factory.getbasetemp() / f"fuzz{suffix}", bytes(content))
    with contextlib.suppress(ImageError):  # Anything else fails the test.
        image = read_as_stored(path)
        info = probe(path)
        assert image.shape[:2] == (info.height, info.width)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"hello, line 3\n", "is not an image"), (b"", "is empty"), (b"II+\0", "BigTIFF")]
)
def test_a_file_that_is_no_image_is_refused_by_its_content(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(ImageError, match=rf"notes\.png {reason}|notes\.png is a {reason}"):
        read_image(saved(tmp_path / "notes.png", content), channels=3, bit_depth=8)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png", channels=3, bit_depth=8)
    with pytest.raises(ImageError, match="is a folder"):
        probe(tmp_path)


def test_an_image_of_one_pixel_is_too_small(tmp_path: Path) -> None:
    write_image(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(ImageError, match="1x1 pixels; at least 8x8"):
        read_image(tmp_path / "dot.png", channels=3, bit_depth=8)


def test_wrong_channels_say_what_to_capture_or_retrain(tmp_path: Path) -> None:
    write_image(tmp_path / "grey.png", colour_image()[..., 0])
    write_image(tmp_path / "colour.png", colour_image())
    with pytest.raises(ImageError, match=r"56x40 grey; the model expects 3 channels\. .*images\.channels: 1"):
        read_image(tmp_path / "grey.png", channels=3, bit_depth=8)
    with pytest.raises(
        ImageError, match=r"56x40 colour; the model expects 1 channel\. .*images\.channels: 3"
    ):
        read_image(tmp_path / "colour.png", channels=1, bit_depth=8)


@pytest.mark.parametrize("suffix", ALL)
def test_a_colour_file_of_greys_serves_a_grey_model(tmp_path: Path, suffix: str) -> None:
    grey = colour_image()[..., :1]
    path = tmp_path / f"x{suffix}"
    write_image(path, np.repeat(grey, 3, axis=2))
    back = read_image(path, channels=1, bit_depth=8)
    assert back.shape == (40, 56, 1)
    assert np.abs(back.astype(int) - grey).mean() < 1


def test_a_wrong_bit_depth_says_how_to_go_on(tmp_path: Path) -> None:
    write_image(tmp_path / "deep.tif", colour_image(top=65535))
    write_image(tmp_path / "flat.tif", colour_image())
    with pytest.raises(ImageError, match=r"16 bits per channel; the model expects 8\. Save it with 8 bits"):
        read_image(tmp_path / "deep.tif", channels=3, bit_depth=8)
    with pytest.raises(ImageError, match=r"8 bits per channel; the model expects 16.*images\.bit_depth: 8"):
        read_image(tmp_path / "flat.tif", channels=3, bit_depth=16)


def test_a_tiff_of_signed_pixels_is_told_to_be_saved_unsigned(tmp_path: Path) -> None:
    data = cv2.imencode(".tif", np.ones((16, 16), np.int16))[1].tobytes()
    with pytest.raises(ImageError, match="signed or floating-point pixels; save them as unsigned"):
        read_as_stored(saved(tmp_path / "a.tif", data))


def test_a_float_tiff_is_refused(tmp_path: Path) -> None:
    data = cv2.imencode(".tif", np.zeros((16, 16), np.float32))[1].tobytes()
    with pytest.raises(ImageError, match="32 bits per channel"):
        read_as_stored(saved(tmp_path / "x.tif", data))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((16, 16, 3)), "float64"),
        (np.zeros((16, 16, 2), np.uint8), "shape"),
        (np.zeros((4, 16), np.uint8), "16x4 pixels"),
        (np.zeros((16, 16, 3), np.uint16), "16 bits"),
    ],
)
def test_an_array_is_checked_like_a_file(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=f"frame 7 .*{reason}"):
        as_model_image(array, channels=3, bit_depth=8, name="frame 7")


def test_writing_never_leaves_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.png"
    write_image(path, colour_image())
    before = path.read_bytes()

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(StorageError, match="No space left on device"):
        write_image(path, 255 - colour_image())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_image(tmp_path / "missing" / "x.png", colour_image())


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("x.gif", np.zeros((9, 9, 3), np.uint8)),
        ("x.jpg", np.zeros((9, 9, 3), np.uint16)),
        ("x.png", np.zeros((9, 9, 3))),
        ("x.png", np.zeros((0, 9, 3), np.uint8)),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_writing(
    tmp_path: Path, name: str, array: np.ndarray
) -> None:
    with pytest.raises(ShapeError):
        write_image(tmp_path / name, array)
    assert not list(tmp_path.iterdir())


def test_opencv_logs_as_before_after_many_threads_decoded(tmp_path: Path) -> None:
    level = cv2.utils.logging.getLogLevel()
    path = saved(tmp_path / "cut.bmp", encoded(".bmp", colour_image())[:500])

    def decode() -> None:
        for _ in range(50):
            with pytest.raises(AnoganError):
                read_as_stored(path)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cv2.utils.logging.getLogLevel() == level
