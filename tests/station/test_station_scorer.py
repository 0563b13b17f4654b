"""The station's scorer: the same inspections as PyTorch, without PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.errors import BundleError, ConfigError, ImageError, ShapeError
from anogan.export import export_scorer
from anogan.images.decode import write_image
from anogan.inspection import Inspection, Verdict, decide
from anogan.recipes.score import score_files
from anogan.scoring import Scorer as TorchScorer
from anogan.station import BudgetedInspection, Scorer, session
from anogan.station.session import PROVIDERS, Session
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config

SIZE = (40, 56)


@pytest.fixture(scope="module")
def scorer(scorer_file: Path) -> Scorer:
    return Scorer(scorer_file, threads=1)


@pytest.mark.parametrize("kind", ["PyTorch", "ONNX Runtime"])
def test_both_scorers_keep_the_contract_of_an_inspection(
    kind: str, torch_scorer: TorchScorer, scorer: Scorer
) -> None:
    scores: Callable[..., list[Inspection]] = torch_scorer.score if kind == "PyTorch" else scorer.score
    images = random_images(3, SIZE)
    together = scores(images)
    assert len(together) == 3
    for image, found in zip(images, together, strict=True):
        alone = scores([image])[0]
        assert alone.score == found.score
        assert found.verdict == decide(found.score, torch_scorer.threshold, torch_scorer.review_threshold)
        assert found.threshold == torch_scorer.threshold
        assert found.anomaly_map.shape == SIZE
        assert found.anomaly_map.dtype == np.float32
        assert found.score == pytest.approx(found.anomaly_map.max())
        assert found.reconstruction.shape == image.shape
        assert found.reconstruction.dtype == image.dtype
        assert 0 <= found.residual_score <= 2
        assert found.steps_used == torch_scorer.config.search.steps
        assert found.ms > 0
        assert found.path is None
        for field in fields(Inspection):
            assert type(getattr(found, field.name)) is type(getattr(alone, field.name))
    assert scores([]) == []
    assert [found.score for found in scores(np.stack(images))] == [found.score for found in together]


@pytest.mark.parametrize("kind", ["PyTorch", "ONNX Runtime"])
def test_both_scorers_take_a_path_and_refuse_a_single_image(
    kind: str, torch_scorer: TorchScorer, scorer: Scorer, tmp_path: Path
) -> None:
    scores: Callable[..., Any] = torch_scorer.score if kind == "PyTorch" else scorer.score
    image = random_images(1, SIZE)[0]
    write_image(tmp_path / "1.png", image)
    found = scores(tmp_path / "1.png")

    assert (found.score, found.path) == (scores([image])[0].score, tmp_path / "1.png")
    assert scores(str(tmp_path / "1.png")).score == found.score
    with pytest.raises(ShapeError, match=r"score\(\[image\]\)"):
        scores(image)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"threshold": float("nan")}, "threshold nan"), ({"steps": -1}, "steps is -1")],
)
def test_both_scorers_refuse_the_same_overrides(
    settings: dict[str, Any], words: str, torch_scorer: TorchScorer, scorer_file: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        TorchScorer(torch_scorer.model, torch_scorer.calibration, **settings)
    with pytest.raises(ConfigError, match=words):
        Scorer(scorer_file, **settings)


def test_inspections_are_those_of_pytorch(torch_scorer: TorchScorer, scorer: Scorer) -> None:
    images = random_images(4, SIZE)
    assert {found.verdict for found in scorer.score(images)} == set(Verdict)
    for want, got in zip(torch_scorer.score(images), scorer.score(images), strict=True):
        assert got.score == pytest.approx(want.score, rel=1e-4, abs=1e-4)
        assert got.verdict == want.verdict
        assert set(got.to_dict()) == set(want.to_dict())


def test_images_of_several_sizes_come_back_in_their_order(any_size_file: Path) -> None:
    scorer = Scorer(any_size_file, threads=1)
    sizes = [(33, 47), (60, 32), (33, 47), (32, 32)]
    images = [random_images(1, size, channels=1, bit_depth=16)[0] for size in sizes]
    found = scorer.score(images)
    assert [f.anomaly_map.shape for f in found] == sizes
    assert [f.score for f in found] == [scorer.score([image])[0].score for image in images]
    assert all(f.reconstruction.dtype == np.uint16 for f in found)


def test_threads_get_the_scores_of_a_single_one(scorer: Scorer) -> None:
    images = random_images(8, SIZE)
    wanted = [found.score for found in scorer.score(images)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda image: scorer.score([image])[0].score, images))
    assert got == wanted


def test_score_does_not_depend_on_the_number_of_threads(scorer: Scorer, scorer_file: Path) -> None:
    images = random_images(2, SIZE)
    two = Scorer(scorer_file, threads=2).score(images)
    assert [f.score for f in two] == [f.score for f in scorer.score(images)]


def test_threshold_and_steps_can_be_overridden(scorer_file: Path, scorer: Scorer) -> None:
    image = random_images(1, SIZE)[0]
    score = scorer.score([image])[0].score
    low = Scorer(scorer_file, threshold=score - 1).score([image])[0]
    assert (low.verdict, low.threshold) == (Verdict.REJECT, score - 1)
    assert Scorer(scorer_file, threshold=score + 1e9).threshold == score + 1e9
    assert Scorer(scorer_file, steps=1).score([image])[0].steps_used == 1
    assert scorer.with_steps(2).score([image])[0].steps_used == 2


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((40, 56, 3), np.float32), "float32"),
        (np.zeros((40, 56, 3), np.uint16), "16"),
        (np.zeros((40, 56, 2), np.uint8), "shape"),
        (np.zeros((40,), np.uint8), "shape"),
        (np.zeros((40, 56), np.uint8), "channels"),
        (np.zeros((41, 56, 3), np.uint8), "56x41.*56x40"),
        (np.zeros((0, 0, 3), np.uint8), "0x0"),
    ],
)
def test_an_image_that_does_not_fit_is_one_sentence(scorer: Scorer, image: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words) as error:
        scorer.score([random_images(1, SIZE)[0], image])
    assert "image 1" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_image_smaller_than_a_tile_is_one_sentence(any_size_file: Path) -> None:
    with pytest.raises(ImageError, match="smaller than one tile"):
        Scorer(any_size_file).score([np.zeros((31, 60), np.uint16)])


def test_files_are_scored_as_their_pixels(scorer: Scorer, tmp_path: Path) -> None:
    image = random_images(1, SIZE)[0]
    path = tmp_path / "板 1.png"
    write_image(path, image)
    found = scorer.score_file(path)
    assert found.path == path
    assert found.score == scorer.score([image])[0].score


def test_a_bad_file_is_told_and_the_rest_is_scored(scorer: Scorer, tmp_path: Path) -> None:
    images = random_images(2, SIZE)
    for index, image in enumerate(images):
        write_image(tmp_path / f"{index}.png", image)
    (tmp_path / "bad.png").write_text("not an image", encoding="utf-8")
    write_image(tmp_path / "wide.png", random_images(1, (40, 60))[0])
    paths = [tmp_path / name for name in ("0.png", "bad.png", "wide.png", "none.png", "1.png")]
    found = list(scorer.score_files(paths))
    assert [file.path for file in found] == paths
    assert [file.error is None for file in found] == [True, False, False, False, True]
    assert found[4].inspection is not None
    assert found[4].inspection.path == paths[4]
    for file in found[1:4]:
        assert str(file.path) in str(file.error)


LIMITED = """
import resource, sys
from pathlib import Path
from anogan.station import Scorer
scorer = Scorer(sys.argv[1], threads=1)
resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))
for file in scorer.score_files([Path(path) for path in sys.argv[2:]]):
    print(file.error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux does")
def test_a_picture_too_large_for_the_memory_is_told_and_the_rest_is_scored(
    repository: Path, tmp_path: Path
) -> None:
    scorer = build_torch_scorer(build_model(small_config(images={"on_mixed_sizes": "keep"})))
    export_scorer(scorer, tmp_path / "scorer.onnx", images=random_images(1, (40, 40)))
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, side in zip(paths, (40, 6000, 40), strict=True):
        write_image(path, np.zeros((side, side, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "scorer.onnx", *paths],
        env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )

    first, large, last = done.stdout.splitlines()
    assert first == last == "None"
    assert large.startswith(f"{paths[1]}: too large for the memory")


@pytest.mark.parametrize("pooling", ["max", "top"])
def test_both_scorers_tell_an_image_of_which_the_border_leaves_nothing(pooling: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, side in zip(paths, (40, 34, 40), strict=True):
        write_image(path, random_images(1, (side, side))[0])
    config = small_config(images={"on_mixed_sizes": "keep"}, score={"border": 17, "pooling": pooling})
    torch_scorer = build_torch_scorer(build_model(config))
    export_scorer(torch_scorer, tmp_path / "scorer.onnx", images=random_images(1, (40, 40)))

    for found in (score_files(torch_scorer, paths), Scorer(tmp_path / "scorer.onnx").score_files(paths)):
        errors = [file.error for file in found]
        assert errors[0] is errors[2] is None
        assert "1.png: A border of 17 leaves nothing" in str(errors[1])


def test_files_that_do_not_tell_the_brightness_yet_are_scored(
    scorer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(2, SIZE)
    now, earlier = Scorer(scorer_file, threads=1), Scorer(scorer_file, threads=1)
    run = earlier._session.run

    def without(inputs: Any) -> dict[str, Any]:
        return {name: values for name, values in run(inputs).items() if name != "brightness"}

    monkeypatch.setattr(earlier._session, "run", without)
    assert [found.brightness for found in earlier.score(images)] == [
        found.brightness for found in now.score(images)
    ]


def test_a_tight_budget_cuts_the_steps_and_says_so(scorer_file: Path) -> None:
    scorer = Scorer(scorer_file, budget_ms=1e-6, threads=1)
    found = scorer.score(random_images(1, SIZE))[0]
    assert isinstance(found, BudgetedInspection)
    assert found.steps_used == 0
    assert found.steps_wanted == 3
    assert found.to_dict()["steps_cut"] is True
    at_zero = scorer.manifest.calibrations[-1]
    assert found.threshold == at_zero.threshold != scorer.manifest.calibrations[0].threshold
    assert found.verdict == decide(found.score, at_zero.threshold, at_zero.review_threshold)


def test_steps_that_the_export_calibrated_bring_their_threshold(scorer_file: Path, scorer: Scorer) -> None:
    images = random_images(1, SIZE)
    default, *cut = scorer.manifest.calibrations
    for own in cut:
        other = Scorer(scorer_file, steps=own.steps, threads=1)
        assert other.threshold == own.threshold != default.threshold
        assert other.review_threshold == own.review_threshold
        assert other.score(images)[0].threshold == own.threshold
    beyond = Scorer(scorer_file, steps=default.steps + 1, threads=1)
    assert (beyond.threshold, beyond.score(images)[0].threshold) == (default.threshold, default.threshold)
    assert Scorer(scorer_file, steps=0, threshold=7.5).threshold == 7.5


def test_an_ample_budget_changes_nothing(scorer_file: Path, scorer: Scorer) -> None:
    images = random_images(1, SIZE)
    found = Scorer(scorer_file, budget_ms=1e6, threads=1).score(images)[0]
    assert type(found) is Inspection
    assert found.score == scorer.score(images)[0].score


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget_ms": 0}, "budget_ms is 0"),
        ({"budget_ms": 5, "steps": 2}, "give one"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
        ({"steps": 1.5}, "steps is 1.5; expected a whole number"),
        ({"steps": -1}, "steps is -1; expected a whole number"),
        ({"providers": "cpu"}, r"give a list, such as \['cpu'\]"),
        ({"providers": ["gpu"]}, "Unknown provider 'gpu'; expected one of tensorrt, cuda, openvino, cpu"),
    ],
)
def test_contradicting_settings_are_one_sentence(
    scorer_file: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Scorer(scorer_file, **settings)


def test_no_more_threads_are_started_than_there_are_cores(scorer_file: Path) -> None:
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir())) if tasks.is_dir() else 0
    scorer = Scorer(scorer_file, threads=1000)

    assert scorer.score(random_images(1, SIZE))
    if before:
        assert len(list(tasks.iterdir())) - before <= (os.cpu_count() or 1)


def test_a_budget_without_calibrated_cuts_is_refused(any_size_file: Path) -> None:
    with pytest.raises(ConfigError, match="--cut-steps"):
        Scorer(any_size_file, budget_ms=10)


def test_a_missing_provider_is_named_with_what_to_install(scorer_file: Path) -> None:
    import onnxruntime

    missing = [n for n, full in PROVIDERS.items() if full not in onnxruntime.get_available_providers()]
    for name in missing:
        with pytest.raises(ConfigError, match=f"Provider {name} is not in this ONNX Runtime.*install"):
            Scorer(scorer_file, providers=[name])
    assert Scorer(scorer_file, providers=["cpu"]).provider == "CPUExecutionProvider"


def test_cuda_computes_in_float32(scorer_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    class Runtime:
        """ONNX Runtime as it is on a machine with a GPU, up to the moment when it would need one."""

        __version__ = onnxruntime.__version__
        SessionOptions = onnxruntime.SessionOptions
        asked: Any = None

        def get_available_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def InferenceSession(self, *_: Any, providers: Any) -> None:  # noqa: N802 - Its name there.
            self.asked = providers
            raise RuntimeError("there is no GPU here")

    runtime = Runtime()
    monkeypatch.setattr(session, "_runtime", lambda: runtime)
    with pytest.raises(BundleError, match="there is no GPU here"):
        Scorer(scorer_file)
    assert dict(runtime.asked) == {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}


def test_bound_inputs_and_outputs_give_the_same_values(scorer_file: Path) -> None:
    session = Session(scorer_file.read_bytes(), "scorer.onnx", ["cpu"], 1)
    feed = {"image": np.stack(random_images(2, SIZE))}
    plain, bound = session.run(feed), session.run_bound(feed)
    for want, got in zip(plain.values(), bound, strict=True):
        np.testing.assert_array_equal(got, want)


def test_station_needs_neither_torch_nor_the_onnx_package(scorer_file: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", random_images(1, SIZE)[0])
    absent = (
        "torch torchvision lightning_fabric onnx onnxscript onnx_ir sklearn scipy albumentations matplotlib"
    )
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys('{absent}'.split()))\n"  # None: importing it is an ImportError.
        "from anogan.station import Scorer\n"
        "found = Scorer(sys.argv[1]).score_file(sys.argv[2])\n"
        "print(found.verdict, repr(found.score))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(scorer_file), str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdict, score = done.stdout.split()
    want = Scorer(scorer_file).score_file(tmp_path / "a.png")
    assert (verdict, float(score)) == (str(want.verdict), want.score)
