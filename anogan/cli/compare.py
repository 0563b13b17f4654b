"""`anogan compare`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from anogan.cli._folders import make_folder
from anogan.cli._model import require_folder
from anogan.cli._options import JsonOption, SetOption
from anogan.cli._plain import finite
from anogan.cli._progress import TrainingProgress
from anogan.cli._terminal import print_error, stdout
from anogan.errors import ConfigError
from anogan.files import DEFAULT_REPORT

if TYPE_CHECKING:
    from anogan.config import Config
    from anogan.metrics.comparison import Comparison, Row
    from anogan.recipes.compare import ConfigEntrant, FittedEntrant

NAME = "compare"
EXAMPLE = "anogan compare demo --data pcb --baselines --variant no-search:search.steps=0"
_IMAGE_FIGURES = (
    "image_auroc",
    "image_aupr",
    "image_f1",
    "accuracy",
    "false_reject_rate",
    "false_accept_rate",
)
_OTHER_FIGURES = ("pixel_auroc", "aupro", "ms_per_image", "training_seconds")
# A comma divides settings only before the next key: lists have commas of their own.
_BETWEEN_SETTINGS = re.compile(r",(?=\s*[A-Za-z_][\w.]*=)")


def command(
    entrants: Annotated[
        list[str],
        typer.Argument(metavar="ENTRANTS...", help="Model folders, YAML configs, names of shipped configs."),
    ],
    data: Annotated[
        list[Path], typer.Option("--data", "-d", help="Data set with good/ and test/; may be repeated.")
    ],
    seeds: Annotated[
        int, typer.Option(min=1, help="Fit configs and baselines with so many seeds, from 0 on.")
    ] = 3,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Add the simpler methods that a GAN has to beat, on the same split."
        ),
    ] = False,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE,...",
            help="Add the first config with other settings, as for an ablation; may be repeated.",
        ),
    ] = None,
    set_: SetOption = None,
    report: Annotated[
        Path, typer.Option(help="Folder for compare.html, compare.json, the fitted models and their stages.")
    ] = DEFAULT_REPORT,
    json_: JsonOption = False,
) -> None:
    """Set models, configs, variants and baselines side by side in one table, over data sets and seeds.

    Model folders are evaluated as they are. Configs are fitted once per data set and seed.

    A later call finds these models again in the report folder, so an interrupted comparison goes on.

    Variants that differ only in head or score are measured on one GAN, which is trained once.

    Exit code 2: no entrant could be measured, or another mistake.
    """
    chosen = _entrants(entrants, variant or [], set_ or [])
    make_folder(report, "The comparison", "give --report another folder")
    from anogan.recipes.compare import compare_entrants
    from anogan.recipes.training import Reporter

    progress = TrainingProgress(quiet=False)
    with progress:
        found = compare_entrants(
            chosen,
            data,
            seeds=range(seeds),
            baselines=baselines,
            work=report,
            reporter=Reporter(progress.on_progress, progress.on_event),
        )
    if json_:
        typer.echo(json.dumps(finite(found.to_dict()), allow_nan=False))
    else:
        _print(found, report)
    _require_one_measured(found)


def _entrants(
    named: Sequence[str], variants: Sequence[str], overrides: Sequence[str]
) -> list[FittedEntrant | ConfigEntrant]:
    """What the words mean; every mistake in them is told before anything is fitted."""
    from anogan.bundle import MANIFEST, read_manifest
    from anogan.config import shipped_config_names
    from anogan.recipes.compare import ConfigEntrant, FittedEntrant

    found: list[FittedEntrant | ConfigEntrant] = []
    configs: list[str] = []
    for name in named:
        if (Path(name) / MANIFEST).is_file() or (Path(name).is_dir() and name not in shipped_config_names()):
            read_manifest(Path(name))
            found.append(FittedEntrant(name, Path(name)))
        else:
            require_folder(Path(name))
            configs.append(name)
            found.append(ConfigEntrant(name, _config_of(name, overrides)))
    if overrides and not configs:
        raise ConfigError(
            "--set changes configs; there is none, and finished models are measured as they are."
        )
    for text in variants:
        label, settings = _variant(text)
        if not configs:
            raise ConfigError(f"--variant {text}: there is no config to vary; name one before the options.")
        found.append(ConfigEntrant(label, _config_of(configs[0], [*overrides, *settings])))
    return found


def _config_of(name: str, overrides: Sequence[str]) -> Callable[[Path], Config]:
    from anogan.config import find_config, load_config, shipped_config_names
    from anogan.images.settings import fitting_config

    try:
        path = find_config(name)
    except ConfigError:
        raise ConfigError(
            f"{name} is no model folder, no YAML file and no shipped config; shipped are "
            f"{', '.join(shipped_config_names())}."
        ) from None
    load_config(path, overrides)

    def fitting(data: Path) -> Config:
        return fitting_config(str(path), overrides, data)[0]  # By its file: the images do not choose another.

    return fitting


def _variant(text: str) -> tuple[str, list[str]]:
    """`no-search:search.steps=0,head.enabled=false` -> its name and its settings."""
    name, colon, settings = text.partition(":")
    if not colon or not name.strip() or "=" not in settings:
        raise ConfigError(
            f"--variant {text}: expected name:key.path=value,..., such as no-search:search.steps=0."
        )
    return name.strip(), [part.strip() for part in _BETWEEN_SETTINGS.split(settings)]


def _require_one_measured(found: Comparison) -> None:
    """Ends with the exit code of a mistake where the table is of dashes alone."""
    errors = [outcome.error for outcome in found.outcomes]
    if all(error is not None for error in errors):
        print_error(f"None of the {len(errors)} runs could be measured; the first: {errors[0]}")
        raise typer.Exit(2)


def _print(found: Comparison, report: Path) -> None:
    from anogan.report.comparison import data_sets, masks_text

    out, masks = stdout(), masks_text(found.outcomes)
    for name, own in data_sets(found.rows).items():
        out.print(f"{name}, mean ± standard deviation over seeds; ↓: less is better.", style="bold")
        for figures in (_IMAGE_FIGURES, _OTHER_FIGURES):
            out.print(_table(own, figures), soft_wrap=False)
        for row in own:
            for error in row.errors:
                out.print(f"{row.name} failed, {error}")
            for count in row.unscored:
                out.print(f"{row.name} is measured on the other images, {count}")
            for why in row.doubtful:
                out.print(f"{row.name} is doubtful, {why}")
        if name in masks:
            out.print(masks[name])
    for sentence in found.verdicts:
        out.print(sentence)
    out.print(f"The report, with ranges and kinds of defect, is in {report}.")


def _table(rows: Sequence[Row], figures: Sequence[str]) -> Table:
    from anogan.metrics.comparison import LOWER_IS_BETTER
    from anogan.report.comparison import LABELS, best_rows, deviation_text, mean_text, seeds_text

    labels = [LABELS[figure] + (" ↓" if figure in LOWER_IS_BETTER else "") for figure in figures]
    table = Table("entrant", "seeds", *labels)
    best = {figure: best_rows(rows, figure) for figure in figures}
    for row in rows:
        cells = []
        for figure in figures:
            spread = row.figures.get(figure)
            text = f"{mean_text(figure, spread)} {deviation_text(figure, spread)}".strip()
            cells.append(f"*{text}" if row.name in best[figure] else text)
        table.add_row(row.name, seeds_text(row), *cells)
    if any(best.values()):
        table.caption = "*: the best mean of its column"
    return table
