"""`anogan compare` measures what it is given by one rule, and fits nothing twice."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from anogan.cli.compare import _entrants
from anogan.errors import BundleError, ConfigError
from anogan.images.decode import read_as_stored, write_image
from anogan.recipes.compare import ConfigEntrant
from anogan.recipes.evaluation import EvaluationRun, evaluate
from anogan.scoring.baselines import BASELINES
from tests.cli.conftest import Outcome, Run, run_cli

SETTINGS = {
    "tiles": {"size": 32, "overlap": 8},
    "network": {"width": 8, "latent_grid": 8, "latent_dim": 4},
    "gan": {"steps": 2, "batch_size": 4},
    "head": {"enabled": False},
    "search": {"steps": 1},
    "calibration": {"false_reject": 0.2},
    "runtime": {"threads": 1, "precision": "fp32"},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def words(parts: Path, model: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    report = tmp_path_factory.mktemp("comparisons") / "Vergleich 比较"
    return [config, model, "--data", parts, "--seeds", 2, "--baselines", "--report", report]


@pytest.fixture(scope="module")
def compared(words: list[object]) -> tuple[Path, Outcome]:
    """The report folder, and what comparing a config, a model folder and the baselines printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        outcome = run_cli("compare", *words)
    assert outcome.code == 0, outcome.stderr
    return Path(str(words[-1])), outcome


@pytest.fixture(scope="module")
def table(compared: tuple[Path, Outcome]) -> dict[str, Any]:
    """The machine-readable comparison."""
    tree: dict[str, Any] = json.loads((compared[0] / "compare.json").read_text("utf-8"))
    return tree


def test_every_entrant_has_a_row_with_every_figure(table: dict[str, Any], config: Path, model: Path) -> None:
    rows = {row["name"]: row for row in table["rows"]}

    assert list(rows) == [str(config), str(model), *BASELINES]
    assert {name: row["seeds"] for name, row in rows.items()} == {
        str(config): [0, 1],
        str(model): [0],
        **{name: [0, 1] for name in BASELINES},
    }
    for row in rows.values():
        assert row["errors"] == []
        for figure, spread in row["figures"].items():
            assert spread is not None, figure
            assert spread["n"] == len(row["seeds"])
            assert spread["low"] <= spread["mean"] <= spread["high"]
        assert list(row["per_kind"]) == ["hot spot"]


def test_the_bright_square_is_found_by_the_pixel_statistics(table: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in table["rows"]}

    assert rows["pixel statistics"]["figures"]["image_auroc"]["mean"] == 1.0
    assert rows["pixel statistics"]["figures"]["pixel_auroc"]["mean"] > 0.95


def test_the_verdict_names_a_baseline(table: dict[str, Any]) -> None:
    assert len(table["verdicts"]) == 2
    assert all(any(name in sentence for name in BASELINES) for sentence in table["verdicts"])


def test_a_model_folder_gets_the_figures_that_evaluate_gives_it(
    table: dict[str, Any], parts: Path, model: Path
) -> None:
    alone = json.loads(run_cli("evaluate", "--data", parts, "--model", model, "--json").stdout)
    (row,) = [r for r in table["rows"] if r["name"] == str(model)]

    for figure in ("image_auroc", "image_aupr", "image_f1", "accuracy", "pixel_auroc", "aupro"):
        assert row["figures"][figure]["mean"] == pytest.approx(alone[figure])


def test_the_report_folder_holds_a_page_and_a_model_per_seed(compared: tuple[Path, Outcome]) -> None:
    folder, _ = compared

    assert "<h2>Teile 零件" in (folder / "compare.html").read_text("utf-8")
    assert len([path for path in (folder / "models").iterdir() if (path / "manifest.json").is_file()]) == 2


def test_the_printed_table_holds_every_entrant_and_says_where_the_report_is(
    compared: tuple[Path, Outcome],
) -> None:
    folder, outcome = compared

    assert all(f"│ {name} " in outcome.stdout for name in BASELINES)
    assert "±" in outcome.stdout
    assert str(folder) in outcome.stdout


def test_a_second_comparison_fits_nothing_again_and_finds_the_same(
    compared: tuple[Path, Outcome], table: dict[str, Any], words: list[object]
) -> None:
    folder, _ = compared
    before = {path: path.stat().st_mtime_ns for path in (folder / "models").rglob("*")}
    again = run_cli("compare", *words, "--json")

    def figures(tree: dict[str, Any]) -> list[Any]:
        return [{k: v for k, v in row["figures"].items() if k != "ms_per_image"} for row in tree["rows"]]

    assert {path: path.stat().st_mtime_ns for path in (folder / "models").rglob("*")} == before
    assert "fitted earlier" in again.stderr
    assert figures(json.loads(again.stdout)) == figures(table)


