"""Evidence maps become one number by arithmetic that other runtimes can repeat."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.calibration import (
    MapMoments,
    MapStatistics,
    combine,
    fit_map_statistics,
    gaussian_kernel,
    part_name,
    pool,
    smooth,
    spread,
)
from anogan.calibration.evidence import in_order
from anogan.errors import CalibrationError, ConfigError, ShapeError

RNG_MAPS = np.random.default_rng(0).gamma(2.0, size=(12, 9, 14)) * np.linspace(1, 3, 14)


def test_per_pixel_statistics_without_a_prior_are_the_plain_moments() -> None:
    statistics = fit_map_statistics(iter(RNG_MAPS), "per-pixel", prior_images=0)
    np.testing.assert_allclose(statistics.mean, RNG_MAPS.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.std, RNG_MAPS.std(axis=0, ddof=1), rtol=1e-6)
    assert statistics.mean.dtype == statistics.std.dtype == np.float32


def _of_parts(maps: NDArray[np.float64], shots: int, prior_images: float = 0) -> MapStatistics:
    """Of maps of which `shots` after each other show one part."""
    moments = MapMoments("per-pixel", prior_images)
    for index, values in enumerate(maps):
        moments.add(values, str(index // shots))
    return moments.statistics()


@pytest.mark.parametrize("n", [1, 2, 12])
def test_copies_change_no_statistics(n: int) -> None:
    once = fit_map_statistics(RNG_MAPS[:n], "per-pixel", prior_images=5)
    copied = _of_parts(RNG_MAPS[:n].repeat(3, axis=0), 3, prior_images=5)

    np.testing.assert_allclose(copied.mean, once.mean, rtol=1e-6)
    np.testing.assert_allclose(copied.std, once.std, rtol=1e-6)


def test_several_photographs_of_a_part_vary_as_a_photograph_of_another_part_does() -> None:
    rng = np.random.default_rng(1)
    parts, shots = rng.normal(0, 3, (40, 1, 20, 20)), rng.normal(0, 1, (40, 4, 20, 20))
    maps = (parts + shots).reshape(160, 20, 20)

    assert float((_of_parts(maps, 4).std ** 2).mean()) == pytest.approx(10, rel=0.05)
    assert float((_of_parts(maps[:8], 4).std ** 2).mean()) == pytest.approx(10, rel=0.25)
    plain = fit_map_statistics(maps[:8], "per-pixel", prior_images=0)
    assert float((plain.std**2).mean()) < 8  # They seem to vary less than they do.


def test_variance_is_shrunk_to_the_global_one_as_by_so_many_images() -> None:
    n, k = len(RNG_MAPS), 20
    variance = RNG_MAPS.var(axis=0, ddof=1)
    statistics = fit_map_statistics(RNG_MAPS, "per-pixel", prior_images=k)
    np.testing.assert_allclose(statistics.std**2, (n * variance + k * variance.mean()) / (n + k), rtol=1e-5)


def test_mean_of_few_images_is_smoother_than_that_of_none_to_smooth() -> None:
    def roughness(k: float) -> float:
        return float(np.abs(np.diff(fit_map_statistics(RNG_MAPS, "per-pixel", k).mean, axis=0)).mean())

    assert roughness(20) < 0.7 * roughness(0)


def test_global_statistics_are_the_moments_of_all_pixels_of_maps_of_any_size() -> None:
    maps = [RNG_MAPS[0], RNG_MAPS[1, :3, :5], RNG_MAPS[2, :, 2:]]
    pixels = np.concatenate([m.ravel() for m in maps])
    statistics = fit_map_statistics(iter(maps), "global", prior_images=20)
    assert statistics.mean.shape == (1, 1)
    np.testing.assert_allclose(statistics.mean, pixels.mean(), rtol=1e-6)
    np.testing.assert_allclose(statistics.std, pixels.std(), rtol=1e-6)


@pytest.mark.parametrize("mode", ["per-pixel", "global"])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_streaming_moments_do_not_cancel_at_a_large_offset(mode: str, offset: float) -> None:
    plain = fit_map_statistics(RNG_MAPS, mode, 5)  # type: ignore[arg-type]
    shifted = fit_map_statistics(RNG_MAPS + offset, mode, 5)  # type: ignore[arg-type]
    np.testing.assert_allclose(shifted.std, plain.std, rtol=1e-5)


@pytest.mark.parametrize("mode", ["per-pixel", "global"])
@pytest.mark.parametrize("count", [1, 5])
def test_constant_maps_give_finite_scores(mode: str, count: int) -> None:
    maps = [np.full((4, 4), 0.3, np.float32)] * count
    statistics = fit_map_statistics(maps, mode, 0)  # type: ignore[arg-type]
    assert (statistics.std > 0).all()
    assert np.isfinite(statistics.normalise(np.ones((4, 4)))).all()
    assert np.abs(statistics.normalise(maps[0])).max() < 0.1


def test_a_pixel_that_never_varied_cannot_outvote_the_rest() -> None:
    maps = RNG_MAPS.copy()
    maps[:, 4, 7] = 0
    statistics = fit_map_statistics(maps, "per-pixel", prior_images=0)
    assert statistics.std[4, 7] > 1e-4 * statistics.std.max()


def test_normalised_good_maps_have_unit_spread() -> None:
    statistics = fit_map_statistics(RNG_MAPS, "per-pixel", prior_images=0)
    normalised = np.stack([statistics.normalise(m) for m in RNG_MAPS])
    np.testing.assert_allclose(normalised.std(axis=0, ddof=1), 1, rtol=1e-5)
    assert abs(normalised.mean()) < 1e-6


def test_bad_calibration_maps_are_refused_by_number() -> None:
    with pytest.raises(CalibrationError, match="No good image"):
        fit_map_statistics([], "per-pixel", 1)
    with pytest.raises(CalibrationError, match="map 1 "):
        fit_map_statistics([np.ones((2, 2)), np.full((2, 2), np.nan)], "global", 1)
    with pytest.raises(ShapeError, match=r"map 1 is \(2, 3\)"):
        fit_map_statistics([np.ones((2, 2)), np.ones((2, 3))], "per-pixel", 1)


def test_a_map_of_another_size_is_refused_by_per_pixel_statistics() -> None:
    with pytest.raises(ShapeError, match=r"\(3, 3\)"):
        fit_map_statistics(RNG_MAPS, "per-pixel", 1).normalise(np.ones((3, 3)))


def one(mean: float, std: float) -> MapStatistics:
    return MapStatistics(np.full((1, 1), mean, np.float32), np.full((1, 1), std, np.float32))


STATISTICS = {"residual": one(1, 2), "discrimination": one(0, 1), "head": one(0, 4)}


def test_combined_map_is_the_weighted_sum_over_the_norm_of_the_weights() -> None:
    parts = {"residual": np.full((2, 3), 5.0), "head": np.full((2, 3), 8.0)}
    found = combine(parts, STATISTICS, {"residual": 3.0, "discrimination": 0.1, "head": 4.0})
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (3 * 2 + 4 * 2) / 5, rtol=1e-6)


def test_combined_map_does_not_depend_on_the_order_of_the_parts() -> None:
    rng = np.random.default_rng(1)
    parts = {name: rng.random((8, 8), np.float32) for name in STATISTICS}
    weights = dict(zip(parts, (0.3, 0.7, 0.11), strict=True))
    backwards = dict(reversed(parts.items()))
    np.testing.assert_array_equal(
        combine(parts, STATISTICS, weights), combine(backwards, STATISTICS, weights)
    )


def test_the_greatest_scale_counts_at_each_place() -> None:
    """A mean would halve what only one scale can see."""
    fine, coarse = np.zeros((8, 8), np.float32), np.zeros((4, 4), np.float32)
    fine[0, 0], coarse[3, 3] = 5, 40
    statistics = {"head": one(0, 1), "head@0.5": one(0, 10)}
    found = combine({"head@0.5": coarse, "head": fine}, statistics, {"head": 2.0})
    assert found.shape == (8, 8)
    assert (found[0, 0], found[7, 7]) == (5, 4)
    assert found[:4, 4:].max() == 0


def test_parts_come_from_the_greatest_scale_down() -> None:
    names = ["residual@0.25", "head", "residual", "head@0.5", "residual@0.5"]
    assert in_order(names) == ["residual", "head", "residual@0.5", "head@0.5", "residual@0.25"]
    assert [part_name("head", scale) for scale in (1.0, 0.5)] == ["head", "head@0.5"]
    for wrong in ("lens@0.5", "head@", "head@half", "head@1"):
        with pytest.raises(ConfigError, match=wrong):
            in_order([wrong])


def test_what_is_not_a_number_at_one_scale_is_not_a_number_in_the_map() -> None:
    parts = {"head": np.ones((4, 4), np.float32), "head@0.5": np.full((2, 2), np.nan, np.float32)}
    assert np.isnan(combine(parts, dict.fromkeys(parts, one(0, 1)), {"head": 1.0})).all()


def test_a_part_of_weight_0_is_not_looked_at() -> None:
    parts = {"residual": np.full((2, 2), 3.0), "head": np.full((2, 2), np.nan)}
    np.testing.assert_allclose(combine(parts, STATISTICS, {"residual": 9.0, "head": 0.0}), 1)


def test_parts_that_do_not_fit_are_refused() -> None:
    ones = np.ones((2, 2))
    with pytest.raises(ConfigError, match="weight above 0"):
        combine({"residual": ones}, STATISTICS, {"head": 1})
    with pytest.raises(ConfigError, match="'lens'"):
        combine({"lens": ones}, STATISTICS, {"lens": 1})
    with pytest.raises(CalibrationError, match="'head'"):
        combine({"head": ones}, {"residual": one(0, 1)}, {"head": 1})
    with pytest.raises(ShapeError, match="differ in size"):
        combine({"residual": ones, "head": np.ones((2, 3))}, STATISTICS, {"residual": 1, "head": 1})


def reference_blur(evidence: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
    """The documented definition, term by term."""
    radius = math.ceil(3 * sigma)
    line = np.array([math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)])
    window = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(evidence.astype(np.float64), radius, mode="reflect")
    side = 2 * radius + 1
    return np.array(
        [
            [(padded[y : y + side, x : x + side] * window).sum() for x in range(evidence.shape[1])]
            for y in range(evidence.shape[0])
        ]
    )


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("shape", [(16, 23), (3, 40), (1, 5), (1, 1)])
def test_smoothing_is_the_documented_convolution_up_to_the_edge(sigma: float, shape: tuple[int, int]) -> None:
    evidence = np.random.default_rng(2).random(shape, np.float32)
    np.testing.assert_allclose(smooth(evidence, sigma), reference_blur(evidence, sigma), atol=1e-6)


def test_kernel_sums_to_one_and_sigma_0_changes_nothing() -> None:
    assert gaussian_kernel(1.5).shape == (11,)
    assert gaussian_kernel(1.5).sum() == pytest.approx(1, abs=1e-6)
    evidence = np.random.default_rng(3).random((5, 5), np.float32)
    np.testing.assert_array_equal(smooth(evidence, 0), evidence)


def test_pooling_takes_the_maximum_or_the_mean_of_the_top_share() -> None:
    evidence = np.random.default_rng(4).permutation(np.arange(200, dtype=np.float32)).reshape(10, 20)
    assert pool(evidence, "max", 0.001, 0) == 199
    assert pool(evidence, "top", 0.001, 0) == 199  # ceil(0.2) pixel
    assert pool(evidence, "top", 0.02, 0) == np.mean([196, 197, 198, 199])
    assert pool(evidence, "top", 1.0, 0) == pytest.approx(99.5)


def test_border_pixels_never_count() -> None:
    evidence = np.full((6, 7), 9.0, np.float32)
    evidence[2:-2, 2:-2] = 1
    assert pool(evidence, "max", 0.5, 2) == 1
    assert pool(evidence, "max", 0.5, 1) == 9
    assert pool(evidence, "top", 0.5, 2) == 1
    for border in (3, 4, 100):
        with pytest.raises(ShapeError, match="leaves nothing"):
            pool(evidence, "max", 0.5, border)


@pytest.mark.parametrize("pooling", ["max", "top"])
def test_a_pixel_that_is_not_a_number_makes_the_score_not_a_number(pooling: str) -> None:
    evidence = np.zeros((8, 8), np.float32)
    evidence[3, 3] = np.nan
    assert math.isnan(pool(smooth(evidence, 1.0), pooling, 0.1, 0))  # type: ignore[arg-type]


def test_spread_marks_the_square_around_a_spot_and_keeps_its_height() -> None:
    evidence = np.zeros((20, 30), np.float32)
    evidence[8, 10] = 7.5

    found = spread(evidence, 3)

    assert found.max() == 7.5
    assert (found == 7.5).sum() == 49
    assert (found[5:12, 7:14] == 7.5).all()


def test_spread_reaches_over_the_edge_without_inventing_marks() -> None:
    evidence = np.full((6, 6), -4.0, np.float32)
    evidence[0, 0] = -1.0

    found = spread(evidence, 2)

    assert (found[:3, :3] == -1.0).all()
    assert (found[3:, 3:] == -4.0).all()


def test_spread_of_no_pixels_changes_nothing() -> None:
    evidence = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)

    np.testing.assert_array_equal(spread(evidence, 0), evidence)
