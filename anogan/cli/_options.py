"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """As `runtime.device` in a config."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


def _configs(incomplete: str) -> list[str]:
    from anogan.config import shipped_config_names

    return [name for name in shipped_config_names() if name.startswith(incomplete)]


ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        help="Model folder; `score` and `benchmark` take an exported .onnx file as well.",
        show_default="$ANOGAN_MODEL, else anogan-model",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE|NAME",
        help="YAML file, or the name of a shipped one, such as demo; by default what suits the images.",
        autocompletion=_configs,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override one setting; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
