"""One line per scored image, flushed at once: for people, for JSON readers, for spreadsheets."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Protocol

from rich.text import Text

from anogan.cli._plain import finite
from anogan.cli._terminal import print_error, print_note, stdout
from anogan.inspection import Verdict

if TYPE_CHECKING:
    from anogan.recipes import ScoredFile

COLUMNS = (
    "path",
    "score",
    "threshold",
    "verdict",
    "residual_score",
    "discrimination_score",
    "anomaly_score",
    "steps_used",
    "brightness",
    "ms",
    "error",
    "registered",
    "in_distribution",
)
_STYLES = {Verdict.PASS: "green", Verdict.REVIEW: "yellow", Verdict.REJECT: "bold red"}


class Lines(Protocol):
    """Where results go."""

    def add(self, file: ScoredFile) -> None:
        """Prints one image's result, or why there is none."""
        ...


class JsonLines:
    """JSON Lines on stdout."""

    def add(self, file: ScoredFile) -> None:
        """One object; names that are not ASCII are escaped, so no pipe's encoding can spoil them."""
        sys.stdout.write(json.dumps(finite(file.to_dict()), allow_nan=False) + "\n")
        sys.stdout.flush()


class CsvLines:
    """CSV on stdout, with a header."""

    def __init__(self) -> None:
        self._writer = csv.DictWriter(sys.stdout, COLUMNS, restval="", lineterminator="\n")
        self._writer.writeheader()

    def add(self, file: ScoredFile) -> None:
        """One row; empty where there is no value."""
        self._writer.writerow(finite(file.to_dict()))
        sys.stdout.flush()


class TableLines:
    """Aligned columns on stdout, faults on stderr.

    Not a drawn table: that could be printed only after the last image. The path stands last, so that it
    may be long.
    """

    def __init__(self) -> None:
        self._out = stdout()
        self._started = False

    def add(self, file: ScoredFile) -> None:
        """One line, the verdict in its colour."""
        found = file.inspection
        if found is None:
            print_error(file.error or f"{file.path} could not be scored.")
            return
        if not self._started:
            self._out.print("verdict     score  threshold  residual  discrimination     ms  file")
            self._started = True
        line = Text(f"{found.verdict!s:<7}", style=_STYLES[found.verdict])
        line.append(
            f" {found.score:>9.2f} {found.threshold:>10.2f} {found.residual_score:>9.4f}"
            f" {found.discrimination_score:>15.4f} {found.ms:>6.0f}  {file.path}",
            style="not bold default",
        )
        self._out.print(line)
        if found.doubt is not None:
            print_note(f"{file.path} {found.doubt}.")
