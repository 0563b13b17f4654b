from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from anogan.cli._environment import examine_installation, installed_versions, usable_devices

TRAINING = {"torch": "2.15.0", "torchvision": "0.29.2", "albumentations": "2.0.8"}


# The default network takes tiles of 128 pixels; these parts are 64.
SMALL_TILES = ("--set", "tiles.size=32", "--set", "tiles.overlap=8")


def _kinds(versions: dict[str, str], load: Any = lambda _: None) -> dict[str, str]:
    return {fault.kind: fault.severity for fault in examine_installation(versions, load)}


def test_a_folder_that_can_be_trained_on_exits_0(cli: Any, parts: Path) -> None:
    outcome = cli("doctor", "--data", parts, *SMALL_TILES)

    assert outcome.code == 0, outcome.stdout
    assert "24 good images, 7 test images" in outcome.stdout
    assert "Devices: cpu" in outcome.stdout


def test_a_faulty_folder_exits_1_and_names_the_file(cli: Any, parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "faulty"
    folder.mkdir()
    for path in (parts / "good").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    outcome = cli("doctor", "--data", folder)

    assert outcome.code == 1
    assert any(line.startswith("error") and "text.png" in line for line in outcome.stdout.splitlines())


def test_json_holds_both_halves(cli: Any, parts: Path) -> None:
    found = json.loads(cli("doctor", "--data", parts, "--json", *SMALL_TILES).stdout)

    assert found["ok"] is True
    assert found["data"]["n_good"] == 24
    assert {"python", "numpy", "torch"} <= set(found["environment"]["versions"])


def test_without_data_the_installation_alone_is_examined(cli: Any) -> None:
    outcome = cli("doctor", "--json")

    assert outcome.code == 0
    assert json.loads(outcome.stdout)["data"] is None


def test_the_settings_of_the_fit_decide_what_is_a_fault(cli: Any, parts: Path) -> None:
    outcome = cli("doctor", "--data", parts, "--set", "tiles.size=128")

    assert outcome.code == 1
    assert "128x128" in outcome.stdout


def test_a_missing_folder_is_a_mistake(cli: Any) -> None:
    outcome = cli("doctor", "--data", "nowhere")

    assert outcome.code == 2
    assert (
        outcome.stderr
        == "Error: nowhere does not exist; give a folder of images, or a data set with good/ and test/.\n"
    )


def test_this_installation_is_examined_as_it_is() -> None:
    versions = installed_versions()

    assert versions["torch"].split("+")[0] == importlib.import_module("torch").__version__.split("+")[0]
    assert "cpu" in usable_devices()


@pytest.mark.parametrize(
    ("versions", "kind", "severity"),
    [
        ({"opencv-python": "4", "opencv-python-headless": "5"}, "opencv-conflict", "error"),
        ({"onnxruntime": "1", "onnxruntime-gpu": "1"}, "onnxruntime-conflict", "error"),
        ({"albumentationsx": "2"}, "albumentations-conflict", "error"),
    ],
)
def test_packages_that_break_one_another_are_errors(
    versions: dict[str, str], kind: str, severity: str
) -> None:
    assert _kinds(TRAINING | versions) == {kind: severity}


def test_the_agpl_successor_alone_is_a_warning() -> None:
    versions = {name: version for name, version in TRAINING.items() if name != "albumentations"}

    assert _kinds(versions | {"albumentationsx": "2"})["albumentations-conflict"] == "warning"


def test_a_torchvision_that_does_not_fit_its_torch_is_told_with_the_reason() -> None:
    def load(module: str) -> None:
        if module == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

    (fault,) = examine_installation(TRAINING, load)

    assert fault.kind == "torchvision-broken"
    assert "operator torchvision::nms does not exist" in fault.message
    assert "same index" in fault.message


def test_a_station_without_training_packages_is_sound() -> None:
    assert _kinds({"numpy": "2"}) == {"no-training": "note"}


def test_a_sound_installation_has_no_fault() -> None:
    assert _kinds(TRAINING | {"opencv-python-headless": "5", "onnxruntime": "1"}) == {}
