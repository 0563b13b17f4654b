from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anogan.config import Config
from anogan.errors import ConfigError, DataError
from anogan.gan.tiles import TileSource, load_images
from anogan.images.decode import write_image
from anogan.images.tiling import TilePyramid
from tests.tiny import part, tiny_config, write_parts

STEP, N = 3, 12


def _source(config: Config | None = None, stream: int = 0, **options: Any) -> TileSource:
    images = [part(seed, **options) for seed in range(5)]
    return TileSource(images, config or tiny_config(), stream)


def test_a_batch_is_the_same_again_whatever_was_drawn_before() -> None:
    source, fresh = _source(), _source()
    for step in range(STEP):
        source.damaged_batch(step, N)

    torch.testing.assert_close(source.batch(STEP, N), fresh.batch(STEP, N), rtol=0, atol=0)
    again, other = fresh.damaged_batch(STEP, N), source.damaged_batch(STEP, N)
    torch.testing.assert_close(again.damaged, other.damaged, rtol=0, atol=0)
    torch.testing.assert_close(again.mask, other.mask, rtol=0, atol=0)


@pytest.mark.parametrize("change", ["step", "stream", "seed"])
def test_another_step_stream_or_seed_draws_other_tiles(change: str) -> None:
    base = _source().batch(STEP, N)
    other = {
        "step": _source().batch(STEP + 1, N),
        "stream": _source().with_stream(1).batch(STEP, N),
        "seed": _source(tiny_config(seed=1)).batch(STEP, N),
    }[change]

    assert not torch.equal(base, other)


@pytest.mark.parametrize(("bit_depth", "channels"), [(8, 1), (8, 3), (16, 1), (16, 3)])
def test_tiles_are_pieces_of_the_images_in_minus_one_to_one(bit_depth: int, channels: int) -> None:
    config = tiny_config(images={"bit_depth": bit_depth, "channels": channels})
    image = part(0, bit_depth=bit_depth, channels=channels)
    tile = TileSource([image], config).batch(0, 1)[0]
    pixels = (tile.numpy().transpose(1, 2, 0) + 1) / 2 * (2**bit_depth - 1)
    windows = [image[y : y + 32, x : x + 32] for y in range(9) for x in range(25)]

    assert tile.shape == (channels, 32, 32)
    assert -1 <= float(tile.min()) < float(tile.max()) <= 1
    assert min(np.abs(pixels - window).max() for window in windows) < 0.01


def test_every_place_of_an_image_is_drawn_its_last_row_and_column_too() -> None:
    ramp = np.arange(34 * 36).reshape(34, 36, 1).astype(np.uint16)
    config = tiny_config(images={"bit_depth": 16, "channels": 1})
    tiles = TileSource([ramp], config).batch(0, 400)
    corners = {round(float(v + 1) / 2 * 65_535) for v in tiles[:, 0, 0, 0]}

    assert corners == {36 * y + x for y in range(3) for x in range(5)}


def test_tiles_come_from_every_scale_in_proportion_to_it() -> None:
    """Columns of the image rise by one level per pixel, so by two at half its size."""
    ramp = np.broadcast_to(np.arange(80, dtype=np.uint8), (72, 80))[..., None]
    config = tiny_config(images={"channels": 1}, tiles={"size": 32, "overlap": 8, "scales": [1.0, 0.5]})
    batch = TileSource([ramp], config).damaged_batch(0, 300, clean_share=1.0)
    slopes = ((batch.clean[:, 0, 0, 20] - batch.clean[:, 0, 0, 10]) * 255 / 2 / 10).round().tolist()

    assert set(slopes) == {1.0, 2.0}
    assert 0.55 < slopes.count(1.0) / 300 < 0.78


def test_one_scale_draws_nothing_but_image_and_place() -> None:
    """So a training that was begun before there were scales goes on with the same tiles."""
    rng = np.random.default_rng([0, 0, STEP])
    image, top, left = (int(rng.integers(n)) for n in (5, 40 - 31, 56 - 31))
    expected = part(image)[top : top + 32, left : left + 32].astype(np.float32) * np.float32(2 / 255) - 1

    np.testing.assert_array_equal(_source().batch(STEP, 1)[0].permute(1, 2, 0).numpy(), expected)


def test_an_image_of_tile_size_is_used_whole() -> None:
    source = _source(size=(32, 32))

    assert source.batch(0, 4).shape == (4, 3, 32, 32)


def test_damage_lies_where_the_mask_is() -> None:
    batch = _source().damaged_batch(STEP, 32)
    changed = (batch.clean != batch.damaged).any(dim=1, keepdim=True)

    assert not (changed & (batch.mask == 0)).any()
    assert set(batch.mask.unique().tolist()) == {0.0, 1.0}


def test_the_undamaged_share_is_about_what_was_asked_for() -> None:
    empty = [
        float((_source().damaged_batch(STEP, 80, clean_share=share).mask.flatten(1).sum(1) == 0).sum()) / 80
        for share in (0.0, 0.5, 1.0)
    ]

    assert empty[0] < 0.1
    assert 0.35 < empty[1] < 0.7
    assert empty[2] == 1.0


