"""Grey and 16-bit images, several sizes, and tiles, on networks with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anogan.calibration import MapStatistics, calibrate
from anogan.errors import ImageError
from anogan.gan.networks import build_networks, feature_stack
from anogan.images.tiling import TileGrid
from anogan.scoring import Model, Scorer
from anogan.scoring.head_network import build_head
from tests.tiny import part, tiny_config


def _scorer(size: tuple[int, int] | None = (40, 56), **changes: Any) -> Scorer:
    torch.manual_seed(4)
    config = tiny_config(calibration={"map": "global"}, **changes)
    networks = build_networks(config)
    for module in networks.modules().values():
        # Radford's initial weights of 0.02 would let nothing through.
        for weight in module.parameters():
            torch.nn.init.normal_(weight, 0, 0.15)
    head = build_head(config).eval()
    scales = torch.ones(len(feature_stack(networks.discriminator)))
    one = MapStatistics(np.full((1, 1), 0.2, np.float32), np.full((1, 1), 0.1, np.float32))
    statistics = dict.fromkeys(("residual", "discrimination", "head"), one)
    calibration = calibrate([1.0, 2.0], false_reject=0.4, review_share=0, statistics=statistics)
    return Scorer(Model(config, networks, scales, head, size), calibration)


@pytest.mark.parametrize(("bit_depth", "channels"), [(8, 1), (8, 3), (16, 1), (16, 3)])
def test_the_reconstruction_is_an_image_like_the_one_that_came(bit_depth: int, channels: int) -> None:
    scorer = _scorer(images={"bit_depth": bit_depth, "channels": channels})
    image = part(1, bit_depth=bit_depth, channels=channels)
    (found,) = scorer.score([image])

    assert (found.reconstruction.shape, found.reconstruction.dtype) == (image.shape, image.dtype)
    assert (found.anomaly_map.shape, found.anomaly_map.dtype) == (image.shape[:2], np.float32)
    assert np.isfinite(found.score)


def test_16_bits_of_the_same_light_give_the_same_score() -> None:
    image = part(1)
    (eight,) = _scorer(images={"bit_depth": 8}).score([image])
    (sixteen,) = _scorer(images={"bit_depth": 16}).score([image.astype(np.uint16) * 257])

    assert sixteen.score == pytest.approx(eight.score, rel=1e-4)


def test_all_16_bits_count() -> None:
    """Cut to 8 bits the two images would be the same."""
    scorer = _scorer(images={"bit_depth": 16})
    image = np.full((40, 56, 3), 30_000, np.uint16)
    first, second = scorer.score([image, image + np.uint16(90)])

    assert first.residual_score != second.residual_score


def test_a_grey_image_may_come_with_or_without_its_axis() -> None:
    scorer = _scorer(images={"channels": 1})
    image = part(1, channels=1)
    first, second = scorer.score([image, image[..., 0]])

    assert first.score == pytest.approx(second.score, rel=1e-5)


def test_alpha_is_dropped() -> None:
    scorer = _scorer()
    image = part(1)
    with_alpha = np.concatenate([image, np.full((40, 56, 1), 7, np.uint8)], axis=2)

    assert scorer.score([with_alpha])[0].score == scorer.score([image])[0].score


def test_images_of_several_sizes_come_back_in_their_order() -> None:
    scorer = _scorer(None, images={"on_mixed_sizes": "keep"})
    sizes = [(33, 47), (90, 32), (33, 47), (32, 32)]
    images = [part(seed, size=size) for seed, size in enumerate(sizes)]
    found = scorer.score(images)

    assert [f.anomaly_map.shape for f in found] == sizes
    for image, together in zip(images, found, strict=True):
        assert scorer.score([image])[0].score == pytest.approx(together.score, rel=1e-4)


def test_an_image_smaller_than_a_tile_is_one_sentence() -> None:
    scorer = _scorer(None, images={"on_mixed_sizes": "keep"})
    with pytest.raises(ImageError, match=r"image 0.*30x60.*smaller than one tile"):
        scorer.score([part(0, size=(60, 30))])


@pytest.mark.parametrize("mode", ["size", "resize"])
def test_a_model_that_resizes_answers_at_the_size_that_came(mode: str) -> None:
    images = {"size": (40, 56)} if mode == "size" else {"on_mixed_sizes": "resize"}
    image = part(1, size=(80, 90))
    (found,) = _scorer(images=images).score([image])

    assert found.anomaly_map.shape == (80, 90)
    assert found.reconstruction.shape == (80, 90, 3)


def _tile_by_tile(scorer: Scorer, image: NDArray[Any], grid: TileGrid) -> list[NDArray[Any]]:
    corners = [(y, x) for y in grid.tops for x in grid.lefts]
    single = _scorer((32, 32))
    return [single.evidence([image[y : y + 32, x : x + 32]])[0].reconstruction for y, x in corners]


def test_a_large_image_is_its_tiles_stitched() -> None:
    scorer, image = _scorer((70, 100)), part(3, size=(70, 100))
    grid = TileGrid((70, 100), 32, 8)
    (found,) = scorer.evidence([image])
    pieces = _tile_by_tile(scorer, image, grid)

    assert grid.n_tiles == 12
    np.testing.assert_allclose(found.reconstruction, grid.stitch(np.stack(pieces)), atol=1e-4)


def test_the_scores_of_an_image_are_those_of_its_worst_tile() -> None:
    scorer, image = _scorer((70, 100)), part(3, size=(70, 100), defect=True)
    grid, single = TileGrid((70, 100), 32, 8), _scorer((32, 32))
    pieces = [image[y : y + 32, x : x + 32] for y in grid.tops for x in grid.lefts]
    (found,) = scorer.evidence([image])

    for name in ("residual_score", "discrimination_score", "anomaly_score"):
        worst = max(getattr(evidence, name) for evidence in single.evidence(pieces))
        assert getattr(found, name) == pytest.approx(worst, rel=1e-4)


def test_the_anomaly_score_mixes_residual_and_discrimination_by_lambda() -> None:
    image = part(1, size=(32, 32))
    for lambda_ in (0.0, 0.3, 1.0):
        (found,) = _scorer((32, 32), search={"steps": 0, "lambda": lambda_}).score([image])
        mixed = (1 - lambda_) * found.residual_score + lambda_ * found.discrimination_score
        assert found.anomaly_score == pytest.approx(mixed, rel=1e-5)


def test_exposure_does_not_change_the_score_and_the_reconstruction_is_as_bright_as_the_image() -> None:
    scorer = _scorer(images={"exposure": "mean"})
    dark = part(1) // 3
    one, other = scorer.score([dark, dark * 3])

    assert one.score == pytest.approx(other.score, rel=1e-3)
    np.testing.assert_allclose(3 * one.reconstruction.astype(float), other.reconstruction, atol=3)
    assert _scorer().score([dark])[0].score != pytest.approx(_scorer().score([dark * 3])[0].score, rel=1e-3)
