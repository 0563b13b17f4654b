"""All commands together."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from anogan import __version__
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
from anogan.cli._guard import TRACEBACK_VARIABLE, GuardedGroup

app = typer.Typer(
    name="anogan",
    cls=GuardedGroup,
    help="Train on photographs of good parts, then say of each new one: pass, review or reject.",
    epilog="Example: anogan fit --data pcb/good && anogan score image.png",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"anogan {__version__}")
        raise typer.Exit()


@app.callback()
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and stop.")
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option("--traceback", help=f"Show where errors come from, as {TRACEBACK_VARIABLE}=1 does."),
    ] = False,
) -> None:
    if traceback:
        os.environ[TRACEBACK_VARIABLE] = "1"


for module in (fit, score, evaluate, compare, calibrate, export, benchmark, sample, generate, info, doctor):
    app.command(module.NAME, epilog=f"Example: {module.EXAMPLE}")(module.command)
