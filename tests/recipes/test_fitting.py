"""What `fit` refuses, remembers and repeats."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import load_bundle
from anogan.errors import AnoganError, BundleError, ConfigError, DataError
from anogan.images.decode import read_as_stored, write_image
from anogan.images.folders import file_digest
from anogan.recipes import FitResult, fit
from anogan.recipes.shared_stages import SharedStages
from tests.recipes.listening import Listener
from tests.tiny import no_pictures, part, tiny_config, write_parts

HEADLESS = {"enabled": False}


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    with no_pictures():  # The command's tests look at them.
        yield


def _weights(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    arrays = load_bundle(path).weights
    return {f"{net}.{name}": array for net, tensors in arrays.items() for name, array in tensors.items()}


def _same(first: Path, second: Path) -> bool:
    a, b = _weights(first), _weights(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("线 1") / "good", range(16))


def _refused(kind: type[AnoganError], words: str, call: Callable[[], object]) -> str:
    with pytest.raises(kind, match=words) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


# ---- without a config


def test_without_a_config_it_takes_that_of_the_command_and_the_channels_of_the_images(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for seed in range(12):
        write_image(folder / f"{seed}.png", part(seed)[..., :1])
    listener = Listener()
    _refused(
        DataError,
        "56x40 pixels are smaller than tiles.size 128",
        lambda: fit(folder, tmp_path / "m", reporter=listener.reporter),
    )
    assert "The images are 8-bit grey, so images.channels=1." in listener.events


def test_a_config_by_its_name_takes_overrides_and_any_other_refuses_them(good: Path, tmp_path: Path) -> None:
    _refused(
        DataError,
        "56x40 pixels are smaller than tiles.size 256",
        lambda: fit(good, tmp_path / "m", "default", overrides=["tiles.size=256", "tiles.overlap=48"]),
    )
    _refused(
        ConfigError,
        "overrides change a config that is given by name",
        lambda: fit(good, tmp_path / "m", tiny_config(), overrides=["seed=1"]),
    )


def test_kinds_that_do_not_show_on_binarised_images_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(16):
        blocks = np.kron(rng.integers(0, 2, (5, 7)), np.ones((8, 8), np.uint8)) * 255
        write_image(folder / f"{index}.png", np.repeat(blocks.astype(np.uint8)[..., None], 3, axis=2))
    listener = Listener()
    some = tiny_config(defects={"kinds": ["blob", "shade", "cut-paste"]})
    fit(folder, tmp_path / "model", some, reporter=listener.reporter)
    assert any("binarised, so of defects.kinds shade, cut-paste are not drawn" in e for e in listener.events)
    none = tiny_config(defects={"kinds": ["shade", "contrast"]})
    _refused(
        ConfigError, "binarised: shade, contrast would not show", lambda: fit(folder, tmp_path / "n", none)
    )


# ---- stages in common


def _with(good: Path, out: Path, stages: SharedStages | None, **sections: Any) -> tuple[Path, list[str]]:
    listener = Listener()
    fit(good, out, tiny_config(**sections), reporter=listener.reporter, stages=stages)
    return out, listener.stages


def test_a_fit_takes_the_stages_that_another_config_does_not_change(good: Path, tmp_path: Path) -> None:
    stages = SharedStages(tmp_path / "stages")
    _, first = _with(good, tmp_path / "first", stages)
    _, scored = _with(good, tmp_path / "scored", stages, score={"smoothing_sigma": 2.0})
    _, headed = _with(good, tmp_path / "headed", stages, search={"steps": 1})
    _, taught = _with(good, tmp_path / "taught", stages, gan={"steps": 4})

    both = {"gan", "head"}
    assert [both & set(trained) for trained in (first, scored, headed, taught)] == [
        both,
        set(),
        {"head"},
        both,
    ]


@pytest.mark.parametrize("sections", [{"score": {"smoothing_sigma": 2.0}}, {"search": {"steps": 1}}])
def test_a_fit_with_stages_in_common_equals_one_without(
    sections: dict[str, Any], good: Path, tmp_path: Path
) -> None:
    stages = SharedStages(tmp_path / "stages")
    _with(good, tmp_path / "other", stages)
    shared, _ = _with(good, tmp_path / "shared", stages, **sections)
    alone, _ = _with(good, tmp_path / "alone", None, **sections)

    assert _same(shared, alone)
    first, second = (load_bundle(path) for path in (shared, alone))
    assert first.calibration == second.calibration
    assert first.metadata["metrics"] == second.metadata["metrics"]


def test_other_images_share_no_stage(good: Path, tmp_path: Path) -> None:
    stages = SharedStages(tmp_path / "stages")
    _with(good, tmp_path / "first", stages)
    _, trained = _with(write_parts(tmp_path / "others", range(20, 36)), tmp_path / "second", stages)

    assert {"gan", "head"} <= set(trained)


# ---- resuming


@pytest.mark.parametrize("stop_at", [("gan", 2), ("head", 1)])
def test_a_resumed_fit_equals_one_that_was_never_stopped(
    stop_at: tuple[str, int], good: Path, tmp_path: Path
) -> None:
    config = tiny_config()
    with pytest.raises(KeyboardInterrupt):
        fit(good, tmp_path / "a", config, reporter=Listener(stop_at).reporter)
    resumed = Listener()
    fit(good, tmp_path / "a", config, resume=True, reporter=resumed.reporter)
    whole = fit(good, tmp_path / "b", config)

    assert _same(tmp_path / "a", whole.path)
    assert load_bundle(tmp_path / "a").calibration == load_bundle(tmp_path / "b").calibration
    assert ("gan" in resumed.stages) == (stop_at[0] == "gan")


def test_the_same_seed_fits_the_same_model_and_another_one_another(good: Path, tmp_path: Path) -> None:
    def fitted(name: str, seed: int) -> Path:
        return fit(good, tmp_path / name, tiny_config(seed=seed, head=HEADLESS)).path

    assert _same(fitted("a", 1), fitted("b", 1))
    assert not _same(tmp_path / "a", fitted("c", 2))


@pytest.fixture
def stopped(good: Path, tmp_path: Path) -> Path:
    """The checkpoints of a fit of `model` that was stopped."""
    with pytest.raises(KeyboardInterrupt):
        fit(good, tmp_path / "model", tiny_config(), reporter=Listener(("gan", 2)).reporter)
    return tmp_path / "model.checkpoints"


def _content(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.glob("*.*") if path.is_file()}


@pytest.mark.parametrize("change", ["config", "precision", "pixels", "one image less"])
def test_resuming_with_other_settings_or_images_is_refused_and_keeps_the_checkpoints(
    change: str, stopped: Path, good: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(good, tmp_path / "good"))
    changes = {"config": {"gan": {"steps": 4}}, "precision": {"runtime": {"precision": "bf16"}}}
    config = tiny_config(**changes.get(change, {}))
    if change == "pixels":
        write_image(data / "3.png", part(99))  # The name is as before.
    if change == "one image less":
        (data / "3.png").unlink()
    before = _content(stopped)

    _refused(
        BundleError,
        "another config or other images",
        lambda: fit(data, tmp_path / "model", config, resume=True),
    )
    assert _content(stopped) == before


def test_settings_that_only_matter_after_training_may_change_before_a_resume(
    stopped: Path, good: Path, tmp_path: Path
) -> None:
    config = tiny_config(memory={"patches": 10, "tiles": 100}, score={"smoothing_sigma": 3.0})
    listener = Listener()
    fit(good, tmp_path / "model", config, resume=True, reporter=listener.reporter)

    assert not any("beginning" in event for event in listener.events)
    assert not stopped.exists()


def test_a_moved_folder_of_the_same_images_resumes(stopped: Path, good: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(good, tmp_path / "moved"))
    listener = Listener()
    fit(
        data, tmp_path / "model", tiny_config(runtime={"threads": 1}), resume=True, reporter=listener.reporter
    )

    assert not any("beginning" in event for event in listener.events)
    assert not stopped.exists()


@pytest.mark.parametrize("fault", ["text", "size", "channels"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_refused_fit_leaves_the_checkpoints_of_an_earlier_one(
    fault: str, seed: int, good: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(good, tmp_path / "good"))
    bad = data / "bad.png"
    if fault == "text":
        bad.write_bytes((data / "1.png").read_bytes()[:-200])
    else:
        write_image(bad, part(50, size=(40, 64)) if fault == "size" else part(50, channels=1))
    work = tmp_path / "model.checkpoints"
    work.mkdir()
    (work / "run.sha256").write_text("an earlier run", encoding="ascii")
    (work / "gan.safetensors").write_bytes(b"hours of training")
    listener = Listener()

    # Whichever part of the split the bad image falls into, it is found before the training.
    config = tiny_config(seed=seed)
    sentence = _refused(
        DataError, "bad.png", lambda: fit(data, tmp_path / "model", config, reporter=listener.reporter)
    )
    assert (work / "gan.safetensors").read_bytes() == b"hours of training"
    assert listener.stages == []
    assert "1 of 17" in sentence


def test_a_folder_that_only_looks_like_checkpoints_is_never_emptied(good: Path, tmp_path: Path) -> None:
    work = tmp_path / "model.checkpoints"
    work.mkdir()
    (work / "thesis.txt").write_text("mine", encoding="utf-8")

    sentence = _refused(BundleError, "holds none", lambda: fit(good, tmp_path / "model", tiny_config()))
    assert str(work) in sentence
    assert (work / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_file_in_the_place_of_the_checkpoints_is_refused(good: Path, tmp_path: Path) -> None:
    (tmp_path / "model.checkpoints").write_bytes(b"")

    _refused(BundleError, "holds none", lambda: fit(good, tmp_path / "model", tiny_config()))


def test_nothing_to_resume_is_said_and_fitted_from_the_beginning(good: Path, tmp_path: Path) -> None:
    listener = Listener()
    fit(good, tmp_path / "model", tiny_config(head=HEADLESS), resume=True, reporter=listener.reporter)

    assert any("no checkpoint to go on from" in event for event in listener.events)
    assert (tmp_path / "model" / "manifest.json").is_file()


# ---- what is told and kept


@pytest.fixture(scope="module")
def result(good: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, Listener]:
    listener = Listener()
    config = tiny_config(calibration={"false_reject": 0.05})
    return fit(good, tmp_path_factory.mktemp("out") / "模型", config, reporter=listener.reporter), listener


def test_the_parts_of_good_are_disjoint_and_recorded_by_content(
    result: tuple[FitResult, Listener], good: Path
) -> None:
    data = result[0].metadata["data"]
    parts = [set(data[f"{name}_hashes"]) for name in ("train", "early_stop", "calibrate")]

    assert sum(map(len, parts)) == len(set.union(*parts)) == 16
    assert set.union(*parts) == {file_digest(path) for path in good.iterdir()}
    assert [data[f"n_{name}"] for name in ("train", "early_stop", "calibrate")] == [8, 2, 6]
    assert load_bundle(result[0].path).metadata["data"] == data


def test_the_threshold_stands_on_held_out_good_images_and_says_so(
    result: tuple[FitResult, Listener],
) -> None:
    found = result[0]

    assert found.metadata["calibrated_on"] == "held-out good images"
    assert found.calibration.estimate.n_good == found.metadata["data"]["n_calibrate"]


def test_a_promise_that_the_images_cannot_keep_is_told_once_and_before_the_training(
    result: tuple[FitResult, Listener],
) -> None:
    events = [event for event in result[1].events if "false-reject" in event]

    assert len(events) == 1
    assert "6 good images" in events[0]
    assert "needs 19" in events[0]


def test_dark_images_of_a_12_bit_camera_are_told_before_the_training(good: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for path in good.glob("*.png"):
        write_image(tmp_path / "deep" / path.name, read_as_stored(path).astype(np.uint16) * 16)
    listener = Listener(("gan", 1))
    with pytest.raises(KeyboardInterrupt):
        fit(
            tmp_path / "deep",
            tmp_path / "m",
            tiny_config(images={"bit_depth": 16}),
            reporter=listener.reporter,
        )

    assert any("12 of their 16 bits" in event for event in listener.events)


def test_a_finished_fit_leaves_the_model_alone(result: tuple[FitResult, Listener]) -> None:
    folder = result[0].path.parent

    assert [path.name for path in folder.iterdir()] == ["模型"]


def test_the_result_scores_as_the_saved_model_does(result: tuple[FitResult, Listener]) -> None:
    from anogan import load

    images = [part(70), part(71, defect=True)]
    ours, loaded = result[0].scorer.score(images), load(str(result[0].path)).score(images)

    assert [found.score for found in ours] == [found.score for found in loaded]


def test_the_model_says_which_step_its_weights_are_from(result: tuple[FitResult, Listener]) -> None:
    kept = load_bundle(result[0].path).metadata["health"]["kept"]

    assert (kept["step"], kept["last_step"], kept["of"]) == (3, 3, 3)
    assert kept["error"] == result[0].metadata["metrics"]["gan.held_out_reconstruction"]


# ---- leaks


def test_a_test_image_among_the_good_ones_is_refused_before_training(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "good")
    write_parts(tmp_path / "test" / "good", [100])
    shutil.copy(good / "3.png", tmp_path / "test" / "good" / "another name.png")
    listener = Listener()

    sentence = _refused(
        DataError,
        "another name.png",
        lambda: fit(tmp_path, tmp_path / "model", tiny_config(), reporter=listener.reporter),
    )
    assert "1 of 2 test images" in sentence
    assert listener.stages == []


# ---- sizes


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Twelve parts of 40 x 56 and four of 48 x 64."""
    write_parts(tmp_path / "mixed", range(12))
    return write_parts(tmp_path / "mixed", range(12, 16), size=(48, 64))


