"""The whole graph from raw pixels to verdict against the PyTorch scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.config import Config
from anogan.errors import CalibrationError, ExportError, ImageError, ShapeError
from anogan.export.build import build_scorer, pixels_per_tile
from anogan.images.exposure import DARKEST, LEVEL, exposure_gain
from anogan.inspection import Verdict
from anogan.scoring import Scorer
from tests.export.conftest import build_model, build_torch_scorer, random_images, session_run, small_config

KEEP = {"images": {"on_mixed_sizes": "keep"}}
VERDICTS = [Verdict.PASS, Verdict.REVIEW, Verdict.REJECT]
# settings, image size of the model, image sizes to score
CASES: dict[str, tuple[dict[str, Any], tuple[int, int] | None, list[tuple[int, int]]]] = {
    "one tile": ({}, (32, 32), [(32, 32)]),
    "tiles, not square": ({}, (40, 75), [(40, 75)]),
    "grey": ({"images": {"channels": 1}}, (40, 56), [(40, 56)]),
    "16 bit": ({"images": {"bit_depth": 16}}, (40, 56), [(40, 56)]),
    "16 bit grey": ({"images": {"bit_depth": 16, "channels": 1}}, (32, 56), [(32, 56)]),
    "resized": ({"images": {"size": (48, 64)}}, (48, 64), [(48, 64), (61, 47), (20, 130)]),
    "every size": (KEEP, None, [(32, 32), (33, 90), (57, 57)]),
    "no overlap": ({"tiles": {"overlap": 0}}, (70, 64), [(70, 64)]),
    "two scales": ({"tiles": {"scales": [1.0, 0.5]}}, (75, 64), [(75, 64)]),
    "three scales, every size": (
        KEEP | {"tiles": {"scales": [1.0, 0.7, 0.45]}},
        None,
        [(72, 80), (97, 111)],
    ),
    "two scales, resized": (
        {"images": {"size": (64, 80)}, "tiles": {"scales": [1.0, 0.5]}},
        (64, 80),
        [(64, 80), (100, 90)],
    ),
    "latent map": ({"network": {"latent_grid": 4}}, (40, 56), [(40, 56)]),
    "no encoder": ({"encoder": {"mode": "none"}}, (40, 56), [(40, 56)]),
    "exact": ({"search": {"gradient": "exact"}}, (40, 56), [(40, 56)]),
    "restarts": ({"search": {"restarts": 2}}, (40, 56), [(40, 56)]),
    "early stop": ({"search": {"tolerance": 0.02, "patience": 1}}, (40, 56), [(40, 56)]),
    "equal exposure": ({"images": {"exposure": "mean"}}, (40, 56), [(40, 56)]),
    "equal exposure, resized, 16 bit": (
        {"images": {"exposure": "mean", "bit_depth": 16, "size": (48, 64)}},
        (48, 64),
        [(48, 64), (61, 47)],
    ),
    "border": ({"score": {"border": 5}}, (40, 56), [(40, 56)]),
    "dilated head": ({"head": {"network": "dilated"}}, (40, 56), [(40, 56)]),
    "local contrast": ({"head": {"contrast_window": 7}}, (40, 56), [(40, 56)]),
    "local contrast beyond the tile, with a condition": (
        {"head": {"contrast_window": 41}, "network": {"condition": "tile-position"}},
        (40, 75),
        [(40, 75)],
    ),
    "memory": ({"memory": {"patches": 300, "window": 16}}, (40, 56), [(40, 56)]),
    "memory of patterns": (
        {"memory": {"patches": 300, "window": 16, "compare": "pattern", "alarm": -2.0}},
        (40, 56),
        [(40, 56)],
    ),
    "memory of few patches, grey, as wide as the tile": (
        {"memory": {"patches": 3, "window": 32}, "images": {"channels": 1}},
        (40, 56),
        [(40, 56)],
    ),
    "spread": ({"score": {"spread": 3}}, (40, 56), [(40, 56)]),
    "top": ({"score": {"pooling": "top", "top_share": 0.01}}, (40, 56), [(40, 56)]),
    "no smoothing": ({"score": {"smoothing_sigma": 0.0}}, (40, 56), [(40, 56)]),
    "blur wider than the map": ({"score": {"smoothing_sigma": 14.0}}, (32, 40), [(32, 40)]),
    "residual alone": ({"score": {"discrimination_weight": 0.0, "head_weight": 0.0}}, (40, 56), [(40, 56)]),
    "norms per sample": (
        {"network": {"generator_norm": "group", "discriminator_norm": "layer"}},
        (40, 56),
        [(40, 56)],
    ),
    "self-attention": ({"network": {"attention_at": 16}}, (40, 56), [(40, 56)]),
    "bank": (
        {"encoder": {"mode": "none"}, "search": {"bank": 9, "restarts": 2}},
        (40, 56),
        [(40, 56)],
    ),
    "trimmed": ({"search": {"residual": "trimmed"}}, (40, 56), [(40, 56)]),
    "mask": ({"search": {"mask": 0.3}}, (40, 56), [(40, 56)]),
    "lambda 0": ({"search": {"lambda": 0.0}}, (40, 56), [(40, 56)]),
    "tile position": ({"network": {"condition": "tile-position"}}, (40, 75), [(40, 75)]),
    "tile position at two scales": (
        {"network": {"condition": "tile-position"}, "tiles": {"scales": [1.0, 0.5]}},
        (64, 75),
        [(64, 75)],
    ),
    "tile position, every size": (
        KEEP | {"network": {"condition": "tile-position", "latent_grid": 4}},
        None,
        [(32, 32), (33, 90), (57, 57)],
    ),
}


def scorers(
    settings: dict[str, Any], size: tuple[int, int] | None, *, with_head: bool = True, **kwargs: Any
) -> tuple[Scorer, Any]:
    model = build_model(small_config(**settings), size, with_head=with_head)
    scorer = build_torch_scorer(model, **kwargs)
    assert scorer.calibration is not None
    return scorer, session_run(build_scorer(model, scorer.calibration))


def images_of(config: Config, n: int, size: tuple[int, int]) -> list[NDArray[Any]]:
    return random_images(n, size, config.images.channels, config.images.bit_depth)


def assert_agrees(
    scorer: Scorer,
    got: dict[str, NDArray[Any]],
    images: list[NDArray[Any]],
    tolerance: float,
    variant: str | None = None,
) -> None:
    for index, want in enumerate(scorer.score(images, variant)):
        assert got["score"][index] == pytest.approx(want.score, rel=tolerance, abs=tolerance)
        assert VERDICTS[got["verdict"][index]] == want.verdict
        for name in ("residual_score", "discrimination_score", "anomaly_score"):
            assert got[name][index] == pytest.approx(getattr(want, name), rel=tolerance, abs=tolerance)
        assert got["steps_used"][index] == want.steps_used
        assert got["brightness"][index] == want.brightness
        difference = np.abs(got["anomaly_map"][index] - want.anomaly_map)
        assert np.median(difference) < 1e-5
        assert difference.max() < 100 * tolerance
        assert got["reconstruction"].dtype == want.reconstruction.dtype
        levels = np.abs(got["reconstruction"][index].astype(int) - want.reconstruction.astype(int))
        assert levels.max() <= max(1, 100 * tolerance * np.iinfo(want.reconstruction.dtype).max)


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_graph_computes_what_pytorch_computes_without_a_step(name: str, with_head: bool) -> None:
    settings, size, sizes = CASES[name]
    settings = settings | {"search": settings.get("search", {}) | {"steps": 0}}
    scorer, run = scorers(settings, size, with_head=with_head)
    for shape in sizes:
        images = images_of(scorer.config, 2, shape)
        assert_agrees(scorer, run(image=np.stack(images)), images, 2e-5)


@pytest.mark.parametrize("name", CASES)
def test_graph_decides_what_pytorch_decides_after_the_search(name: str) -> None:
    settings, size, sizes = CASES[name]
    scorer, run = scorers(settings, size)
    images = images_of(scorer.config, 2, sizes[-1])
    assert_agrees(
        scorer,
        run(image=np.stack(images)),
        images,
        2e-3 if scorer.config.search.gradient == "exact" else 1e-4,
    )


@pytest.mark.parametrize("scales", [[1.0], [1.0, 0.5]])
def test_each_image_of_a_call_is_told_its_own_variant(scales: list[float]) -> None:
    names = ["a", "b", "c"]
    network = {"condition": "variant", "variants": names}
    scorer, run = scorers({"network": network, "tiles": {"scales": scales}}, (64, 75))
    images = images_of(scorer.config, 3, (64, 75))
    got = run(image=np.stack(images), variant=np.array([2, 0, 1], np.int64))
    for index, name in enumerate(["c", "a", "b"]):
        one = {key: value[index : index + 1] for key, value in got.items()}
        assert_agrees(scorer, one, [images[index]], 2e-3, variant=name)
    (other,) = scorer.score([images[0]], variant="a")
    assert got["score"][0] != pytest.approx(other.score, rel=2e-3)
    with pytest.raises(Exception, match="out of data bounds"):
        run(image=np.stack(images), variant=np.array([0, 1, 3], np.int64))


def test_per_pixel_calibration_is_applied_where_it_belongs() -> None:
    settings = {"calibration": {"map": "per-pixel"}, "search": {"steps": 0}}
    scorer, run = scorers(settings, (40, 56), map_size=(40, 56))
    images = images_of(scorer.config, 2, (40, 56))
    assert_agrees(scorer, run(image=np.stack(images)), images, 2e-5)


def test_per_pixel_calibration_of_each_scale_is_applied_where_it_belongs() -> None:
    settings = {
        "calibration": {"map": "per-pixel"},
        "search": {"steps": 0},
        "tiles": {"scales": [1.0, 0.5]},
    }
    scorer, run = scorers(settings, (75, 64), map_size=(75, 64))
    images = images_of(scorer.config, 2, (75, 64))
    assert_agrees(scorer, run(image=np.stack(images)), images, 2e-5)


@pytest.mark.parametrize("exposure", ["keep", "mean"])
@pytest.mark.parametrize("scales", [[1.0], [1.0, 0.8]])
def test_score_is_the_same_to_the_bit_in_every_batch_order_and_chunking(
    scales: list[float], exposure: str
) -> None:
    model = build_model(small_config(tiles={"scales": scales}, images={"exposure": exposure}), (40, 75))
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    whole = session_run(build_scorer(model, scorer.calibration))
    chunked = session_run(build_scorer(model, scorer.calibration, chunk_pixels=5 * 32 * 32))
    images = np.stack(random_images(3, (40, 75)))
    together = whole(image=images)
    for name, value in together.items():
        np.testing.assert_array_equal(whole(image=images[::-1].copy())[name][::-1], value)
        np.testing.assert_array_equal(chunked(image=images)[name], value)
        for index in range(3):
            np.testing.assert_array_equal(whole(image=images[index : index + 1])[name][0], value[index])


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_dark_and_spotted_photographs_get_the_exposure_that_pytorch_gives(bit_depth: int) -> None:
    images = {"exposure": "mean", "bit_depth": bit_depth}
    scorer, run = scorers({"images": images, "search": {"steps": 0}}, (40, 56))
    dark, spotted = (image // 60 for image in images_of(scorer.config, 2, (40, 56)))
    spotted[4:9, 6:12] = 2**bit_depth - 1  # Beyond the range after the gain.
    covered = np.zeros_like(dark)
    for image in (dark, spotted, covered):
        gain = exposure_gain(image, scorer.config.images)
        assert_agrees(scorer, run(image=image[None]), [image], 2e-5)
        assert gain > 2
    assert exposure_gain(covered, scorer.config.images) == np.float32(LEVEL) / np.float32(DARKEST)


def test_fewer_tiles_are_searched_at_once_with_attention_over_many_places() -> None:
    counts = [pixels_per_tile(small_config(network={"attention_at": side})) for side in (0, 8, 16)]
    assert counts == [32**2, 32**2 + 8**4 // 64, 2 * 32**2]


def test_asking_twice_gives_the_same_answer_to_the_bit() -> None:
    _, run = scorers({}, (40, 56))
    image = np.stack(random_images(1, (40, 56)))
    first, second = run(image=image), run(image=image)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def test_steps_and_thresholds_are_optional_inputs() -> None:
    scorer, run = scorers({}, (40, 56))
    image = np.stack(random_images(1, (40, 56)))
    score = float(run(image=image)["score"][0])
    assert run(image=image, steps=np.array(1, np.int64))["steps_used"][0] == 1
    assert run(image=image)["steps_used"][0] == scorer.config.search.steps

    def verdict(threshold: float, review: float) -> Verdict:
        limits = {"threshold": np.float32(threshold), "review_threshold": np.float32(review)}
        return VERDICTS[run(image=image, **limits)["verdict"][0]]

    assert verdict(score - 1, score - 1) == Verdict.REJECT
    assert verdict(score + 1, score - 1) == Verdict.REVIEW
    assert verdict(score + 1, score + 1) == Verdict.PASS
    assert verdict(score, score) == Verdict.PASS, "a score equal to the threshold passes"
    assert verdict(score - 1, score + 1) == Verdict.REJECT, "a low threshold pulls the review band down"


def test_what_cannot_be_scored_goes_to_review() -> None:
    model = build_model(small_config(search={"steps": 0}), (32, 32))
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    scorer.calibration.statistics["residual"].mean[:] = np.nan
    got = session_run(build_scorer(model, scorer.calibration))(image=np.stack(random_images(1, (32, 32))))
    assert np.isnan(got["score"][0])
    assert VERDICTS[got["verdict"][0]] == Verdict.REVIEW


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({}, 32),
        ({"tiles": {"scales": [1.0, 0.7]}}, 46),  # 45 x 0.7 + 0.5 is a little below 32 in binary.
        ({"score": {"border": 18}}, 37),
        ({"score": {"border": 18, "pooling": "top"}}, 37),
    ],
)
def test_an_image_too_small_to_inspect_goes_to_review(settings: dict[str, Any], least: int) -> None:
    model = build_model(small_config(**(KEEP | settings)))
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    run = session_run(build_scorer(model, scorer.calibration))

    for size in [(least - 1, 64), (64, least - 1), (20, 20)]:
        images = random_images(2, size)
        got = run(image=np.stack(images))
        assert np.isnan(got["score"]).all()
        assert (got["verdict"] == 1).all()
        with pytest.raises((ImageError, ShapeError)):
            scorer.score(images)
    images = random_images(2, (least, 64))
    assert_agrees(scorer, run(image=np.stack(images), steps=np.array(3)), images, 1e-4)


def test_file_of_a_64_pixel_model_is_hardly_larger_than_its_weights() -> None:
    config = small_config(tiles={"size": 64}, network={"width": 32, "latent_dim": 100})
    model = build_model(config, (64, 64))
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    weights = sum(array.nbytes for part in model.to_arrays().values() for array in part.values())
    assert build_scorer(model, scorer.calibration).ByteSize() < 1.2 * weights


def test_size_of_the_file_does_not_grow_with_the_steps() -> None:
    sizes = []
    for steps in (1, 100_000):
        model = build_model(small_config(search={"steps": steps}), (40, 56))
        scorer = build_torch_scorer(model)
        assert scorer.calibration is not None
        sizes.append(build_scorer(model, scorer.calibration).ByteSize())
    assert sizes[0] == sizes[1]


def test_a_bank_adds_its_codes_to_the_file_and_not_its_pictures() -> None:
    sizes = []
    for codes in (0, 33, 64):
        settings = {"encoder": {"mode": "none"}, "search": {"bank": codes}}
        model = build_model(small_config(**settings), (40, 56))
        scorer = build_torch_scorer(model)
        assert scorer.calibration is not None
        sizes.append(build_scorer(model, scorer.calibration).ByteSize())
    assert sizes[2] - sizes[1] == pytest.approx(31 * 6 * 4, abs=8)
    assert sizes[1] - sizes[0] < 10_000 < 33 * 3 * 32 * 32 * 4


def test_exporting_twice_gives_the_same_bytes() -> None:
    model = build_model(small_config(), (40, 56))
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    first, second = (
        build_scorer(model, scorer.calibration).SerializeToString(deterministic=True) for _ in "ab"
    )
    assert first == second


def test_file_names_no_path_and_no_source_line() -> None:
    model = build_model(small_config(), (40, 56))
    scorer = build_torch_scorer(model)
    assert scorer.calibration is not None
    content = build_scorer(model, scorer.calibration).SerializeToString()
    assert b".py" not in content
    assert b"/home" not in content


def test_a_model_that_cannot_be_exported_says_which_setting() -> None:
    model = build_model(small_config(search={"polish_steps": 4}), (40, 56))
    calibration = build_torch_scorer(build_model(small_config(), (40, 56))).calibration
    assert calibration is not None
    with pytest.raises(ExportError, match=r"search\.polish_steps is 4"):
        build_scorer(model, calibration)


def test_missing_statistics_are_told() -> None:
    scorer = build_torch_scorer(build_model(small_config(), (40, 56), with_head=False))
    assert scorer.calibration is not None
    with pytest.raises(CalibrationError, match="head"):
        build_scorer(build_model(small_config(), (40, 56)), scorer.calibration)
