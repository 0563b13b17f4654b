"""`anogan score`."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from anogan.cli._folders import make_folder
from anogan.cli._guard import USER_MISTAKE
from anogan.cli._model import OpenedModel, open_scorer, require_model
from anogan.cli._options import Device, ModelOption
from anogan.cli._score_heatmaps import (
    heatmap_paths,
    is_heatmap,
    make_heatmap_folder,
    write_heatmap,
)
from anogan.cli._score_lines import CsvLines, JsonLines, Lines, TableLines
from anogan.cli._score_report import ReportPages
from anogan.cli._terminal import print_error, print_note, stdout
from anogan.errors import ConfigError, StorageError
from anogan.files import DEFAULT_REPORT
from anogan.inspection import Verdict

NAME = "score"
EXAMPLE = 'anogan score image.png line-3/ "archive/*.tif" --out heatmaps'
REJECTED = 1
_UNDRAWN, _UNWRITTEN = "heatmap", "report"  # Beside the verdicts and `error` in what is counted.


def command(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATHS...", help="Image files, folders (searched in depth), globs.")
    ],
    model: ModelOption = None,
    json_: Annotated[
        bool, typer.Option("--json", help="One JSON object per image, as soon as it is known.")
    ] = False,
    csv_: Annotated[
        bool, typer.Option("--csv", help="One CSV row per image, as soon as it is known.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for heatmaps.",
            show_default="anogan-report; none with --json or --csv",
        ),
    ] = None,
    heatmaps: Annotated[bool, typer.Option(help="Write heatmaps at all.")] = True,
    report: Annotated[
        Path | None, typer.Option(help="Write a HTML report to this .html file, or into this folder.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Reject above this score; above the model's review threshold it is still reviewed.",
            show_default="calibrated",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Latent-search steps per tile; more is slower and fits closer.",
            show_default="the model's",
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Product variant that all images show, for a model with several.",
            show_default="name of each image's folder",
        ),
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Where to compute.", show_default="the model's")
    ] = None,
) -> None:
    """Say of each image pass, review or reject, and show where.

    Exit code 0: no image is rejected (one for review is not).
    Exit code 1: at least one is rejected.
    Exit code 2: a mistake; or none is rejected, but some could not be scored or a picture not be written.
    """
    _refuse_unfit(threshold, json_=json_, csv_=csv_)
    if out is None and not (json_ or csv_):
        out = DEFAULT_REPORT
    folder = out if heatmaps else None
    from anogan.images.folders import find_images

    model_path = require_model(model, exported=True)
    images = _without_own(find_images(paths), paths, model_path, folder)
    opened = open_scorer(model_path, threshold=threshold, steps=steps, device=device, variant=variant)
    if opened.unpromised is not None and threshold is None:
        print_note(f"{opened.unpromised} Give --threshold, or `anogan fit --set search.steps=...`.")
    if opened.doubtful is not None:
        print_note(opened.doubtful)
    lines: Lines = JsonLines() if json_ else CsvLines() if csv_ else TableLines()
    report = _report_file(report)
    counts = _run(opened, images, lines, folder, report)
    if isinstance(lines, TableLines):
        _summarise(counts, folder, report)
    code = _exit_code(counts)
    if code:
        raise typer.Exit(code)


def _refuse_unfit(threshold: float | None, *, json_: bool, csv_: bool) -> None:
    if json_ and csv_:
        raise ConfigError("--json and --csv were both given; choose one.")
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"--threshold {threshold} is no number to compare with; give one such as 6.5.")


def _run(
    opened: OpenedModel,
    images: list[Path],
    lines: Lines,
    folder: Path | None,
    report: Path | None,
) -> Counter[str]:
    """Scores, prints and draws image by image; how many there are of each verdict and of `error`."""
    pages = None if report is None else ReportPages(opened)
    targets = {} if folder is None else heatmap_paths(images, folder)
    # Before the first image, not after an hour.
    if folder is not None:
        make_heatmap_folder(folder)
    if report is not None:
        make_folder(report.parent, "The report", "give --report another place")
    counts: Counter[str] = Counter()
    for file in opened.score_files(images):
        lines.add(file)
        counts["error" if file.inspection is None else str(file.inspection.verdict)] += 1
        if file.path in targets:
            try:
                write_heatmap(file, targets[file.path])
            except StorageError as error:  # A name too long, a full disk: the verdicts of the others go on.
                if not counts[_UNDRAWN]:
                    print_error(str(error))
                counts[_UNDRAWN] += 1
        if pages is not None:
            pages.add(file)
    if pages is not None and report is not None:
        try:
            pages.write(report)
        except StorageError as error:  # Nor does it take away that a part was rejected.
            print_error(str(error))
            counts[_UNWRITTEN] += 1
    return counts


def _without_own(images: list[Path], named: list[str], model: Path, heatmaps: Path | None) -> list[Path]:
    """Leaves out heatmaps, a model's pictures and ground truth below a scored folder, if others are there.

    Never a file that was named itself, nor a photograph that lies where heatmaps go.
    """
    asked_for = set(map(Path, named))
    model = model.resolve()
    folder = None if heatmaps is None else heatmaps.resolve()

    def is_own(path: Path) -> bool:
        place = path.resolve()
        drawn = (folder is not None and place.is_relative_to(folder)) or DEFAULT_REPORT.name in place.parts
        return (drawn and is_heatmap(place)) or "ground_truth" in path.parts or place.is_relative_to(model)

    others = [path for path in images if path in asked_for or not is_own(path)]
    return others or images


def _report_file(report: Path | None) -> Path | None:
    if report is None or report.suffix.lower() in (".html", ".htm"):
        return report
    return report / "report.html"


def _summarise(counts: Counter[str], folder: Path | None, report: Path | None) -> None:
    scored = sum(counts[verdict] for verdict in Verdict)
    text = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    failed = f"; {counts['error']} could not be scored" if counts["error"] else ""
    undrawn = counts[_UNDRAWN]
    failed += f"; {undrawn} heatmap{'' if undrawn == 1 else 's'} could not be written" if undrawn else ""
    out = stdout()
    out.print(f"{scored} image{'' if scored == 1 else 's'}: {text}{failed}.")
    if folder is not None and scored:
        out.print(f"Heatmaps are in {folder}.")
    if report is not None and not counts[_UNWRITTEN]:
        out.print(f"The report is {report}.")


def _exit_code(counts: Counter[str]) -> int:
    if counts[Verdict.REJECT]:
        return REJECTED
    return USER_MISTAKE if counts["error"] or counts[_UNDRAWN] or counts[_UNWRITTEN] else 0
