"""What `fit` refuses and remembers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anogan.bundle import load_bundle
from anogan.errors import ConfigError, DataError
from anogan.images.decode import read_as_stored, write_image
from anogan.images.split import file_digest
from anogan.recipes import FitResult, evaluate, fit
from anogan.recipes.models import load_scorer
from tests.recipes.fits import Listener, refused
from tests.tiny import part, tiny_config, write_parts

HEADLESS = {"enabled": False}


pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- without a config


def test_without_a_config_it_takes_that_of_the_command_and_the_channels_of_the_images(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for seed in range(12):
        write_image(folder / f"{seed}.png", part(seed)[..., :1])
    listener = Listener()
    refused(
        DataError,
        "56x40 pixels are smaller than tiles.size 128",
        lambda: fit(folder, tmp_path / "m", reporter=listener.reporter),
    )
    assert "The images are 8-bit grey, so images.channels=1." in listener.events


def test_a_config_by_its_name_takes_overrides_and_any_other_refuses_them(good: Path, tmp_path: Path) -> None:
    refused(
        DataError,
        "56x40 pixels are smaller than tiles.size 256",
        lambda: fit(good, tmp_path / "m", "default", overrides=["tiles.size=256", "tiles.overlap=48"]),
    )
    refused(
        ConfigError,
        "overrides change a config that is given by name",
        lambda: fit(good, tmp_path / "m", tiny_config(), overrides=["seed=1"]),
    )
    assert not list(tmp_path.iterdir())


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
    refused(
        ConfigError, "binarised: shade, contrast would not show", lambda: fit(folder, tmp_path / "n", none)
    )


# ---- an encoder after the GAN


@pytest.mark.parametrize("mode", ["ziz", "izi", "izi_f"])
def test_an_encoder_is_trained_after_the_gan_saved_and_searched_from(
    mode: str, good: Path, tmp_path: Path
) -> None:
    listener = Listener()
    encoder = {"mode": mode, "steps": 2}
    one_pass = {"steps": 0}  # E's code as it is.
    config = tiny_config(encoder=encoder, head=HEADLESS, search=one_pass)
    result = fit(good, tmp_path / mode, config, reporter=listener.reporter)

    assert listener.stages.index("encoder") > listener.stages.index("gan")
    loaded = load_scorer(result.path)
    network = loaded.model.networks.encoder
    assert network is not None
    before = loaded.score([part(3)])[0]
    with torch.no_grad():
        network[-1].bias.add_(1.0)
    assert loaded.score([part(3)])[0].residual_score != before.residual_score


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
    assert data["trained_parts"] == []
    assert load_bundle(result[0].path).metadata["data"] == data


@pytest.mark.parametrize("name", ["test", "test/good"])
def test_a_folder_of_test_images_is_not_fitted_on(tmp_path: Path, name: str) -> None:
    write_parts(tmp_path / "pcb" / "good", range(2))
    write_parts(tmp_path / "pcb" / "test" / "good", range(10, 20))
    with pytest.raises(DataError, match=r"holds test images; give .*pcb, of which the good ones alone"):
        fit(tmp_path / "pcb" / name, tmp_path / "model", tiny_config())


def test_copies_among_the_training_images_are_told(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "good"))
    first = sorted(folder.iterdir())[0]
    for index in range(9):
        shutil.copy(first, folder / f"copy {index}.png")
    listener = Listener()
    fit(folder, tmp_path / "model", tiny_config(), reporter=listener.reporter)
    assert any("training images 9 are copies of others" in event for event in listener.events)


def test_the_parts_that_the_networks_learned_from_are_kept_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for seed in range(16):
        write_image(folder / f"part{seed // 2}_{seed % 2}.png", part(seed))
    result = fit(folder, tmp_path / "model", tiny_config(split={"group": r"part(\d)"}))
    data = result.metadata["data"]
    learned = {*data["train_hashes"], *data["early_stop_hashes"]}
    names = {path.name[4] for path in folder.iterdir() if file_digest(path) in learned}

    assert data["trained_parts"] == sorted(names)
    assert 0 < len(names) < 8


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
    health = load_bundle(result[0].path).metadata["health"]
    kept = health["kept"]

    assert health["kept_head"] == {"step": 2}
    assert (kept["step"], kept["last_step"], kept["of"]) == (3, 3, 3)
    assert kept["error"] == result[0].metadata["metrics"]["gan.held_out_reconstruction"]


# ---- leaks


def test_a_test_image_among_the_good_ones_is_refused_before_training(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "good")
    write_parts(tmp_path / "test" / "good", [100])
    shutil.copy(good / "3.png", tmp_path / "test" / "good" / "another name.png")
    listener = Listener()

    sentence = refused(
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
    sentence = refused(DataError, "differ in size", lambda: fit(mixed, tmp_path / "m", tiny_config()))

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

    sentence = refused(DataError, "smaller than tiles.size 32", lambda: fit(data, tmp_path / "m", config))
    assert "40x30" in sentence


@pytest.mark.parametrize("mode", ["error", "keep"])
def test_a_border_that_leaves_nothing_is_refused_before_training(
    mode: str, good: Path, tmp_path: Path
) -> None:
    settings = {"images": {"on_mixed_sizes": mode}, "calibration": {"map": "global"}, "score": {"border": 20}}
    told = "score.border 20 leaves nothing of an image of 56x40"
    refused(ConfigError, told, lambda: fit(good, tmp_path / "model", tiny_config(**settings)))
    assert not list(tmp_path.iterdir())


def test_defects_that_nobody_can_see_are_told_before_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for i in range(16):  # A patch of a flat part looks as any other.
        pixels = rng.integers(99, 102, (40, 56, 3)).astype(np.uint8)
        write_image(tmp_path / "good" / f"{i}.png", pixels)
    config = tiny_config(defects={"kinds": ["cut-paste"]})
    refused(ConfigError, "change nothing visible", lambda: fit(tmp_path / "good", tmp_path / "m", config))
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

    assert "77.png (90x20)" in refused(DataError, "1 of 17", lambda: fit(data, tmp_path / "m", config))


@pytest.mark.skipif(os.name == "nt", reason="links take rights there")
def test_a_link_that_leads_nowhere_in_test_stops_no_fit(good: Path, tmp_path: Path) -> None:
    root = tmp_path / "pcb"
    shutil.copytree(good, root / "good")
    write_parts(root / "test" / "good", range(200, 203))
    (root / "test" / "good" / "9.png").symlink_to(tmp_path / "gone.png")

    fit(root, tmp_path / "model", tiny_config(head={"enabled": False}))
    run = evaluate(root, tmp_path / "model")
    assert (len(run.inspections), len(run.errors)) == (3, 1)
