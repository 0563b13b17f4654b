"""Every setting of the page's table exports, or is refused by its name as the table says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anogan.config import Config
from anogan.errors import ExportError
from anogan.export.build import build_scorer
from anogan.export.support import REFUSED, refuse_unsupported
from anogan.scoring.perceptual import Perceptual
from tests.export.conftest import build_model, build_torch_scorer, small_config

# Sections of which every setting changes what is computed for an image.
WHOLE = ("images", "tiles", "network", "search", "features", "score")
SIZE = (40, 56)
NO_ENCODER = {"encoder": {"mode": "none"}}
# One value beside the default for each setting, and what else it needs.
VALUES: dict[str, tuple[Any, dict[str, Any]]] = {
    "images.channels": (1, {}),
    "images.bit_depth": (16, {}),
    "images.size": ([48, 64], {}),
    "images.on_mixed_sizes": ("resize", {}),
    "images.exposure": ("mean", {}),
    "images.registration": ("euclidean", {}),
    "tiles.size": (64, {}),
    "tiles.overlap": (0, {}),
    "tiles.scales": ([1.0, 0.8], {}),
    "network.latent_dim": (5, {}),
    "network.latent_grid": (4, {}),
    "network.width": (8, {}),
    "network.upsampling": ("resize", {}),
    "network.generator_norm": ("group", {}),
    "network.discriminator_norm": ("layer", {}),
    "network.attention_at": (8, {}),
    "network.condition": ("tile-position", {}),
    "network.variants": (["left", "right"], {"network": {"condition": "variant"}}),
    "encoder.mode": ("none", {}),
    "head.enabled": (False, {}),
    "search.steps": (7, {}),
    "search.learning_rate": (0.2, {}),
    "search.lambda": (0.0, {}),
    "search.restarts": (2, {}),
    "search.prior_weight": (0.0, {}),
    "search.polish_steps": (4, {}),
    "search.bank": (4, NO_ENCODER),
    "search.residual": ("trimmed", {}),
    "search.trimmed_share": (0.2, {"search": {"residual": "trimmed"}}),
    "search.mask": (0.2, {}),
    "search.gradient": ("exact", {}),
    "search.tolerance": (0.01, {}),
    "search.patience": (2, {"search": {"tolerance": 0.01}}),
    "features.weights": ("resnet18.safetensors", {}),
    "features.backbone": ("resnet34", {"features": {"weights": "resnet34.safetensors"}}),
    "features.search_weight": (0.5, {"features": {"weights": "resnet18.safetensors"}}),
    "score.select": (True, {}),
    "score.residual_weight": (0.0, {}),
    "score.discrimination_weight": (0.0, {}),
    "score.head_weight": (0.0, {}),
    "score.perceptual_weight": (0.0, {}),
    "score.smoothing_sigma": (0.0, {}),
    "score.spread": (2, {}),
    "score.border": (3, {}),
    "score.pooling": ("top", {}),
    "score.top_share": (0.1, {"score": {"pooling": "top"}}),
    "memory.patches": (20, {"memory": {"window": 16}}),
    "memory.window": (24, {"memory": {"patches": 20}}),
    "memory.compare": ("pattern", {"memory": {"patches": 20, "window": 16}}),
    "memory.alarm": (-2.0, {"memory": {"patches": 20, "window": 16}}),
    "calibration.map": ("per-pixel", {}),
}


@pytest.fixture(scope="module")
def table(repository: Path) -> dict[str, bool]:
    """Setting -> whether the page says that it exports."""
    page = (repository / "docs" / "embedding.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+\.\w+`.*?) \| (yes|no)\b", page, re.MULTILINE)
    return {key: says == "yes" for keys, says in rows for key in re.findall(r"`(\w+\.\w+)`", keys)}


def config_with(key: str) -> Config:
    section, field = key.split(".")
    value, others = VALUES[key]
    return small_config(**others | {section: others.get(section, {}) | {field: value}})


def test_table_names_every_setting_that_changes_what_is_computed(table: dict[str, bool]) -> None:
    keys = set()
    for section in WHOLE:
        fields = Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
        keys |= {f"{section}.{field.alias or name}" for name, field in fields.items()}
    missing = sorted(keys - set(table))
    assert not missing, f"say in docs/embedding.md, *Which settings export*, whether {missing} export"
    assert set(table) == set(VALUES), "one value for each row"


def test_table_says_no_to_what_is_refused_and_to_nothing_else(table: dict[str, bool]) -> None:
    assert {key for key, exports in table.items() if not exports} == set(REFUSED)


@pytest.mark.parametrize("key", [key for key in VALUES if key not in REFUSED])
def test_what_the_table_says_yes_to_builds(key: str) -> None:
    config = config_with(key)
    model = build_model(config, SIZE if key != "images.size" else (48, 64))
    if config.features.weights is not None:
        model = replace(model, perceptual=Perceptual(config.features.backbone))
    calibration = build_torch_scorer(model).calibration
    assert calibration is not None
    assert build_scorer(model, calibration).graph.node


@pytest.mark.parametrize("key", REFUSED)
def test_refusal_is_one_sentence_with_the_setting_its_value_and_what_to_do(key: str) -> None:
    config = config_with(key)
    with pytest.raises(ExportError) as refusal:
        refuse_unsupported(config)
    message = str(refusal.value)
    value = VALUES[key][0]
    assert message.startswith(f"{key} is {value}, which does not export: ")
    assert REFUSED[key].instead in message
    assert message.endswith(", or score with the model folder.")
    assert "\n" not in message
