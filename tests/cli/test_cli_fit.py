from __future__ import annotations

import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import load_bundle
from anogan.cli._progress import LogLines, TrainingProgress, duration, figures_text
from anogan.config import config_to_dict
from anogan.images.decode import write_image

GOOD = "good"


def _good_folder(root: Path, image: np.ndarray, n: int = 6) -> Path:
    folder = root / GOOD
    folder.mkdir(parents=True)
    for i in range(n):
        changed = image.copy()
        changed[0, 0] = i
        write_image(folder / f"{i}.png", changed)
    return folder


def _refused(outcome: Any, *words: str) -> None:
    """One sentence with these words, exit code 2, no traceback, nothing written."""
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert [line for line in outcome.stderr.splitlines() if not line.startswith("Note: ")] == [
        line for line in outcome.stderr.splitlines() if line.startswith("Error: ")
    ]
    assert outcome.stderr.count("Error: ") == 1
    for word in words:
        assert word in outcome.stderr
    assert not Path("anogan-model").exists()


# ---- what it says and makes


def test_fit_says_where_the_model_is_what_it_promises_and_what_to_type_next(fitted: Any, parts: Path) -> None:
    out, outcome = fitted

    assert f"The model is in {out}" in outcome.stdout
    assert "Parts with a score above" in outcome.stdout
    assert "Promise: at most" in outcome.stdout
    evaluate = shell_words(outcome.stdout, "anogan evaluate")
    assert evaluate == ["anogan", "evaluate", "--data", str(parts), "--model", str(out)]


def shell_words(text: str, start: str) -> list[str]:
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(start)]
    return shlex.split(line)


def test_fit_shows_each_stage_and_its_losses_on_stderr(fitted: Any) -> None:
    _, outcome = fitted

    assert "training GAN: 4 of 4; g_loss" in outcome.stderr
    assert "training residual head: 3 of 3" in outcome.stderr
    assert "calibrating" in outcome.stderr


def test_every_override_reaches_the_model(model: Path) -> None:
    config = config_to_dict(load_bundle(model).config)

    assert (config["tiles"]["size"], config["gan"]["steps"]) == (32, 4)
    assert config["calibration"]["false_reject"] == 0.2


def test_shortcuts_are_the_settings_that_they_stand_for(
    cli: Any, parts: Path, tiny_options: list[str]
) -> None:
    short = ["--seed", "7", "--false-reject", "0.25", "--out", "m", "--quiet"]
    outcome = cli("fit", "--data", parts / "good", *tiny_options, *short)
    config = load_bundle(Path("m")).config

    assert outcome.code == 0
    assert outcome.stdout == ""
    assert (config.seed, config.calibration.false_reject) == (7, 0.25)


