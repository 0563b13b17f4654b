"""What every HTML page of ours has: its template, its style, and a way onto the disk."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from anogan.files import replacing
from anogan.report import _words

if TYPE_CHECKING:
    from jinja2 import Template


def data_uri(kind: str, content: bytes) -> str:
    """An image of this kind (`png`, `jpeg`) as an address that holds it."""
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"


@cache
def template(name: str) -> Template:
    """The template file of this name; it refuses what is undefined and escapes what it is given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("anogan.report", "templates"),
        autoescape=True,  # File names and reasons come from outside.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _words.number
    return environment.get_template(name)


@cache
def assets() -> dict[str, str]:
    """Style and script; the page's own policy lets no other script run than the one of this hash."""
    folder = files("anogan.report") / "templates"
    style, script = ((folder / name).read_text("utf-8").strip() for name in ("report.css", "report.js"))
    digest = b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    return {"style": style, "script": script, "script_hash": f"sha256-{digest}"}


def write_page(path: Path, chunks: Iterator[str]) -> None:
    """Writes beside `path` and renames, so that no reader ever sees half a report.

    Raises:
        StorageError: It cannot be written; an earlier page is left as it was.
    """
    with replacing(path, "free space or choose a folder you may write to") as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        # File names that are no valid Unicode are legal on Linux: shown with `?`, not fatal.
        with partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(chunks)
