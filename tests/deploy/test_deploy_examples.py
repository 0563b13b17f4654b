"""What an integrator copies: the C++ and the Python program give the scores of the package."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from anogan.export import export_scorer
from anogan.images.decode import write_image
from anogan.station import Scorer
from tests.export.conftest import build_model, build_torch_scorer, limited_to, random_images, small_config

HEADER = "onnxruntime_cxx_api.h"
SIZE = (40, 56)
MAX_LINES = 160


@pytest.fixture(scope="module")
def scorer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for 40 x 56 colour images."""
    path = tmp_path_factory.mktemp("deploy") / "scorer.onnx"
    export_scorer(build_torch_scorer(build_model(small_config(), SIZE)), path, images=random_images(1, SIZE))
    return path


@pytest.fixture(scope="module")
def deep_grey_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for 16-bit grey images of any size."""
    config = small_config(images={"on_mixed_sizes": "keep", "channels": 1, "bit_depth": 16})
    path = tmp_path_factory.mktemp("deploy") / "scorer.onnx"
    images = random_images(1, (33, 47), channels=1, bit_depth=16)
    export_scorer(build_torch_scorer(build_model(config)), path, images=images)
    return path


def headers(repository: Path) -> Path:
    """The folder of ONNX Runtime's headers; fetched once into build/ where there is none."""
    fetched = repository / "build" / "onnxruntime-headers"
    places = [Path(os.environ.get("ONNXRUNTIME_INCLUDE", "none")), Path("/usr/include/onnxruntime"), fetched]
    found = [place for place in places if (place / HEADER).is_file()]
    if found:
        return found[0]
    if shutil.which("apt-get") is None:
        pytest.skip("no headers of ONNX Runtime; name their folder in ONNXRUNTIME_INCLUDE")
    script = repository / "deploy" / "cpp" / "fetch-headers.sh"
    try:
        subprocess.run(["bash", script, fetched], capture_output=True, timeout=90, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"the headers of ONNX Runtime could not be fetched ({error})")
    return fetched


def library(folder: Path) -> Path:
    """The wheel's library under the names that a linker and a loader look for."""
    wheel = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(wheel.glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("this wheel of ONNX Runtime has no shared library to link with")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found[0])
    return folder / "libonnxruntime.so"


