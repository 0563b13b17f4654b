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
from anogan.cli._model import open_scorer
from anogan.cli._plain import finite
from anogan.cli._score_heatmaps import heatmap_paths
from anogan.cli._score_lines import CsvLines
from anogan.cli._score_report import ReportPages
from anogan.images.decode import read_as_stored, write_image
from anogan.inspection import Inspection, Verdict
from anogan.recipes import ScoredFile
from anogan.report.gathered import PICTURES, badness, most_telling
from anogan.scoring import Scorer

KEYS = [
    "path",
    "score",
    "threshold",
    "verdict",
    "residual_score",
    "discrimination_score",
    "anomaly_score",
    "steps_used",
    "ms",
]
NEVER, ALWAYS = "--threshold=1e9", "--threshold=-1e9"


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def good(parts: Path) -> Path:
    return parts / "test" / "good"


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
        1.0, 2.0, Verdict.REVIEW, 0.1, 0.1, 0.1, 3, 5.0, empty, empty, Path("1.png"), registered=False
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


# ---- heatmaps and report


def test_people_get_heatmaps_and_are_told_where(cli: Any, model: Path, parts: Path) -> None:
    outcome = cli("score", parts / "test", "--model", model)
    written = sorted(path.relative_to("anogan-report") for path in Path("anogan-report").rglob("*.png"))

    assert "Heatmaps are in anogan-report." in outcome.stdout
    assert len(written) == 7
    assert Path("hot spot", "200_heatmap.png") in written
    assert read_as_stored(Path("anogan-report") / written[0]).shape[2] == 3


@pytest.mark.parametrize("words", [["--json"], ["--csv"], ["--no-heatmaps"]])
def test_machines_and_who_declines_get_no_heatmaps(
    words: list[str], cli: Any, model: Path, good: Path
) -> None:
    cli("score", good, "--model", model, *words)

    assert list(Path.cwd().iterdir()) == []


def test_heatmaps_go_where_they_are_asked_for_with_json_too(cli: Any, model: Path, good: Path) -> None:
    cli("score", good, "--model", model, "--json", "--out", "hitze 热")

    assert len(list(Path("hitze 热").glob("*_heatmap.png"))) == 4


def test_heatmaps_of_an_earlier_run_are_not_scored(cli: Any, model: Path, good: Path) -> None:
    shutil.copytree(good, "line")
    shutil.copytree(model, "anogan-model")
    for _ in range(2):
        outcome = cli("score", ".", NEVER)

    assert "4 images: " in outcome.stdout
    assert outcome.stderr == ""


def test_photographs_are_scored_where_their_heatmaps_go(cli: Any, model: Path, good: Path) -> None:
    shutil.copytree(good, "line-3")
    shutil.copytree(good, "archive")
    for _ in range(2):
        found = _objects(cli("score", "line-3", "archive", "--model", model, "--json", "-o", "line-3").stdout)
        assert len(found) == 8


def test_an_image_that_was_named_is_scored_wherever_it_lies(cli: Any, model: Path, good: Path) -> None:
    shutil.copytree(good, "anogan-report")
    heatmap = Path("anogan-report", "100.png").rename("anogan-report/100_heatmap.png")
    outcome = cli("score", heatmap, good / "101.png", "--model", model)

    assert "2 images: " in outcome.stdout


def test_ground_truth_masks_of_a_data_set_are_not_scored(cli: Any, model: Path, parts: Path) -> None:
    found = _objects(cli("score", parts, "--model", model, "--json").stdout)

    assert len(found) == 31
    assert not any("ground_truth" in item["path"] for item in found)


def test_no_heatmap_overwrites_another() -> None:
    images = [Path("a/1.png"), Path("a/1.jpg"), Path("b/1.png"), Path("a/../c/1.png")]
    targets = heatmap_paths(images, Path("out"))

    assert [target.relative_to("out").as_posix() for target in targets.values()] == [
        "a/1.png_heatmap.png",
        "a/1.jpg_heatmap.png",
        "b/1_heatmap.png",
        "c/1_heatmap.png",
    ]


def test_a_place_that_takes_no_heatmaps_is_told_before_scoring(cli: Any, model: Path, good: Path) -> None:
    Path("file").write_bytes(b"")
    outcome = cli("score", good, "--model", model, "--out", "file/maps")

    assert outcome.code == 2
    assert outcome.stdout == ""
    assert "Heatmaps cannot be written to" in outcome.stderr


