"""Training that goes on where it was, or takes what another fit has trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from anogan.bundle import bundle_digest, load_bundle
from anogan.errors import BundleError, DataError
from anogan.images.decode import write_image
from anogan.images.split import file_digest
from anogan.recipes import fit
from anogan.recipes.shared_stages import SharedStages
from anogan.recipes.training import Reporter
from tests.recipes.fits import Listener, refused, same_weights
from tests.tiny import part, tiny_config, write_parts

HEADLESS = {"enabled": False}


pytestmark = pytest.mark.usefixtures("without_pictures")


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

    assert same_weights(shared, alone)
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

    assert same_weights(tmp_path / "a", whole.path)
    assert load_bundle(tmp_path / "a").calibration == load_bundle(tmp_path / "b").calibration
    assert ("gan" in resumed.stages) == (stop_at[0] == "gan")


def test_the_same_seed_fits_the_same_model_and_another_one_another(good: Path, tmp_path: Path) -> None:
    def fitted(name: str, seed: int) -> Path:
        return fit(good, tmp_path / name, tiny_config(seed=seed, head=HEADLESS)).path

    assert same_weights(fitted("a", 1), fitted("b", 1))
    assert not same_weights(tmp_path / "a", fitted("c", 2))


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

    refused(
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
    sentence = refused(
        DataError, "bad.png", lambda: fit(data, tmp_path / "model", config, reporter=listener.reporter)
    )
    assert (work / "gan.safetensors").read_bytes() == b"hours of training"
    assert listener.stages == []
    assert "1 of 17" in sentence


def test_a_folder_that_only_looks_like_checkpoints_is_never_emptied(good: Path, tmp_path: Path) -> None:
    work = tmp_path / "model.checkpoints"
    work.mkdir()
    (work / "thesis.txt").write_text("mine", encoding="utf-8")

    sentence = refused(BundleError, "holds none", lambda: fit(good, tmp_path / "model", tiny_config()))
    assert str(work) in sentence
    assert (work / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_file_in_the_place_of_the_checkpoints_is_refused(good: Path, tmp_path: Path) -> None:
    (tmp_path / "model.checkpoints").write_bytes(b"")

    refused(BundleError, "holds none", lambda: fit(good, tmp_path / "model", tiny_config()))


def test_nothing_to_resume_is_said_and_fitted_from_the_beginning(good: Path, tmp_path: Path) -> None:
    listener = Listener()
    fit(good, tmp_path / "model", tiny_config(head=HEADLESS), resume=True, reporter=listener.reporter)

    assert any("no checkpoint to go on from" in event for event in listener.events)
    assert (tmp_path / "model" / "manifest.json").is_file()


def test_a_finished_run_is_not_resumed_and_its_model_stays(good: Path, tmp_path: Path) -> None:
    finished = fit(good, tmp_path / "model", tiny_config()).path
    before = bundle_digest(finished)

    refused(
        BundleError,
        "model is finished: .* leave out --resume to train it anew",
        lambda: fit(good, finished, tiny_config(score={"smoothing_sigma": 2.0}), resume=True),
    )
    assert bundle_digest(finished) == before
    # Of other settings it says nothing.
    fit(good, finished, tiny_config(gan={"steps": 4}), resume=True)


def test_an_unfinished_run_is_put_aside_where_resume_was_forgotten(
    stopped: Path, good: Path, tmp_path: Path
) -> None:
    whole = fit(good, tmp_path / "whole", tiny_config())
    before, listener = _content(stopped), Listener(("gan", 1))
    for _ in range(2):  # The second time there is nothing to be kept yet.
        with pytest.raises(KeyboardInterrupt):
            fit(good, tmp_path / "model", tiny_config(), reporter=listener.reporter)
    previous = stopped.with_name("model.checkpoints.1")
    assert _content(previous) == before
    told = next(sentence for sentence in listener.events if "unfinished" in sentence)
    assert f"delete {stopped}, rename {previous.name} to {stopped.name} and give --resume" in told

    shutil.rmtree(stopped)
    previous.rename(stopped)
    resumed = fit(good, tmp_path / "model", tiny_config(), resume=True)
    assert same_weights(resumed.path, whole.path)
    assert not stopped.exists()


def test_checkpoints_of_other_settings_are_replaced(stopped: Path, good: Path, tmp_path: Path) -> None:
    fit(good, tmp_path / "model", tiny_config(seed=3))

    assert not list(tmp_path.glob("model.checkpoints*"))


# ---- two at once


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_fit_of_a_model_that_is_being_fitted_is_refused(
    resume: bool, good: Path, tmp_path: Path
) -> None:
    other = write_parts(tmp_path / "other product", range(20, 36))
    refusals: list[str] = []

    def meanwhile(*_: object) -> None:
        if not refusals:
            with pytest.raises(BundleError) as refusal:
                fit(other, tmp_path / "model", tiny_config(), resume=resume)
            refusals.append(str(refusal.value))

    result = fit(good, tmp_path / "model", tiny_config(), reporter=Reporter(progress=meanwhile))
    alone = fit(good, tmp_path / "alone", tiny_config())

    assert refusals == [
        f"Another fit is writing to {tmp_path / 'model'}; wait until it ends, or give --out another folder."
    ]
    assert same_weights(result.path, alone.path)
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".lock", ".checkpoints"))]


def test_a_fit_that_failed_keeps_no_later_one_away(good: Path, tmp_path: Path) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(good, tmp_path / "model", tiny_config(), reporter=Reporter(progress=fails))
    fit(good, tmp_path / "model", tiny_config())