def test_data_sets_of_one_name_get_a_table_each_under_their_paths(
    parts: Path, model: Path, tmp_path: Path, cli: Run
) -> None:
    other = Path(shutil.copytree(parts, tmp_path / "other" / parts.name))
    for path in (other / "test" / "hot spot").iterdir():  # Nothing is left to be found there.
        shutil.copy(next((parts / "test" / "good").iterdir()), path)
    outcome = cli("compare", model, "--data", parts, "--data", other, "--json", "--report", "out")
    rows = json.loads(outcome.stdout)["rows"]

    assert outcome.code == 0, outcome.stderr
    assert [row["data"] for row in rows] == [str(parts), str(other)]
    assert rows[0]["figures"]["image_auroc"]["mean"] > rows[1]["figures"]["image_auroc"]["mean"]
    page = Path("out/compare.html").read_text("utf-8")
    assert page.count("<h2>") >= 2
    assert str(other) in page


def test_an_entrant_that_fails_is_told_and_the_others_are_measured(
    parts: Path, model: Path, config: Path, cli: Run
) -> None:
    options = ["--seeds", 1, "--set", "tiles.size=128", "--json", "--report", "out"]
    shown = cli("compare", config, model, "--data", parts, *options)
    failed, fine = json.loads(shown.stdout)["rows"]

    assert shown.code == 0
    assert "smaller than tiles.size 128" in failed["errors"][0]
    assert fine["figures"]["image_auroc"]["n"] == 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), OSError(28, "No space")])
