"""Settings from YAML and the command line; a refusal is one sentence that names the nearest known key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from anogan.config.shipped import find_config
from anogan.config.tree import Config
from anogan.errors import ConfigError

# A model's scores must not change with the package: for settings that came later, the behaviour before them.
_BEFORE: dict[str, dict[str, Any]] = {"search": {"gradient": "exact"}}

Override = Annotated[str, "key.path=value"]


def load_config(path: Path | str | None = None, overrides: Sequence[Override] = ()) -> Config:
    """A config from YAML and `key.path=value` overrides.

    Args:
        path: A YAML file, or the name of a config that comes with the package, such as `pcb`. None for each
            setting's own default, seldom what a product needs; `anogan.fit` takes `default` instead.
        overrides: Applied in order.

    Raises:
        ConfigError: The file is missing or not YAML, a key is unknown, or a value does not fit.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides is the text {overrides!r}; give a list: overrides=[{overrides!r}].")
    tree = {} if path is None else _read_yaml(find_config(str(path)))
    for override in overrides:
        _apply(tree, override)
    try:
        return config_from_dict(tree, where="the defaults" if path is None else str(path))
    except ConfigError:
        if not overrides:
            raise
        load_config(path)  # Where the file by itself is at fault, it is named; else the overrides are.
        return config_from_dict(tree, where=" ".join(f"--set {override}" for override in overrides))


def config_from_dict(tree: dict[str, Any], where: str) -> Config:
    """Validates a plain tree; `where` names its origin in error messages."""
    _refuse_unknown_keys(tree, Config, where)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_sentence(error, where)) from error


def config_of_model(tree: dict[str, Any], where: str) -> Config:
    """The settings that are stored with a model; what it does not name is as it was when it was fitted."""
    completed = {
        section: _BEFORE.get(section, {}) | values if isinstance(values, dict) else values
        for section, values in tree.items()
    }
    return config_from_dict(completed, where)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain JSON types, by the names that the YAML files use (`search.lambda`)."""
    return config.model_dump(mode="json", by_alias=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} cannot be read as YAML ({reason}); mend the file.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}; expected `key: value` lines.")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: expected key.path=value, such as search.steps=50.")
    *parents, leaf = key.strip().split(".")
    node = tree
    for name in parents:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a section.")
        node = child
    try:
        node[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value.") from error


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a config file may set."""
    for name, info in model.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from known_keys(info.annotation, key + ".")


def _refuse_unknown_keys(tree: dict[str, Any], model: type[BaseModel], where: str, prefix: str = "") -> None:
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if key not in fields:
            near = difflib.get_close_matches(dotted, list(known_keys()), n=1, cutoff=0.0)
            raise ConfigError(f"{where}: unknown key {dotted}; did you mean {near[0]}?")
        section = fields[key].annotation
        if isinstance(section, type) and issubclass(section, BaseModel) and isinstance(value, dict):
            _refuse_unknown_keys(value, section, where, dotted + ".")


# Pydantic's words for what nobody has typed: a class of ours, a tuple.
_PLAINLY = {
    "model_type": "is a section; set its keys, each as section.key",
    "tuple_type": "expected a list in brackets, such as [a, b]",
}
_UNION = re.compile(r"^(constrained-\w+|literal\[|\w+\[|function-)")  # How it names the members of one.


def _sentence(error: ValidationError, where: str) -> str:
    first, *others = error.errors()
    key = _key(first)
    messages = [_message(first), *(_message(other) for other in others if _key(other) == key)]
    message = " or ".join(dict.fromkeys(messages))
    got = "" if not first["loc"] or isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"{where}: {key or 'the config'}: {message}{got}."


def _key(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"] if not _UNION.match(str(part)))


def _message(error: ErrorDetails) -> str:
    told = _PLAINLY.get(error["type"], error["msg"].removeprefix("Value error, "))
    return told[0].lower() + told[1:]
