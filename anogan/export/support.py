"""What the exported graph cannot hold, refused before anything is built."""

from __future__ import annotations

from dataclasses import dataclass

from anogan.config import Config
from anogan.errors import ExportError


@dataclass(frozen=True)
class Refused:
    """A setting of which one value alone exports.

    Attributes:
        exportable: That value.
        why: The others do not.
        instead: What a user who wants the file can do.
    """

    exportable: object
    why: str
    instead: str


REFUSED: dict[str, Refused] = {
    "search.polish_steps": Refused(
        0,
        "the graph searches by Adam alone",
        "fit with search.polish_steps: 0 and more search.steps",
    ),
}


def refuse_unsupported(config: Config) -> None:
    """Refuses settings that only the PyTorch scorer knows.

    Raises:
        ExportError: Names the first such setting, its value, the reason and what to do.
    """
    for key, refused in REFUSED.items():
        section, field = key.split(".")
        value = getattr(getattr(config, section), field)
        if value != refused.exportable:
            raise ExportError(
                f"{key} is {value}, which does not export: {refused.why}; {refused.instead}, or score with "
                "the model folder."
            )
