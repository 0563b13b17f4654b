"""Which state of a training is kept: the best one on held-out good images.

Of the GAN that with the lowest inversion error, of the head that with the lowest loss on drawn defects.
Everything here is a function of the logged figures, so that a resumed run decides as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from anogan.config import Config
from anogan.gan.alarms import Points

INVERSION_ERROR = "held_out_reconstruction"
# A look measures 64 tiles. Among looks that differ by less than this share, the later one has learned longer.
EQUAL_WITHIN = 0.01
HEAD_LOSS = "head_held_out_loss"
HEAD_SCATTER = 0.03  # The last looks of ten finished trainings lay up to 2.8 % above their lowest.


@dataclass(frozen=True)
class Kept:
    """The look whose weights are kept.

    Attributes:
        step: When it was taken.
        error: Its inversion error, smoothed over two looks.
        looks_since: Looks after the one that last lowered the error by a noticeable share.
    """

    step: int
    error: float
    looks_since: int


def best_look(points: Points) -> Kept | None:
    """The latest look whose error was the lowest up to then, or within 1 % of it; None before the first look.

    Each error is the mean of a look and the one before it: one lucky set of weights should not win.
    """
    errors = [(step, value) for step, value in points.get(INVERSION_ERROR, ()) if step > 1]
    if not errors:
        return None
    smoothed = [errors[0][1], *((a + b) / 2 for (_, a), (_, b) in pairwise(errors))]
    kept, reached = _latest_of_the_lowest(smoothed, EQUAL_WITHIN), 0
    for index, error in enumerate(smoothed):
        if error < smoothed[reached] * (1 - EQUAL_WITHIN):
            reached = index
    return Kept(errors[kept][0], smoothed[kept], len(errors) - 1 - reached)


def _latest_of_the_lowest(values: Sequence[float], within: float) -> int:
    """Where the last value is that was the lowest up to then, or above it by no more than this share."""
    return max(i for i, value in enumerate(values) if value <= min(values[: i + 1]) * (1 + within))


def last_look_is_best(points: Points) -> bool:
    """Whether the weights of the last look are to be kept; true at step 1 too, so that there are some."""
    best = best_look(points)
    return best is None or best.step == points[INVERSION_ERROR][-1][0]


def keeps_best(config: Config) -> bool:
    """Whether `gan.keep` means the best look.

    Without a joint encoder the error is that of a short search, which a generator of blurred images wins.
    """
    return (config.gan.keep or ("best" if config.encoder.mode == "joint" else "last")) == "best"


def ends_early(config: Config, points: Points) -> bool:
    """Whether the error has not fallen for `gan.early_stop_patience` looks."""
    patience, best = config.gan.early_stop_patience, best_look(points)
    return patience is not None and best is not None and best.looks_since >= patience


def kept_record(config: Config, points: Points) -> dict[str, Any]:
    """What the model says of its GAN's weights: `step`, `last_step`, `of` and the held-out `error`."""
    looks = points.get(INVERSION_ERROR, ())
    best, last = best_look(points), looks[-1]
    step = best.step if best is not None and keeps_best(config) else last[0]
    return {"step": step, "last_step": last[0], "of": config.gan.steps, "error": dict(looks)[step]}


def kept_sentence(kept: Mapping[str, Any]) -> str:
    """The record for people."""
    ended = "" if kept["last_step"] == kept["of"] else f", training ended early at step {kept['last_step']}"
    which = "last" if kept["step"] == kept["last_step"] else "best"
    return (
        f"The {which} weights were kept, of step {kept['step']} of {kept['of']}{ended}: inversion error "
        f"{kept['error']:.3g} on held-out good tiles."
    )


def best_head_look(points: Points, since: int) -> int | None:
    """The step of the latest look after `since` whose loss on drawn defects was about the lowest up to then.

    Before `since` the head's batch norm was another, and its losses do not compare. None without a look.
    """
    looks = [(step, value) for step, value in points.get(HEAD_LOSS, ()) if step > since]
    if not looks:
        return None
    return looks[_latest_of_the_lowest([value for _, value in looks], HEAD_SCATTER)][0]