def test_augmentation_is_repeatable_and_changes_the_tiles() -> None:
    flips = tiny_config(augmentation=[{"name": "HorizontalFlip", "args": {"p": 1.0}}])
    plain, flipped = _source().batch(STEP, 4), _source(flips).batch(STEP, 4)

    torch.testing.assert_close(flipped, _source(flips).batch(STEP, 4), rtol=0, atol=0)
    assert not torch.equal(plain, flipped)


@pytest.mark.parametrize(("bit_depth", "channels"), [(8, 1), (16, 3)])
def test_augmentation_keeps_channels_and_bit_depth(bit_depth: int, channels: int) -> None:
    config = tiny_config(
        images={"bit_depth": bit_depth, "channels": channels},
        augmentation=[{"name": "HorizontalFlip"}, {"name": "RandomBrightnessContrast", "args": {"p": 1.0}}],
    )
    tiles = _source(config, bit_depth=bit_depth, channels=channels).batch(STEP, 8)

    assert tiles.shape == (8, channels, 32, 32)
    assert float(tiles.std()) > 0.1


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"name": "HorizontalFlop"}, "HorizontalFlop is not an albumentations transform"),
        ({"name": "Compose"}, "Compose is not an albumentations transform"),
        ({"name": "CenterCrop", "args": {"height": -1, "width": 3}}, "CenterCrop refuses"),
        ({"name": "HorizontalFlip", "args": {"prob": 0.5}}, "HorizontalFlip refuses.*prob"),
        ({"name": "RandomBrightnessContrast", "args": {"brightness_limits": 0.3}}, "brightness_limits"),
        ({"name": "Normalize"}, "Normalize makes float32"),
        ({"name": "ToFloat", "args": {"p": 0.01}}, "ToFloat makes float32"),
        (
            {"name": "RandomCrop", "args": {"height": 8, "width": 8}},
            r"RandomCrop makes uint8 of shape",
        ),
        ({"name": "ToGray", "args": {"num_output_channels": 1}}, "ToGray makes uint8"),
    ],
)
def test_a_wrong_augmentation_is_told_before_training(step: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        _source(tiny_config(augmentation=[step]))

    assert "\n" not in str(refused.value)


def test_an_augmentation_that_cannot_take_the_depth_is_told_before_training() -> None:
    config = tiny_config(augmentation=[{"name": "CLAHE"}], images={"bit_depth": 16})
    with pytest.raises(ConfigError, match="CLAHE cannot take tiles of uint16"):
        TileSource([part(0).astype(np.uint16) * 257], config)


def test_scored_tiles_are_those_that_scoring_cuts_each_once_and_mixed() -> None:
    config = tiny_config(
        tiles={"scales": [1.0, 0.5], "size": 32, "overlap": 8},
        augmentation=[{"name": "HorizontalFlip", "args": {"p": 1.0}}],
    )
    images = [part(seed, size=(80, 80)) for seed in range(3)]
    source = TileSource(images, config)
    wanted = [
        tile
        for image in images
        for tile in TilePyramid((80, 80), 32, 8, (1.0, 0.5)).cut(image.transpose(2, 0, 1).astype(np.float32))
    ]
    assert source.n_scored == len(wanted)
    got = torch.cat([source.scored_batch(0, 5), source.scored_batch(5, len(wanted))]).numpy()
    assert got.shape == (len(wanted), 3, 32, 32)
    # Smaller versions are rounded to whole grey levels in training.
    apart = np.abs((got[:, None] + 1) * 127.5 - np.stack(wanted)[None]).max(axis=(2, 3, 4)) < 0.51
    assert (apart.sum(axis=1) == 1).all()
    order = apart.argmax(axis=1)
    assert sorted(order) == list(range(len(wanted)))
    assert len({int(place) * 3 // len(wanted) for place in order[:9]}) == 3


def test_copies_of_one_image_count_once() -> None:
    images = [part(0), part(0).copy(), part(1)]

    assert TileSource(images, tiny_config()).distinct_images == 2


def test_no_image_is_refused() -> None:
    with pytest.raises(DataError, match="no images to train on"):
        TileSource([], tiny_config())


def test_loading_keeps_the_camera_s_pixels_and_resizes_the_others(tmp_path: Path) -> None:
    write_parts(tmp_path, [1])
    write_parts(tmp_path, [2], size=(80, 112))
    images, errors = load_images([tmp_path / "1.png", tmp_path / "2.png"], tiny_config(), (40, 56))

    assert errors == {}
    np.testing.assert_array_equal(images[0], part(1))
    assert (images[1].shape, images[1].dtype) == ((40, 56, 3), np.uint8)
    # Each pixel is now the mean of about four, so only the noise is less.
    assert abs(images[1].astype(float).mean() - part(2, size=(80, 112)).mean()) < 1


def test_files_that_cannot_be_used_are_given_back_with_the_reason(tmp_path: Path) -> None:
    write_parts(tmp_path, [1])
    (tmp_path / "notes.png").write_bytes(b"no picture")
    write_image(tmp_path / "deep.png", part(0, bit_depth=16))
    paths = [tmp_path / name for name in ("1.png", "notes.png", "deep.png")]
    images, errors = load_images(paths, tiny_config(), None)

    assert len(images) == 1
    assert list(errors) == paths[1:]
    assert all(str(path) in str(error) for path, error in errors.items())
