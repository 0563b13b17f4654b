"""What the exported graph cannot hold, refused before anything is built."""

from __future__ import annotations

from anogan.config import Config
from anogan.errors import ExportError


def refuse_unsupported(config: Config) -> None:
    """Refuses settings that only the PyTorch scorer knows.

    Raises:
        ExportError: Names the first such setting, its value and the one that can be exported.
    """
    settings: dict[str, tuple[object, object]] = {
        "images.registration": (config.images.registration, "none"),
        "features.weights": (config.features.weights or "null", "null"),
    }
    for key, (value, exportable) in settings.items():
        if value != exportable:
            raise ExportError(
                f"{key} is {value}, which the exported graph does not hold; fit the model with {key}: "
                f"{exportable}, or score with the model folder."
            )
