"""What is printed, where: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text


def make_streams_safe() -> None:
    """Lets no character break the output.

    A Windows console may lack a character of a file name, which must not end a run of thousands; what
    goes to a file or a pipe is UTF-8 everywhere.
    """
    for stream in (sys.stdout, sys.stderr):
        _make_safe(stream)


def _make_safe(stream: TextIO | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # A replaced stream, or pythonw's None, has none.
    if stream is None or reconfigure is None:
        return
    if stream.isatty():
        reconfigure(errors="replace")
    else:
        reconfigure(encoding="utf-8", errors="replace")


class _Results(Console):
    """A console whose reader may go away, as `head` does."""

    def on_broken_pipe(self) -> None:
        """Rich would end with exit code 1, which says that a part is rejected."""
        raise BrokenPipeError


def stdout() -> Console:
    """For results."""
    # Soft wrap: a path that is broken in two can neither be clicked nor copied.
    return _Results(highlight=False, markup=False, soft_wrap=True)


def stderr() -> Console:
    """For progress, notes and errors, so that a pipe gets results alone."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def print_error(sentence: str) -> None:
    """One red sentence on stderr."""
    stderr().print(Text(f"Error: {sentence}", style="bold red"))


def print_note(sentence: str) -> None:
    """One yellow sentence on stderr: the run goes on."""
    stderr().print(Text(f"Note: {sentence}", style="yellow"))


def shell_line(words: Sequence[object]) -> str:
    """The words as a line to paste into this system's shell."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)
