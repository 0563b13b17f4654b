import importlib
from pathlib import Path
from types import ModuleType

import pytest

DATASETS = Path(__file__).parents[2] / "datasets"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "download 下载"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "out"


def converter(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(DATASETS))
    return importlib.import_module(name)


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch, source: Path, target: Path):
    def run(name: str, *, link: bool = False) -> Path:
        module = converter(monkeypatch, f"convert_{name}")
        converter(monkeypatch, "convert_common").convert_to(target, source, module.convert, link=link)
        return target

    return run