def test_an_entrant_that_fills_the_memory_or_the_disk_does_not_end_the_others(
    parts: Path, model: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    calls: list[Path] = []

    def evaluated(*args: Any, **kwargs: Any) -> EvaluationRun:
        calls.append(args[0])
        if len(calls) == 1:
            raise error
        return evaluate(*args, **kwargs)

    monkeypatch.setattr("anogan.recipes.compare.evaluate", evaluated)
    other = shutil.copytree(model, "other-model")
    shown = cli("compare", model, other, "--data", parts, "--json", "--report", "out")
    failed, fine = json.loads(shown.stdout)["rows"]

    assert shown.code == 0
    assert type(error).__name__ in failed["errors"][0]
    assert fine["figures"]["image_auroc"]["n"] == 1


def test_nothing_that_could_be_measured_is_a_mistake_that_is_told(
    parts: Path, config: Path, cli: Run
) -> None:
    words = ("compare", config, "--data", parts, "--seeds", 2, "--set", "tiles.size=128", "--report", "out")
    shown, machine = cli(*words), cli(*words, "--json")

    for outcome in (shown, machine):
        assert outcome.code == 2
        assert "None of the 2 runs could be measured" in " ".join(outcome.stderr.split())
        assert "smaller than tiles.size 128" in " ".join(outcome.stderr.split())
    assert "0 of 2" in shown.stdout
    assert len(json.loads(machine.stdout)["rows"]) == 1


def test_defective_images_without_a_mask_are_counted_once_per_data_set(
    parts: Path, model: Path, config: Path, tmp_path: Path, cli: Run
) -> None:
    data = Path(shutil.copytree(parts, tmp_path / "data"))
    next((data / "ground_truth" / "hot spot").iterdir()).unlink()
    words = ("compare", config, model, "--baselines", "--data", data, "--data", parts, "--seeds", 1)

    for _ in range(2):  # The second time baselines are remembered.
        shown = cli(*words, "--report", "out")
        assert " ".join(shown.stdout.split()).count("defective images have a mask") == 1
        assert "2 of 3 defective images have a mask" in " ".join(shown.stdout.split())
        assert Path("out/compare.html").read_text("utf-8").count("2 of 3 defective images have a mask") == 1
        outcomes = json.loads(Path("out/compare.json").read_text("utf-8"))["outcomes"]
        counts = {(one["data"], one["n_masked"], one["n_defect"]) for one in outcomes}
        assert counts == {(data.name, 2, 3), (parts.name, 3, 3)}


def test_one_folder_by_two_names_is_refused(model: Path, parts: Path, tmp_path: Path, cli: Run) -> None:
    (tmp_path / "link").symlink_to(parts, target_is_directory=True)
    shutil.copytree(model, "m1")
    twice = cli("compare", "m1", "--data", parts, "--data", f"{parts}/")
    linked = cli("compare", "m1", "--data", parts, "--data", tmp_path / "link")
    models = cli("compare", "m1", "./m1", "--data", parts)

    for outcome, what in ((twice, "data"), (linked, "data"), (models, "model")):
        assert outcome.code == 2
        assert re.search(f"The {what} folder .* is named twice", " ".join(outcome.stderr.split()))


def test_other_masks_are_measured_anew(parts: Path, config: Path, tmp_path: Path, cli: Run) -> None:
    data = Path(shutil.copytree(parts, tmp_path / "data"))
    words = ("compare", config, "--baselines", "--data", data, "--seeds", 1, "--json", "--report", "out")

    def pixel_aurocs() -> list[float]:
        rows = json.loads(cli(*words).stdout)["rows"]
        return [row["figures"]["pixel_auroc"]["mean"] for row in rows if row["role"] == "baseline"]

    before = pixel_aurocs()
    for path in (data / "ground_truth").rglob("*_mask.png"):
        write_image(path, np.roll(read_as_stored(path), 32, axis=1))
    after = pixel_aurocs()

    assert all(a != b for a, b in zip(before, after, strict=True))


def test_nobody_gets_figures_on_test_images_that_are_among_the_good_ones(
    config: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    data = tmp_path / "leak"
    shutil.copytree(parts, data)
    shutil.copy(next((data / "good").iterdir()), data / "test" / "good" / "leak.png")
    cli("compare", config, "--data", data, "--baselines", "--report", tmp_path / "report")

    rows = json.loads((tmp_path / "report" / "compare.json").read_text("utf-8"))["rows"]
    assert len(rows) == 1 + len(BASELINES)
    for row in rows:
        assert "among the good images too" in str(row["errors"])
        assert not any(row["figures"].values())


def test_a_variant_is_the_first_config_with_its_own_settings(config: Path, parts: Path) -> None:
    variants = ["no-search:search.steps=0", "two:head.width=8,gan.diffaugment=[color, flip],seed=3"]
    found = _entrants([str(config)], variants, ["gan.steps=7"])
    settings = {e.name: e.config_of(parts) for e in found if isinstance(e, ConfigEntrant)}

    assert list(settings) == [str(config), "no-search", "two"]
    assert [c.search.steps for c in settings.values()] == [1, 0, 1]
    assert [c.gan.steps for c in settings.values()] == [7, 7, 7]
    assert settings["two"].gan.diffaugment == ("color", "flip")
    assert (settings["two"].head.width, settings["two"].seed) == (8, 3)


@pytest.mark.parametrize("text", ["no-search", "no-search:steps", ":search.steps=0"])
def test_a_variant_without_name_or_settings_is_refused(text: str, config: Path) -> None:
    with pytest.raises(ConfigError, match="expected name:key"):
        _entrants([str(config)], [text], [])


def test_a_variant_of_nothing_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="no config to vary"):
        _entrants([str(model)], ["fast:search.steps=0"], [])


def test_a_wrong_key_in_a_variant_is_told_before_anything_is_fitted(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.stps"):
        _entrants([str(config)], ["typo:search.stps=0"], [])


def test_an_unknown_entrant_lists_the_shipped_configs(parts: Path, cli: Run) -> None:
    shown = cli("compare", "nowhere", "--data", parts)

    assert shown.code == 2
    assert "demo" in shown.stderr


def test_two_entrants_of_one_name_are_refused(config: Path, parts: Path, cli: Run) -> None:
    shown = cli("compare", config, "--variant", "patch PCA:search.steps=0", "--data", parts)

    assert shown.code == 2
    assert "a name of its own" in shown.stderr


def test_a_data_set_without_a_test_folder_is_refused(config: Path, parts: Path, cli: Run) -> None:
    shown = cli("compare", config, "--data", parts / "good")

    assert shown.code == 2
    assert "no test images" in shown.stderr


def test_an_exported_file_is_no_entrant(tmp_path: Path) -> None:
    (tmp_path / "scorer.onnx").write_bytes(b"")

    with pytest.raises(BundleError, match="model folder that it was exported from"):
        _entrants([str(tmp_path / "scorer.onnx")], [], [])


def test_settings_without_a_config_to_change_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="--set changes configs; there is none"):
        _entrants([str(model)], [], ["search.steps=0"])


def test_a_folder_of_images_does_not_hide_the_config_of_its_name(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(parts, "demo")

    assert [type(entrant).__name__ for entrant in _entrants(["demo"], [], [])] == ["ConfigEntrant"]
