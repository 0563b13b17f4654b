"""`anogan calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anogan.cli._model import require_model
from anogan.cli._options import ModelOption
from anogan.cli._progress import counted
from anogan.cli._promise import promise_sentences
from anogan.cli._terminal import print_note, stdout

NAME = "calibrate"
EXAMPLE = "anogan calibrate --false-reject 0.01"


def command(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            help="Folder of good images that the model was not trained on; they alone count from now on.",
            show_default="those that set the last threshold",
        ),
    ] = None,
    model: ModelOption = None,
    false_reject: Annotated[
        float | None,
        typer.Option(help="Share of good parts that may be rejected.", show_default="the model's"),
    ] = None,
    review_share: Annotated[
        float | None,
        typer.Option(
            help="Share of good parts that may be reviewed or rejected; 0 is no review.",
            show_default="the model's",
        ),
    ] = None,
    leave_out_outliers: Annotated[
        bool | None,
        typer.Option(
            "--leave-out-outliers/--count-outliers",
            help="Whether good images that score far above the others count.",
            show_default="the model's",
        ),
    ] = None,
) -> None:
    """Set the threshold of a model anew: from other good images, or for another rate.

    Without --data the good images that set the last threshold set this one, in a moment.
    """
    path = require_model(model)
    from anogan.bundle import read_manifest
    from anogan.recipes import calibrate_model

    before = read_manifest(path)["calibration"].get("estimate", {}).get("threshold")
    notes: list[str] = []
    with counted("calibrating") as on_image:
        calibration = calibrate_model(
            data,
            path,
            false_reject=false_reject,
            review_share=review_share,
            leave_out_outliers=leave_out_outliers,
            on_image=on_image,
            event=notes.append,
        )
    out = stdout()
    was = "" if before is None else f", it was {before:.4g}"
    out.print(f"The model in {path} has a new threshold{was}.", style="bold")
    for sentence in promise_sentences(calibration):
        out.print(sentence)
    for warning in (*notes, calibration.estimate.warning(), calibration.outlier_warning()):
        if warning is not None:
            print_note(warning)
