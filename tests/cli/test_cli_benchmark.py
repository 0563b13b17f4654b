"""`anogan benchmark`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from anogan.station.sealed import seal
from tests.cli.conftest import Run, run_cli

QUICK = ("--seconds", "0", "--threads", "1")


def test_benchmark_measures_both_runtimes_and_that_they_agree(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    outcome = cli(
        "benchmark", model, "--data", parts, *QUICK, "--batch", "2", "--out", tmp_path / "speed", "--json"
    )
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    rows = {(row["runtime"], row["device"], row["batch"]): row for row in found["rows"]}
    assert {("pytorch", "cpu", 2), ("onnx", "cpu", 2)} <= set(rows)
    for row in rows.values():
        assert row["calls"] >= 3
        assert 0 < row["ms_p50"] <= row["ms_p99"]
        assert row["images_per_s"] == pytest.approx(1000 / row["ms_p50"])
        assert row["gflops"] > 0
        assert row["score_difference"] < 0.05
    assert rows["pytorch", "cpu", 2]["score_difference"] == 0
    assert rows["onnx", "cpu", 2]["peak_memory_mb"] < rows["pytorch", "cpu", 2]["peak_memory_mb"]
    assert json.loads((tmp_path / "speed" / "benchmark.json").read_text(encoding="utf-8")) == found
    assert (tmp_path / "speed" / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_an_exported_file_is_measured_alone_and_shown_as_a_table(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    assert run_cli("export", "--model", model, "-o", tmp_path / "s.onnx", "--data", parts).code == 0
    outcome = cli("benchmark", tmp_path / "s.onnx", "--data", parts / "test", *QUICK, "--batch", "1")

    assert outcome.code == 0, outcome.stderr
    assert "onnx cpu fp32" in outcome.stdout
    assert "images/s" in outcome.stdout
    assert "…" not in outcome.stdout  # Every figure fits into 80 columns.
    assert "pytorch" not in outcome.stdout


def test_masks_are_no_photographs_and_a_damaged_one_is_left_out(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    data = Path(shutil.copytree(parts, tmp_path / "data"))
    for mask in (data / "ground_truth").rglob("*.png"):
        mask.write_bytes(b"no photograph")
    (data / "test" / "good" / "0.png").write_bytes(b"damaged")
    assert run_cli("export", "--model", model, "-o", tmp_path / "s.onnx", "--data", parts).code == 0
    outcome = cli("benchmark", tmp_path / "s.onnx", "--data", data, *QUICK, "--batch", "1")

    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr.count("It is left out.") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--batch", "many"], "numbers from 1, such as 1,16"), (["--batch", "0"], "numbers from 1")],
)
def test_a_wrong_batch_is_one_sentence(
    model: Path, parts: Path, words: list[str], message: str, cli: Run
) -> None:
    outcome = cli("benchmark", model, "--data", parts, *words)

    assert outcome.code == 2
    assert message in " ".join(outcome.stderr.split())


def test_a_file_has_no_pytorch_to_compile(tmp_path: Path, cli: Run) -> None:
    (tmp_path / "s.onnx").write_bytes(seal(b""))
    shown = cli("benchmark", tmp_path / "s.onnx", "--compiled")

    assert shown.code == 2
    assert "no PyTorch to compile" in shown.stderr


def test_the_model_may_be_an_option_as_elsewhere_but_not_both(model: Path, parts: Path, cli: Run) -> None:
    measured = cli("benchmark", "-m", model, "--data", parts, "--batch", 1, "--seconds", 0, "--json")
    both = cli("benchmark", model, "--model", model)

    assert measured.code == 0
    assert both.code == 2
    assert "were both given; choose one" in " ".join(both.stderr.split())
