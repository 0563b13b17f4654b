"""The page of settings is the code's own; `python -m tests.test_settings_page` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from anogan.config import Config, config_to_dict

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
HEAD = """\
# Every setting

Written from the code (`python -m tests.test_settings_page`). The defaults are those of `anogan.Config()`:
of networks and game Radford's, of the search ours (the papers' own are in `anogan-2017` and `f-anogan`). The
files in `configs/` set others, and `anogan fit` without `--config` takes `configs/default.yaml` or, where
the images ask for it, `aligned`, `pcb` or `magnetic-tile`, as `anogan.fit` does.
[training.md](training.md) and [search.md](search.md) say more of those that need it. Set one in a YAML file
or by `--set key.path=value`.
"""


def _rows(section: type[BaseModel], defaults: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        key = field.alias or name
        if not _is_section(field.annotation):
            text = f"{_choices(field.annotation)}{field.description}".replace("|", "\\|")
            default = json.dumps(defaults[key], ensure_ascii=False)
            yield f"| `{prefix}{key}` | `{default}` | {text} |"


def _choices(annotation: Any) -> str:
    """`a`, `b` or `c`, where a setting is one of these words."""
    options = get_args(annotation) if get_origin(annotation) is Literal else ()
    words = [f"`{json.dumps(option).strip(chr(34))}`" for option in options]
    return f"{', '.join(words[:-1])} or {words[-1]}. " if words else ""


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def page() -> str:
    """The page as it has to be."""
    defaults = config_to_dict(Config())
    table = ["| setting | default | |", "|---|---|---|"]
    parts = [HEAD, *table, *_rows(Config, defaults, "")]
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            summary = (section.__doc__ or "").splitlines()[0]
            parts += [f"\n## {name}\n", f"{summary}\n", *table, *_rows(section, defaults[name], f"{name}.")]
    return "\n".join(parts) + "\n"


def _undescribed(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _undescribed(annotation, f"{prefix}{name}.")
        elif not field.description:
            yield prefix + name


def test_every_setting_says_what_it_is_for() -> None:
    assert not list(_undescribed(Config))


def test_the_page_of_settings_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
