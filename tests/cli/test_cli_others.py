"""`evaluate`, `calibrate`, `sample` and `info`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import bundle_digest, load_bundle, save_bundle
from anogan.images.decode import read_as_stored, write_image

FIGURES = [
    *("image_auroc", "image_aupr", "image_f1", "accuracy", "false_reject_rate", "false_accept_rate"),
    *("pixel_auroc", "aupro", "threshold", "n_good", "n_defect", "n_masked", "per_kind"),
]


def _one_mistake(outcome: Any, *words: str) -> None:
    assert outcome.code == 2
    assert outcome.stderr.count("Error: ") == 1
    assert all(word in outcome.stderr for word in words)


# ---- evaluate


def test_evaluate_prints_every_documented_figure_as_json(cli: Any, model: Path, parts: Path) -> None:
    outcome = cli("evaluate", "--data", parts, "--model", model, "--json")
    found = json.loads(outcome.stdout)

    assert outcome.code == 0
    assert set(FIGURES) <= set(found)
    assert (found["n_good"], found["n_defect"], found["per_kind"]["hot spot"]["n"]) == (4, 3, 3)


def test_evaluate_gives_null_where_the_data_cannot_give_a_figure(
    cli: Any, model: Path, parts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "only good" / "test" / "good"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes((parts / "test" / "good" / "100.png").read_bytes())
    found = json.loads(cli("evaluate", "--data", tmp_path / "only good", "--model", model, "--json").stdout)

    assert (found["image_auroc"], found["pixel_auroc"], found["n_defect"]) == (None, None, 0)


def test_evaluate_prints_figures_with_intervals_and_each_kind(cli: Any, model: Path, parts: Path) -> None:
    shown = cli("evaluate", "--data", parts, "--model", model).stdout

    assert "4 good and 3 defective images" in shown
    for words in ("Image AUROC", "Good parts rejected", "AUPRO", "95 % interval", " to ", "hot spot"):
        assert words in shown


@pytest.mark.parametrize(("named", "figures"), [(1, "pixel figures are of these"), (0, "no pixel figures")])
def test_defects_without_a_mask_are_counted(
    cli: Any, model: Path, parts: Path, tmp_path: Path, named: int, figures: str
) -> None:
    data = shutil.copytree(parts, tmp_path / "misnamed")
    for path in sorted((data / "ground_truth" / "hot spot").iterdir())[named:]:
        path.rename(path.with_name(path.name.replace("_mask", "_gt")))
    outcome = cli("evaluate", "--data", data, "--model", model, "--json", "--report", "figures")
    found = json.loads(outcome.stdout)

    assert (found["n_masked"], found["per_kind"]["hot spot"]["n_masked"]) == (named, named)
    assert f"{named} of 3 defective images have a mask" in outcome.stderr
    assert figures in outcome.stderr.replace("\n", " ")
    told = "1 of 3 defective images have a mask" in Path("figures", "report.html").read_text(encoding="utf-8")
    assert told == (named == 1)


def test_evaluate_writes_a_report(cli: Any, model: Path, parts: Path) -> None:
    cli("evaluate", "--data", parts, "--model", model, "--report", "figures")

    page = Path("figures", "report.html").read_text(encoding="utf-8")
    assert "hot spot" in page
    assert "Training curves" in page
    assert json.loads(Path("figures", "evaluation.json").read_text(encoding="utf-8"))["n_defect"] == 3


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_evaluate_tells_by_its_exit_code_that_an_image_could_not_be_scored(
    cli: Any, model: Path, parts: Path, tmp_path: Path, form: list[str]
) -> None:
    shutil.copytree(parts, tmp_path / "set")
    (tmp_path / "set" / "test" / "good" / "torn.png").write_bytes(b"")
    outcome = cli("evaluate", "--data", tmp_path / "set", "--model", model, *form)
    assert outcome.code == 2
    assert "torn.png" in outcome.stderr


@pytest.mark.parametrize("command", ["evaluate", "score", "compare", "benchmark"])
def test_a_place_that_takes_no_results_is_told_before_the_work(
    command: str, cli: Any, model: Path, parts: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"")
    outcome = cli(
        *{
            "evaluate": ("evaluate", "--data", parts, "--model", model, "--report", taken),
            "score": ("score", parts, "--model", model, "--json", "--report", taken / "x.html"),
            "compare": ("compare", model, "--data", parts, "--report", taken),
            "benchmark": ("benchmark", model, "--data", parts, "--out", taken),
        }[command]
    )

    _one_mistake(outcome, f"cannot be written to {taken}")
    assert outcome.stdout == ""


def test_evaluate_without_labelled_images_says_what_to_do(cli: Any, model: Path, parts: Path) -> None:
    _one_mistake(cli("evaluate", "--data", parts / "good", "--model", model), "anogan score")


# ---- calibrate


@pytest.fixture
def other_good(tmp_path: Path) -> Path:
    folder = tmp_path / "new lamp"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for i in range(9):
        write_image(folder / f"{i}.png", rng.integers(90, 110, (64, 64, 3)).astype(np.uint8))
    return folder


def test_calibrate_moves_the_threshold_and_prints_its_promise(
    cli: Any, own_model: Path, other_good: Path
) -> None:
    before = load_bundle(own_model)
    outcome = cli("calibrate", "--data", other_good, "--model", own_model, "--false-reject", "0.2")
    after = load_bundle(own_model)

    assert outcome.code == 0
    assert after.calibration["estimate"]["threshold"] != before.calibration["estimate"]["threshold"]
    assert after.calibration["estimate"]["n_good"] == 9
    assert "at most 20 % of good parts" in outcome.stdout
    assert "95 % confidence" in outcome.stdout
    data = json.loads(cli("info", "--model", own_model, "--json").stdout)["data"]
    assert data["calibration_source"] == str(other_good.resolve())
    assert data["n_calibrate"] == 9
    assert not any(isinstance(value, list) for value in data.values())


def test_calibrate_for_another_rate_takes_no_images_and_says_what_was(cli: Any, own_model: Path) -> None:
    before = load_bundle(own_model).calibration["estimate"]
    outcome = cli("calibrate", "--model", own_model, "--false-reject", "0.4")
    after = load_bundle(own_model).calibration["estimate"]

    assert outcome.code == 0
    assert (after["n_good"], after["requested"]) == (before["n_good"], 0.4)
    assert f"has a new threshold, it was {before['threshold']:.4g}." in outcome.stdout
    assert f"Parts with a score above {after['threshold']:.4g} are rejected." in outcome.stdout
    assert cli("calibrate", "--model", own_model).code == 2


def test_calibrate_and_info_name_a_defective_part_among_the_good_ones(
    cli: Any, own_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for i in range(30):
        write_image(folder / f"{i}.png", rng.integers(90, 110, (64, 64, 3)).astype(np.uint8))
    scratched = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8)
    scratched[20:40, 20:40] = (255, 0, 255)
    write_image(folder / "scratched.png", scratched)
    again_from = ["calibrate", "--data", folder, "--model", own_model, "--false-reject", "0.05"]
    outcome = cli(*again_from, "--count-outliers")
    told = cli("info", "--model", own_model)

    assert outcome.code == told.code == 0
    for text in (outcome.stderr, told.stdout):
        words = " ".join(text.split())
        assert "1 of 31 held-out good images scores far above the others: scratched.png" in words
        assert "calibration.leave_out_outliers" in words
    again = cli(*again_from, "--leave-out-outliers")
    assert "did not count for the threshold: scratched.png" in " ".join(again.stderr.split())
    assert load_bundle(own_model).calibration["estimate"]["n_left_out"] == 1


def test_calibrate_says_how_many_more_images_a_promise_needs(
    cli: Any, own_model: Path, other_good: Path
) -> None:
    outcome = cli("calibrate", "--data", other_good, "--model", own_model, "--false-reject", "0.05")

    assert outcome.code == 0
    assert "calibrate with 10 more good images" in outcome.stderr


def test_calibrate_refuses_images_that_the_model_was_trained_on(
    cli: Any, own_model: Path, parts: Path
) -> None:
    before = bundle_digest(own_model)

    _one_mistake(cli("calibrate", "--data", parts, "--model", own_model), "trained this model")
    assert bundle_digest(own_model) == before


def test_export_compares_on_what_calibrated_the_model_last(own_model: Path, other_good: Path) -> None:
    from anogan.recipes import calibrate_model
    from anogan.recipes.export import some_images

    calibrate_model(other_good, own_model, false_reject=0.2)
    wanted = [read_as_stored(path) for path in sorted(other_good.iterdir())]

    np.testing.assert_array_equal(some_images(own_model, None, 9), wanted)


def test_images_named_by_a_relative_path_are_found_from_another_folder(
    cli: Any, own_model: Path, other_good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anogan.recipes.export import some_images

    monkeypatch.chdir(other_good)
    assert cli("calibrate", "--data", ".", "--model", own_model, "--false-reject", "0.2").code == 0
    monkeypatch.chdir(tmp_path)

    assert len(some_images(own_model, None, 9)) == 9


def test_calibrate_refuses_a_rate_that_is_none(cli: Any, own_model: Path, other_good: Path) -> None:
    outcome = cli("calibrate", "--data", other_good, "--model", own_model, "--false-reject", "1.5")

    _one_mistake(outcome, "1.5")


# ---- sample


def test_sample_draws_a_data_set_and_says_how_to_fit_it(cli: Any) -> None:
    counts = ["--size", 96, "--n-good", 2, "--n-test-good", 1, "--n-per-kind", 1, "--seed", 3]
    outcome = cli("sample", "my boards", *counts)

    assert outcome.code == 0
    assert len(list(Path("my boards", "good").iterdir())) == 2
    assert len(list(Path("my boards", "ground_truth").iterdir())) >= 8
    assert read_as_stored(Path("my boards/good/000.jpg")).shape == (96, 96, 3)
    assert "anogan fit --data" in outcome.stdout


def test_sample_leaves_a_folder_with_files_alone(cli: Any) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine", encoding="utf-8")

    _one_mistake(cli("sample", "mine"), "mine is not an empty folder")


def test_sample_draws_no_empty_set(cli: Any) -> None:
    none = ["--n-good", 0, "--n-test-good", 0, "--n-per-kind", 0]
    _one_mistake(cli("sample", "boards", *none), "would hold no image")
    assert not Path("boards").exists()


def test_sample_refuses_a_size_that_cannot_be_drawn(cli: Any) -> None:
    _one_mistake(cli("sample", "boards", "--size", 10), "96 to 1024")
    assert not Path("boards").exists()


# ---- info


def test_info_shows_promise_counts_settings_and_verified_files(cli: Any, model: Path) -> None:
    outcome = cli("info", "--model", model)
    n_train = json.loads((model / "manifest.json").read_text("utf-8"))["metadata"]["data"]["n_train"]

    assert outcome.code == 0
    for words in (
        "Promise: at most",
        f"n_train {n_train}",
        "latent_dim 4",
        "weights were kept, of step",
        "limits     none: images unlike all good ones are not told",
        "every SHA-256 verified",
        "generator",
    ):
        assert words in outcome.stdout


def test_info_shows_the_limits_of_what_the_search_leaves_over(cli: Any, own_model: Path) -> None:
    bundle = load_bundle(own_model)
    limits = {"residual_score": [0.01, 0.25]}
    save_bundle(own_model, replace(bundle, calibration=dict(bundle.calibration) | {"limits": limits}))

    assert "residual_score 0.01 to 0.25" in cli("info", "--model", own_model).stdout
    assert json.loads(cli("info", "--model", own_model, "--json").stdout)["calibration"]["limits"] == limits


def test_info_as_json_holds_the_facts_and_no_list_of_image_hashes(cli: Any, model: Path) -> None:
    found = json.loads(cli("info", "--model", model, "--json").stdout)

    assert found["data"]["n_train"] + found["data"]["n_early_stop"] + found["data"]["n_calibrate"] == 24
    assert not any(key.endswith("_hashes") for key in found["data"])
    assert found["config"]["search"]["steps"] == 2
    assert found["calibration"]["threshold"] == load_bundle(model).calibration["estimate"]["threshold"]
    assert found["digest"] == bundle_digest(model)
    assert found["verified"] is True
    assert "generator.safetensors" in found["files"]


def test_info_of_a_damaged_model_is_a_mistake(cli: Any, own_model: Path) -> None:
    (own_model / "history.csv").write_text("other", encoding="utf-8")

    _one_mistake(cli("info", "--model", own_model), "history.csv")


def test_info_reads_weights_without_torch(process: Any, model: Path) -> None:
    outcome = process("info", "--model", model, "--json", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in outcome.stderr.splitlines()}

    assert outcome.code == 0
    assert "safetensors" in loaded
    assert not loaded & {"torch", "cv2"}
