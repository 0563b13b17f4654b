"""A model whose training ended with an alarm up says so wherever somebody is about to rely on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from anogan.bundle import load_bundle, save_bundle
from anogan.station import Scorer
from tests.cli.conftest import Run

TOLD = "The training of this model is doubtful (collapse, head-at-chance), so do not trust its scores"


@pytest.fixture
def doubtful(own_model: Path) -> Path:
    bundle = load_bundle(own_model)
    health = {"verdict": "doubtful", "up": ["collapse", "head-at-chance"], "alarms": []}
    save_bundle(own_model, replace(bundle, metadata=dict(bundle.metadata) | {"health": health}))
    return own_model


def _words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_score_tells_it_once_on_stderr(form: list[str], doubtful: Path, good: Path, cli: Run) -> None:
    outcome = cli("score", good, "--model", doubtful, "--threshold", 1e6, *form)

    assert outcome.code == 0
    assert _words(outcome.stderr).count(TOLD) == 1
    assert "doubtful" not in outcome.stdout


def test_a_healthy_model_is_scored_without_a_word(model: Path, good: Path, cli: Run) -> None:
    assert "doubtful" not in cli("score", good, "--model", model).stderr


def test_reports_warn_of_it(doubtful: Path, parts: Path, good: Path, cli: Run) -> None:
    cli("score", good, "--model", doubtful, "--report", "scored")
    outcome = cli("evaluate", "--data", parts, "--model", doubtful, "--report", "evaluated")

    assert TOLD in _words(outcome.stderr)
    for folder in ("scored", "evaluated"):
        assert TOLD in Path(folder, "report.html").read_text(encoding="utf-8")


def test_the_exported_file_keeps_it(doubtful: Path, parts: Path, good: Path, cli: Run) -> None:
    outcome = cli("export", "--model", doubtful, "--data", parts, "--out", "scorer.onnx")

    assert TOLD in _words(outcome.stderr)
    assert str(Scorer(Path("scorer.onnx")).manifest.doubtful).startswith(TOLD)
    scored = cli("score", good, "--model", "scorer.onnx", "--json")
    assert TOLD in _words(scored.stderr)
    assert all(json.loads(line)["verdict"] for line in scored.stdout.splitlines())


def test_compare_tells_which_entrant_it_is(doubtful: Path, model: Path, parts: Path, cli: Run) -> None:
    outcome = cli("compare", doubtful, model, "--data", parts)

    assert f"{doubtful.name}, seed 0: {TOLD}" in _words(outcome.stderr)
    assert _words(outcome.stderr).count(TOLD) == 1
    assert f"{doubtful.name} is doubtful, seed 0: {TOLD}" in _words(outcome.stdout)
    assert _words(outcome.stdout).count(TOLD) == 1
    folder = Path("anogan-report")
    assert f"{doubtful.name} is doubtful:</strong> seed 0: {TOLD}" in (folder / "compare.html").read_text(
        "utf-8"
    )
    rows = json.loads((folder / "compare.json").read_text("utf-8"))["rows"]
    assert [[why.startswith(f"seed 0: {TOLD}") for why in row["doubtful"]] for row in rows] == [[True], []]
