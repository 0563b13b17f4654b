"""What can go wrong in a training, told in words with the remedy to try.

The figures come from `Monitor`; the limits were measured on the sample boards (`docs/training.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from anogan.config import AlarmKind, AlarmPolicy, Config
from anogan.gan.rates import decay_factor

Points = Mapping[str, Sequence[tuple[int, float]]]

DEFAULT_POLICIES: Mapping[AlarmKind, AlarmPolicy] = {
    "non-finite": "restore",
    "learning-rate": "restore",
    "collapse": "warn",
    "discriminator-wins": "warn",
    "discriminator-dead": "stop",
    "memorised": "warn",
    "stalled": "warn",
    "few-images": "warn",
    "identical-images": "warn",
    "head-at-chance": "warn",
}
IN_A_ROW = 3  # Looks that must agree, so that one unlucky batch raises nothing.
PERFECT, VANISHED, SATURATED_GAP = 0.98, 0.02, 14.0
LARGEST_UPDATE, GOOD_UPDATE = 0.015, 0.004
# Beside an encoder the pixel loss leads G, and it bears ten times the rate (measured on the sample boards).
PIXEL_LED = 6.0
LEAST_DIVERSITY, MOST_DUPLICATES = 0.15, 0.1
MOST_OVERFITTING, NEAREST_COPY = 0.5, 0.4
STALLED_SHARE, STALLED_PROGRESS = 0.4, 0.5
FEWEST_IMAGES = 10
# The shipped configs end at 0.93 to 0.99; after a few steps it is 0.5.
LEAST_PIXEL_AUROC = 0.7
# Up from the first look to the last, whatever state the networks are in.
OF_THE_DATA: tuple[AlarmKind, ...] = ("few-images", "identical-images")
LOGISTIC = ("minimax", "non-saturating")


class AlarmRecord(TypedDict):
    """An alarm as the checkpoint and the model keep it."""

    kind: str
    step: int
    message: str
    action: str


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong at this moment.

    Attributes:
        kind: What it is called in the config and in `docs/training.md`.
        message: What was seen and what to try, in whole sentences.
        policy: What the loop does when the alarm begins.
        rate_factor: What learning rates are multiplied with when the policy is to restore.
    """

    kind: AlarmKind
    message: str
    policy: AlarmPolicy
    rate_factor: float = 0.5

    def record(self, step: int, action: AlarmPolicy) -> AlarmRecord:
        """The alarm with the step it began at and what was done."""
        return {"kind": self.kind, "step": step, "message": self.message, "action": action}


@dataclass(frozen=True)
class Finding:
    """What a rule saw: a sentence or two, and how much lower the learning rates should be."""

    message: str
    rate_factor: float = 0.5


Rule = Callable[[Config, Points], Finding | None]


def judge_gan(config: Config, points: Points) -> list[Alarm]:
    """Every alarm of the GAN that is up after the last look.

    Args:
        config: Losses, number of steps, and the policy of each alarm.
        points: (step, value) per figure, from the first look on.
    """
    return _judge(RULES, config, points)


def judge_head(config: Config, points: Points) -> list[Alarm]:
    """The same of the residual head."""
    return _judge(HEAD_RULES, config, points)


def _judge(rules: Mapping[AlarmKind, Rule], config: Config, points: Points) -> list[Alarm]:
    policies = {**DEFAULT_POLICIES, **config.monitor.alarms}
    alarms = []
    for kind, rule in rules.items():
        policy = policies[kind]
        if policy != "off" and (finding := rule(config, points)) is not None:
            alarms.append(Alarm(kind, finding.message, policy, finding.rate_factor))
    return alarms


