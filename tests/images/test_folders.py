"""Folders become labelled images, and good images four disjoint parts."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from anogan.config import SplitConfig
from anogan.errors import DataError, ImageError
from anogan.images.decode import write_image
from anogan.images.folders import (
    Sample,
    common_size,
    file_digest,
    find_images,
    most_common_size,
    n_parts,
    parts_of,
    read_mask,
    scan_dataset,
    shares_of,
    split_good,
    split_variants,
)
from tests.tiny import write_parts


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    return path


def draw_many(folder: Path, n: int) -> list[Path]:
    return [draw(folder / f"{i}.png", seed=i) for i in range(n)]


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


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="mask of 16x12 pixels; its image has 16x13"):
        read_mask(draw(tmp_path / "x_mask.png"), (13, 16))


def test_the_parts_of_a_split_are_disjoint_complete_and_of_the_asked_size(tmp_path: Path) -> None:
    paths = draw_many(tmp_path, 40)
    split = split_good(paths, early_stop=0.1, calibrate=0.25, seed=0)
    assert (len(split.train), len(split.early_stop), len(split.calibrate)) == (26, 4, 10)
    assert sorted((*split.train, *split.early_stop, *split.calibrate)) == sorted(paths)


def test_a_split_depends_on_content_and_seed_not_on_order_or_place(tmp_path: Path) -> None:
    paths = draw_many(tmp_path / "here", 20)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    split = split_good(paths, 0.1, 0.25, seed=3)
    assert split_good(paths[::-1], 0.1, 0.25, seed=3) == split
    moved = split_good([tmp_path / "there" / path.name for path in paths], 0.1, 0.25, seed=3)
    assert [path.name for path in moved.calibrate] == [path.name for path in split.calibrate]
    assert split_good(paths, 0.1, 0.25, seed=4) != split


@pytest.mark.parametrize("seed", range(5))
def test_copies_of_an_image_stay_in_one_part(tmp_path: Path, seed: int) -> None:
    paths = draw_many(tmp_path, 10)
    paths += [shutil.copy(path, path.with_stem(f"{path.stem} copy")) for path in paths]
    split = split_good(paths, 0.2, 0.3, seed)
    digests = [
        {file_digest(path) for path in part} for part in (split.train, split.early_stop, split.calibrate)
    ]
    assert sum(map(len, digests)) == len(set.union(*digests)) == 10


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("expression", [r"part(\d+)", r"part\d+"])
def test_photographs_of_one_part_stay_together(tmp_path: Path, seed: int, expression: str) -> None:
    paths = [
        path.rename(path.with_name(f"exp{i % 3}_part{i // 3}.png"))
        for i, path in enumerate(draw_many(tmp_path, 30))
    ]
    split = split_good(paths, 0.2, 0.3, seed, SplitConfig(group=expression).part_of)
    parts = [
        {path.stem.split("_")[1] for path in own} for own in (split.train, split.early_stop, split.calibrate)
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 10
    assert (len(split.train), len(split.early_stop), len(split.calibrate)) == (15, 6, 9)
    assert split != split_good(paths, 0.2, 0.3, seed)


def test_parts_that_share_a_copy_stay_together(tmp_path: Path) -> None:
    paths = [path.rename(path.with_name(f"part{i}.png")) for i, path in enumerate(draw_many(tmp_path, 8))]
    chain = [shutil.copy(paths[i], tmp_path / f"again_part{i + 1}.png") for i in range(4)]
    for seed in range(8):
        split = split_good([*paths, *chain], 0.2, 0.3, seed, SplitConfig(group=r"part(\d)").part_of)
        for own in (split.train, split.early_stop, split.calibrate):
            assert len(set(own) & {*paths[:5], *chain}) in (0, 9)


def test_shares_hold_whole_parts_and_all_of_their_copies(tmp_path: Path) -> None:
    paths = [
        path.rename(path.with_name(f"part{i // 2}_{i}.png")) for i, path in enumerate(draw_many(tmp_path, 12))
    ]
    paths.append(Path(shutil.copy(paths[0], tmp_path / "part9_again.png")))
    for seed in range(4):
        shares = shares_of(paths, 4, seed, SplitConfig(group=r"part(\d)").part_of)
        assert set(shares) == {0, 1, 2, 3}
        assert [shares[2 * i] for i in range(6)] == [shares[2 * i + 1] for i in range(6)]
        assert shares[-1] == shares[0]
        assert shares_of(paths[::-1], 4, seed, SplitConfig(group=r"part(\d)").part_of) == shares[::-1]
    assert set(shares_of(paths[:2], 4, 0)) == {0, 1}


def test_a_name_without_the_part_is_told(tmp_path: Path) -> None:
    paths = draw_many(tmp_path, 6)
    with pytest.raises(DataError, match=r"split.group 'part\(\\d\+\)' finds no part in the name of"):
        split_good(paths, 0.1, 0.25, 0, SplitConfig(group=r"part(\d+)").part_of)
    with pytest.raises(DataError, match="at least 3 different ones"):
        split_good(paths, 0.1, 0.25, 0, SplitConfig(group=r"\.png").part_of)


def test_the_group_that_took_part_names_the_part() -> None:
    split = SplitConfig(group=r"part(\d+)|board(\d+)")
    names = ("part1.png", "board7.png", "x_board8.png")
    assert [split.part_of(Path("good") / name) for name in names] == ["good/1", "good/7", "good/8"]
    assert SplitConfig().part_of(Path("a.png")) is None
    with pytest.raises(DataError, match="finds no part"):
        SplitConfig(group=r"part(\d*)").part_of(Path("part.png"))


def test_copies_and_photographs_of_one_part_are_one_part(tmp_path: Path) -> None:
    paths = [path.rename(path.with_name(f"part{i}.png")) for i, path in enumerate(draw_many(tmp_path, 4))]
    paths += [Path(shutil.copy(paths[0], tmp_path / "part7.png"))]
    parts = parts_of(paths)
    assert parts[0] == parts[4]
    assert (n_parts(paths), n_parts(paths, SplitConfig(group=r"part\d").part_of)) == (4, 4)
    assert n_parts(paths, SplitConfig(group=r"p(a)rt").part_of) == 1
    assert n_parts([]) == 0


def test_variants_may_number_their_parts_alike(tmp_path: Path) -> None:
    paths = []
    for variant in ("A", "B"):
        (tmp_path / variant).mkdir()
        for i in range(3):
            paths.append(tmp_path / variant / f"part{i}.png")
            write_image(paths[-1], np.full((8, 8, 1), len(paths), np.uint8))
    assert n_parts(paths, SplitConfig(group=r"part(\d)").part_of) == 6


@pytest.mark.parametrize("shares", [(0.01, 0.01), (0.1, 0.89), (0.49, 0.5)])
@pytest.mark.parametrize("copies", [0, 1, 3])
def test_no_part_of_the_smallest_split_is_empty(
    tmp_path: Path, shares: tuple[float, float], copies: int
) -> None:
    paths = draw_many(tmp_path, 5 if copies == 0 else 3)
    paths += [shutil.copy(paths[0], tmp_path / f"copy{i}.png") for i in range(copies if copies else 0)]
    if len(paths) < 5:
        paths.append(shutil.copy(paths[1], tmp_path / "another.png"))
    split = split_good(paths, *shares, seed=0)
    assert min(len(split.train), len(split.early_stop), len(split.calibrate)) >= 1
    assert len(split.train) + len(split.early_stop) + len(split.calibrate) == len(paths)


def test_too_few_good_images_are_refused(tmp_path: Path) -> None:
    paths = draw_many(tmp_path, 4)
    with pytest.raises(DataError, match=r"4 good images .*at least 5 are needed"):
        split_good(paths, 0.1, 0.25, seed=0)
    with pytest.raises(DataError, match="0 good images"):
        split_good([], 0.1, 0.25, seed=0)
    copies = [shutil.copy(paths[0], tmp_path / f"copy{i}.png") for i in range(6)]
    with pytest.raises(DataError, match="at least 3 different ones"):
        split_good([*copies, paths[1]], 0.1, 0.25, seed=0)


def test_mixed_sizes_name_the_odd_files_and_both_sizes(tmp_path: Path) -> None:
    paths = draw_many(tmp_path, 6)
    assert common_size(paths) == (12, 16)
    paths += [draw(tmp_path / f"odd{i}.png", size=(10, 20)) for i in range(5)]
    with pytest.raises(
        DataError, match=r"5 of 11 .*16x12: odd0\.png \(20x10\), .*odd2\.png \(20x10\); rem"
    ) as caught:
        common_size(paths)
    assert "odd3" not in str(caught.value)
    assert most_common_size(paths) == (12, 16)


def test_of_equally_frequent_sizes_the_larger_is_taken(tmp_path: Path) -> None:
    paths = [draw(tmp_path / "a.png", size=(9, 9)), draw(tmp_path / "b.png", size=(11, 11))]
    assert most_common_size(paths) == most_common_size(paths[::-1]) == (11, 11)
    with pytest.raises(DataError, match="no images"):
        common_size([])


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    root = tmp_path / "two products"
    for variant, start in (("round", 0), ("square", 100)):
        for seed in range(start, start + 10):
            draw(root / "good" / variant / f"{seed}.png", seed=seed)
        draw(root / "test" / "dent" / variant / "1.png", seed=start + 50)
        draw(root / "ground_truth" / "dent" / variant / "1_mask.png")
    draw(root / "good" / ".thumbs" / "1.png")
    (root / "good" / "notes").mkdir()
    return root


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


def test_each_variant_is_split_by_itself(variants: Path) -> None:
    data = scan_dataset(variants)
    split = split_variants(data, 0.2, 0.3, seed=0)
    for part, n in ((split.train, 5), (split.early_stop, 2), (split.calibrate, 3)):
        assert [path.parent.name for path in part] == ["round"] * n + ["square"] * n
    shutil.copy(data.good[0], variants / "good" / "square" / "copy.png")
    with pytest.raises(DataError, match="same image in two variants"):
        split_variants(scan_dataset(variants), 0.2, 0.3, seed=0)


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