# ---- stopping and going on


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that a test could send to one process")
def test_ctrl_c_saves_and_the_command_it_prints_goes_on(
    parts: Path, cli: Any, repository: Path, tiny_options: list[str]
) -> None:
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    # Enough steps that a busy machine still meets the run in the middle.
    words = ["fit", "--data", str(parts / "good"), "--out", "m", *tiny_options, "--set", "gan.steps=400"]
    going = subprocess.Popen(
        [sys.executable, "-m", "anogan", *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    checkpoint = Path("m.checkpoints") / "gan.safetensors"
    while not checkpoint.exists() and going.poll() is None:
        time.sleep(0.02)
    time.sleep(0.05)
    going.send_signal(signal.SIGINT)
    _, said = going.communicate(timeout=60)

    assert going.returncode == 130
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("Error: Stopped")]
    again = shlex.split(line.partition("go on with: ")[2])
    assert again[-1] == "--resume"
    assert cli(*again[1:]).code == 0
    assert Path("m", "manifest.json").exists()


# ---- bad input


def test_an_empty_folder_is_refused(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    _refused(cli("fit", "--data", tmp_path / "empty"), "holds no images")


def test_a_missing_folder_is_refused(cli: Any) -> None:
    _refused(cli("fit", "--data", "nowhere"), "nowhere does not exist")


def test_too_few_images_are_refused(cli: Any, tmp_path: Path) -> None:
    data = _good_folder(tmp_path, np.full((64, 64, 3), 90, np.uint8), n=3)

    _refused(cli("fit", "--data", data), "3 good images")


def _png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"no picture", "is not an image", id="a text file named .png"),
        pytest.param(_png_header(60000, 60000), "60000x60000", id="a header of 60,000 x 60,000"),
        pytest.param(_png_header(1, 1), "1x1", id="one pixel"),
        pytest.param(None, "bad.png", id="a truncated image"),
    ],
)
def test_a_bad_image_among_the_good_is_named(
    content: bytes | None, words: str, cli: Any, tmp_path: Path, tiny_options: list[str]
) -> None:
    data = _good_folder(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    whole = (data / "0.png").read_bytes()
    (data / "bad.png").write_bytes(whole[: len(whole) // 2] if content is None else content)

    _refused(cli("fit", "--data", data, *tiny_options), "bad.png", words)


def test_images_of_other_channels_than_the_config_says_are_refused(
    cli: Any, tmp_path: Path, tiny_options: list[str]
) -> None:
    data = _good_folder(tmp_path, np.full((64, 64), 90, np.uint8))

    _refused(cli("fit", "--data", data, *tiny_options, "--set", "images.channels=3"), ".png", "grey")


def test_an_unknown_key_is_answered_with_the_nearest_one(cli: Any, parts: Path) -> None:
    outcome = cli("fit", "--data", parts, "--set", "search.step=4")

    _refused(outcome, "unknown key search.step; did you mean search.steps?")


def test_a_typo_in_a_config_file_names_the_file(cli: Any, parts: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("serach:\n  steps: 4\n", encoding="utf-8")

    _refused(cli("fit", "--data", parts, "--config", path), "mine.yaml", "serach", "did you mean search?")


def test_a_value_that_does_not_fit_is_refused(cli: Any, parts: Path) -> None:
    _refused(cli("fit", "--data", parts, "--false-reject", "2"), "calibration.false_reject", "got 2")


def test_a_batch_that_the_devices_cannot_share_is_refused(
    cli: Any, parts: Path, tiny_options: list[str]
) -> None:
    own = ["--devices", "3", "--set", "gan.batch_size=10"]
    outcome = cli("fit", "--data", parts, *tiny_options, *own)

    _refused(outcome, "gan.batch_size 10 cannot be shared out evenly to 3 processes; set it to a multiple of")


def test_an_unknown_config_name_lists_those_that_exist(cli: Any, parts: Path, shipped: Path) -> None:
    outcome = cli("fit", "--data", parts, "--config", "bolst")

    _refused(outcome, "bolst is no file", "did you mean bolts?", "bolts, nuts")


def test_a_folder_with_something_else_in_it_is_not_overwritten(cli: Any, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine", encoding="utf-8")

    _refused(cli("fit", "--data", parts, "--out", tmp_path / "notes"), "notes", "not a model")
    assert (tmp_path / "notes" / "a.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_training(
    cli: Any, parts: Path, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    _refused(cli("fit", "--data", parts, "--out", locked / "m"), "locked")


def test_an_out_below_a_file_is_refused_before_training(cli: Any, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    _refused(cli("fit", "--data", parts, "--out", tmp_path / "file" / "m"), "file")


# ---- progress


def test_a_log_gets_few_lines_and_always_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LogLines()
    for step in range(1, 1001):
        lines.show("gan", step, 1000, "g_loss 0.7")
    printed = capsys.readouterr().err.splitlines()

    assert 1 <= len(printed) <= 10
    assert printed[-1] == "training GAN: 1000 of 1000; g_loss 0.7"


def test_a_stage_of_one_step_twice_is_no_division_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LogLines()
    for _ in range(2):
        lines.show("calibrate", 1, 1, "")

    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_counts_and_losses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes any stream for a terminal then.
    monkeypatch.setenv("COLUMNS", "120")
    with TrainingProgress(quiet=False) as progress:
        for step in (1, 2, 3):
            progress.on_progress("gan", step, 4, {"g_loss": 0.7})
        progress.on_progress("calibrate", 1, 2, {})
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)

    assert re.search(r"training GAN .*3/4 .*left .*g_loss 0\.700", shown)
    assert re.search(r"calibrating .*1/2", shown)


def test_progress_knows_where_it_was_stopped() -> None:
    progress = TrainingProgress(quiet=True)
    assert progress.where() == "before the training began"

    progress.on_progress("gan", 120, 500, {})
    assert progress.where() == "at step 120 of 500 (training GAN)"


def test_the_most_telling_losses_come_first() -> None:
    metrics = {"d_accuracy": 0.5, "d_loss": 1.4, "other": 1.0, "g_loss": 0.7}

    assert figures_text(metrics) == "g_loss 0.700  d_loss 1.400  d_accuracy 0.500"


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