def health(histories: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict that a model keeps.

    Args:
        histories: Stage name -> `History`.

    Returns:
        `verdict`: `healthy` (no alarm), `recovered` (none is up at the end) or `doubtful`; `alarms`: every
        record, with its stage; `up`: the kinds that are up at the end.
    """
    alarms = [{"stage": stage, **record} for stage, history in histories.items() for record in history.alarms]
    up = sorted({kind for history in histories.values() for kind in history.up})
    verdict = "doubtful" if up else "recovered" if alarms else "healthy"
    return {"verdict": verdict, "alarms": alarms, "up": up}


def health_sentence(health: Mapping[str, Any]) -> str:
    """A health verdict for people, in one or a few sentences."""
    if health["verdict"] == "healthy":
        return "Training was healthy: no alarm was raised."
    up = set(health["up"])
    shown = [alarm for alarm in health["alarms"] if alarm["kind"] in up] or health["alarms"]
    newest = {alarm["kind"]: alarm for alarm in shown}.values()
    told = " ".join(f"Step {alarm['step']} of {alarm['stage']}: {alarm['message']}" for alarm in newest)
    if up:
        return f"Training is doubtful, do not trust this model's scores before the cause is mended. {told}"
    return f"Training recovered from what it raised an alarm for. {told}"


def why_doubtful(health: Mapping[str, Any] | None) -> str | None:
    """A sentence for whoever is about to rely on a model whose training ended with an alarm up; else None."""
    if not health or health["verdict"] != "doubtful":
        return None
    return (
        f"The training of this model is doubtful ({', '.join(health['up'])}), so do not trust its scores; "
        "`anogan info` says what was seen and what to try."
    )


def _last(points: Points, name: str, n: int = IN_A_ROW) -> list[float] | None:
    """The last n values without the look at step 1, or None while there are fewer."""
    values = [value for step, value in points.get(name, ()) if step > 1]
    return values[-n:] if len(values) >= n else None


def _all(values: list[float] | None, *, above: float | None = None, below: float | None = None) -> bool:
    if values is None:
        return False
    return all((above is None or v > above) and (below is None or v < below) for v in values)


def _learning_rate(config: Config, points: Points) -> Finding | None:
    for side, name in (("generator", "g_update"), ("discriminator", "d_update")):
        leeway = PIXEL_LED if side == "generator" and config.encoder.mode == "joint" else 1.0
        recent = points.get(name, ())[-2:]
        if len(recent) == 2 and all(value > leeway * LARGEST_UPDATE for _, value in recent):
            seen, good = recent[-1][1], leeway * GOOD_UPDATE
            return Finding(
                f"Each step changes the {side}'s weights by {seen:.1%}, where a stable training stays "
                f"below {leeway * LARGEST_UPDATE:.1%}; lower gan.{side}_learning_rate about "
                f"{seen / good:.0f} times.",
                min(0.5, good / seen),
            )
    return None


def _collapse(config: Config, points: Points) -> Finding | None:
    recent = _last(points, "diversity")
    if recent is None:
        return None
    history = points["diversity"]
    was_varied = max(value for _, value in history) > 2 * LEAST_DIVERSITY
    late = history[-1][0] >= STALLED_SHARE * config.gan.steps and len(history) > 5
    rising = recent[-1] > 1.1 * recent[0]
    if not (_all(recent, below=LEAST_DIVERSITY) and (was_varied or late) and not rising):
        alike = _last(points, "duplicates")
        if not (_all(alike, above=MOST_DUPLICATES) and late and not rising):
            return None
    return Finding(
        f"Mode collapse: generated tiles differ from each other {recent[-1]:.0%} as much as real ones do; "
        "try gan.minibatch: stddev, gan.packing: 2 or gan.loss: wgan-gp."
    )


def _discriminator_wins(config: Config, points: Points) -> Finding | None:
    real, fake = _last(points, "d_accuracy_train"), _last(points, "d_accuracy_generated")
    if not (_all(real, above=PERFECT) and _all(fake, above=PERFECT)):
        return None
    steps = points["d_accuracy_train"][-1][0] - points["d_accuracy_train"][-IN_A_ROW][0]
    gradients = [value for _, value in points.get("g_gradient", ())]
    if gradients and _all(gradients[-IN_A_ROW:], below=VANISHED * max(gradients)):
        seen = "and the generator's gradient has vanished"
    elif config.gan.loss in LOGISTIC and _all(_last(points, "d_logit_gap"), above=SATURATED_GAP):
        seen = f"with logits {points['d_logit_gap'][-1][1]:.0f} apart, too far to guide the generator"
    else:
        return None
    return Finding(
        f"The discriminator has separated perfectly for {steps} steps {seen}; try gan.loss: wgan-gp, "
        "gan.r1_weight: 1 or a lower gan.discriminator_learning_rate."
    )


def _discriminator_dead(config: Config, points: Points) -> Finding | None:
    update, spread = _last(points, "d_update", 1), _last(points, "d_logit_spread", 2)
    steps = config.gan.steps
    # The last rates of a long decay are too small for a weight to move, and meant to be.
    decay = decay_factor(points["d_update"][-1][0] - 1, steps, config.gan.decay_share) if update else 1.0
    if _all(update, below=1e-7 * decay):
        seen = "its weights do not move"
    elif _all(spread, below=1e-4):
        seen = "it gives every image the same answer"
    else:
        return None
    return Finding(
        f"The discriminator is dead: {seen}, so the generator learns nothing from it; check "
        "gan.discriminator_learning_rate and gan.weight_clip, or train with another seed."
    )


def _memorised(config: Config, points: Points) -> Finding | None:
    if _all(_last(points, "nearest_training_tile"), below=NEAREST_COPY):
        near = points["nearest_training_tile"][-1][1]
        return Finding(
            f"The generator copies training images: its tiles lie at {near:.0%} of the distance that new "
            "good tiles have from them; add images, or set gan.diffaugment: [translation, flip]."
        )
    over, gap = _last(points, "d_overfitting"), _last(points, "d_logit_gap")
    if _all(over, above=MOST_OVERFITTING) and _all(gap, above=1.0):
        return Finding(
            f"The discriminator has memorised the training images: it takes new good tiles for "
            f"{points['d_overfitting'][-1][1]:.0%} generated; add images, or set gan.diffaugment: "
            "[translation, flip]."
        )
    return None


def _stalled(config: Config, points: Points) -> Finding | None:
    kid = points.get("kid", ())
    if len(kid) <= 5 or kid[-1][0] < STALLED_SHARE * config.gan.steps:
        return None
    share = min(value for _, value in kid[-IN_A_ROW:]) / max(kid[0][1], 1e-9)
    if share < STALLED_PROGRESS or kid[-1][1] < 10 * max(points["kid_floor"][-1][1], 0.1):
        return None
    return Finding(
        f"The generator has hardly learned: its distance to good images (KID) is still {share:.0%} of what "
        "it was at the start; try gan.loss: hinge, a higher gan.generator_learning_rate or a wider network."
    )


def _few_images(config: Config, points: Points) -> Finding | None:
    n = _distinct(points)
    if n is None or n == 1 or n >= FEWEST_IMAGES:
        return None
    return Finding(
        f"Only {n} different training images: the networks can memorise them, and new good parts will look "
        f"anomalous; add images ({FEWEST_IMAGES} at the very least), or start from configs/small-data.yaml."
    )


def _identical_images(config: Config, points: Points) -> Finding | None:
    if _distinct(points) != 1:
        return None
    return Finding(
        "All training images are identical: nothing says how good parts differ, so every new part will look "
        "anomalous; give photographs of different good parts."
    )


def _distinct(points: Points) -> int | None:
    values = points.get("distinct_images", ())
    return round(values[-1][1]) if values else None


def _head_at_chance(config: Config, points: Points) -> Finding | None:
    """At the end alone: every head begins there."""
    found = points.get("head_held_out_pixel_auroc", ())
    step, auroc = found[-1] if found else (0, 1.0)
    if step < config.head.steps or auroc >= LEAST_PIXEL_AUROC:
        return None
    return Finding(
        f"The head tells drawn defects on held-out tiles hardly better than chance (AUROC {auroc:.2f}): "
        "train it longer (head.steps), and look at drawn_defects.png, whether they can be seen on this part "
        "(defects.kinds, defects.min_size)."
    )


RULES: Mapping[AlarmKind, Rule] = {
    "learning-rate": _learning_rate,
    "collapse": _collapse,
    "discriminator-wins": _discriminator_wins,
    "discriminator-dead": _discriminator_dead,
    "memorised": _memorised,
    "stalled": _stalled,
    "few-images": _few_images,
    "identical-images": _identical_images,
}
HEAD_RULES: Mapping[AlarmKind, Rule] = {"head-at-chance": _head_at_chance}