def test_a_heatmap_that_cannot_be_written_ends_no_inspection(
    cli: Any, model: Path, parts: Path, tmp_path: Path
) -> None:
    # 238 bytes: a file may be called so, but its heatmap may not.
    named = Path(shutil.copy(parts / "test" / "good" / "100.png", tmp_path / ("板" * 78 + ".png")))
    outcome = cli("score", named, parts / "test" / "good" / "101.png", "--model", model, "--threshold", 1e6)

    assert outcome.code == 2
    assert "2 images: 2 pass, 0 review, 0 reject; 1 heatmap could not be written." in outcome.stdout
    assert "cannot be written" in outcome.stderr
    assert cli("score", named, "--model", model, "--threshold", -1e6).code == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["NumPy", "PyTorch"],
)
def test_a_picture_too_large_for_the_memory_is_told_and_the_rest_scored(
    error: Exception, cli: Any, model: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Scorer.evidence

    def short_of_memory(self: Scorer, images: Any, variants: Any = None) -> Any:
        if any(image.max() == 255 for image in images):
            raise error
        return evidence(self, images, variants)

    monkeypatch.setattr(Scorer, "evidence", short_of_memory)
    hot = parts / "test" / "hot spot" / "200.png"
    outcome = cli("score", hot, parts / "test" / "good" / "101.png", "--model", model, "--threshold", 1e6)

    assert outcome.code == 2
    assert "1 image: 1 pass" in outcome.stdout
    assert "too large for the memory" in outcome.stdout + outcome.stderr


def test_the_report_shows_the_images_and_the_promise(cli: Any, model: Path, good: Path) -> None:
    outcome = cli("score", good, "--model", model, "--no-heatmaps", "--report", "shift 1")
    page = Path("shift 1", "report.html").read_text(encoding="utf-8")

    assert "The report is" in outcome.stdout
    assert "103.png" in page
    assert "Promise: at most" in page


def test_a_report_of_a_threshold_by_hand_promises_nothing(cli: Any, model: Path, good: Path) -> None:
    cli("score", good, "--model", model, "--json", "--report", "r.html", NEVER)
    page = Path("r.html").read_text(encoding="utf-8")

    assert "Promise: at most" not in page
    assert "given by hand" in page


def test_a_report_of_other_search_steps_promises_nothing(cli: Any, model: Path, good: Path) -> None:
    cli("score", good, "--model", model, "--json", "--report", "r.html", "--steps", 3)
    page = Path("r.html").read_text(encoding="utf-8")

    assert "Promise: at most" not in page
    assert "what it promises does not hold at 3" in page


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


# ---- a report of very many images


def _inspection(score: float) -> Inspection:
    picture = np.full((8, 8, 3), 9, np.uint8)
    return Inspection(
        score, 5.0, Verdict.PASS, 0.1, 0.1, 0.1, 2, 1.0, np.full((8, 8), score, np.float32), picture
    )


def test_a_report_keeps_the_maps_of_the_worst_and_the_borderline_images_alone(model: Path) -> None:
    pages = ReportPages(open_scorer(model, threshold=5.0))
    scores = np.random.default_rng(0).permutation(np.linspace(0, 30, 3000))
    for score in scores:
        pages.add(ScoredFile(Path(f"{score}.png"), _inspection(float(score))))
    kept = {item.score for item in pages.inspections if item.anomaly_map.size}
    ranked = sorted(scores, reverse=True)
    nearest = sorted(ranked[150:], key=lambda score: abs(score - 5.0))[:50]

    assert [item.score for item in pages.inspections] == scores.tolist()
    assert {*ranked[:150], *nearest} <= kept
    assert len(kept) < 700


def test_a_report_of_very_many_shows_an_image_whose_low_score_is_not_to_be_relied_on(model: Path) -> None:
    pages = ReportPages(open_scorer(model, threshold=5.0))
    cap = replace(_inspection(0.2), in_distribution=False, verdict=Verdict.REVIEW)
    pages.add(ScoredFile(Path("lens cap.png"), cap))
    for score in np.linspace(1, 30, 1000):
        pages.add(ScoredFile(Path(f"{score}.png"), _inspection(float(score))))
    first = pages.inspections[0]

    assert first.anomaly_map.size
    assert first in most_telling(sorted(pages.inspections, key=badness, reverse=True), PICTURES)
