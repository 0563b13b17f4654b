"""What a user gets by installing and importing the package."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "cv2", "onnxruntime", "sklearn", "matplotlib")


def _python(code: str, repository: Path) -> str:
    """Standard output of a fresh interpreter that finds the checkout's package."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    return done.stdout


def _build(kind: str, repository: Path, into: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("wheel", repository, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_import_takes_under_0_3_seconds(repository: Path) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        _python("import anogan", repository)
        return time.perf_counter() - start

    # The best of five: the others measure what else the machine does.
    assert min(seconds() for _ in range(5)) < 0.3


def test_import_loads_neither_torch_nor_opencv(repository: Path) -> None:
    loaded = _python("import anogan, sys; print(*sys.modules)", repository).split()

    assert "anogan" in loaded
    assert not set(HEAVY) & set(loaded)


def test_settings_and_results_load_without_torch(repository: Path) -> None:
    loaded = _python("import sys; from anogan import Config, Inspection; print(*sys.modules)", repository)

    assert "torch" not in loaded.split()


def test_every_promised_name_is_there_and_none_is_a_module(repository: Path) -> None:
    code = "import anogan; print(*(f'{n}:{type(getattr(anogan, n)).__name__}' for n in anogan.__all__))"
    kinds = dict(item.split(":") for item in _python(code, repository).split())

    assert {"fit", "evaluate", "Config", "Inspection"} <= set(kinds)
    assert "module" not in kinds.values()


def test_help_needs_neither_torch_nor_opencv(repository: Path) -> None:
    code = """
import runpy, sys
sys.argv = ["anogan", "--help"]
try:
    runpy.run_module("anogan", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("EXIT", end.code, *sys.modules)
"""
    page, _, end = _python(code, repository).rpartition("EXIT ")

    assert "fit" in page
    assert end.split()[0] in ("0", "None")
    assert not set(HEAVY) & set(end.split())


def test_an_unknown_name_is_an_attribute_error(repository: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        _python("import anogan; anogan.scorre", repository)

    assert "AttributeError: module 'anogan' has no attribute 'scorre'" in failed.value.stderr


def test_imports_go_down_the_rooms_only(repository: Path) -> None:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=repository, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_every_room_but_the_training_ones_is_forbidden_to_import_torch(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["name"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}
    station = contracts["What a station runs never imports torch"]
    rooms = {f"anogan.{module.name}" for module in pkgutil.iter_modules([str(repository / "anogan")])}
    training = {f"anogan.{name}" for name in ("__main__", "cli", "recipes", "export", "scoring", "gan")}

    assert rooms - training == set(station["source_modules"])


def test_the_wheel_holds_the_package_its_settings_and_no_more(
    repository: Path, wheel_names: list[str]
) -> None:
    roots = {name.split("/")[0] for name in wheel_names}
    configs = {Path(name).name for name in wheel_names if name.startswith("anogan/configs/")}

    assert {root for root in roots if not root.endswith(".dist-info")} == {"anogan"}
    assert configs == {path.name for path in (repository / "configs").glob("*.yaml")}


def test_the_wheel_holds_every_file_of_the_package(repository: Path, wheel_names: list[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "anogan"], cwd=repository, capture_output=True, text=True
    ).stdout.split("\0")
    expected = {name for name in tracked if name and (repository / name).exists()}
    if not expected:
        pytest.skip("not a git checkout, so nothing says which files belong to the package")

    assert expected <= set(wheel_names)


def test_the_source_archive_makes_the_same_wheel_and_holds_no_more(
    repository: Path, wheel_names: list[str], tmp_path: Path
) -> None:
    with tarfile.open(_build("sdist", repository, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("anogan-*")
    with zipfile.ZipFile(_build("wheel", source, tmp_path / "wheel")) as rebuilt:
        assert sorted(rebuilt.namelist()) == sorted(wheel_names)

    assert {path.name for path in source.iterdir()} - {"configs"} == {
        *("anogan", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", ".gitignore")
    }


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of an empty environment that has the wheel, and borrows what it depends on."""
    home = tmp_path_factory.mktemp("empty environment 试")
    venv.create(home, with_pip=False)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(scripts / "python")]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True
    )
    # Folders that a .pth names are searched last, and their own .pth files, such as the one of an
    # editable install of this checkout, are not followed: `anogan` can only be the wheel's.
    (site,) = home.glob("[Ll]ib/**/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts


def _run_installed(command: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Without the caller's PYTHONPATH, which goes before site-packages and may name the checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [command, *args], cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


def test_the_wheel_installs_into_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    code = "import anogan; from anogan import Config; print(anogan.__file__, Config().seed)"
    done = _run_installed(installed / "python", "-c", code, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.rsplit(" ", 1)[0]).is_relative_to(installed.parent)


def test_the_installed_package_knows_the_version_of_its_metadata(installed: Path, tmp_path: Path) -> None:
    code = "import anogan, importlib.metadata as m; print(anogan.__version__ == m.version('anogan'))"
    done = _run_installed(installed / "python", "-c", code, cwd=tmp_path)

    assert done.stdout.strip() == "True", done.stderr


def test_the_installed_command_shows_its_help(installed: Path, tmp_path: Path) -> None:
    done = _run_installed(installed / "anogan", "--help", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("fit", "score", "evaluate", "sample", "doctor"))
