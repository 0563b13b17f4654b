"""`anogan fit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anogan.cli._guard import STOPPED
from anogan.cli._options import ConfigOption, SetOption
from anogan.cli._progress import TrainingProgress, duration
from anogan.cli._promise import promise_sentences
from anogan.cli._terminal import print_error, print_note, shell_line, stdout
from anogan.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from anogan.recipes import FitResult

NAME = "fit"
EXAMPLE = "anogan fit --data pcb/good --out anogan-model --false-reject 0.01"


def command(
    data: Annotated[
        Path, typer.Option("--data", "-d", help="Folder of good images, or a data set with good/ in it.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the model folder goes.")] = DEFAULT_MODEL,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a stopped run with the same settings was.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=INT.", show_default=False)] = None,
    false_reject: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be rejected; short for --set calibration.false_reject=FLOAT.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            help="Devices to train on at once, or auto; short for --set runtime.devices=INT.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")] = False,
) -> None:
    """Train a model on good images and calibrate its threshold on held-out ones."""
    shortcuts = {"seed": seed, "calibration.false_reject": false_reject, "runtime.devices": devices}
    overrides = _overrides(set_ or [], shortcuts)
    from anogan.images.settings import fitting_config

    settings, note = fitting_config(config, overrides, data)
    if note is not None and not quiet:
        print_note(note)
    from anogan.recipes.fitting import fit
    from anogan.recipes.training import Reporter

    progress = TrainingProgress(quiet=quiet)
    try:
        with progress:
            reporter = Reporter(progress.on_progress, progress.on_event)
            result = fit(data, out, settings, resume=resume, reporter=reporter)
    except KeyboardInterrupt:
        again = shell_line(_resume_words(data, out, config, overrides))
        print_error(f"Stopped {progress.where()}; go on with: {again}")
        raise typer.Exit(STOPPED) from None
    if not quiet:
        _summarise(result, data)


def _overrides(given: list[str], shortcuts: Mapping[str, object]) -> list[str]:
    return given + [f"{key}={value}" for key, value in shortcuts.items() if value is not None]


def _resume_words(data: Path, out: Path, config: str | None, overrides: list[str]) -> list[object]:
    words: list[object] = ["anogan", "fit", "--data", data, "--out", out]
    if config is not None:
        words += ["--config", config]
    for override in overrides:
        words += ["--set", override]
    return [*words, "--resume"]


def _summarise(result: FitResult, data: Path) -> None:
    out = stdout()
    took, device = duration(float(result.metadata["training_seconds"])), result.metadata["device"]
    if (devices := result.metadata["devices"]) > 1:
        device = f"{devices} x {device}"
    out.print(f"The model is in {result.path}; it took {took} on {device}.", style="bold")
    for sentence in promise_sentences(result.calibration):
        out.print(sentence)
    out.print("Next:")
    labelled = _labelled(data)
    if labelled is not None:
        out.print("  " + shell_line(["anogan", "evaluate", "--data", labelled, "--model", result.path]))
    out.print("  " + shell_line(["anogan", "score", "image.png", "--model", result.path]))


def _labelled(data: Path) -> Path | None:
    """The data set with test images that the good ones belong to, if there is one."""
    candidates = [data, *list(data.parents)[:2]] if data.name == "good" else [data]
    return next((folder for folder in candidates if (folder / "test").is_dir()), None)
