from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from anogan.config import Config, config_from_dict, config_to_dict, known_keys, load_config
from anogan.errors import ConfigError


def _refusal(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(path, overrides)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def test_the_defaults_are_those_of_the_papers() -> None:
    config = load_config()

    # Radford et al. 2015, section 4; Schlegl et al. 2017, eq. 5.
    assert (config.gan.batch_size, config.network.latent_dim) == (64, 100)
    assert (config.gan.generator_learning_rate, config.gan.beta1, config.gan.beta2) == (2e-4, 0.5, 0.999)
    assert config.search.lambda_ == 0.1
    assert config.calibration.false_reject == 0.005


def test_an_override_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "设置.yaml"
    path.write_text("search:\n  steps: 7\n  lambda: 0.2\n", encoding="utf-8")
    config = load_config(path, ["search.steps=9"])

    assert (config.search.steps, config.search.lambda_) == (9, 0.2)


def test_a_file_may_be_named_by_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 4\n", encoding="utf-8")

    assert load_config(str(path)).seed == 4


def test_the_last_of_two_overrides_counts() -> None:
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2


def test_an_override_may_be_a_list_or_null() -> None:
    config = load_config(None, ["images.size=[96, 128]", "gan.diffaugment=[flip]"])

    assert (config.images.size, config.gan.diffaugment) == ((96, 128), ("flip",))
    assert load_config(None, ["images.size=null"]).images.size is None


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("search.step=4", "search.steps"),
        ("lambda=0.3", "search.lambda"),
        ("gan.learning_rate=1", "learning_rate"),
        ("calibration.false_rejects=0.1", "calibration.false_reject"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_one(override: str, near: str) -> None:
    sentence = _refusal(override)

    assert sentence.startswith(f"--set {override}: unknown key {override.partition('=')[0]}")
    assert near in sentence.partition("did you mean")[2]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.lambda=2", ("search.lambda", "got 2")),
        ("search.steps=many", ("search.steps", "got 'many'")),
        ("tiles.size=48", ("tiles.size", "got 48")),
        ("images.size=[96]", ("images.size",)),
        ("images.size=[40, 200]", ("images.size", "smaller than tiles.size 64")),
        ("tiles.overlap=40", ("overlap 40", "half of size 64")),
        ("split.calibrate=0.95", ("split.calibrate",)),
        ("split.early_stop=0.45", ("leave a share to train on",)),
        ("split.group='part('", ("split.group", "is no regular expression")),
        ("split.group='(part)?'", ("split.group", "finds a part in no name")),
        ("memory.alarm=.nan", ("memory.alarm", "finite")),
        ("score.smoothing_sigma=.inf", ("score.smoothing_sigma", "finite")),
        ("network.latent_grid=5", ("latent_grid 5", "power of two")),
        ("network.latent_grid=64", ("latent_grid 64",)),
        ("gan.loss=wgan-gp", ("discriminator_norm",)),
        ("gan.packing=40", ("packing 40",)),
        ("gan.packing=2", ("encoder.mode",)),
        ("gan={mode_seeking_weight: 1, batch_size: 6}", ("gan.batch_size of 8",)),
        ("gan.ada_target=0.6", ("diffaugment",)),
        ("images.on_mixed_sizes=keep", ("calibration.map: global",)),
        ("monitor.alarms={non-finite: warn}", ("non-finite",)),
        ("score={residual_weight: 0, discrimination_weight: 0, head_weight: 0}", ("at least one",)),
        ("defects={min_size: 9, max_size: 4}", ("min_size 9", "max_size 4")),
        ("defects.kinds=[]", ("defects.kinds",)),
        ("network.attention_at=20", ("attention_at 20", "0, 4, 8, 16, 32")),
        ("network.attention_at=64", ("attention_at 64",)),
        ("search=3", ("search: is a section; set its keys", "got 3")),
        ("defects.kinds=blob", ("defects.kinds: expected a list in brackets, such as [a, b], got 'blob'",)),
        (
            "runtime.devices=x",
            ("runtime.devices: input should be a valid integer", "or input should be 'auto'"),
        ),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence_with_the_key(
    override: str, words: tuple[str, ...]
) -> None:
    extra = ["split.calibrate=0.6"] if override.startswith("split.early") else []
    sentence = _refusal(override, *extra)

    for word in words:
        assert word in sentence


@pytest.mark.parametrize("policy", ["off", "'off'", "warn"])
def test_an_alarm_is_turned_off_by_its_word(policy: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(f"monitor: {{alarms: {{collapse: {policy}}}}}")

    for config in (
        load_config(None, [f"monitor.alarms.collapse={policy}"]),
        load_config(tmp_path / "own.yaml"),
    ):
        assert config.monitor.alarms == {"collapse": policy.strip("'")}


def test_overrides_in_one_text_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"give a list: overrides=\['seed=1'\]"):
        load_config(None, "seed=1")


def test_a_weight_counts_only_where_there_is_its_evidence() -> None:
    only_the_head = ["score.residual_weight=0", "score.discrimination_weight=0"]
    no_head = [*only_the_head, "head.enabled=false"]

    assert load_config(None, only_the_head).score.head_weight == 1
    assert "at least one of the score weights" in _refusal(*no_head)
    assert load_config(None, [*no_head, "features.weights=resnet18.safetensors"]).head.enabled is False


def test_a_seed_that_the_memory_could_not_take_is_refused_before_the_training() -> None:
    assert load_config(None, ["seed=4294967295"]).seed == 2**32 - 1
    with pytest.raises(ConfigError, match="seed"):
        load_config(None, ["seed=20261124093000"])


@pytest.mark.parametrize("override", ["search.steps", "=4", "seed.deep=4", "seed=[1"])
def test_an_override_that_cannot_be_read_is_shown(override: str) -> None:
    extra = ["seed=1"] if override.startswith("seed.deep") else []

    assert f"--set {override}" in _refusal(*extra, override)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"search: [", "cannot be read as YAML", id="not YAML"),
        pytest.param(b"- 1\n- 2\n", "holds a list", id="a list"),
        pytest.param(b"\xff\xfe\x00s", "cannot be read", id="not UTF-8"),
        pytest.param(b"!!python/object/apply:os.getcwd []", "cannot be read", id="a YAML that runs code"),
        pytest.param(b"serach:\n  steps: 4\n", "did you mean search", id="a typo"),
    ],
)
def test_a_file_that_is_no_config_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    sentence = _refusal(path=path)

    assert str(path) in sentence
    assert words in sentence


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.yaml is no file and no shipped config" in _refusal(path=tmp_path / "absent.yaml")


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")

    assert load_config(path) == Config()


