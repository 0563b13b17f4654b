"""Pixel, region and tile figures: exact for small sets, close to exact in bounded memory for large ones."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from anogan.errors import DataError, ShapeError
from anogan.metrics import PixelCurve, aupro, pixel, pixel_auroc, tile_auroc, tile_labels, tile_scores

Images = tuple[NDArray[np.bool_], NDArray[np.float32]]


def images(n: int = 4, shape: tuple[int, int] = (24, 31), levels: int | None = None, seed: int = 0) -> Images:
    """Masks with touching, diagonal and lone regions, and maps that find them somewhat."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, *shape), bool)
    for mask in masks[1:]:
        for _ in range(4):
            y, x = rng.integers(0, shape[0] - 6), rng.integers(0, shape[1] - 6)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    maps = rng.normal(size=masks.shape) + 1.2 * masks
    maps = maps if levels is None else np.round(maps * levels) / levels
    return masks, maps.astype(np.float32)


def brute_force_aupro(masks: NDArray[np.bool_], maps: NDArray[np.float32], limit: float) -> float:
    """Per-region overlap at each threshold in turn (Bergmann et al. 2020), integrated by trapezoids."""
    regions = []
    for mask, anomaly_map in zip(masks, maps, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [anomaly_map[labels == i] for i in range(1, count + 1)]
    outside = maps[~masks]
    false, overlap = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        false.append(float(np.mean(outside >= threshold)))
        overlap.append(float(np.mean([np.mean(region >= threshold) for region in regions])))
    area = 0.0
    for x0, x1, y0, y1 in zip(false, false[1:], overlap, overlap[1:], strict=False):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area / limit


@pytest.mark.parametrize("levels", [None, 2], ids=["continuous", "with ties"])
def test_pixel_auroc_agrees_with_scikit_learn(levels: int | None) -> None:
    masks, maps = images(levels=levels)
    assert pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [None, 2], ids=["continuous", "with ties"])
def test_aupro_agrees_with_brute_force(levels: int | None, limit: float) -> None:
    masks, maps = images(levels=levels, seed=1)
    assert aupro(masks, maps, limit) == pytest.approx(brute_force_aupro(masks, maps, limit), abs=1e-12)


def test_perfect_maps_score_1_and_a_small_region_counts_as_much_as_a_large_one() -> None:
    mask = np.zeros((20, 20), bool)
    mask[1:11, 1:11] = mask[15, 15] = True
    assert aupro([mask], [mask.astype(np.float32)]) == 1
    only_large = mask.astype(np.float32)
    only_large[15, 15] = -1
    assert aupro([mask], [only_large]) == pytest.approx(0.5)


def test_scores_of_either_sign_are_ordered_and_both_zeros_tie() -> None:
    maps = np.array([[-2.0, -1.0, -0.0, 0.0, 1e-30, 3.0]], np.float32)
    mask = np.array([[0, 0, 1, 0, 1, 1]])
    assert pixel_auroc([mask], [maps]) == pytest.approx(roc_auc_score(mask[0], maps[0]))


@pytest.mark.parametrize("scale", [(1.0, 0.0), (1e-4, 1000.0), (1e20, 0.0)], ids=["plain", "offset", "huge"])
def test_bounded_memory_moves_the_areas_by_less_than_a_thousandth(
    monkeypatch: pytest.MonkeyPatch, scale: tuple[float, float]
) -> None:
    masks, maps = images(n=30, shape=(64, 64), seed=2)
    maps = (maps * scale[0] + scale[1]).astype(np.float32)
    exact = pixel_auroc(masks, maps), aupro(masks, maps)
    monkeypatch.setattr(pixel, "_LEVELS", 2**11)
    monkeypatch.setattr(pixel, "_BUFFER", 10_000)
    assert (pixel_auroc(masks, maps), aupro(masks, maps)) == pytest.approx(exact, abs=1e-3)


def test_counts_fit_the_levels_and_do_not_grow_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel, "_LEVELS", 2**10)
    monkeypatch.setattr(pixel, "_BUFFER", 2**16)
    curve, rng = PixelCurve(), np.random.default_rng(3)
    mask = np.zeros((128, 128), bool)
    mask[:20, :20] = True
    tracemalloc.start()
    for _ in range(100):
        curve.add(mask, rng.normal(size=mask.shape).astype(np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # 1.6 million pixels; their keys alone would be 6.5 MB, their sorting far more.
    assert curve.auroc() == pytest.approx(0.5, abs=0.01)


def test_merged_curves_are_those_of_all_images_at_any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, maps = images(n=8, seed=4)
    curves = []
    for levels, rows in ((2**18, slice(0, 4)), (2**10, slice(4, 8))):
        monkeypatch.setattr(pixel, "_LEVELS", levels)
        curve = PixelCurve()
        for mask, anomaly_map in zip(masks[rows], maps[rows], strict=True):
            curve.add(mask, anomaly_map)
        before = curve.aupro()
        curves.append(curve)
    merged = PixelCurve.merged(iter(curves))
    monkeypatch.undo()
    assert merged.auroc() == pytest.approx(pixel_auroc(masks, maps), abs=1e-3)
    assert merged.aupro() == pytest.approx(aupro(masks, maps), abs=1e-3)
    assert curves[-1].aupro() == before


def test_pixel_figures_are_none_without_both_classes() -> None:
    maps = [np.ones((4, 4), np.float32)]
    for mask in (np.zeros((4, 4)), np.ones((4, 4))):
        assert pixel_auroc([mask], maps) is None
        assert aupro([mask], maps) is None
    assert pixel_auroc([], []) is None


def test_bad_maps_are_refused() -> None:
    ones = np.ones((4, 4), np.float32)
    with pytest.raises(ShapeError, match=r"\(4, 5\)"):
        pixel_auroc([np.ones((4, 5))], [ones])
    with pytest.raises(DataError, match="not finite"):
        pixel_auroc([ones], [ones * np.inf])
    with pytest.raises(ShapeError, match="number"):
        pixel_auroc([ones, ones], [ones])
    with pytest.raises(DataError, match="integration limit"):
        aupro([ones], [ones], integration_limit=0)


def test_tiles_are_positive_from_the_share_on_and_left_out_below_it() -> None:
    mask = np.zeros((70, 200), np.uint8)
    mask[:10, :64] = 255  # 15.6 %
    mask[:9, 64:128] = 255  # 14.1 %
    mask[:, 192:] = 255  # in the rest that fills no tile
    np.testing.assert_array_equal(tile_labels(mask), [[1, -1, 0]])


def test_tile_scores_are_the_greatest_of_each_tile() -> None:
    anomaly_map = np.arange(8 * 12, dtype=np.float32).reshape(8, 12)
    np.testing.assert_array_equal(tile_scores(anomaly_map, 4), [[39, 43, 47], [87, 91, 95]])


def test_tile_auroc_is_the_auroc_of_labelled_tiles_of_all_images() -> None:
    masks, maps = images(n=5, shape=(32, 48), seed=5)
    labels = np.concatenate([tile_labels(mask, 8).ravel() for mask in masks])
    scores = np.concatenate([tile_scores(m, 8).ravel() for m in maps])
    kept = labels >= 0
    assert kept.sum() < labels.size
    found = tile_auroc(masks, maps, tile=8)
    assert found == pytest.approx(roc_auc_score(labels[kept], scores[kept]))
    with pytest.raises(ShapeError, match="no whole tile"):
        tile_auroc(masks, maps, tile=64)
