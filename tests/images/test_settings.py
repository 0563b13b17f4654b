from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from anogan.config import load_config
from anogan.images.decode import read_as_stored, write_image
from anogan.images.settings import fitting_config


def _good_folder(root: Path, *images: np.ndarray) -> Path:
    folder = root / "good"
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        write_image(folder / f"{index}.png", image)
    return folder


def test_grey_16_bit_images_set_channels_and_depth_and_it_is_said(tmp_path: Path) -> None:
    data = _good_folder(tmp_path, np.full((16, 16), 900, np.uint16))
    config, note = fitting_config(None, [], data)

    assert (config.images.channels, config.images.bit_depth) == (1, 16)
    assert note == "The images are 16-bit grey, so images.bit_depth=16 and images.channels=1."


def test_channels_that_were_named_are_left_alone(tmp_path: Path) -> None:
    data = _good_folder(tmp_path, np.full((16, 16), 90, np.uint8))
    config, note = fitting_config(None, ["images.channels=3"], data)

    assert (config.images.channels, note) == (3, None)


def _boards(root: Path, *, designs: int) -> Path:
    """Ten binarised images, of so many designs."""
    drawn = [np.random.default_rng(seed).integers(0, 2, (8, 8), np.uint8) for seed in range(designs)]
    large = np.full((20, 20), 255, np.uint8)
    return _good_folder(root, *(np.kron(drawn[index % designs], large)[..., None] for index in range(10)))


@pytest.mark.parametrize(("named", "taken"), [(None, "pcb"), ("edge", "pcb-edge")])
def test_binarised_images_of_many_designs_get_the_settings_of_boards(
    named: str | None, taken: str, tmp_path: Path
) -> None:
    config, note = fitting_config(named, ["seed=5"], _boards(tmp_path, designs=10))

    assert config == load_config(taken, ["seed=5", "images.channels=1"])
    assert note == (
        f"The images are binarised and show different designs, so the settings are those of --config {taken}."
    )


def test_default_by_its_name_is_taken_and_the_better_one_told(tmp_path: Path) -> None:
    config, note = fitting_config("default", [], _boards(tmp_path, designs=10))

    assert config == load_config("default", ["images.channels=1"])
    assert note is not None
    assert "--config pcb is made for these." in note


def test_a_file_is_taken_as_it_is(tmp_path: Path, repository: Path) -> None:
    config, note = fitting_config(
        str(repository / "configs" / "edge.yaml"), [], _boards(tmp_path, designs=10)
    )

    assert config == load_config("edge", ["images.channels=1"])
    assert note == "The images are 8-bit grey, so images.channels=1."


ONE_DESIGN = "The images show one design that lies alike in each, or can be laid so"


def test_photographs_of_one_design_in_one_place_get_the_settings_that_see_it_whole(repository: Path) -> None:
    config, note = fitting_config(None, ["seed=5"], repository / "datasets" / "pcb")

    assert config == load_config("aligned", ["seed=5"])
    assert note == f"{ONE_DESIGN}, so the settings are those of --config aligned."


@pytest.mark.parametrize(
    "asked",
    [["tiles.size=64"], ["images.size=[192,192]"], ["images.on_mixed_sizes=keep", "calibration.map=global"]],
)
def test_how_images_are_cut_stays_what_was_asked_for(asked: list[str], repository: Path) -> None:
    assert fitting_config(None, asked, repository / "datasets" / "pcb") == (
        load_config("default", asked),
        None,
    )


@pytest.mark.parametrize("named", ["default", "edge"])
def test_settings_that_see_the_part_whole_are_only_told_beside_a_named_config(
    named: str, repository: Path
) -> None:
    config, note = fitting_config(named, [], repository / "datasets" / "pcb")

    assert config == load_config(named)
    assert note == f"{ONE_DESIGN}; --config aligned is made for these."


def test_binarised_images_of_one_design_lie_alike_too(tmp_path: Path) -> None:
    config, note = fitting_config(None, [], _boards(tmp_path, designs=1))

    assert config == load_config("aligned", ["images.channels=1"])
    assert note is not None
    assert ONE_DESIGN in note


def test_fine_defects_that_are_resized_away_are_told(tmp_path: Path) -> None:
    one, large = (
        np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8),
        np.ones((20, 20, 1), np.uint8),
    )
    _, note = fitting_config(None, [], _good_folder(tmp_path, *[np.kron(one, large)] * 4))

    assert note is not None
    assert note.startswith(
        f"{ONE_DESIGN}, so the settings are those of --config aligned. The images are seen at 256 x 256"
    )
    assert "a defect narrower than 7 of theirs hardly shows" in note, "800 pixels for 256, and two of those"


