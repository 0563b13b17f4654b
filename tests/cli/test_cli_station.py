"""What a station does with an exported file, where nothing is installed that training and export need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome, Run, run_cli

# What the extras `train` and `export` install.
_ABSENT = """
import sys

class Absent:
    names = {"torch", "torchvision", "lightning_fabric", "albumentations", "matplotlib", "scipy", "sklearn",
             "tensorboard", "filelock", "onnx", "onnxscript"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def station(process: Run, tmp_path: Path, repository: Path) -> Run:
    (tmp_path / "sitecustomize.py").write_text(_ABSENT, encoding="utf-8")

    def run(*words: object) -> Outcome:
        return process(*words, PYTHONPATH=f"{tmp_path}:{repository}")

    return run


@pytest.fixture(scope="module")
def exported(model: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "scorer.onnx"
    outcome = run_cli("export", "--model", model, "-o", path, "--data", parts)
    assert outcome.code == 0, outcome.stderr
    return path


def test_a_report_is_written(station: Run, exported: Path, parts: Path, tmp_path: Path) -> None:
    images = parts / "test" / "hot spot"
    outcome = station("score", images, "--model", exported, "--report", tmp_path / "r.html", "--json")
    found = [json.loads(line) for line in outcome.stdout.splitlines()]

    assert outcome.stderr == ""
    assert outcome.code == int(any(line["verdict"] == "reject" for line in found))
    assert len(found) == 3
    assert all(Path(line["path"]).name in (tmp_path / "r.html").read_text("utf-8") for line in found)


def test_a_file_is_timed(station: Run, exported: Path, parts: Path) -> None:
    words = ("--data", parts, "--batch", "1", "--seconds", "0", "--threads", "1", "--json")
    outcome = station("benchmark", exported, *words)

    assert outcome.code == 0, outcome.stderr
    assert [row["runtime"] for row in json.loads(outcome.stdout)["rows"]] == ["onnx"]


def test_a_model_tells_what_it_is(station: Run, model: Path) -> None:
    outcome = station("info", "--model", model)

    assert outcome.code == 0, outcome.stderr
    assert "health" in outcome.stdout
    assert "every SHA-256 verified" in outcome.stdout


def test_what_needs_more_says_what_to_install(station: Run, model: Path, parts: Path) -> None:
    outcome = station("score", parts / "test" / "good", "--model", model)

    assert outcome.code == 2
    assert 'pip install "anogan[train]"' in outcome.stderr