def _score(result: FitResult, size: tuple[int, int]) -> Any:
    return result.scorer.score([part(80, size=size)])[0]


def test_mixed_sizes_are_refused_by_name(mixed: Path, tmp_path: Path) -> None:
    sentence = _refused(DataError, "differ in size", lambda: fit(mixed, tmp_path / "m", tiny_config()))

    assert "12.png (64x48)" in sentence
    assert "images.on_mixed_sizes" in sentence


def test_mixed_sizes_are_resized_to_the_usual_one(mixed: Path, tmp_path: Path) -> None:
    config = tiny_config(images={"on_mixed_sizes": "resize"}, head=HEADLESS)
    result = fit(mixed, tmp_path / "m", config)

    assert result.metadata["image_size"] == [40, 56]
    assert _score(result, (48, 64)).anomaly_map.shape == (48, 64)
    assert _score(result, (100, 33)).reconstruction.shape == (100, 33, 3)


def test_mixed_sizes_are_kept_and_each_image_is_scored_at_its_own(mixed: Path, tmp_path: Path) -> None:
    config = tiny_config(images={"on_mixed_sizes": "keep"}, calibration={"map": "global"}, head=HEADLESS)
    result = fit(mixed, tmp_path / "m", config)

    assert result.metadata["image_size"] is None
    for size in ((40, 56), (48, 64), (33, 90)):
        found = _score(result, size)
        assert found.anomaly_map.shape == size
        assert np.isfinite(found.score)


