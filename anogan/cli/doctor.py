"""`anogan doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from anogan.cli._environment import Fault, examine_installation, installed_versions, usable_devices
from anogan.cli._options import ConfigOption, JsonOption, SetOption
from anogan.cli._terminal import stdout

if TYPE_CHECKING:
    from anogan.images.doctor import DoctorReport

NAME = "doctor"
EXAMPLE = "anogan doctor --data pcb"
FAULTY = 1
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def command(
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Folder to look through, as for fit.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Look for what would spoil a training, in the images and in the installation.

    Exit code 0: no error was found (a warning is none).
    Exit code 1: at least one was.
    Exit code 2: a mistake, such as a folder that does not exist.
    """
    report = None if data is None else _examine(data, config, set_ or [])
    versions = installed_versions()
    faults = examine_installation(versions)
    devices = usable_devices()
    ok = all(fault.severity != "error" for fault in faults) and (report is None or report.ok)
    if json_:
        environment = {"versions": versions, "devices": devices, "findings": [f.to_dict() for f in faults]}
        tree = {"ok": ok, "environment": environment, "data": None if report is None else report.to_dict()}
        typer.echo(json.dumps(tree, allow_nan=False))
    else:
        _print_environment(versions, devices, faults)
        if report is not None:
            _print_data(report)
    if not ok:
        raise typer.Exit(FAULTY)


def _examine(data: Path, config: str | None, overrides: list[str]) -> DoctorReport:
    from anogan.images.doctor import examine
    from anogan.images.settings import fitting_config

    settings, _ = fitting_config(config, overrides, data)
    return examine(data, seed=settings.seed, config=settings)


def _print_environment(versions: dict[str, str], devices: list[str], faults: list[Fault]) -> None:
    out = stdout()
    out.print("Installation: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    out.print(f"Devices: {', '.join(devices) or 'none that torch can use'}")
    for fault in faults:
        _print_finding(fault.severity, fault.message)
    if not faults:
        out.print(Text("The installation is sound.", style="green"))


def _print_data(report: DoctorReport) -> None:
    out = stdout()
    out.print(f"{report.root}: {report.n_good} good images, {report.n_test} test images")
    for finding in report.findings:
        _print_finding(finding.severity, finding.message)
    if not report.findings:
        out.print(Text("Nothing is wrong with the images.", style="green"))


def _print_finding(severity: str, message: str) -> None:
    stdout().print(Text(f"{severity:<8}", style=_STYLES[severity]).append(message, style="not bold default"))