def test_a_config_cannot_be_changed_under_a_model() -> None:
    with pytest.raises(ValidationError):
        Config().search.steps = 3  # type: ignore[misc]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**31),
            "search": st.fixed_dictionaries({"lambda": st.floats(0, 1), "steps": st.integers(0, 500)}),
            "score": st.fixed_dictionaries({"smoothing_sigma": st.floats(0, 9), "pooling": st.just("top")}),
            "augmentation": st.just([{"name": "HorizontalFlip", "args": {"p": 0.5}}]),
            "images": st.fixed_dictionaries({"size": st.tuples(st.integers(64, 900), st.integers(64, 900))}),
        },
    )
)
def test_a_config_comes_back_from_yaml_as_it_was(tree: dict[str, Any]) -> None:
    config = config_from_dict(tree, "a test")
    text = yaml.safe_dump(config_to_dict(config))

    assert config_from_dict(yaml.safe_load(text), "a copy") == config


def test_every_known_key_is_one_that_a_file_may_set() -> None:
    tree = config_to_dict(Config())
    for key in known_keys():
        value: Any = tree
        for name in key.split("."):
            value = value[name]
        nested: Any = value
        for name in reversed(key.split(".")):
            nested = {name: nested}
        if not isinstance(value, dict):
            assert config_from_dict(nested, "a test") == Config(), f"{key} at its default changes a config"


def test_who_is_at_fault_is_named_the_file_or_the_override(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("search: {steps: 3}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^--set calibration\.false_reject=2: calibration\.false_reject: "):
        load_config(file, ["calibration.false_reject=2"])
    file.write_text("search: {stepps: 3}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.yaml: unknown key search\.stepps"):
        load_config(file, ["search.steps=2"])
    file.write_text("split: {early_stop: 0.4, calibrate: 0.7}\n", encoding="utf-8")
    assert load_config(file, ["split.calibrate=0.3"]).split.calibrate == 0.3
