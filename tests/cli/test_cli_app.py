from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import anogan
from anogan.cli import (
    benchmark,
    calibrate,
    compare,
    doctor,
    evaluate,
    export,
    fit,
    generate,
    info,
    sample,
    score,
)
from anogan.cli._app import app
from anogan.cli._folders import make_folder
from anogan.cli._guard import GuardedGroup
from anogan.cli._terminal import shell_line
from anogan.config import shipped_configs
from anogan.errors import DataError, StorageError

COMMANDS = (fit, score, evaluate, compare, calibrate, export, benchmark, sample, generate, info, doctor)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda module: module.NAME)
def test_the_help_of_every_command_ends_with_an_example_that_it_accepts(command: Any, cli: Any) -> None:
    shown = cli(command.NAME, "--help")
    last = [line.strip() for line in shown.stdout.splitlines() if line.strip()][-1]

    assert shown.code == 0
    assert last == f"Example: {command.EXAMPLE}"
    # An option that does not exist, or that lacks its value, would be a usage error.
    assert "Usage:" not in cli(*_words(command.EXAMPLE)).stderr


def _words(example: str) -> list[str]:
    # On folders that cannot be, so that no example does anything.
    nowhere = str(Path(__file__) / "none")
    words = example.replace('"', "").split()[1:]
    before = ["", *words[:-1]]
    return [
        nowhere if earlier in ("--data", "sample") else word
        for earlier, word in zip(before, words, strict=True)
    ]


def test_the_help_names_every_command(cli: Any) -> None:
    shown = cli("--help").stdout

    assert all(f"│ {module.NAME} " in shown for module in COMMANDS)


def test_every_option_of_every_command_is_explained() -> None:
    group = typer.main.get_command(app)
    unexplained = [
        f"{name} {parameter.name}"
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]

    assert unexplained == []


def test_version_is_printed_alone(cli: Any) -> None:
    assert cli("--version").stdout == f"anogan {anogan.__version__}\n"


def test_python_m_anogan_is_the_command_and_needs_no_torch_for_its_help(process: Any) -> None:
    shown = process("score", "--help", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}

    assert shown.code == 0
    assert "anogan.cli.score" in loaded
    assert not loaded & {"torch", "cv2", "sklearn", "albumentations", "matplotlib"}


def test_an_unknown_option_exits_2_without_a_traceback(process: Any) -> None:
    outcome = process("score", "--treshold", "3", "image.png")

    assert outcome.code == 2
    assert "--treshold" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_an_unknown_command_exits_2(cli: Any) -> None:
    assert cli("train").code == 2


def test_completion_offers_the_commands(process: Any) -> None:
    offered = process(_ANOGAN_COMPLETE="complete_bash", COMP_WORDS="anogan ca", COMP_CWORD="1")

    assert offered.stdout.split() == ["calibrate"]


def test_completion_offers_the_shipped_configs(process: Any) -> None:
    line = "anogan fit --config "
    offered = process(_ANOGAN_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD="3")

    assert offered.stdout.split() == list(shipped_configs())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_behind_stdout_is_one_sentence(model: Path, repository: Path) -> None:
    import subprocess

    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "anogan", "info", "--json", "--model", str(model)],
            cwd=repository,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr


# ---- the guard, around commands that fail on purpose


def _run(error: BaseException, *words: str) -> Any:
    guarded = typer.Typer(cls=GuardedGroup, pretty_exceptions_enable=False)

    @guarded.callback()
    def before(traceback: bool = False) -> None:
        pass

    @guarded.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(guarded, ["fail", *words])


def test_a_mistake_is_one_sentence_and_exits_2() -> None:
    result = _run(DataError("pcb holds no images; put some there."))

    assert (result.exit_code, result.stderr) == (2, "Error: pcb holds no images; put some there.\n")


def test_a_sentence_with_brackets_is_printed_as_it_is() -> None:
    assert "[red]part[1].png" in _run(DataError("[red]part[1].png is damaged.")).stderr


def test_a_long_sentence_stays_one_line() -> None:
    assert _run(DataError("word " * 60)).stderr.count("\n") == 1


def test_a_traceback_is_shown_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOGAN_TRACEBACK", "1")
    result = _run(DataError("nothing here."))

    assert "Traceback" in result.stderr
    assert "raise error" in result.stderr
    assert result.exit_code == 2


def test_traceback_may_stand_behind_the_command(cli: Any) -> None:
    outcome = cli("info", "--model", "nowhere", "--traceback")

    assert "Traceback" in outcome.stderr
    assert outcome.code == 2


def test_a_fault_of_ours_is_told_from_a_mistake_and_from_a_reject() -> None:
    result = _run(ZeroDivisionError("division by zero"))

    assert result.exit_code == 3
    assert "fault of anogan: ZeroDivisionError: division by zero" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."),
    ],
    ids=["python", "torch on the CPU", "torch on a GPU"],
)
def test_full_memory_is_one_sentence_that_names_settings(error: Exception) -> None:
    result = _run(error)

    assert result.exit_code == 2
    assert "memory is full" in result.stderr
    assert "gan.batch_size" in result.stderr


def test_a_full_disk_names_the_file() -> None:
    result = _run(OSError(28, "No space left on device", "models/a.safetensors"))

    assert result.exit_code == 2
    assert "models/a.safetensors: the disk is full" in result.stderr


def test_a_missing_extra_is_named_with_what_installs_it() -> None:
    result = _run(ModuleNotFoundError("No module named 'torch'", name="torch"))

    assert result.exit_code == 2
    assert 'pip install "anogan[train]"' in result.stderr


def test_ctrl_c_exits_130() -> None:
    result = _run(KeyboardInterrupt())

    assert (result.exit_code, result.stderr) == (130, "Error: Stopped by Ctrl-C.\n")


def test_a_line_to_paste_quotes_what_a_shell_would_split() -> None:
    line = shell_line(["anogan", "fit", "--data", Path("Teile 零件")])

    assert line in ("anogan fit --data 'Teile 零件'", 'anogan fit --data "Teile 零件"')


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody may write to")
def test_a_folder_that_is_there_and_may_not_be_written_to_is_told_before_the_work() -> None:
    with pytest.raises(StorageError, match="The report cannot be written to /proc/self"):
        make_folder(Path("/proc/self"), "The report", "give --report another folder")
