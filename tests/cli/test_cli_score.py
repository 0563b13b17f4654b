from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import load_bundle, save_bundle
from anogan.cli._guard import BROKEN_PIPE
from anogan.cli._plain import finite
from anogan.cli._score_lines import CsvLines
from anogan.images.decode import write_image
from anogan.inspection import Inspection, Verdict
from anogan.recipes import ScoredFile

KEYS = [
    "path",
    "score",
    "threshold",
    "verdict",
    "residual_score",
    "discrimination_score",
    "anomaly_score",
    "steps_used",
    "brightness",
    "ms",
]
NEVER, ALWAYS = "--threshold=1e9", "--threshold=-1e9"


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


# ---- what it prints


def test_json_is_one_object_per_image_with_the_documented_keys(cli: Any, model: Path, good: Path) -> None:
    found = _objects(cli("score", good, "--model", model, "--json").stdout)

    assert [list(item) for item in found] == [KEYS] * 4
    assert [Path(item["path"]).name for item in found] == ["100.png", "101.png", "102.png", "103.png"]
    assert all(item["verdict"] in ("pass", "review", "reject") for item in found)


def test_csv_holds_what_json_holds(cli: Any, model: Path, good: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("score", good, "--model", model, "--csv").stdout)))
    objects = _objects(cli("score", good, "--model", model, "--json").stdout)

    assert [row["path"] for row in rows] == [item["path"] for item in objects]
    assert [float(row["score"]) for row in rows] == [item["score"] for item in objects]


def test_every_key_of_an_inspection_has_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    empty = np.zeros((0, 0), np.float32)
    found = Inspection(
        1.0, 2.0, Verdict.REVIEW, 0.1, 0.1, 0.1, 3, 0.4, 5.0, empty, empty, Path("1.png"), registered=False
    )
    lines = CsvLines()
    lines.add(ScoredFile(Path("1.png"), found))
    lines.add(ScoredFile(Path("2.png"), replace(found, registered=None)))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    assert rows[0].keys() >= found.to_dict().keys()
    assert [row["registered"] for row in rows] == ["False", ""]


def test_the_table_tells_verdict_scores_and_file(cli: Any, model: Path, good: Path) -> None:
    lines = cli("score", good, "--model", model, NEVER).stdout.splitlines()

    assert lines[0] == "verdict     score  threshold  residual  discrimination     ms  file"
    assert [line.split()[2] for line in lines[1:5]] == ["1000000000.00"] * 4
    assert {line.split()[0] for line in lines[1:5]} <= {"pass", "review"}
    assert lines[1].endswith("100.png")
    assert lines[5].startswith("4 images: ")


def test_the_same_image_gets_the_same_score_again(cli: Any, model: Path, good: Path) -> None:
    first, again = (_objects(cli("score", good, "--model", model, "--json").stdout) for _ in range(2))

    assert [item["score"] for item in first] == [item["score"] for item in again]


def test_files_folders_and_globs_are_one_list_without_repetition(cli: Any, model: Path, parts: Path) -> None:
    good = parts / "test" / "good"
    words = [good / "101.png", good, str(parts / "test" / "*" / "20?.png")]
    found = _objects(cli("score", *words, "--model", model, "--json").stdout)

    names = [Path(item["path"]).name for item in found]
    assert names == ["101.png", "100.png", "102.png", "103.png", "200.png", "201.png", "202.png"]


