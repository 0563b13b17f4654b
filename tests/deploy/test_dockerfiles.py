"""What the Dockerfiles copy, install and start, as far as that can be held without Docker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])


@pytest.fixture
def text(repository: Path, name: str) -> str:
    return (repository / "deploy" / "docker" / name).read_text(encoding="utf-8")


def test_what_is_copied_suffices_to_build_the_package(repository: Path, text: str, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE):
        *names, target = line.split()
        assert target.startswith("/src")
        for name in names:
            assert name != ".", "a checkout holds gigabytes that no station needs"
            if (repository / name).is_dir():
                shutil.copytree(repository / name, tmp_path / target.lstrip("/"))
            else:
                shutil.copy(repository / name, source)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {"anogan/station/scorer.py", "anogan/configs/default.yaml"} <= set(archive.namelist())


def test_what_is_installed_is_an_extra_without_pytorch(repository: Path, text: str) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = re.findall(r'"/src\[(\w+)\]"', text)
    wanted = project["dependencies"] + project["optional-dependencies"][extra]
    assert any(name.startswith("onnxruntime") for name in wanted)
    assert not any(name.startswith("torch") for name in wanted)


def test_what_is_started_is_a_command_with_these_options(repository: Path, text: str) -> None:
    command, *options = json.loads(re.findall(r"^ENTRYPOINT (.+)$", text, flags=re.MULTILINE)[0])
    (default,) = json.loads(re.findall(r"^CMD (.+)$", text, flags=re.MULTILINE)[0])
    assert command == "anogan"
    done = subprocess.run(
        [sys.executable, "-m", "anogan", *options, default], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
