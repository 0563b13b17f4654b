"""The heatmaps and the report of `anogan score`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.cli._model import open_scorer
from anogan.cli._score_heatmaps import heatmap_paths
from anogan.cli._score_report import ReportPages
from anogan.images.decode import read_as_stored
from anogan.inspection import Inspection, Verdict
from anogan.recipes import ScoredFile
from anogan.report.gathered import PICTURES, badness, most_telling
from anogan.scoring import Scorer

NEVER, ALWAYS = "--threshold=1e9", "--threshold=-1e9"


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


@pytest.mark.parametrize("form", [[], ["--json"], ["-o", "elsewhere"]])
def test_heatmaps_of_a_run_in_another_folder_are_not_scored(
    form: list[str], cli: Any, model: Path, good: Path
) -> None:
    shutil.copytree(good, "line-3")
    os.chdir("line-3")
    cli("score", ".", "--model", model)
    os.chdir("..")
    outcome = cli("score", "line-3", "--model", model, "--report", "all", *form)

    assert len(list(Path("line-3", "anogan-report").iterdir())) == 4
    assert "4 of 4" in Path("all", "report.html").read_text() or outcome.stdout.count(".png") == 4


def test_photographs_are_scored_where_their_heatmaps_go(cli: Any, model: Path, good: Path) -> None:
    shutil.copytree(good, "line-3")
    shutil.copytree(good, "archive")
    for _ in range(2):
        printed = cli("score", "line-3", "archive", "--model", model, "--json", "-o", "line-3").stdout
        found = [json.loads(line) for line in printed.splitlines()]
        assert len(found) == 8


def test_an_image_that_was_named_is_scored_wherever_it_lies(cli: Any, model: Path, good: Path) -> None:
    shutil.copytree(good, "anogan-report")
    heatmap = Path("anogan-report", "100.png").rename("anogan-report/100_heatmap.png")
    outcome = cli("score", heatmap, good / "101.png", "--model", model)

    assert "2 images: " in outcome.stdout


def test_ground_truth_masks_of_a_data_set_are_not_scored(cli: Any, model: Path, parts: Path) -> None:
    printed = cli("score", parts, "--model", model, "--json").stdout
    found = [json.loads(line) for line in printed.splitlines()]

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


def test_a_report_that_cannot_be_written_takes_no_verdict_away(cli: Any, model: Path, good: Path) -> None:
    Path("r.html").mkdir()  # A folder of this name is not replaced by a page.
    codes = {}
    for threshold in (1e6, -1e6):
        outcome = cli("score", good, "--model", model, "--report", "r.html", "--threshold", threshold)
        codes[threshold] = outcome.code
        assert "r.html" in outcome.stderr
        assert "The report is" not in outcome.stdout

    assert codes == {1e6: 2, -1e6: 1}


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


def _inspection(score: float) -> Inspection:
    picture = np.full((8, 8, 3), 9, np.uint8)
    return Inspection(
        score, 5.0, Verdict.PASS, 0.1, 0.1, 0.1, 2, 0.4, 1.0, np.full((8, 8), score, np.float32), picture
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
