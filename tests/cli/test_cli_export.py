"""`anogan export`, and `anogan score` with what it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from anogan.station import Scorer
from tests.cli.conftest import Run, run_cli


@pytest.fixture(scope="module")
def exported(model: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a file, with thresholds for no step."""
    path = tmp_path_factory.mktemp("exported") / "scorer.onnx"
    outcome = run_cli("export", "--model", model, "-o", path, "--data", parts, "--cut-steps", "0")
    assert outcome.code == 0, outcome.stderr
    return path


def scorer_facts(path: Path) -> list[dict[str, Any]]:
    """The calibrations in a file: the default one, then those of fewer steps."""
    return [own.model_dump() for own in Scorer(path, threads=1).manifest.calibrations]


def test_export_tells_what_it_wrote_and_how_it_compares(model: Path, tmp_path: Path, cli: Run) -> None:
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx")

    assert outcome.code == 0
    assert "s.onnx is written" in outcome.stdout.replace("\n", "")
    assert "verdicts are those of PyTorch" in " ".join(outcome.stdout.split())
    assert (tmp_path / "s.onnx").stat().st_size > 1000


def test_json_of_export_holds_the_parity_figures(model: Path, parts: Path, tmp_path: Path, cli: Run) -> None:
    words = ("--model", model, "-o", tmp_path / "s.onnx", "--data", parts, "--json", "--cut-steps", "1,0")
    outcome = cli("export", *words)
    facts = json.loads(outcome.stdout)

    assert facts["bytes"] == (tmp_path / "s.onnx").stat().st_size
    assert facts["parity"]["n_images"] == 8
    assert all(a["verdicts_changed"] == 0 for a in facts["parity"]["agreements"])
    assert [c["steps"] for c in facts["calibrations"]] == [2, 1, 0]


def test_score_takes_the_exported_file_and_decides_as_the_model(
    exported: Path, model: Path, parts: Path, cli: Run
) -> None:
    images = (parts / "test" / "good", parts / "test" / "hot spot")
    lines = {}
    for name, path in {"folder": model, "file": exported}.items():
        outcome = cli("score", *images, "--model", path, "--json")
        lines[name] = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert len(lines["file"]) == 7
    for want, got in zip(lines["folder"], lines["file"], strict=True):
        assert list(got) == list(want)
        assert (got["path"], got["verdict"]) == (want["path"], want["verdict"])
        assert got["score"] == pytest.approx(want["score"], rel=1e-2, abs=1e-2)


def test_score_of_fewer_steps_takes_the_threshold_that_the_file_has_for_them(
    exported: Path, parts: Path, cli: Run
) -> None:
    def scored(steps: int) -> tuple[float, str, str]:
        words = ("--steps", steps, "--json", "--report", f"{steps}.html", "--no-heatmaps")
        outcome = cli("score", parts / "test" / "good", "--model", exported, *words)
        page = Path(f"{steps}.html").read_text(encoding="utf-8")
        return json.loads(outcome.stdout.splitlines()[0])["threshold"], outcome.stderr, page

    default, none = scorer_facts(exported)
    threshold, told, page = scored(none["steps"])
    assert threshold == none["threshold"] != default["threshold"]
    assert "does not hold" not in told
    assert "Promise: at most" in page
    threshold, told, page = scored(7)
    assert threshold == default["threshold"]
    assert (
        f"The threshold was set at {default['steps']} search steps; what it promises does not hold at 7"
        in told
    )
    assert "Promise: at most" not in page


