from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anogan.config import Config, ImagesConfig
from anogan.errors import DataError
from anogan.images.alike import near_duplicate_pairs, outlier_z
from anogan.images.decode import read_as_stored, write_image
from anogan.images.doctor import DoctorReport, Finding, examine

CONFIG = Config.model_validate({"calibration": {"false_reject": 0.1}})  # 9 held-out images, 36 in all.
N_GOOD = 40
Image = np.ndarray[Any, np.dtype[np.uint8]]


def draw_part(seed: int, *, gain: float = 1.0, noise: float = 2.0, size: tuple[int, int] = (72, 96)) -> Image:
    """One shot of the same part: shift, illumination and sensor noise vary."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 0.7, 2)
    board = np.full((size[0] * 4, size[1] * 4, 3), (30, 90, 50), np.uint8)
    for row in range(3):
        for column in range(4):
            corner = (int(4 * (8 + 22 * column + x)), int(4 * (8 + 22 * row + y)))
            end = (corner[0] + 48, corner[1] + (24 if (row + column) % 2 else 56))
            cv2.rectangle(board, corner, end, (200, 170 - 20 * row, 60), -1)
    picture = cv2.resize(board, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    ramp = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :, None] * rng.normal(0, 0.03)
    picture = picture * gain * (1 + rng.normal(0, 0.03) + ramp) + rng.normal(0, noise, picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def clean_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("doctor") / "线 1"
    for part, first, n in (("good", 0, N_GOOD), ("test/good", 1000, 6), ("test/scratch", 2000, 4)):
        (root / part).mkdir(parents=True)
        for seed in range(first, first + n):
            image = draw_part(seed)
            if part == "test/scratch":
                cv2.line(image, (10, 60), (80, 20 + seed % 7), (255, 255, 255), 2)
            write_image(root / part / f"{seed:04}.png", image)
    return root


@pytest.fixture
def folder(clean_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_folder, tmp_path / "parts"))


def only(report: DoctorReport) -> Finding:
    assert [finding.kind for finding in report.findings] == [report.findings[0].kind]
    finding = report.findings[0]
    assert finding.message.endswith(".")
    assert "\n" not in finding.message
    return finding


def names(finding: Finding) -> set[str]:
    return {path.name for path in finding.paths}


def with_images(**settings: object) -> Config:
    return CONFIG.model_copy(update={"images": CONFIG.images.model_copy(update=settings)})


def test_a_clean_folder_gives_no_finding(clean_folder: Path) -> None:
    report = examine(clean_folder, config=CONFIG)
    assert report.findings == ()
    assert report.ok
    assert (report.n_good, report.n_test) == (N_GOOD, 10)


def test_the_same_folder_gives_the_same_report(folder: Path) -> None:
    shutil.copy(folder / "good" / "0001.png", folder / "good" / "copy.png")
    assert examine(folder, seed=3) == examine(folder, seed=3)


def test_images_that_nothing_uses_are_a_finding(folder: Path) -> None:
    shutil.copy(folder / "good" / "0001.png", folder / "0001.png")
    found = {finding.kind: finding for finding in examine(folder, config=CONFIG).findings}

    assert found["passed-over"].severity == "warning"
    assert found["passed-over"].paths == (folder / "0001.png",)


def test_broken_files_are_named_and_do_not_stop_the_rest(folder: Path) -> None:
    good = folder / "good"
    (good / "text.png").write_text("not a picture")
    whole = (good / "0000.png").read_bytes()
    (good / "cut.png").write_bytes(whole[: len(whole) // 2])
    (good / "nothing.jpg").write_bytes(b"")
    write_image(good / "dot.png", np.zeros((1, 1, 3), np.uint8))
    shutil.copy(good / "0001.png", folder / "test" / "good" / "0001.png")
    report = examine(folder, config=CONFIG)
    broken = [finding for finding in report.findings if finding.kind == "unreadable"]
    assert {finding.paths[0].name for finding in broken} == {"text.png", "cut.png", "nothing.jpg", "dot.png"}
    assert {finding.severity for finding in broken} == {"error"}
    assert [finding.kind for finding in report.findings if finding not in broken] == ["leak"]
    assert not report.ok


def test_a_folder_of_broken_files_alone_is_still_a_report(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    assert [finding.kind for finding in examine(tmp_path).findings] == ["unreadable", "too-few"]


def test_images_of_another_size_are_an_error_that_names_them(folder: Path) -> None:
    write_image(folder / "good" / "wide.png", cv2.resize(draw_part(500), (120, 72)))
    finding = only(examine(folder, config=CONFIG))
    assert (finding.kind, finding.severity, names(finding)) == ("mixed-sizes", "error", {"wide.png"})
    assert "96x72" in finding.message


@pytest.mark.parametrize(("policy", "words"), [("resize", "will be resized"), ("keep", "its own size")])
def test_images_of_another_size_are_a_note_where_the_settings_take_them(
    policy: str, words: str, folder: Path
) -> None:
    write_image(folder / "good" / "wide.png", cv2.resize(draw_part(500), (120, 72)))
    config = with_images(on_mixed_sizes=policy)
    report = examine(folder, config=config)
    assert only(report).severity == "note"
    assert words in only(report).message
    assert report.ok


def test_images_whose_fine_defects_are_resized_away_are_a_note(folder: Path) -> None:
    finding = only(examine(folder, config=with_images(size=(32, 32))))

    assert (finding.kind, finding.severity, len(finding.paths)) == ("shrunk", "note", N_GOOD)
    assert "more than twice as large as the 32x32 pixels of images.size" in finding.message
    assert "narrower than 6 pixels" in finding.message, "96 pixels for 32, and two of those"


def test_images_of_up_to_twice_the_size_are_no_note(folder: Path) -> None:
    assert examine(folder, config=with_images(size=(48, 48))).findings == ()


def test_a_small_image_that_fit_enlarges_is_a_note(folder: Path) -> None:
    write_image(folder / "good" / "small.png", cv2.resize(draw_part(500), (48, 36)))
    config = with_images(on_mixed_sizes="resize")
    report = examine(folder, config=config)
    assert report.ok
    assert "too-small" not in {finding.kind for finding in report.findings}


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (draw_part(500)[..., 0], "8-bit grey"),
        (draw_part(500).astype(np.uint16) * 257, "16-bit colour"),
    ],
)
def test_images_of_another_mode_are_an_error_that_names_it(
    folder: Path, image: np.ndarray[Any, Any], mode: str
) -> None:
    write_image(folder / "good" / "other.png", image)
    report = examine(folder, config=CONFIG)
    finding = next(finding for finding in report.findings if finding.kind == "mixed-modes")
    assert (finding.severity, names(finding)) == ("error", {"other.png"})
    assert "8-bit colour as most" in finding.message
    assert mode in finding.message


@pytest.mark.parametrize("images", [{"channels": 1}, {"bit_depth": 16}])
def test_images_that_the_config_does_not_take_are_an_error(folder: Path, images: dict[str, int]) -> None:
    finding = only(examine(folder, config=CONFIG.model_copy(update={"images": ImagesConfig(**images)})))
    assert (finding.kind, finding.severity, len(finding.paths)) == ("wrong-mode", "error", N_GOOD + 10)
    assert "8-bit colour, which does not fit images.channels" in finding.message


def test_grey_pictures_stored_as_colour_fit_a_grey_config(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        write_image(path, np.repeat(read_as_stored(path)[..., :1], 3, axis=2))
    grey = CONFIG.model_copy(update={"images": ImagesConfig(channels=1)})
    for name in ("0003.png", "0004.png"):  # As an editor may save it again.
        path = folder / "good" / name
        write_image(path, read_as_stored(path)[..., :1])
    assert examine(folder, config=grey).ok


@pytest.mark.parametrize(("factor", "told"), [(16, "use 12 of their 16 bits"), (257, None)])
def test_the_bits_that_a_12_bit_camera_leaves_unused_are_told(
    folder: Path, factor: int, told: str | None
) -> None:
    for path in folder.rglob("*.png"):
        write_image(path, read_as_stored(path).astype(np.uint16) * factor)
    deep = CONFIG.model_copy(update={"images": ImagesConfig(bit_depth=16)})
    report = examine(folder, config=deep)
    if told is None:
        assert not report.findings
        return
    finding = only(report)
    assert (finding.kind, finding.severity, len(finding.paths)) == ("unused-bits", "warning", N_GOOD)
    assert told in finding.message
    assert "multiply the pixels by 16" in finding.message


def test_exact_copies_among_the_good_are_a_warning(folder: Path) -> None:
    shutil.copy(folder / "good" / "0007.png", folder / "good" / "again.png")
    finding = only(examine(folder, config=CONFIG))
    assert (finding.kind, finding.severity) == ("duplicate", "warning")
    assert names(finding) == {"0007.png", "again.png"}


@pytest.mark.parametrize("kind", ["good", "scratch"])
def test_a_training_image_in_the_test_set_is_an_error(folder: Path, kind: str) -> None:
    shutil.copy(folder / "good" / "0007.png", folder / "test" / kind / "leaked.png")
    finding = only(examine(folder, config=CONFIG))
    assert (finding.kind, finding.severity) == ("leak", "error")
    assert names(finding) == {"0007.png", "leaked.png"}


def test_one_file_under_two_labels_is_an_error(folder: Path) -> None:
    shutil.copy(folder / "test" / "scratch" / "2001.png", folder / "test" / "good" / "2001.png")
    assert only(examine(folder, config=CONFIG)).kind == "leak"


def re_encoded(image: Image) -> Image:
    # Without colour subsampling, which on so small a picture is no light change.
    whole_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, *whole_colour])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)


def brightened(image: Image) -> Image:
    return np.clip(image * 1.15 + 5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [re_encoded, brightened])
@pytest.mark.parametrize(("part", "kind"), [("good", "near-duplicate"), ("test/good", "near-leak")])
def test_the_same_photograph_saved_anew_is_found(folder: Path, change: Any, part: str, kind: str) -> None:
    write_image(folder / part / "anew.png", change(draw_part(7)))
    near = [finding for finding in examine(folder, config=CONFIG).findings if "near" in finding.kind]
    assert [(finding.kind, names(finding)) for finding in near] == [(kind, {"0007.png", "anew.png"})]


def test_photographs_that_differ_by_noise_alone_are_no_near_duplicates(tmp_path: Path) -> None:
    # A perfect fixture: correlated beyond 0.9995, and yet nothing is saved twice.
    part = draw_part(0, noise=0).astype(np.float32)
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 2, part.shape)
        write_image(tmp_path / f"{seed}.png", np.clip(part + noise, 0, 255).astype(np.uint8))
    assert examine(tmp_path, config=CONFIG).findings == ()


def test_a_defect_is_no_near_leak_of_the_good_part_it_was_made_from(folder: Path) -> None:
    image = draw_part(7)
    image[40:42, 40:42] = 255
    write_image(folder / "test" / "scratch" / "small.png", image)
    assert examine(folder, config=CONFIG).findings == ()


def test_near_duplicates_are_found_whatever_the_block() -> None:
    rng = np.random.default_rng(0)
    thumbnails = rng.random((50, 100), dtype=np.float32)
    thumbnails[31] = 0.5 * thumbnails[3] + 0.1
    thumbnails[49] = thumbnails[48] + rng.normal(0, 1e-3, 100)
    for block in (1, 7, 50, 512):
        assert near_duplicate_pairs(thumbnails, block) == [(3, 31), (48, 49)]


def test_blank_images_resemble_none() -> None:
    assert near_duplicate_pairs(np.full((8, 100), 0.5, np.float32)) == []
    assert near_duplicate_pairs(np.zeros((0, 100), np.float32)) == []


def another_product() -> Image:
    image = np.full((72, 96, 3), 60, np.uint8)
    cv2.circle(image, (48, 36), 25, (210, 210, 220), -1)
    return image


def missing_block() -> Image:
    image = draw_part(500)
    image[5:70, 5:50] = (50, 90, 30)
    return image


def upside_down() -> Image:
    return draw_part(500)[::-1].copy()


@pytest.mark.parametrize("draw", [another_product, missing_block, upside_down])
def test_a_part_unlike_the_others_is_an_outlier(folder: Path, draw: Any) -> None:
    write_image(folder / "good" / "odd.png", draw())
    report = examine(folder, config=CONFIG)
    finding = next(finding for finding in report.findings if finding.kind == "outlier")
    assert (finding.severity, names(finding)) == ("warning", {"odd.png"})


def test_several_outliers_do_not_hide_one_another(folder: Path) -> None:
    for n in range(4):
        write_image(folder / "good" / f"odd{n}.png", np.roll(another_product(), n, axis=1))
    report = examine(folder, config=CONFIG)
    finding = next(finding for finding in report.findings if finding.kind == "outlier")
    assert names(finding) == {"odd0.png", "odd1.png", "odd2.png", "odd3.png"}


def test_usual_variation_makes_no_outlier_in_a_hundred_draws() -> None:
    rng = np.random.default_rng(0)
    highest = []
    for _ in range(100):
        factors = rng.normal(size=(40, 5)).astype(np.float32)
        blocks = [factors @ rng.normal(size=(5, n)).astype(np.float32) for n in (256, 16, 1)]
        noisy = [block + rng.normal(0, 0.3, block.shape).astype(np.float32) for block in blocks]
        highest.append(outlier_z(noisy).max())
    assert max(highest) < 7


def test_images_that_are_all_the_same_have_no_outlier() -> None:
    assert np.array_equal(
        outlier_z([np.ones((20, 5), np.float32), np.zeros((20, 1), np.float32)]), np.zeros(20)
    )


def test_a_blurred_image_is_found(folder: Path) -> None:
    write_image(folder / "good" / "soft.png", cv2.GaussianBlur(draw_part(500), (0, 0), 2.5))
    report = examine(folder, config=CONFIG)
    finding = next(finding for finding in report.findings if finding.kind == "blurred")
    assert (finding.severity, names(finding)) == ("warning", {"soft.png"})


@pytest.mark.parametrize(("gain", "kind"), [(4.0, "over-exposed"), (0.2, "under-exposed")])
def test_an_image_with_a_wrong_exposure_is_found(folder: Path, gain: float, kind: str) -> None:
    image = draw_part(500, gain=gain)
    image[:, 48:] = 255 if gain > 1 else 0
    write_image(folder / "good" / "light.png", image)
    report = examine(folder, config=CONFIG)
    finding = next(finding for finding in report.findings if finding.kind == kind)
    assert (finding.severity, names(finding)) == ("warning", {"light.png"})


def test_a_product_that_is_white_by_nature_is_not_over_exposed(tmp_path: Path) -> None:
    for seed in range(40):
        image = draw_part(seed)
        image[:, 60:] = 255
        write_image(tmp_path / f"{seed}.png", image)
    assert examine(tmp_path, config=CONFIG).findings == ()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_nothing_is_blank(folder: Path, level: int) -> None:
    write_image(folder / "good" / "empty.png", np.full((72, 96, 3), level, np.uint8))
    finding = only(examine(folder, config=CONFIG))
    assert (finding.kind, names(finding)) == ("blank", {"empty.png"})


def test_images_smaller_than_the_network_are_an_error(tmp_path: Path) -> None:
    for seed in range(N_GOOD):
        write_image(tmp_path / f"{seed}.png", cv2.resize(draw_part(seed), (48, 40)))
    finding = only(examine(tmp_path, config=CONFIG))
    assert (finding.kind, finding.severity, len(finding.paths)) == ("too-small", "error", N_GOOD)
    assert "64x64" in finding.message
    assert "and 37 more" in finding.message


@pytest.mark.parametrize(("n", "enough"), [(36, True), (34, False)])
def test_too_few_images_for_the_promise_say_what_they_can_promise(
    tmp_path: Path, n: int, enough: bool
) -> None:
    for seed in range(n):
        write_image(tmp_path / f"{seed}.png", draw_part(seed))
    report = examine(tmp_path, config=CONFIG)
    if enough:
        assert report.findings == ()
    else:
        finding = only(report)
        assert (finding.kind, finding.severity) == ("too-few", "warning")
        assert "8 to calibrate on" in finding.message
        assert "11.11% and not 10.00%: capture about 4 more" in finding.message


@pytest.mark.parametrize(("n", "enough"), [(160, True), (148, False)])
def test_training_images_that_calibrate_too_count_for_the_promise(
    tmp_path: Path, n: int, enough: bool
) -> None:
    # 2 % need 49 images: 40 held-out ones let the others count.
    calibration = {"false_reject": 0.02, "cross_fit": True}
    config = Config.model_validate({"calibration": calibration, "split": {"calibrate": 0.25}})
    for seed in range(n):
        write_image(tmp_path / f"{seed}.png", draw_part(seed))
    told = [f.message for f in examine(tmp_path, config=config).findings if f.kind == "too-few"]
    if enough:
        assert not told
    else:
        assert "37 to calibrate on" in told[0]
        assert "capture about 12 more" in told[0]


def test_too_few_images_to_train_at_all_are_an_error(tmp_path: Path) -> None:
    for seed in range(3):
        write_image(tmp_path / f"{seed}.png", draw_part(seed))
    finding = only(examine(tmp_path, config=CONFIG))
    assert (finding.kind, finding.severity) == ("too-few", "error")


def test_a_variant_of_too_few_images_is_an_error_as_in_fit(tmp_path: Path) -> None:
    for variant, seeds in {"left": range(40), "right": range(100, 104)}.items():
        (tmp_path / "good" / variant).mkdir(parents=True)
        for seed in seeds:
            write_image(tmp_path / "good" / variant / f"{seed}.png", draw_part(seed))
    finding = next(f for f in examine(tmp_path, config=CONFIG).findings if f.kind == "too-few")
    assert finding.severity == "error"
    assert "right" in finding.message


def test_errors_come_first_and_the_report_is_plain_json(folder: Path) -> None:
    shutil.copy(folder / "good" / "0007.png", folder / "good" / "again.png")
    shutil.copy(folder / "good" / "0008.png", folder / "test" / "good" / "leaked.png")
    report = examine(folder)  # The default promise needs far more images.
    tree = json.loads(json.dumps(report.to_dict()))
    assert tree["ok"] is False
    assert [finding["severity"] for finding in tree["findings"]] == ["error", "warning", "warning"]
    assert tree["findings"][0] == {
        "kind": "leak",
        "severity": "error",
        "message": report.findings[0].message,
        "paths": ["good/0008.png", "test/good/leaked.png"],
    }


def test_a_missing_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        examine(tmp_path / "none")
