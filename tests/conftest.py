"""What every test stands on: one thread, fixed seeds, and the real photographs where there are any."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

# Before any test module imports the libraries that read these.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # It would ask the network at import.
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# A loaded machine must not fail a test by its clock, and a failure must come again.
hypothesis.settings.register_profile("anogan", deadline=None, derandomize=True)
hypothesis.settings.load_profile("anogan")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Every test draws the same numbers, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):  # A test that needs no torch does not pay for its import.
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of a set of real photographs by name, such as `pcb`; skips the test where it is absent."""
    root = Path(os.environ.get("ANOGAN_REAL_DATA") or REPOSITORY.parent / "shared" / "data")

    def folder(name: str) -> Path:
        path = root / name
        if not path.is_dir():
            pytest.skip(
                f"no real photographs at {path}; set ANOGAN_REAL_DATA to the folder that holds {name}/"
            )
        return path

    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some seconds' training on `tests.tiny.part`, so that G follows its image; read only.

    The good parts, seeds 0 to 39, lie in `good/` beside it.
    """
    from anogan.recipes import fit
    from tests.tiny import TRAINED, no_pictures, tiny_config, write_parts

    root = tmp_path_factory.mktemp("trained")
    with no_pictures():
        return fit(write_parts(root / "good", range(40)), root / "模型 1", tiny_config(**TRAINED)).path


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped configs: bolts and nuts."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "bolts.yaml").write_text("seed: 1\n", encoding="utf-8")
    (folder / "nuts.yaml").write_text("seed: 2\n", encoding="utf-8")
    monkeypatch.setattr("anogan.config.shipped._CONFIG_FOLDERS", (folder,))
    return folder
