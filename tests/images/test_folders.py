"""Folders become labelled images."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from anogan.errors import DataError, ImageError
from anogan.images.decode import read_as_stored, write_image
from anogan.images.folders import (
    Sample,
    find_images,
    passed_over,
    passed_over_sentence,
    read_mask,
    scan_dataset,
)
from tests.images.noise import draw, draw_many
from tests.tiny import write_parts


@pytest.fixture(params=["good", "train/good"])
def product(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "板 1"
    draw_many(root / request.param, 12)
    draw(root / "test" / "good" / "a.png")
    for name in ("b.png", "c.png", "d.png"):
        draw(root / "test" / "scratch" / name)
    draw(root / "ground_truth" / "scratch" / "b_mask.png")
    draw(root / "ground_truth" / "scratch" / "c.png")
    return root


def test_good_test_and_masks_are_found(product: Path) -> None:
    data = scan_dataset(product)
    assert [path.name for path in data.good] == [f"{i}.png" for i in range(12)]
    truth = product / "ground_truth" / "scratch"
    assert data.test == (
        Sample(product / "test" / "good" / "a.png", "good", None),
        Sample(product / "test" / "scratch" / "b.png", "scratch", truth / "b_mask.png"),
        Sample(product / "test" / "scratch" / "c.png", "scratch", truth / "c.png"),
        Sample(product / "test" / "scratch" / "d.png", "scratch", None),
    )


def test_the_good_folder_alone_never_reaches_the_test_images(product: Path) -> None:
    folder = scan_dataset(product).good[0].parent
    data = scan_dataset(folder)
    assert len(data.good) == 12
    assert data.test == ()


def test_a_plain_folder_is_all_good_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b10.png", "b9.PNG", "a.jpg", "._b9.png"):
        draw(tmp_path / "x.png").rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in scan_dataset(tmp_path).good] == ["a.jpg", "b9.PNG", "b10.png"]


def test_a_folder_of_test_images_alone_can_be_evaluated(tmp_path: Path) -> None:
    draw(tmp_path / "test" / "dent" / "1.png")
    data = scan_dataset(tmp_path)
    assert (data.good, [sample.kind for sample in data.test]) == ((), ["dent"])


def test_folders_that_hold_nothing_usable_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        scan_dataset(tmp_path / "missing")
    with pytest.raises(DataError, match="is a file"):
        scan_dataset(draw(tmp_path / "file" / "x.png"))
    (tmp_path / "empty" / "archive").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no images but only the folders archive; expected .*good/"):
        scan_dataset(tmp_path / "empty")
    (tmp_path / "hollow" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"good holds no images"):
        scan_dataset(tmp_path / "hollow")
    draw(tmp_path / "loose" / "test" / "x.png")
    with pytest.raises(DataError, match=r"move it to test/good/"):
        scan_dataset(tmp_path / "loose")


def test_files_folders_and_globs_are_found_once_each(tmp_path: Path) -> None:
    first, deep = draw(tmp_path / "a" / "1.png"), draw(tmp_path / "a" / "deep" / "2.png")
    draw(tmp_path / "a" / ".cache" / "3.png")
    other = draw(tmp_path / "b" / "part[1].png")
    (tmp_path / "b" / "notes.txt").write_text("x")
    found = find_images([other, tmp_path / "a", str(tmp_path / "b" / "*"), tmp_path / "**" / "1.png"])
    assert found == [other, first, deep]


def test_a_missing_file_is_kept_beside_others_so_that_they_are_still_scored(tmp_path: Path) -> None:
    image = draw(tmp_path / "1.png")
    missing = tmp_path / "gone.png"
    assert find_images([missing, image]) == [missing, image]
    with pytest.raises(DataError, match=r"no image was found for .*gone\.png"):
        find_images([missing])


@pytest.mark.parametrize("pattern", ["*.png", "typo", "empty"])
def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    image = draw(tmp_path / "full" / "1.png")
    for patterns in ([tmp_path / pattern], [image.parent, tmp_path / pattern]):
        with pytest.raises(DataError, match=pattern.replace("*", r"\*")):
            find_images(patterns)


def test_linked_folders_are_searched_once_and_circles_end(tmp_path: Path) -> None:
    image = draw(tmp_path / "line" / "a" / "1.png")
    elsewhere = draw(tmp_path / "store" / "2.png")
    try:
        (tmp_path / "line" / "b").symlink_to(tmp_path / "store", target_is_directory=True)
        (tmp_path / "line" / "c").symlink_to(tmp_path / "line", target_is_directory=True)
    except OSError:
        pytest.skip("links may not be made here")
    assert find_images([tmp_path / "line"]) == [image, tmp_path / "line" / "b" / elsewhere.name]


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "line" / "1.png")
    locked, scandir = tmp_path / "line" / "locked", os.scandir
    locked.mkdir()

    def guarded(path: str) -> object:  # Permissions do not stop who runs the tests as root.
        if Path(path) == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match="locked cannot be read"):
        find_images([tmp_path / "line"])


def test_a_mask_is_true_where_it_is_not_black(tmp_path: Path) -> None:
    mask = np.zeros((12, 16), np.uint8)
    mask[2:5, 3], mask[7, 8] = 255, 1
    write_image(tmp_path / "x_mask.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "x_mask.png", (12, 16)), mask > 0)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_the_noise_of_jpeg_around_a_defect_is_no_defect(tmp_path: Path, ending: str) -> None:
    ys, xs = np.mgrid[:64, :64]
    disc = np.hypot(ys - 30, xs - 33) < 8
    write_image(tmp_path / f"mask.{ending}", np.uint8(255) * disc.astype(np.uint8))
    stored = read_as_stored(tmp_path / f"mask.{ending}")[..., 0]
    found = read_mask(tmp_path / f"mask.{ending}", (64, 64))

    assert (np.count_nonzero(stored) > 1.3 * disc.sum()) == (ending == "jpg")
    assert np.count_nonzero(found != disc) <= 0.02 * disc.sum()


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="mask of 16x12 pixels; its image has 16x13"):
        read_mask(draw(tmp_path / "x_mask.png"), (13, 16))


def test_folders_in_good_are_variants(variants: Path) -> None:
    data = scan_dataset(variants)
    assert data.variants == ("round", "square")
    assert [path.parent.name for path in data.good] == ["round"] * 10 + ["square"] * 10
    folder = variants / "test" / "dent"
    truth = variants / "ground_truth" / "dent"
    assert data.test == tuple(
        Sample(folder / name / "1.png", "dent", truth / name / "1_mask.png") for name in data.variants
    )
    assert scan_dataset(variants / "good").good == data.good


def test_names_that_go_on_with_a_digit_are_sorted_beside_shorter_ones(tmp_path: Path) -> None:
    for kind in ("scratch2", "scratch", "scratch10"):
        draw(tmp_path / "test" / kind / "a.png")
    draw_many(tmp_path / "good", 5)
    kinds = [sample.kind for sample in scan_dataset(tmp_path).test]
    assert kinds == ["scratch", "scratch2", "scratch10"]


@pytest.mark.parametrize("name", ["Good", "GOOD", "ok", "Normal"])
def test_a_folder_of_good_test_parts_by_another_name_is_no_kind_of_defect(tmp_path: Path, name: str) -> None:
    draw_many(tmp_path / "good", 5)
    draw(tmp_path / "test" / name / "a.png")
    with pytest.raises(DataError, match=rf"{name} would be a kind of defect .* call it good"):
        scan_dataset(tmp_path)


def test_images_beside_folders_of_images_are_refused_and_not_half_taken(tmp_path: Path) -> None:
    draw(tmp_path / "good" / "overview.png")
    draw_many(tmp_path / "good" / "A", 5)
    with pytest.raises(DataError, match=r"holds images, first overview\.png, and folders of images, first A"):
        scan_dataset(tmp_path)


def test_a_link_that_leads_nowhere_stays_in_the_list_to_be_told(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "not mounted" / "b.png")
    assert [path.name for path in find_images([tmp_path])] == ["a.png", "b.png"]


def test_one_file_by_two_paths_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert find_images(["a.png", tmp_path / "a.png"]) == [Path("a.png")]


def test_images_that_nothing_uses_are_told(tmp_path: Path) -> None:
    good = draw_many(tmp_path / "days", 5)
    assert passed_over(scan_dataset(tmp_path / "days")) == ()
    draw(tmp_path / "days" / "anogan-report" / "0_heatmap.png")
    draw(tmp_path / "days" / "anogan-model" / "samples.png")
    deeper = [draw(tmp_path / "days" / day / "1.png") for day in ("mon", "tue")]
    data = scan_dataset(tmp_path / "days")
    assert (list(data.good), list(passed_over(data))) == (good, deeper)
    assert f"2 images, first {deeper[0]}, lie elsewhere" in passed_over_sentence(data, deeper)


def test_images_beside_good_are_told_and_ground_truth_is_not(product: Path) -> None:
    assert passed_over(scan_dataset(product)) == ()
    loose = draw(product / "loose.png")
    assert passed_over(scan_dataset(product)) == (loose,)


def test_images_a_folder_too_deep_in_test_are_told(tmp_path: Path) -> None:
    for place in ("good", "test/good", "test/open/shift 1"):
        write_parts(tmp_path / place, range(2))

    with pytest.raises(DataError, match=r"shift 1 lies a folder deeper .* move its images to .*open"):
        scan_dataset(tmp_path)


def test_folders_in_test_without_images_are_no_fault(tmp_path: Path) -> None:
    for place in ("good", "test/good", "test/open"):
        write_parts(tmp_path / place, range(2))
    (tmp_path / "test" / "open" / "notes").mkdir()

    assert len(scan_dataset(tmp_path).test) == 4