def test_score_with_a_file_writes_heatmaps_and_the_report(
    exported: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    words = ("--model", exported, "--out", tmp_path / "maps", "--report", tmp_path / "report.html")
    outcome = cli("score", parts / "test" / "hot spot", *words)

    assert outcome.code in (0, 1)
    assert len(list((tmp_path / "maps").rglob("*_heatmap.png"))) == 3
    assert "held-out good images" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_score_with_a_file_takes_steps_and_threshold(exported: Path, parts: Path, cli: Run) -> None:
    image = parts / "test" / "good" / "100.png"
    outcome = cli("score", image, "--model", exported, "--json", "--steps", "0", "--threshold", "-1000")

    assert outcome.code == 1
    assert json.loads(outcome.stdout)["steps_used"] == 0


def test_a_damaged_file_is_one_sentence(exported: Path, parts: Path, tmp_path: Path, cli: Run) -> None:
    damaged = tmp_path / "scorer.onnx"
    content = bytearray(exported.read_bytes())
    content[1000] ^= 8
    damaged.write_bytes(content)
    outcome = cli("score", parts / "test", "--model", damaged)

    assert outcome.code == 2
    assert "damaged" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_commands_that_need_the_folder_say_so(exported: Path, parts: Path, command: str, cli: Run) -> None:
    outcome = cli(command, "--data", parts, "--model", exported)

    assert outcome.code == 2
    assert "needs the model folder" in " ".join(outcome.stderr.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cut-steps", "few"], "whole numbers such as 0,5"),
        (["--cut-steps", "99"], "from 0 to 1"),
        (["--out", "scorer.bin"], "scorer.bin: name a file that ends in .onnx"),
        (["--data", "no-such-folder"], "no-such-folder"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    model: Path, tmp_path: Path, words: list[str], message: str, cli: Run
) -> None:
    named = [] if "--model" in words else ["--model", model]
    outcome = cli("export", *named, "-o", tmp_path / "s.onnx", *words)

    assert outcome.code == 2
    assert message in " ".join(outcome.stderr.split())
    assert not list(tmp_path.rglob("*.onnx*"))


def test_images_that_are_gone_are_asked_for(own_model: Path, tmp_path: Path, cli: Run) -> None:
    from dataclasses import replace

    from anogan.bundle import load_bundle, save_bundle

    bundle = load_bundle(own_model)
    data = dict(bundle.metadata["data"]) | {"source": str(tmp_path / "gone")}
    save_bundle(own_model, replace(bundle, metadata=dict(bundle.metadata) | {"data": data}))
    outcome = cli("export", "--model", own_model, "-o", tmp_path / "s.onnx")

    assert outcome.code == 2
    assert "--data" in outcome.stderr


def test_images_that_trained_the_model_do_not_count(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    from anogan.bundle import load_bundle
    from anogan.images.split import file_digest

    seen = set(load_bundle(model).metadata["data"]["train_hashes"])
    (tmp_path / "seen").mkdir()
    for path in (parts / "good").iterdir():
        if file_digest(path) in seen:
            shutil.copy(path, tmp_path / "seen")
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx", "--data", tmp_path / "seen")

    assert outcome.code == 2
    assert "not trained on" in " ".join(outcome.stderr.split())


def test_a_triton_repository_holds_the_very_file(model: Path, parts: Path, tmp_path: Path, cli: Run) -> None:
    words = ("--data", parts, "--triton", tmp_path / "models", "--json")
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx", *words)

    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "models" / "anogan" / "config.pbtxt").is_file()
    served = (tmp_path / "models" / "anogan" / "1" / "model.onnx").read_bytes()
    assert served == (tmp_path / "s.onnx").read_bytes()


def test_half_precision_says_that_the_threshold_is_set_anew(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    # This model of four training steps may be refused: its maps hardly vary, which magnifies rounding.
    words = ("--data", parts, "--precision", "fp16")
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx", *words)

    assert "setting the threshold anew for fp16 from" in " ".join(outcome.stderr.split())


def test_single_step_writes_the_pieces_beside_the_file(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    words = ("--data", parts, "--single-step", "--json")
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx", *words)

    assert outcome.code == 0, outcome.stderr
    names = {"s.onnx", "s-begin.onnx", "s-step.onnx", "s-finish.onnx"}
    assert {path.name for path in tmp_path.glob("s*")} == names
    facts = json.loads(outcome.stdout)
    assert [Path(path).name for path in facts["pieces"]] == ["s-begin.onnx", "s-step.onnx", "s-finish.onnx"]


def test_an_encoder_in_8_bits_says_that_the_threshold_is_set_anew(
    model: Path, parts: Path, tmp_path: Path, cli: Run
) -> None:
    # This model of four training steps may be refused: its maps hardly vary, which magnifies rounding.
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx", "--data", parts, "--int8")

    assert "setting the threshold anew for int8 from" in " ".join(outcome.stderr.split())


def test_8_bits_and_half_precision_exclude_each_other(model: Path, tmp_path: Path, cli: Run) -> None:
    words = ("--int8", "--precision", "fp16")
    outcome = cli("export", "--model", model, "-o", tmp_path / "s.onnx", *words)

    assert outcome.code == 2
    assert "--int8 and --precision fp16 were both given" in " ".join(outcome.stderr.split())