def test_the_model_may_be_named_by_the_environment(
    cli: Any, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOGAN_MODEL", str(model))

    assert len(_objects(cli("score", good, "--json").stdout)) == 4


def test_numbers_that_json_cannot_hold_become_null() -> None:
    tree = {"score": math.nan, "pairs": [(1.0, math.inf)], "n": 3}

    assert finite(tree) == {"score": None, "pairs": [[1.0, None]], "n": 3}


# ---- options


def test_a_threshold_by_hand_decides(cli: Any, model: Path, good: Path) -> None:
    found = _objects(cli("score", good, "--model", model, "--json", ALWAYS).stdout)

    assert {item["verdict"] for item in found} == {"reject"}
    assert {item["threshold"] for item in found} == {-1e9}


def test_the_table_names_images_that_are_unlike_all_good_ones(
    cli: Any, model: Path, good: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(model, tmp_path / "limited"))
    bundle = load_bundle(own)
    limits = {"residual_score": [0.0, 1e-9], "discrimination_score": [0.0, 2.0]}
    save_bundle(own, replace(bundle, calibration=dict(bundle.calibration) | {"limits": limits}))
    outcome = cli("score", good, "--model", own, NEVER)
    found = _objects(cli("score", good, "--model", own, "--json", NEVER).stdout)

    assert outcome.stderr.count("is unlike all good images: look at camera, light and part") == len(found)
    assert {(item["verdict"], item["in_distribution"]) for item in found} == {("review", False)}
    assert outcome.code == 0


def test_steps_override_the_model(cli: Any, model: Path, good: Path) -> None:
    outcome = cli("score", good, "--model", model, "--json", "--steps", 3)

    assert {item["steps_used"] for item in _objects(outcome.stdout)} == {3}
    assert "what it promises does not hold at 3" in outcome.stderr
    assert "does not hold" not in cli("score", good, "--model", model, "--json", "--steps", 3, ALWAYS).stderr


def test_a_device_that_is_not_there_is_refused(cli: Any, model: Path, good: Path) -> None:
    import torch

    absent = "mps" if torch.cuda.is_available() else "cuda"
    outcome = cli("score", good, "--model", model, "--device", absent)

    assert outcome.code == 2
    assert f"runtime.device is {absent}" in outcome.stderr


@pytest.mark.parametrize("words", [["--json", "--csv"], ["--threshold", "nan"]])
def test_options_that_make_no_sense_are_refused(words: list[str], cli: Any, model: Path, good: Path) -> None:
    outcome = cli("score", good, "--model", model, *words)

    assert outcome.code == 2
    assert outcome.stderr.startswith("Error: --")


# ---- exit codes


@pytest.mark.skipif(os.name == "nt", reason="pipes close otherwise there")
def test_a_reader_that_goes_away_does_not_look_like_a_rejected_part(model: Path, good: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "anogan", "score", good, "--model", model, "--no-heatmaps", NEVER]
    with os.fdopen(writer, "w") as pipe:
        assert subprocess.run(words, stdout=pipe, check=False).returncode == BROKEN_PIPE


def test_exit_0_when_nothing_is_rejected(cli: Any, model: Path, good: Path) -> None:
    assert cli("score", good, "--model", model, "--json", NEVER).code == 0


def test_exit_1_when_something_is_rejected(process: Any, model: Path, good: Path) -> None:
    outcome = process("score", good, "--model", model, "--json", ALWAYS)

    assert outcome.code == 1
    assert outcome.stderr == ""
    assert len(_objects(outcome.stdout)) == 4


def test_review_is_not_rejected(cli: Any, own_model: Path, good: Path) -> None:
    from dataclasses import replace

    from anogan.bundle import load_bundle, save_bundle

    bundle = load_bundle(own_model)
    estimate = bundle.calibration["estimate"] | {"threshold": 1e9}
    low = dict(bundle.calibration) | {"estimate": estimate, "review_threshold": -1e9}
    save_bundle(own_model, replace(bundle, calibration=low))
    outcome = cli("score", good, "--model", own_model, "--json")

    assert {item["verdict"] for item in _objects(outcome.stdout)} == {"review"}
    assert outcome.code == 0


# ---- bad input


@pytest.fixture
def mixed(good: Path, tmp_path: Path) -> Path:
    """Two good images among six that cannot be scored."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = (good / "100.png").read_bytes()
    (folder / "1.png").write_bytes(whole)
    (folder / "2-truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "3-text.png").write_text("no picture", encoding="utf-8")
    write_image(folder / "4-pixel.png", np.zeros((1, 1, 3), np.uint8))
    (folder / "5-huge.png").write_bytes(_with_size(whole, 60000, 60000))
    write_image(folder / "6-grey.png", np.zeros((64, 64), np.uint8))
    write_image(folder / "7-deep.png", np.full((64, 64, 3), 900, np.uint16))
    write_image(folder / "8-large.png", np.zeros((80, 64, 3), np.uint8))
    (folder / "9.png").write_bytes((good / "101.png").read_bytes())
    return folder


def _with_size(png: bytes, width: int, height: int) -> bytes:
    import zlib

    body = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + body + zlib.crc32(body).to_bytes(4, "big") + png[33:]


EXPECTED = {
    "2-truncated.png": "truncated",
    "3-text.png": "not an image",
    "4-pixel.png": "1x1",
    "5-huge.png": "60000x60000",
    "6-grey.png": "expects 3 channels",
    "7-deep.png": "16 bits per channel; the model expects 8",
    "8-large.png": "64x80",
}


def test_bad_images_are_reported_and_the_rest_is_scored(cli: Any, model: Path, mixed: Path) -> None:
    outcome = cli("score", mixed, "--model", model, "--json", NEVER)
    found = {Path(item["path"]).name: item for item in _objects(outcome.stdout)}

    assert [name for name, item in found.items() if "score" in item] == ["1.png", "9.png"]
    for name, words in EXPECTED.items():
        assert list(found[name]) == ["path", "error"]
        assert words in found[name]["error"]
        assert name in found[name]["error"]
    assert outcome.code == 2


def test_bad_images_do_not_change_the_score_of_the_others(
    cli: Any, model: Path, mixed: Path, good: Path
) -> None:
    among = {i["path"][-5:]: i for i in _objects(cli("score", mixed, "--model", model, "--json").stdout)}
    alone = _objects(cli("score", good / "100.png", "--model", model, "--json").stdout)[0]

    assert among["1.png"]["score"] == pytest.approx(alone["score"], rel=1e-4)


def test_people_read_of_bad_images_in_red_on_stderr(cli: Any, model: Path, mixed: Path) -> None:
    outcome = cli("score", mixed, "--model", model, NEVER)

    assert [line[:6] for line in outcome.stderr.splitlines()] == ["Error:"] * 7
    assert "0 reject; 7 could not be scored." in outcome.stdout
    assert len(list(Path("anogan-report").glob("*.png"))) == 2


def test_a_reject_goes_before_a_bad_image_in_the_exit_code(cli: Any, model: Path, mixed: Path) -> None:
    assert cli("score", mixed, "--model", model, "--csv", ALWAYS).code == 1


def test_csv_has_the_reason_in_its_own_column(cli: Any, model: Path, mixed: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("score", mixed, "--model", model, "--csv").stdout)))

    assert [bool(row["error"]) for row in rows] == [False] + [True] * 7 + [False]
    assert rows[1]["score"] == ""


@pytest.mark.parametrize("words", [["nowhere"], ["nowhere.png"], ["*.png"], ["."]])
def test_paths_without_an_image_are_refused(words: list[str], cli: Any, model: Path) -> None:
    outcome = cli("score", *words, "--model", model)

    assert outcome.code == 2
    assert outcome.stderr.count("\n") == 1


def test_a_missing_model_is_told_without_importing_torch(process: Any, good: Path) -> None:
    outcome = process("score", good, "--model", "none", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in outcome.stderr.splitlines()}

    assert outcome.code == 2
    assert "Error: There is no model at none" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "torch" not in loaded


def test_a_damaged_model_is_refused(cli: Any, own_model: Path, good: Path) -> None:
    weights = own_model / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome = cli("score", good, "--model", own_model, "--json")

    assert (outcome.code, outcome.stdout) == (2, "")
    assert "generator.safetensors is damaged" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_model_of_a_newer_schema_is_refused(cli: Any, own_model: Path, good: Path) -> None:
    manifest = own_model / "manifest.json"
    tree = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(tree | {"schema_version": 99}), encoding="utf-8")
    outcome = cli("score", good, "--model", own_model)

    assert outcome.code == 2
    assert "schema 99" in outcome.stderr
    assert "upgrade anogan" in outcome.stderr
