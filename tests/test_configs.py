"""The settings that are shipped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from anogan.config import Config, find_config, load_config, shipped_configs
from anogan.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[1] / "configs"
SHIPPED = sorted(FOLDER.glob("*.yaml"))


def _keys(tree: dict[str, object], prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        if isinstance(value, dict) and key not in ("args", "alarms"):
            found += _keys(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}")
    return found


def test_the_settings_of_make_demo_are_there(repository: Path) -> None:
    named = re.findall(r"--config configs/(\S+)\.yaml", (repository / "Makefile").read_text(encoding="utf-8"))

    assert named
    assert set(named) <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_loads(path: Path) -> None:
    assert isinstance(load_config(path), Config)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_says_first_what_it_is_for(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]

    assert first.startswith("# ")
    assert len(first.split()) >= 5


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_is_plain_utf_8_without_tabs_or_repeated_keys(path: Path) -> None:
    text = path.read_bytes().decode("utf-8")
    sections = re.findall(r"^(\w+):", text, flags=re.MULTILINE)

    assert "\t" not in text
    assert "\r" not in text
    assert len(sections) == len(set(sections)), "YAML keeps the last of two sections silently"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_names_no_machine(path: Path) -> None:
    keys = _keys(yaml.safe_load(path.read_text(encoding="utf-8")) or {})

    assert not [key for key in keys if key.startswith("runtime.")]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_augmentations_of_a_shipped_config_make_tiles(path: Path) -> None:
    from anogan.gan.tiles import TileSource

    config = load_config(path)
    side, channels = config.tiles.size, config.images.channels
    image = np.random.default_rng(0).integers(0, 256, (2 * side, 2 * side, channels)).astype(np.uint8)

    assert TileSource([image], config).batch(0, 4).shape == (4, channels, side, side)


# ---- by name


def test_shipped_configs_are_found_by_name(shipped: Path) -> None:
    assert find_config("nuts") == shipped / "nuts.yaml"
    assert load_config("nuts").seed == 2


def test_the_configs_of_a_checkout_are_found(repository: Path) -> None:
    assert set(shipped_configs()) == {path.stem for path in (repository / "configs").glob("*.yaml")}


def test_a_file_goes_before_a_shipped_config_of_that_name(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nuts").write_text("seed: 3\n", encoding="utf-8")

    assert find_config("nuts") == Path("nuts")


def test_a_yaml_file_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml is no file"):
        find_config("missing.yaml")
