from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from anogan.config import load_config
from anogan.images.decode import write_image
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


def test_binarised_images_of_one_design_get_the_general_settings(tmp_path: Path) -> None:
    config, note = fitting_config(None, [], _boards(tmp_path, designs=1))

    assert config == load_config("default", ["images.channels=1"])
    assert note == "The images are 8-bit grey, so images.channels=1."


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
