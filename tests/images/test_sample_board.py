"""The rendered sample set: exact masks, reproducible pictures, and the set that the repository carries."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.errors import ConfigError, DataError, StorageError
from anogan.images.pose import PoseSearch
from anogan.images.registration import Aligner, grey
from anogan.images.sample_board import (
    DEFECT_KINDS,
    JPEG_QUALITY,
    SampleItem,
    draw_board,
    plan_sample_set,
    write_sample_set,
)

COMMITTED = Path(__file__).parents[2] / "datasets" / "pcb"
PLAN = plan_sample_set(n_good=120, n_test_good=30, n_per_kind=6, seed=0)


def _read(path: Path, flag: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flag)
    assert image is not None, path
    return np.asarray(image, np.uint8)


def test_there_are_the_eight_classic_defects_and_no_name_twice() -> None:
    classic = {
        "open",
        "short",
        "mousebite",
        "spur",
        "pinhole",
        "spurious_copper",
        "missing_component",
        "scratch",
    }
    assert classic <= set(DEFECT_KINDS)
    assert len(set(DEFECT_KINDS)) == len(DEFECT_KINDS)


def test_the_same_seed_draws_the_same_picture() -> None:
    first, second = draw_board(7, 96, "short"), draw_board(7, 96, "short")
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_an_earlier_drawing_leaves_no_trace_in_a_later_one() -> None:
    before = draw_board(3)[0]
    for kind in ("open", "scratch", "missing_component", "solder_bridge"):
        draw_board(4, 96, kind)
        draw_board(4, 192, kind)
    np.testing.assert_array_equal(draw_board(3)[0], before)


def test_a_picture_is_rgb_bytes_with_a_boolean_mask_of_its_size() -> None:
    image, mask = draw_board(0, 130)
    assert (image.shape, image.dtype) == ((130, 130, 3), np.uint8)
    assert (mask.shape, mask.dtype, mask.any()) == ((130, 130), np.bool_, np.False_)
    mean = image.reshape(-1, 3).mean(0)
    assert mean[1] > mean[0], "the board is green, so the channel order is RGB"
    gold = image[(image[..., 0] > 170) & (image[..., 2] < 130)]
    assert len(gold) > 20, "gold rings are red before blue in RGB"


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_a_mask_marks_exactly_what_differs_from_the_good_picture(kind: str) -> None:
    for seed in range(2):
        good, _ = draw_board(seed)
        bad, mask = draw_board(seed, defect=kind)
        difference = np.abs(bad.astype(int) - good.astype(int)).max(2)
        np.testing.assert_array_equal(mask, difference > 10)
        assert difference[~cv2.dilate(mask.astype(np.uint8), np.ones((25, 25))).astype(bool)].max() <= 2


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_a_defect_is_seen_but_small(kind: str) -> None:
    places = set()
    for seed in range(6):
        mask = draw_board(seed, defect=kind)[1]
        assert 8 <= np.count_nonzero(mask) < 0.06 * mask.size
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        assert max(width, height) >= 4
        places.add((x // 8, y // 8))
    assert len(places) >= 3, "defects of a kind do not all lie in one place"


@pytest.mark.parametrize("size", [96, 257, 520])
def test_other_sizes_show_the_same_board_and_the_same_defect(size: int) -> None:
    small, small_mask = draw_board(5, 96, "missing_component")
    image, mask = draw_board(5, size, "missing_component")
    shrunk = cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 6
    share, small_share = mask.mean(), small_mask.mean()
    assert share == pytest.approx(small_share, rel=0.35)


def test_good_boards_differ_more_than_by_noise_and_less_than_by_layout() -> None:
    boards = np.stack([draw_board(seed)[0] for seed in range(8)]).astype(float)
    for i in range(len(boards)):
        for other in boards[i + 1 :]:
            assert 3 < np.abs(boards[i] - other).mean() < 45
    assert np.std(boards.mean((1, 2, 3))) > 1, "light varies from board to board"


def test_a_board_is_drawn_in_a_fraction_of_a_second() -> None:
    draw_board(0)
    start = time.process_time()
    for seed in range(5):
        draw_board(seed, defect="open")
    assert (time.process_time() - start) / 5 < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 95}, "size 95 is outside 96 to 1024"),
        ({"size": 1025}, "size 1025 is outside 96 to 1024"),
        ({"defect": "crack"}, "choose one of open, short"),
        ({"seed": -1}, "seed -1 is below 0"),
        ({"shift": 0.26}, "shift 0.26 is outside 0 to 0.25"),
        ({"turn": -1.0}, "turn -1.0 is outside 0 to 45"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_board(**{"seed": 0, **arguments})  # type: ignore[arg-type]


def test_a_board_may_lie_aside_and_its_defect_with_it() -> None:
    straight, aside = (
        draw_board(7, 192, "missing_component", shift=shift, turn=turn) for shift, turn in ((0, 0), (0.1, 10))
    )
    search = PoseSearch.of(grey(straight[0], 255), "euclidean")
    motion, correlation = search.find(grey(aside[0], 255))
    assert correlation > 0.8
    assert np.abs(motion[:2]).max() > 2
    assert np.abs(motion[:2]).max() < 0.12 * 192
    assert 0.01 < abs(motion[2]) < np.sin(np.radians(11))
    warp = Aligner(grey(straight[0], 255), "euclidean").estimate(grey(aside[0], 255)).warp
    y, x = (axis.mean() for axis in np.nonzero(straight[1]))
    there = warp @ (x, y, 1)
    assert np.abs(there - [axis.mean() for axis in np.nonzero(aside[1])][::-1]).max() < 2


def test_no_two_pictures_of_any_two_sets_share_a_seed() -> None:
    other = plan_sample_set(n_good=120, n_test_good=30, n_per_kind=6, seed=1)
    seeds = [item.seed for item in PLAN + other]
    assert len(set(seeds)) == len(seeds)


def test_a_negative_count_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="n_good -1 is below 0"):
        plan_sample_set(n_good=-1, n_test_good=0, n_per_kind=0, seed=0)


def test_a_set_is_laid_out_with_a_mask_for_each_defective_picture(tmp_path: Path) -> None:
    root = tmp_path / "样品 板"
    steps: list[tuple[int, int]] = []
    write_sample_set(
        root,
        size=96,
        n_good=2,
        n_test_good=1,
        n_per_kind=1,
        seed=3,
        progress=lambda done, total: steps.append((done, total)),
    )
    total = 3 + len(DEFECT_KINDS)
    assert steps == [(i + 1, total) for i in range(total)]
    assert sorted(p.name for p in (root / "good").iterdir()) == ["000.jpg", "001.jpg"]
    for kind in DEFECT_KINDS:
        mask = _read(root / "ground_truth" / kind / "000_mask.png", cv2.IMREAD_UNCHANGED)
        assert mask.shape == (96, 96)
        assert set(np.unique(mask)) == {0, 255}
        assert _read(root / "test" / kind / "000.jpg").shape == (96, 96, 3)


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(DataError, match="not an empty folder; name a new folder"):
        write_sample_set(tmp_path, size=96, n_good=1, n_test_good=0, n_per_kind=0)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_set_that_is_stopped_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample_set(tmp_path, size=96, n_good=3, n_test_good=0, n_per_kind=0, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_sample_set(tmp_path / "file" / "set", size=96, n_good=1, n_test_good=0, n_per_kind=0)


def test_the_committed_set_holds_every_planned_file_and_no_other() -> None:
    planned = {path for item in PLAN for path in (item.image, item.mask) if path is not None}
    present = {p.relative_to(COMMITTED) for p in COMMITTED.rglob("*") if p.suffix in (".jpg", ".png")}
    assert present == planned
    assert sum(p.stat().st_size for p in COMMITTED.rglob("*") if p.is_file()) < 4_000_000


def _drawn_again() -> list[SampleItem]:
    return [*PLAN[:150:25], *(item for item in PLAN if item.defect and item.image.stem in ("000", "005"))]


@pytest.mark.parametrize("item", _drawn_again(), ids=lambda item: item.image.as_posix())
def test_drawing_again_gives_the_committed_picture(item: SampleItem) -> None:
    image, mask = draw_board(item.seed, 192, item.defect)
    committed = _read(COMMITTED / item.image)[:, :, ::-1]
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    encoded = cv2.imencode(".jpg", image[:, :, ::-1], quality)[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[:, :, ::-1]
    # OpenCV's versions may round an edge or a JPEG coefficient otherwise; another board would differ by 3.
    assert np.abs(committed.astype(int) - decoded).mean() < 0.5
    if item.mask is not None:
        truth = _read(COMMITTED / item.mask, cv2.IMREAD_UNCHANGED) > 0
        assert np.count_nonzero(truth ^ mask) <= 0.1 * np.count_nonzero(truth)