@pytest.mark.parametrize("mode", ["error", "resize", "keep"])
def test_images_smaller_than_a_tile_are_refused_before_training(mode: str, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "good", range(8), size=(30, 40))
    config = tiny_config(images={"on_mixed_sizes": mode}, calibration={"map": "global"})

    sentence = _refused(DataError, "smaller than tiles.size 32", lambda: fit(data, tmp_path / "m", config))
    assert "40x30" in sentence


@pytest.mark.parametrize("mode", ["error", "keep"])
def test_a_border_that_leaves_nothing_is_refused_before_training(
    mode: str, good: Path, tmp_path: Path
) -> None:
    settings = {"images": {"on_mixed_sizes": mode}, "calibration": {"map": "global"}, "score": {"border": 20}}
    told = "score.border 20 leaves nothing of an image of 56x40"
    _refused(ConfigError, told, lambda: fit(good, tmp_path / "model", tiny_config(**settings)))


def test_defects_that_nobody_can_see_are_told_before_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for i in range(16):  # A patch of a flat part looks as any other.
        pixels = rng.integers(99, 102, (40, 56, 3)).astype(np.uint8)
        write_image(tmp_path / "good" / f"{i}.png", pixels)
    config = tiny_config(defects={"kinds": ["cut-paste"]})
    _refused(ConfigError, "change nothing visible", lambda: fit(tmp_path / "good", tmp_path / "m", config))
    assert not list(tmp_path.glob("m.*"))


def test_a_model_may_be_fitted_into_the_current_folder(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "line 1").mkdir()
    monkeypatch.chdir(tmp_path / "line 1")
    fit(good, ".", tiny_config(gan={"steps": 1}, head={"enabled": False}))
    assert (tmp_path / "line 1" / "manifest.json").is_file()


def test_one_small_image_among_kept_sizes_is_named(good: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(good, tmp_path / "good"))
    write_parts(data, [77], size=(20, 90))
    config = tiny_config(images={"on_mixed_sizes": "keep"}, calibration={"map": "global"})

    assert "77.png (90x20)" in _refused(DataError, "1 of 17", lambda: fit(data, tmp_path / "m", config))
