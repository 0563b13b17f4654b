"""`anogan sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anogan.cli._progress import counted
from anogan.cli._terminal import shell_line, stdout

NAME = "sample"
EXAMPLE = "anogan sample boards --size 192 --n-good 120 --seed 1"


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    size: Annotated[int, typer.Option(help="Width and height of the pictures, pixels, 96 to 1024.")] = 192,
    n_good: Annotated[int, typer.Option(help="Good boards to train on.")] = 120,
    n_test_good: Annotated[int, typer.Option(help="Good boards to test on.")] = 30,
    n_per_kind: Annotated[int, typer.Option(help="Defective boards of each kind.")] = 6,
    seed: Annotated[int, typer.Option(help="Another seed gives a set that shares no picture.")] = 0,
    shift: Annotated[
        float, typer.Option(help="Share of the side by which boards may lie aside, 0 to 0.25.")
    ] = 0.0,
    turn: Annotated[float, typer.Option(help="Degrees by which boards may be turned, 0 to 45.")] = 0.0,
) -> None:
    """Draw a set of circuit boards, good and defective with exact masks, to try things on."""
    from anogan.images.sample_board import DEFECT_KINDS, write_sample_set

    with counted("drawing boards") as on_image:
        write_sample_set(
            folder,
            size=size,
            n_good=n_good,
            n_test_good=n_test_good,
            n_per_kind=n_per_kind,
            seed=seed,
            shift=shift,
            turn=turn,
            progress=lambda done, total: on_image("", done, total),
        )
    out = stdout()
    out.print(
        f"{folder} holds {n_good} good boards, and to test {n_test_good} good ones and {n_per_kind} of each "
        f"of {len(DEFECT_KINDS)} defects: {', '.join(DEFECT_KINDS)}."
    )
    if n_good:
        out.print("Next:")
        out.print("  " + shell_line(["anogan", "fit", "--data", folder]))
