"""The file finds a part and lays it in place as the PyTorch scorer does, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.calibration import conformal_threshold
from anogan.export import export_scorer
from anogan.export.build import build_scorer
from anogan.export.graph import BOOL, DOUBLE, FLOAT, Graph, Precision
from anogan.export.pieces import build_pieces
from anogan.export.registration import find_pose, from_reference, seen, to_reference
from anogan.images.registration import Aligner, Alignment, Motion, grey
from anogan.images.sample_board import draw_board
from anogan.inspection import Verdict
from anogan.scoring import Model, Scorer
from anogan.station import Scorer as StationScorer
from tests.export.conftest import Run, build_model, build_torch_scorer, session_run, small_config

SIZE = (72, 96)
MOTIONS = [((0.0, 0.0), 0.0), ((4.3, -2.6), 0.0), ((-6.0, 7.0), 5.0), ((11.2, 3.9), -11.0)]


def part(
    shift: tuple[float, float] = (0, 0), degrees: float = 0.0, size: tuple[int, int] = SIZE
) -> NDArray[np.uint8]:
    """One board, lying elsewhere in its photograph, which is never all of it."""
    height, width = size
    large = draw_board(3, 2 * max(size))[0]
    matrix = cv2.getRotationMatrix2D((max(size), max(size)), degrees, 1.0)
    matrix[:, 2] += np.array(shift) - (max(size) - width / 2, max(size) - height / 2)
    return np.asarray(cv2.warpAffine(large, matrix, (width, height)), np.uint8)


def black(size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.zeros((*size, 3), np.uint8)


def registration_graph(aligner: Aligner, run_graph: Callable[..., Run]) -> Run:
    """`image` (N, C, H, W) in [0, 255] and `map` (N, 1, H, W) -> what `Aligner` and `Alignment` give."""
    g = Graph()
    pose = find_pose(g, "image", 255, aligner.pose_search)
    g.rename(to_reference(g, "image", pose), "aligned")
    g.rename(from_reference(g, "map", pose, outside=0.0), "map_back")
    g.rename(from_reference(g, "image", pose), "image_back")
    g.rename(seen(g, pose), "seen")
    g.rename(pose.registered, "registered")
    g.rename(g.op("Concat", pose.cosine, pose.sine, pose.shift_x, pose.shift_y, axis=1), "pose")
    maps = dict.fromkeys(("aligned", "map_back", "image_back"), (FLOAT, 4))
    told = {"seen": (BOOL, 4), "registered": (BOOL, 1), "pose": (DOUBLE, 2)}
    return run_graph(g, {"image": (FLOAT, 4), "map": (FLOAT, 4)}, maps | told)


def planes(images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("motion", ["translation", "euclidean"])
@pytest.mark.parametrize(
    ("size", "aspect"), [(SIZE, 1.0), ((96, 64), 1.0), ((48, 48), 1.0), ((350, 380), 1.0), (SIZE, 1.6)]
)
def test_every_part_of_a_batch_is_found_and_moved_as_by_numpy(
    motion: Motion, size: tuple[int, int], aspect: float, run_graph: Callable[..., Run]
) -> None:
    aligner = Aligner(grey(part(size=size), 255), motion, aspect)
    images = [*(part(shift, degrees, size) for shift, degrees in MOTIONS), black(size)]
    rng = np.random.default_rng(0)
    maps = rng.random((len(images), *size)).astype(np.float32)
    got = registration_graph(aligner, run_graph)(image=planes(images), map=maps[:, None])
    found = [aligner.align(image, 255) for image in images]
    assert [alignment.converged for _, alignment in found] == got["registered"].tolist()
    assert got["registered"][0]
    assert not got["registered"][-1]
    for i, (aligned, alignment) in enumerate(found):
        assert_pose(got["pose"][i], alignment, size, aspect)
        agree(got["aligned"][i], planes([aligned])[0], 255)
        agree(got["image_back"][i], planes([alignment.from_reference(images[i])])[0], 255)
        agree(got["map_back"][i, 0], alignment.from_reference(maps[i], outside=0.0), 1)
        np.testing.assert_array_equal(got["seen"][i, 0], alignment.seen(size))


def assert_pose(
    pose: NDArray[np.float64], alignment: Alignment, size: tuple[int, int], aspect: float
) -> None:
    """To the last bits: the rounded motion is the same, and not only near."""
    cosine, sine = alignment.warp[:, 0]
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    x, y = alignment.warp @ [*centre, 1] - centre
    np.testing.assert_allclose(pose, [cosine, sine / aspect, x * aspect, y], atol=1e-11)


def agree(got: NDArray[Any], wanted: NDArray[Any], top: float) -> None:
    np.testing.assert_allclose(got, wanted, atol=1e-6 * top)


@pytest.mark.parametrize("motion", ["translation", "euclidean"])
def test_a_part_among_others_lies_as_it_does_alone(motion: Motion, run_graph: Callable[..., Run]) -> None:
    run = registration_graph(Aligner(grey(part(), 255), motion), run_graph)
    images = planes([part(shift, degrees) for shift, degrees in MOTIONS] + [black()])
    maps = np.ones((len(images), 1, *SIZE), np.float32)
    together = run(image=images, map=maps)
    for i in range(len(images)):
        alone = run(image=images[i : i + 1], map=maps[i : i + 1])
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][i], err_msg=name)


def registering_model(motion: Motion = "euclidean", aspect: float = 1.0, **sections: Any) -> Model:
    images = {"registration": motion} | sections.pop("images", {})
    model = build_model(small_config(images=images, **sections), SIZE)
    return replace(model, aligner=Aligner(grey(part(), 255), motion, aspect))


def scorers(model: Model, **settings: Any) -> tuple[Scorer, Run]:
    scorer = build_torch_scorer(model, **settings)
    assert scorer.calibration is not None
    return scorer, session_run(build_scorer(model, scorer.calibration))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"images": {"exposure": "mean"}},
        {"score": {"border": 8, "smoothing_sigma": 2.0, "spread": 3}},
        {"tiles": {"scales": [1.0, 0.5]}},
        {"network": {"condition": "tile-position"}},
    ],
    ids=str,
)
def test_scores_maps_and_verdicts_are_those_of_pytorch(sections: dict[str, Any]) -> None:
    scorer, run = scorers(registering_model(**sections), map_size=SIZE)
    images = [*(part(shift, degrees) for shift, degrees in MOTIONS), black()]
    assert_as_pytorch(scorer, run, images)


def test_photographs_of_another_size_are_registered_after_resizing() -> None:
    scorer, run = scorers(registering_model(images={"size": SIZE}, aspect=110 / 150 * 96 / 72))
    assert_as_pytorch(scorer, run, [part((9.0, -4.0), 3.0, (110, 150)), black((110, 150))])


def assert_as_pytorch(scorer: Scorer, run: Run, images: list[NDArray[Any]]) -> None:
    got = run(image=np.stack(images))
    wanted = scorer.score(images)
    assert {found.registered for found in wanted} == {True, False}
    assert got["registered"].tolist() == [found.registered for found in wanted]
    np.testing.assert_allclose(got["score"], [found.score for found in wanted], rtol=1e-4)
    verdicts = [list(Verdict).index(found.verdict) for found in wanted]
    assert got["verdict"].tolist() == verdicts
    for i, found in enumerate(wanted):
        np.testing.assert_allclose(got["anomaly_map"][i], found.anomaly_map, rtol=1e-3, atol=1e-3)
        levels = np.abs(got["reconstruction"][i].astype(int) - found.reconstruction.astype(int))
        assert levels.max() <= 1


def test_part_that_cannot_be_registered_is_reviewed_not_passed() -> None:
    _, run = scorers(registering_model(), threshold=1e6)
    got = run(image=np.stack([part(), black()]))
    assert got["registered"].tolist() == [True, False]
    assert got["verdict"].tolist() == [0, 1]
    strict = run(image=black()[None], threshold=np.float32(-1e6))
    assert strict["verdict"].tolist() == [2]


def test_station_tells_whether_the_part_was_registered(tmp_path: Any) -> None:
    scorer = build_torch_scorer(registering_model())
    images = [part((3.0, 2.0), 2.0), black()]
    exported = export_scorer(scorer, tmp_path / "scorer.onnx", images=images)
    found = StationScorer(exported.path, providers=["cpu"]).score(images)
    assert [inspection.registered for inspection in found] == [True, False]
    assert exported.parity.batch_identical
    assert exported.parity.agreements[-1].score < 1e-5
    plain = export_scorer(
        build_torch_scorer(build_model(small_config(), SIZE)), tmp_path / "plain.onnx", images=images
    )
    assert StationScorer(plain.path, providers=["cpu"]).score(images)[0].registered is None


@pytest.mark.parametrize("precision", ["fp16", "mixed", "int8"])
def test_smaller_weights_find_the_same_pose(precision: Precision, tmp_path: Path) -> None:
    scorer = build_torch_scorer(registering_model())
    good = [part(shift, degrees) for shift, degrees in MOTIONS]
    exported = export_scorer(
        scorer, tmp_path / "s.onnx", images=[good[2], black()], precision=precision, good_images=good
    )
    whole = export_scorer(scorer, tmp_path / "whole.onnx", images=[black()])
    station, single = (StationScorer(path, providers=["cpu"]) for path in (exported.path, whole.path))
    images = [*good, black()]
    found, wanted = station.score(images), single.score(images)
    assert [f.registered for f in found] == [f.registered for f in wanted]
    for got, want in zip(found, wanted, strict=True):
        # What registration invents is left out of the map: the same places, to the pixel.
        np.testing.assert_array_equal(got.anomaly_map == 0, want.anomaly_map == 0)
        assert got.score == pytest.approx(want.score, rel=5e-2)
    assert exported.parity.batch_identical


def test_thresholds_of_cut_searches_count_the_registered_parts(tmp_path: Path) -> None:
    scorer = build_torch_scorer(registering_model())
    good = [part(shift, degrees) for shift, degrees in MOTIONS]
    exported = export_scorer(scorer, tmp_path / "s.onnx", images=good[:1], good_images=good, cut_steps=[1])
    station = StationScorer(exported.path, providers=["cpu"], steps=1)
    found = station.score([*good, black()])
    assert [inspection.registered for inspection in found] == [True] * len(good) + [False]
    cut = exported.manifest.calibrations[-1]
    assert scorer.calibration is not None
    wanted = conformal_threshold([f.score for f in found[:-1]], scorer.calibration.estimate.requested)
    assert (cut.steps, cut.n_good) == (1, len(good))
    assert cut.threshold == pytest.approx(wanted.threshold)


def test_variants_are_laid_over_one_reference() -> None:
    names = ["red", "blue"]
    model = registering_model(network={"condition": "variant", "variants": names})
    scorer, run = scorers(model, map_size=SIZE)
    images = [part((5.0, -3.0), 4.0), part((5.0, -3.0), 4.0), black()]
    got = run(image=np.stack(images), variant=np.array([0, 1, 1], np.int64))
    wanted = [
        scorer.score([image], variant)[0]
        for image, variant in zip(images, ["red", "blue", "blue"], strict=True)
    ]
    assert got["registered"].tolist() == [f.registered for f in wanted] == [True, True, False]
    np.testing.assert_allclose(got["score"], [f.score for f in wanted], rtol=1e-4)
    assert got["score"][0] != got["score"][1]


def test_pieces_register_as_the_whole_file_does() -> None:
    model = registering_model()
    scorer, run = scorers(model)
    assert scorer.calibration is not None
    pieces = {name: session_run(piece) for name, piece in build_pieces(model, scorer.calibration).items()}
    images = np.stack([part((5.0, -3.0), 4.0), black()])
    state = pieces["begin"](image=images)
    read = {name: value for name, value in state.items() if not name.startswith("state_")}
    held = {name: value for name, value in state.items() if name.startswith("state_")}
    for _ in range(model.config.search.steps):
        held = {k.removeprefix("new_"): v for k, v in pieces["step"](**read, **held).items()}
    wanted = run(image=images)
    left_out = {"state_m", "state_v", "state_decay1", "state_decay2"}
    got = pieces["finish"](image=images, **{k: v for k, v in held.items() if k not in left_out})
    assert got["registered"].tolist() == [True, False]
    np.testing.assert_allclose(got["score"], wanted["score"], rtol=1e-5)
    np.testing.assert_array_equal(got["verdict"], wanted["verdict"])
