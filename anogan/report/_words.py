"""Numbers and promises as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, isfinite, log10
from typing import Any

MISSING = "–"

TILES = (
    ("image_auroc", "Image AUROC"),
    ("image_aupr", "Image AUPR"),
    ("image_f1", "Image F1"),
    ("accuracy", "Accuracy"),
    ("false_reject_rate", "Good parts rejected"),
    ("false_accept_rate", "Defects not rejected"),
    ("pixel_auroc", "Pixel AUROC"),
    ("aupro", "AUPRO"),
)
_SHARES = {"accuracy", "false_reject_rate", "false_accept_rate", "detection_rate"}


def percent(share: float) -> str:
    """0.005 -> `0.5 %`: one decimal from 1 % on, two digits that count below."""
    value = 100 * share
    if value == 0 or value >= 1:
        return f"{value:.1f}".removesuffix(".0") + " %"
    return "below 0.001 %" if value < 0.001 else f"{value:.2g} %"


def at_most(share: float) -> str:
    """An upper bound in percent: rounded up to three digits, because a promise may not shrink in print."""
    value = 100 * share
    if value <= 0:
        return "0 %"
    step = 10.0 ** (floor(log10(value)) - 2)
    return f"{ceil(value / step - 1e-9) * step:.3g} %"


def number(value: Any, digits: int = 3) -> str:
    """A number, or a dash for what is missing or not finite."""
    if value is None or not isfinite(value):
        return MISSING
    return f"{value:.{digits}f}"


def metric(name: str, value: Any) -> str:
    """A measure of the evaluation: a rate in percent, an area with three decimals."""
    if value is None or not isfinite(value):
        return MISSING
    return percent(value) if name in _SHARES else number(value)


def interval(name: str, bounds: Sequence[float] | None) -> str:
    """`95 %: 0.951 to 0.987`, or nothing when there is no interval."""
    if bounds is None or any(bound is None for bound in bounds):
        return ""
    low, high = bounds
    return f"95 %: {metric(name, low)} to {metric(name, high)}"


def promise(calibration: Mapping[str, Any]) -> list[str]:
    """The threshold and what it promises, sentence by sentence.

    Args:
        calibration: `threshold` and, each optional: `review_threshold`, `false_reject` (the promised
            rate, 0 to 1), `interval` (95 %, low and high), `n_good`, `n_trained`, `n_left_out`,
            `held_out` (`n`, `above` and `interval`), `warning`.
    """
    threshold = calibration["threshold"]
    sentences = [f"Parts with a score above {threshold:.4g} are rejected."]
    review = calibration.get("review_threshold")
    if review is not None and review < threshold:
        sentences.append(f"Scores above {review:.4g}, up to {threshold:.4g}, go to a person for review.")
    n_good = calibration.get("n_good")
    if n_good is not None:
        sentences.append(_stands_on(n_good, calibration.get("n_trained") or 0))
    if n_left_out := calibration.get("n_left_out"):
        sentences.append(
            f"Left out: {n_left_out}, far above all others. What is promised is not for parts like these."
        )
    rate = calibration.get("false_reject")
    if rate is not None:
        sentences.append(
            f"Promise: at most {at_most(rate)} of good parts are rejected, on average, as long as the line "
            "keeps making parts and pictures like those."
        )
    bounds = calibration.get("interval")
    if bounds is not None:
        low, high = bounds
        sentences.append(
            f"With this many images, the true rate lies between {percent(low)} and {percent(high)} "
            "with 95 % confidence."
        )
    if alone := calibration.get("held_out"):
        low, high = alone["interval"]
        sentences.append(
            f"That takes training images for as good as others. The {alone['n']} held-out ones alone, "
            f"{alone['above']} of them above the threshold, say: between {percent(low)} and {percent(high)}."
        )
    return sentences


def _stands_on(n_good: int, n_trained: int) -> str:
    if not n_trained:
        good = f"{n_good} held-out good images, which were never trained on"
    else:
        good = (
            f"{n_good} good images, {n_good - n_trained} of them held out and {n_trained} that the networks "
            "learned from, which score like these"
        )
    return f"The threshold was set on {good}; no test image and no defect had a part in it."


def warned(promise: Mapping[str, Any], doubtful: str | None) -> Mapping[str, Any]:
    """A promise with what makes it doubtful before its own warning."""
    told = " ".join(filter(None, (doubtful, promise.get("warning"))))
    return {**promise, "warning": told} if told else promise


def masks(n_masked: int, n_defect: int) -> str:
    """How many defective images the pixel figures know."""
    return (
        f"{n_masked} of {n_defect} defective images have a mask (ground_truth/<kind>/<name>_mask.png, or "
        "<name>.png; one that marks nothing, as of a drawing in the alpha channel, is none); "
        f"{'pixel figures are of these' if n_masked else 'so there are no pixel figures'}."
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`search.steps` -> `20`: every setting with its dotted name, as in the config file."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or "none"
    return str(value)