@pytest.mark.parametrize("noise", [2, 12])
@pytest.mark.parametrize("power", [1, 4])
def test_surfaces_under_one_lamp_do_not_lie_alike(noise: float, power: int, tmp_path: Path) -> None:
    """The light that falls off to the corners is the same in each; the grain is not."""
    rng = np.random.default_rng(0)
    across = np.cos(np.linspace(-0.9, 0.9, 96)) ** power
    light = 220 * across * across[:, None]
    surfaces = [
        np.clip(light + rng.normal(0, noise, (96, 96)), 0, 255).astype(np.uint8)[..., None] for _ in range(8)
    ]
    thumbnails = [np.ravel(each[::4, ::4]) for each in surfaces]
    assert np.median(np.corrcoef(thumbnails)) > 0.8, "the light alone would make them alike"

    assert fitting_config(None, [], _good_folder(tmp_path, *surfaces))[0] == load_config(
        "default", ["images.channels=1"]
    )


@pytest.mark.parametrize(
    ("pixels", "degrees", "taken"), [(4, 1, "aligned"), (30, 12, "aligned"), (96, 180, "default")]
)
def test_parts_may_lie_as_differently_as_registration_finds_them(
    pixels: int, degrees: int, taken: str, repository: Path, tmp_path: Path
) -> None:
    rng, boards = np.random.default_rng(0), []
    for path in sorted((repository / "datasets" / "pcb" / "good").iterdir())[::15]:
        pose = cv2.getRotationMatrix2D((96, 96), rng.uniform(-degrees, degrees), 1)
        pose[:, 2] += rng.uniform(-pixels, pixels, 2)
        boards.append(cv2.warpAffine(read_as_stored(path), pose, (192, 192), borderMode=cv2.BORDER_REPLICATE))

    assert fitting_config(None, [], _good_folder(tmp_path, *boards))[0] == load_config(taken)


@pytest.mark.parametrize("pattern", ["stripes", "grid"])
@pytest.mark.parametrize("period", [9, 24, 50])
def test_what_repeats_is_a_surface_although_it_fits_upon_itself(
    pattern: str, period: int, tmp_path: Path
) -> None:
    rng, y, x = np.random.default_rng(0), *np.mgrid[:160, :160]
    surfaces = []
    for _ in range(8):
        waves = np.cos(2 * np.pi * (x + rng.uniform(0, period)) / period)
        if pattern == "grid":
            waves = waves + np.cos(2 * np.pi * (y + rng.uniform(0, period)) / period)
        surfaces.append(
            np.clip(128 + 50 * waves + rng.normal(0, 6, x.shape), 0, 255).astype(np.uint8)[..., None]
        )

    assert fitting_config(None, [], _good_folder(tmp_path, *surfaces))[0] == load_config(
        "default", ["images.channels=1"]
    )


def test_blank_images_show_no_design(tmp_path: Path) -> None:
    blank = [np.full((40, 40, 3), 90 + index, np.uint8) for index in range(8)]

    assert fitting_config(None, [], _good_folder(tmp_path, *blank)) == (load_config("default"), None)


def test_colour_images_need_no_note(tmp_path: Path) -> None:
    assert fitting_config(None, [], _photographs(tmp_path, [(40, 60)] * 6, channels=3))[1] is None


def _photographs(root: Path, sizes: Sequence[tuple[int, int]], channels: int = 1) -> Path:
    rng = np.random.default_rng(0)
    return _good_folder(root, *(rng.integers(0, 256, (*size, channels), np.uint8) for size in sizes))


MANY_SIZES = [(40 + index, 60 - index) for index in range(8)]


def test_grey_photographs_of_many_sizes_get_the_settings_of_ground_surfaces(tmp_path: Path) -> None:
    config, note = fitting_config(None, ["seed=5"], _photographs(tmp_path, MANY_SIZES))

    assert config == load_config("magnetic-tile", ["seed=5"])
    assert note == (
        "The images are grey and most have a size of their own, so the settings are those of "
        "--config magnetic-tile."
    )


@pytest.mark.parametrize("size", ["images.on_mixed_sizes=resize", "images.size=[128,128]"])
def test_settings_for_images_of_many_sizes_are_not_needed_where_the_size_is_settled(
    size: str, tmp_path: Path
) -> None:
    config, note = fitting_config(None, [size], _photographs(tmp_path, MANY_SIZES))

    assert config == load_config("default", [size, "images.channels=1"])
    assert note == "The images are 8-bit grey, so images.channels=1."


@pytest.mark.parametrize("named", ["default", "edge"])
def test_settings_for_images_of_many_sizes_are_only_told_beside_a_named_config(
    named: str, tmp_path: Path
) -> None:
    config, note = fitting_config(named, [], _photographs(tmp_path, MANY_SIZES))

    assert config == load_config(named, ["images.channels=1"])
    assert note is not None
    assert "--config magnetic-tile is made for these." in note


def test_one_odd_size_among_others_is_left_for_fit_to_refuse(tmp_path: Path) -> None:
    data = _photographs(tmp_path, [(40, 60)] * 5 + [(41, 60), (40, 61)])

    assert fitting_config(None, [], data)[0] == load_config("default", ["images.channels=1"])


def test_colour_photographs_of_many_sizes_keep_their_colours(tmp_path: Path) -> None:
    config, note = fitting_config(None, [], _photographs(tmp_path, MANY_SIZES, channels=3))

    assert (config, note) == (load_config("default"), None)
