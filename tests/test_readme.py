"""What the README tells people to type works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.tiny import TINY, part, write_parts

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELLS = {"bash", "console", "shell", "sh", ""}


@dataclass(frozen=True)
class Block:
    """One fenced block: its language and text."""

    language: str
    text: str


BLOCKS = [Block(*match) for match in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]


def _commands(program: str, blocks: list[Block]) -> Iterator[list[str]]:
    """The command lines of a program, split into words, without prompt, comment and what follows `&&`."""
    for block in blocks:
        text = block.text.replace("\\\n", " ")
        lines = [line.removeprefix("$ ").strip() for line in text.splitlines()]
        for line in lines if block.language in SHELLS else ():
            for piece in line.split(" && "):
                words = shlex.split(piece, comments=True)
                if words[:1] == [program]:
                    yield words


ANOGAN = list(_commands("anogan", BLOCKS))
MAKE = list(_commands("make", BLOCKS))


def test_the_first_screen_has_the_two_commands_of_a_fresh_machine() -> None:
    assert [words[1] for words in MAKE][:2] == ["demo", "test"]
    assert "make demo" in "\n".join(README.splitlines()[:25])


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_every_make_target_exists(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in words[1:] if "=" not in word]

    assert targets
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")
def test_make_help_lists_every_target_of_the_readme() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[1] for line in done.stdout.splitlines() if line.strip().startswith("make ")}

    assert {words[1] for words in MAKE} <= listed


# ---- commands, run in the order of the README on drawn parts


def _tiny_options() -> list[str]:
    flat = [f"{section}.{key}={value}" for section, keys in TINY.items() for key, value in keys.items()]
    return [word for option in flat for word in ("--set", option)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder with what the examples name: images, a data set, and a model where one is asked for."""
    root = tmp_path_factory.mktemp("readme")
    for words in ANOGAN:
        for word in words[1:]:
            name = Path(word.partition("=")[2] or word)
            if name.suffix.lower() in {".png", ".jpg", ".tif", ".bmp"} and not name.is_absolute():
                write_parts(root / name.parent, [1])
                (root / name.parent / "1.png").replace(root / name)
    for folder in ("pcb", "datasets/pcb"):
        write_parts(root / folder / "good", range(40))
        write_parts(root / folder / "test" / "good", range(600, 604))
        write_parts(root / folder / "test" / "bright square", range(700, 703), defect=True)
    write_parts(root / "more-good", range(800, 810))
    shutil.copytree(trained, root / "anogan-model")
    shutil.copytree(ROOT / "configs", root / "configs")
    return root


@pytest.mark.parametrize("words", ANOGAN, ids=" ".join)
def test_every_command_of_the_readme_runs(
    words: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anogan.cli._app import app

    monkeypatch.chdir(workplace)
    monkeypatch.delenv("ANOGAN_MODEL", raising=False)
    # Minutes of training become seconds; what else the line says stays.
    tiny = _tiny_options() if words[1] in ("fit", "compare") else []
    done = CliRunner().invoke(app, [*words[1:], *tiny])

    assert done.exit_code in ((0, 1) if words[1] in ("score", "doctor") else (0,)), done.output
    assert isinstance(done.exception, SystemExit | None)


def test_every_command_that_the_readme_names_exists_and_every_one_is_named() -> None:
    from typer.main import get_command

    from anogan.cli._app import app

    known = set(getattr(get_command(app), "commands", {}))
    named = set(re.findall(r"`anogan ([a-z]+)", README)) | {words[1] for words in ANOGAN}

    assert known <= named, f"not in the README: {sorted(known - named)}"
    assert named <= known, f"no such command: {sorted(named - known)}"


TABLE = [shlex.split(line) for line in re.findall(r"^\| `anogan ([^`]*)`", README, re.MULTILINE)]


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_every_command_of_the_readmes_table_takes_the_words_shown(words: list[str]) -> None:
    from typer.main import get_command

    from anogan.cli._app import app

    command = getattr(get_command(app), "commands", {})[words[0]]

    command.make_context(words[0], words[1:]).close()  # Parses, and raises what a person would read.


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python"], ids=lambda b: b.text.splitlines()[-1][:40]
)
def test_the_python_of_the_readme_runs(
    block: Block, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from anogan.images.decode import write_image

    monkeypatch.chdir(workplace)
    shutil.copytree(ROOT / "configs", workplace / "configs", dirs_exist_ok=True)
    write_image(workplace / "image.png", part(1))
    names: dict[str, Any] = {}
    if ".fit(" in block.text:
        compile(block.text, "README.md", "exec")  # With the default settings it would train for minutes.
        return
    exec(compile(block.text, "README.md", "exec"), names)

    assert ("print(" not in block.text) or capsys.readouterr().out.strip()


# ---- words


def test_nothing_in_the_readme_waits_to_be_filled_in() -> None:
    assert not re.findall(r"@@\w*@@|TODO|FIXME|TBD", README)


def test_every_config_key_that_the_readme_names_exists() -> None:
    from anogan.config import known_keys

    known = set(known_keys())
    sections = {key.partition(".")[0] for key in known}
    named = re.findall(r"`((?:[a-z0-9_]+\.)+[a-z0-9_]+)", README)
    wrong = [key for key in named if key.partition(".")[0] in sections and key not in known]
    files = [key for key in wrong if key.rpartition(".")[2] in {"py", "md", "png", "yaml", "onnx", "html"}]

    assert not set(wrong) - set(files)
