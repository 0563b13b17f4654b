"""`anogan evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from anogan.cli._folders import make_folder
from anogan.cli._model import require_model
from anogan.cli._options import JsonOption, ModelOption
from anogan.cli._plain import finite
from anogan.cli._progress import counted
from anogan.cli._terminal import print_error, print_note, stdout
from anogan.report import _words

if TYPE_CHECKING:
    from anogan.recipes import EvaluationRun

NAME = "evaluate"
EXAMPLE = "anogan evaluate --data pcb --report anogan-report"


def command(
    data: Annotated[
        Path, typer.Option("--data", "-d", help="Folder with test/good/, test/<kind>/ and ground_truth/.")
    ],
    model: ModelOption = None,
    json_: JsonOption = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a HTML report, the figures and all scores.")
    ] = None,
) -> None:
    """Measure a model on labelled test images, at the threshold that good images gave.

    Exit code 2: some images could not be scored, or another mistake.
    """
    path = require_model(model)
    if report is not None:
        make_folder(report, "The report", "give --report another folder")
    from anogan.recipes import evaluate

    with counted("scoring") as on_image:
        run = evaluate(data, path, report=report, on_image=on_image)
    if json_:
        typer.echo(json.dumps(finite(run.to_dict()), allow_nan=False))
    else:
        _print(run.figures())
        if report is not None:
            stdout().print(f"The report is in {report}.")
    if run.doubtful is not None:
        print_note(run.doubtful)
    n_masked, n_defect = run.evaluation.n_masked, run.evaluation.n_defect
    if n_masked < n_defect and (n_masked or (data / "ground_truth").is_dir()):
        print_note(_words.masks(n_masked, n_defect))
    _print_errors(run)
    if run.errors:
        raise typer.Exit(2)


def _print(figures: dict[str, Any]) -> None:
    out = stdout()
    out.print(
        f"{figures['n_good']} good and {figures['n_defect']} defective images, threshold "
        f"{figures['threshold']:.3g}, {figures['ms_per_image']:.0f} ms per image."
    )
    table = Table("figure", "value", "95 % interval")
    for name, label in _words.TILES:
        bounds = _words.interval(name, figures["intervals"].get(name)).removeprefix("95 %: ")
        table.add_row(label, _words.metric(name, figures[name]), bounds or _words.MISSING)
    out.print(table, soft_wrap=False)
    if figures["per_kind"]:
        out.print(_kind_table(figures["per_kind"]), soft_wrap=False)


def _kind_table(per_kind: dict[str, dict[str, Any]]) -> Table:
    columns = {"detection_rate": "rejected", "image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
    table = Table("defect", "images", *columns.values())
    for kind, row in per_kind.items():
        table.add_row(kind, str(row["n"]), *(_words.metric(name, row[name]) for name in columns))
    return table


def _print_errors(run: EvaluationRun) -> None:
    for message in run.errors.values():
        print_error(message)
    if run.errors:
        print_error(f"{len(run.errors)} images could not be scored and are not in the figures.")