@pytest.fixture(scope="module")
def program(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled C++ example."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no CMake or no C++ compiler")
    build = tmp_path_factory.mktemp("build")
    settings = [f"-DONNXRUNTIME_INCLUDE={headers(repository)}", f"-DONNXRUNTIME_LIBRARY={library(build)}"]
    for words in (
        ["cmake", "-S", repository / "deploy" / "cpp", "-B", build / "out", *settings],
        ["cmake", "--build", build / "out"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "out" / "score"


def write_pnm(path: Path, image: np.ndarray) -> None:
    """Binary PPM or PGM; 16 bits high byte first, as the format wants."""
    height, width, channels = image.shape
    top = np.iinfo(image.dtype).max
    header = f"{'P6' if channels == 3 else 'P5'}\n# a camera's comment\n{width} {height}\n{top}\n"
    path.write_bytes(header.encode() + image.astype(image.dtype.newbyteorder(">")).tobytes())


def run(*words: object) -> tuple[int, list[dict[str, object]], str]:
    done = subprocess.run(list(map(str, words)), capture_output=True, encoding="utf-8", check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def assert_same(lines: list[dict[str, object]], scorer: Scorer, images: list[np.ndarray]) -> None:
    assert len(lines) == len(images)
    for line, want in zip(lines, scorer.score(images), strict=True):
        assert line["score"] == pytest.approx(want.score, rel=1e-6)
        assert line["verdict"] == str(want.verdict)
        assert line["residual_score"] == pytest.approx(want.residual_score, rel=1e-6)
        assert line["steps_used"] == want.steps_used


def test_cpp_program_gives_the_scores_of_python(program: Path, scorer_file: Path, tmp_path: Path) -> None:
    images = random_images(3, SIZE)
    folder = tmp_path / "line 3 产线"
    folder.mkdir()
    for index, image in enumerate(images):
        write_pnm(folder / f"{index}.ppm", image)
    code, lines, _ = run(program, scorer_file, folder)
    assert_same(lines, Scorer(scorer_file), images)
    assert not any("registered" in line for line in lines)
    assert code == (1 if any(line["verdict"] == "reject" for line in lines) else 0)


def test_cpp_program_reads_16_bit_grey_of_any_size(
    program: Path, deep_grey_file: Path, tmp_path: Path
) -> None:
    images = [random_images(1, size, channels=1, bit_depth=16)[0] for size in ((33, 47), (50, 32))]
    for index, image in enumerate(images):
        write_pnm(tmp_path / f"{index}.pgm", image)
    _, lines, _ = run(program, deep_grey_file, tmp_path / "0.pgm", tmp_path / "1.pgm")
    assert_same(lines, Scorer(deep_grey_file), images)


def test_cpp_program_tells_a_bad_image_and_scores_the_rest(
    program: Path, scorer_file: Path, tmp_path: Path
) -> None:
    image = random_images(1, SIZE)[0]
    write_pnm(tmp_path / "b good.ppm", image)
    write_pnm(tmp_path / "c wide.ppm", random_images(1, (40, 57))[0])
    (tmp_path / "a.ppm").write_bytes((tmp_path / "b good.ppm").read_bytes()[:100])
    (tmp_path / "d.ppm").write_bytes(b"not an image")
    code, lines, _ = run(program, scorer_file, tmp_path)
    assert ["error" in line for line in lines] == [True, False, True, True]
    assert_same(lines[1:2], Scorer(scorer_file), [image])
    assert code in (1, 2)


def test_cpp_program_tells_a_missing_model(program: Path, tmp_path: Path) -> None:
    code, lines, errors = run(program, tmp_path / "none.onnx", tmp_path)
    assert (code, lines) == (2, [])
    assert "none.onnx" in errors


def test_python_program_gives_the_scores_of_the_package(
    repository: Path, scorer_file: Path, tmp_path: Path
) -> None:
    images = random_images(3, SIZE)
    for index, image in enumerate(images):
        write_image(tmp_path / f"{index}.png", image)
    (tmp_path / "4.png").write_bytes(b"")
    # OpenCV and ONNX Runtime refuse these two with errors of their own.
    huge = struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 2_000_000, 20_000, 1, 24, 0, 100, 0, 0, 0, 0)
    (tmp_path / "5.bmp").write_bytes(b"BM" + huge + b"\0" * 100)
    write_image(tmp_path / "6.png", random_images(1, (41, 57))[0])
    write_image(tmp_path / "7.png", images[0])
    example = repository / "deploy" / "python" / "score.py"
    code, lines, _ = run(sys.executable, example, scorer_file, tmp_path)
    assert_same([*lines[:3], lines[6]], Scorer(scorer_file), [*images, images[0]])
    assert ["error" in line for line in lines] == [False] * 3 + [True] * 3 + [False]
    assert code in (1, 2)


def test_python_program_scores_no_colour_with_a_grey_model(
    repository: Path, deep_grey_file: Path, tmp_path: Path
) -> None:
    grey, colour = (random_images(1, (33, 47), channels=n, bit_depth=16)[0] for n in (1, 3))
    write_image(tmp_path / "0.png", grey)
    write_image(tmp_path / "1.png", np.repeat(grey, 3, axis=2))
    write_image(tmp_path / "2.png", colour)
    example = repository / "deploy" / "python" / "score.py"
    _, lines, _ = run(sys.executable, example, deep_grey_file, tmp_path)
    assert_same(lines[:2], Scorer(deep_grey_file), [grey, grey])
    assert "(33, 47, 3)" in str(lines[2]["error"])


def test_python_program_uses_no_damaged_file(repository: Path, scorer_file: Path, tmp_path: Path) -> None:
    content = bytearray(scorer_file.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "scorer.onnx").write_bytes(content)
    write_image(tmp_path / "0.png", random_images(1, SIZE)[0])
    program = repository / "deploy" / "python" / "score.py"
    for name, words in (("scorer.onnx", "is damaged, or no scorer"), ("none.onnx", "No such file")):
        code, lines, errors = run(sys.executable, program, tmp_path / name, tmp_path / "0.png")
        assert (code, lines) == (2, [])
        assert words in errors


@pytest.mark.parametrize("example", ["python", "cpp"])
def test_a_folder_that_no_camera_fills_does_not_look_like_parts_that_pass(
    example: str, request: pytest.FixtureRequest, repository: Path, scorer_file: Path, tmp_path: Path
) -> None:
    python = [sys.executable, repository / "deploy" / "python" / "score.py"]
    words = python if example == "python" else [request.getfixturevalue("program")]

    assert run(*words, scorer_file, tmp_path)[:2] == (2, [])


def test_python_program_leaves_out_what_is_no_part(
    repository: Path, scorer_file: Path, tmp_path: Path
) -> None:
    full, empty = tmp_path / "camera 1", tmp_path / "camera 2"
    full.mkdir()
    empty.mkdir()
    image = random_images(1, SIZE)[0]
    for name, picture in (("0.png", image), (".0.png", image), ("1.png", image[:1, :1])):
        write_image(full / name, picture)
    program = repository / "deploy" / "python" / "score.py"
    code, lines, errors = run(sys.executable, program, scorer_file, full, empty)

    assert code in (1, 2)
    assert [Path(str(line["path"])).name for line in lines] == ["0.png", "1.png"]
    assert "1x1 pixels, too small" in str(lines[1]["error"])
    assert f"there is no image to score in {empty}" in errors


def test_examples_are_short_enough_to_read(repository: Path) -> None:
    for name in ("cpp/score.cpp", "python/score.py"):
        assert len((repository / "deploy" / name).read_text(encoding="utf-8").splitlines()) < MAX_LINES


@pytest.fixture(scope="module")
def registering_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scorer whose reference is the first of `random_images`, to which no other is like a good one."""
    path = tmp_path_factory.mktemp("registering") / "scorer.onnx"
    model = build_model(small_config(images={"registration": "translation"}), SIZE)
    images = random_images(1, SIZE)
    export_scorer(limited_to(build_torch_scorer(model), images[0]), path, images=images)
    return path


def test_python_program_tells_what_not_every_model_does(
    repository: Path, registering_file: Path, tmp_path: Path
) -> None:
    program = repository / "deploy" / "python" / "score.py"
    assert_tells_flags([sys.executable, program, registering_file], write_image, tmp_path, ".png")


def test_cpp_program_tells_what_not_every_model_does(
    program: Path, registering_file: Path, tmp_path: Path
) -> None:
    assert_tells_flags([program, registering_file], write_pnm, tmp_path, ".ppm")


def assert_tells_flags(
    words: list[object], write: Callable[[Path, np.ndarray], None], folder: Path, ending: str
) -> None:
    names = [folder / f"part{ending}", folder / f"black{ending}"]
    write(names[0], random_images(1, SIZE)[0])
    write(names[1], np.zeros((*SIZE, 3), np.uint8))
    _, lines, _ = run(*words, *names)
    assert [line["registered"] for line in lines] == [True, False]
    assert [line["in_distribution"] for line in lines] == [True, False]
    assert lines[1]["verdict"] != "pass"
