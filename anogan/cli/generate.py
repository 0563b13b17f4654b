"""`anogan generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anogan.cli._model import require_model
from anogan.cli._options import JsonOption, ModelOption
from anogan.cli._progress import counted
from anogan.cli._terminal import stdout
from anogan.errors import ConfigError

NAME = "generate"
EXAMPLE = "anogan generate --n 64 --out synthetic"


def command(
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")] = Path("anogan-synthetic"),
    n: Annotated[int, typer.Option(help="How many tiles.")] = 16,
    seed: Annotated[int, typer.Option(max=2**63 - 1, help="The same seed gives the same tiles.")] = 0,
    variant: Annotated[
        str | None,
        typer.Option(help="Product variant to draw, of a model with several.", show_default="all in turn"),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Say whether this image carries the mark; generate nothing."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Draw tiles from the trained generator, invisibly marked as synthetic.

    With --check the exit code is 0 for a marked image and 1 for one without the mark.
    """
    if check is not None:
        _check(check, as_json=json_)
        return
    if n < 1:
        raise ConfigError(f"--n is {n}; expected at least 1.")
    path = require_model(model)
    from anogan.recipes.generating import generate

    with counted("generating tiles") as on_image:
        files = generate(
            path,
            out,
            n,
            seed=seed,
            variant=variant,
            progress=lambda done, total: on_image("", done, total),
        )
    if json_:
        typer.echo(json.dumps({"files": [str(file) for file in files], "seed": seed}))
    else:
        stdout().print(f"{len(files)} tiles are in {out}, {files[0].name} to {files[-1].name}, all marked.")


def _check(path: Path, *, as_json: bool) -> None:
    from anogan.images.decode import read_as_stored
    from anogan.images.watermark import check_watermark

    found = check_watermark(read_as_stored(path))
    if as_json:
        line = {"path": str(path), "synthetic": found.marked, "score": round(found.score, 2)}
        typer.echo(json.dumps(line))
    else:
        verdict = "carries the mark of a synthetic image" if found.marked else "carries no mark"
        stdout().print(f"{path} {verdict} (score {found.score:.1f}; marked from 6 on).")
    raise typer.Exit(0 if found.marked else 1)
