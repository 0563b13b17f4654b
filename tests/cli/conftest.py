"""A model of a few seconds' training, and the images that it was trained on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from anogan.images.decode import write_image

TINY = {
    "tiles.size": 32,
    "tiles.overlap": 8,
    "images.size": "null",
    "network.width": 8,
    "network.latent_grid": 8,
    "network.latent_dim": 4,
    "gan.steps": 4,
    "gan.batch_size": 8,
    "head.steps": 3,
    "head.width": 8,
    "search.steps": 2,
    "runtime.threads": 1,
    "calibration.false_reject": 0.2,
    "monitor.alarms": "{head-at-chance: 'off'}",  # After three steps it is.
}
TINY_OPTIONS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


@dataclass(frozen=True)
class Outcome:
    """What one run of the command left."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


def part(seed: int, *, defect: bool = False) -> NDArray[np.uint8]:
    """Stripes with noise, (64, 64, 3); a defect is a bright square."""
    rng = np.random.default_rng(seed)
    stripes = 100 + 40 * np.sign(np.sin(np.arange(64) / 3.0))[None, :, None]
    image = stripes + rng.normal(0, 5, (64, 64, 3))
    if defect:
        image[20:32, 20:32] = 255
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good/, test/good/, test/hot spot/ and masks; read only."""
    root = tmp_path_factory.mktemp("Teile 零件")
    for name, seeds in {"good": range(24), "test/good": range(100, 104)}.items():
        (root / name).mkdir(parents=True)
        for seed in seeds:
            write_image(root / name / f"{seed}.png", part(seed))
    for name in ("test/hot spot", "ground_truth/hot spot"):
        (root / name).mkdir(parents=True)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:32, 20:32] = 255
    for seed in range(200, 203):
        write_image(root / "test" / "hot spot" / f"{seed}.png", part(seed, defect=True))
        write_image(root / "ground_truth" / "hot spot" / f"{seed}_mask.png", mask)
    return root


def run_cli(*words: object) -> Outcome:
    """Runs the command in this process."""
    from anogan.cli._app import app

    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def fitted(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The model's folder and what `fit` printed."""
    out = tmp_path_factory.mktemp("models") / "stripes"
    outcome = run_cli("fit", "--data", parts / "good", "--out", out, *TINY_OPTIONS)
    assert outcome.code == 0, outcome.stderr
    return out, outcome


@pytest.fixture(scope="session")
def model(fitted: tuple[Path, Outcome]) -> Path:
    """The model's folder; read only."""
    return fitted[0]


@pytest.fixture
def tiny_options() -> list[str]:
    """The `--set` options of a fit that takes seconds."""
    return list(TINY_OPTIONS)


@pytest.fixture
def own_model(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may damage."""
    return Path(shutil.copytree(model, tmp_path / "own model"))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process, in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("ANOGAN_MODEL", "ANOGAN_TRACEBACK"):
        # Set first, so that what `--traceback` sets in a test is undone after it.
        monkeypatch.setenv(name, "")
    return run_cli


@pytest.fixture
def process(tmp_path: Path, repository: Path) -> Run:
    """Runs the command as a user does: in a process of its own."""

    def run(*words: object, **environment: Any) -> Outcome:
        variables = {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-m", "anogan", *map(str, words)],
            cwd=tmp_path,
            env=os.environ | variables | environment,
            capture_output=True,
            encoding="utf-8",
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def good(parts: Path) -> Path:
    return parts / "test" / "good"
