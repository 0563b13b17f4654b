from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anogan.config import Config, load_config
from anogan.errors import ConfigError
from anogan.gan.alarms import (
    DEFAULT_POLICIES,
    HEAD_RULES,
    RULES,
    health,
    health_sentence,
    judge_gan,
    judge_head,
)
from anogan.gan.loop import History
from tests.tiny import tiny_config

LOOKS = [1, 100, 200, 300, 400, 500, 600]
HEALTHY: dict[str, list[float]] = {
    "d_accuracy_train": [0.5, 0.9, 0.95, 0.9, 0.97, 0.95, 0.96],
    "d_accuracy_generated": [0.5, 0.9, 0.9, 0.95, 0.97, 0.95, 0.96],
    "d_logit_gap": [0.0, 2.0, 4.0, 5.0, 5.0, 6.0, 6.0],
    "d_logit_spread": [0.2, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0],
    "d_overfitting": [0.0, 0.0, 0.1, 0.0, -0.1, 0.1, 0.1],
    "diversity": [0.1, 0.15, 0.3, 0.5, 0.6, 0.7, 0.8],
    "duplicates": [0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "nearest_training_tile": [1.5, 1.3, 1.1, 1.0, 1.0, 0.9, 0.9],
    "kid": [1000.0, 300.0, 90.0, 30.0, 10.0, 5.0, 3.0],
    "kid_floor": [0.1] * 7,
    "g_gradient": [10.0, 20.0, 20.0, 25.0, 20.0, 20.0, 20.0],
    "g_update": [0.004, 0.003, 0.002, 0.002, 0.002, 0.002, 0.002],
    "d_update": [0.003, 0.002, 0.002, 0.001, 0.001, 0.001, 0.001],
    "distinct_images": [40.0] * 7,
}
FAILURES: dict[str, dict[str, list[float]]] = {
    "learning-rate": {"d_update": [0.3, 0.06, 0.05, 0.05, 0.05, 0.05, 0.05]},
    "collapse": {"diversity": [0.1, 0.2, 0.5, 0.6, 0.1, 0.1, 0.1]},
    "discriminator-wins": {
        "d_accuracy_train": [1.0] * 7,
        "d_accuracy_generated": [1.0] * 7,
        "g_gradient": [10.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.01],
    },
    "discriminator-dead": {"d_logit_spread": [0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]},
    "memorised": {"d_overfitting": [0.0, 0.1, 0.3, 0.6, 0.7, 0.8, 0.9]},
    "stalled": {"kid": [1000.0, 950.0, 900.0, 900.0, 900.0, 900.0, 900.0]},
    "few-images": {"distinct_images": [5.0] * 7},
    "identical-images": {"distinct_images": [1.0] * 7},
}


def points(changes: dict[str, list[float]] | None = None) -> dict[str, list[tuple[int, float]]]:
    return {
        name: list(zip(LOOKS, values, strict=True)) for name, values in (HEALTHY | (changes or {})).items()
    }


@pytest.fixture
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(gan={"steps": 1000})


def test_healthy_figures_raise_nothing_at_any_look(config: Config) -> None:
    for n in range(1, len(LOOKS) + 1):
        assert judge_gan(config, {name: values[:n] for name, values in points().items()}) == []


def test_every_rule_is_tried_here() -> None:
    assert set(FAILURES) == set(RULES) == set(DEFAULT_POLICIES) - {"non-finite", *HEAD_RULES}


@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_failing_figures_raise_their_own_alarm_alone(kind: str, config: Config) -> None:
    alarms = judge_gan(config, points(FAILURES[kind]))
    assert [alarm.kind for alarm in alarms] == [kind]
    assert alarms[0].policy == DEFAULT_POLICIES[alarms[0].kind]


@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_alarm_says_what_was_seen_and_what_to_try(kind: str, config: Config) -> None:
    message = judge_gan(config, points(FAILURES[kind]))[0].message
    assert message.endswith(".")
    assert any(word in message for word in ("try ", "lower ", "add ", "check ", "give "))


def test_settings_named_in_alarms_exist(config: Config) -> None:
    import re

    from anogan.config import known_keys

    for kind, figures in FAILURES.items():
        message = judge_gan(config, points(figures))[0].message
        for key in re.findall(r"\bgan\.[a-z0-9_]+", message):
            assert key in set(known_keys()), (kind, key)


def test_policy_of_the_config_goes_before_the_default(tiny_config: Callable[..., Config]) -> None:
    for policy in ("warn", "restore", "stop", "off"):
        config = tiny_config(gan={"steps": 1000}, monitor={"alarms": {"collapse": policy}})
        alarms = judge_gan(config, points(FAILURES["collapse"]))
        assert [alarm.policy for alarm in alarms] == ([] if policy == "off" else [policy])


def test_non_finite_values_cannot_be_ignored() -> None:
    with pytest.raises(ConfigError, match="non-finite must be restore or stop"):
        load_config(None, ["monitor.alarms.non-finite=warn"])


def test_far_too_high_rate_is_lowered_to_a_good_one_at_once(config: Config) -> None:
    alarm = judge_gan(config, points(FAILURES["learning-rate"]))[0]
    assert 0.05 * alarm.rate_factor == pytest.approx(0.004)


def test_late_saturation_of_a_logistic_loss_counts_as_won_and_of_a_critic_does_not(
    tiny_config: Callable[..., Config],
) -> None:
    saturated = points(
        {
            "d_accuracy_train": [1.0] * 7,
            "d_accuracy_generated": [1.0] * 7,
            "d_logit_gap": [0.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0],
        }
    )
    kinds = {
        loss: [alarm.kind for alarm in judge_gan(tiny_config(gan={"steps": 1000, "loss": loss}), saturated)]
        for loss in ("non-saturating", "wgan")
    }
    assert kinds == {"non-saturating": ["discriminator-wins"], "wgan": []}


@pytest.mark.parametrize(
    ("looks", "raised"),
    [
        ([(1, 0.5), (100, 0.55), (200, 0.6)], True),
        ([(1, 0.5), (100, 0.6), (200, 0.71)], False),
        ([(1, 0.5), (100, 0.5)], False),  # Not at its end yet.
        ([], False),
    ],
)
def test_a_head_that_ends_at_chance_is_told(looks: list[tuple[int, float]], raised: bool) -> None:
    config = tiny_config(head={"steps": 200})
    alarms = judge_head(config, {"head_held_out_pixel_auroc": looks})

    assert [alarm.kind for alarm in alarms] == (["head-at-chance"] if raised else [])
    if raised:
        assert "AUROC 0.60" in alarms[0].message
        off = tiny_config(head={"steps": 200}, monitor={"alarms": {"head-at-chance": "off"}})
        assert not judge_head(off, {"head_held_out_pixel_auroc": looks})


def history(up: list[str], alarms: list[Any]) -> History:
    return History({}, alarms, up)


@pytest.mark.parametrize(
    ("up", "raised", "verdict", "words"),
    [
        ([], False, "healthy", "no alarm"),
        ([], True, "recovered", "recovered"),
        (["collapse"], True, "doubtful", "do not trust"),
    ],
)
def test_verdict_tells_healthy_recovered_and_doubtful_apart(
    up: list[str], raised: bool, verdict: str, words: str, config: Config
) -> None:
    record = judge_gan(config, points(FAILURES["collapse"]))[0].record(600, "warn")
    found = health({"gan": history(up, [record] if raised else []), "head": History()})
    assert found["verdict"] == verdict
    assert words in health_sentence(found)
    assert ("Mode collapse" in health_sentence(found)) is raised


def test_the_end_of_a_long_decay_is_no_dead_discriminator() -> None:
    config = tiny_config(gan={"steps": 20000, "decay_share": 0.5})
    still = {"d_update": [(1, 3e-3), (19900, 7e-6), (20000, 7.5e-8)]}
    assert judge_gan(config, still) == []
    early = {"d_update": [(1, 3e-3), (900, 7e-6), (1000, 7.5e-8)]}
    assert [alarm.kind for alarm in judge_gan(config, early)] == ["discriminator-dead"]
