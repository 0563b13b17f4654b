"""Good images become disjoint parts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from anogan.config import SplitConfig
from anogan.errors import DataError
from anogan.images.decode import write_image
from anogan.images.folders import scan_dataset
from anogan.images.split import file_digest, n_parts, parts_of, shares_of, split_good, split_variants
from tests.images.noise import draw_many


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


def test_each_variant_is_split_by_itself(variants: Path) -> None:
    data = scan_dataset(variants)
    split = split_variants(data, 0.2, 0.3, seed=0)
    for part, n in ((split.train, 5), (split.early_stop, 2), (split.calibrate, 3)):
        assert [path.parent.name for path in part] == ["round"] * n + ["square"] * n
    shutil.copy(data.good[0], variants / "good" / "square" / "copy.png")
    with pytest.raises(DataError, match="same image in two variants"):
        split_variants(scan_dataset(variants), 0.2, 0.3, seed=0)
