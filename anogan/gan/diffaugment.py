"""Differentiable augmentation of what D sees, for small data sets.

Zhao et al. 2020 (arXiv:2006.10738): the same random transforms go before D on real and on generated
images, in D's and in G's step, so that G learns the data and not the augmented data. Karras et al. 2020
(arXiv:2006.06676) apply them with a probability p that follows how much D overfits (`ada_step`).

A discriminator that is made blind to an augmentation is blind to a defect that looks like it: `color`
hides discoloured parts, `translation` misplaced ones, `cutout` missing ones from D's features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from anogan.gan import ranks

TRANSLATION_SHARE, CUTOUT_SHARE = 0.125, 0.5  # Of the image's side, as in the paper's code.
ADA_SPEED = 500_000  # Images in which p may go from 0 to 1.


def augment(
    x: Tensor, policy: Sequence[str], draw: torch.Generator, probability: Tensor | None = None
) -> Tensor:
    """Random transforms of each image; gradients flow through them.

    Args:
        x: Images, (N, C, H, W), in [-1, 1].
        policy: Names of `POLICIES`, applied in that order.
        draw: CPU generator of every random number.
        probability: Scalar tensor: chance of each transform for each image; None is always.

    Returns:
        The same shape; colours may leave [-1, 1] by a little.
    """
    for name in policy:
        changed = POLICIES[name](x, draw)
        if probability is not None:
            chosen = _uniform(x, draw) < probability
            changed = torch.where(chosen, changed, x)
        x = changed
    return x


def ada_step(probability: Tensor, real_logits: Tensor, target: float, images: int) -> Tensor:
    """p for the next step: up while D is too sure of real images (r_t = E[sign D(x)] > target), else down."""
    overfitting = ranks.mean(real_logits.sign().mean())
    return (probability + (overfitting - target).sign() * images / ADA_SPEED).clamp(0, 0.8)


def _uniform(x: Tensor, draw: torch.Generator) -> Tensor:
    return ranks.own_rows(lambda n: torch.rand((n, 1, 1, 1), generator=draw), len(x)).to(x.device)


def _color(x: Tensor, draw: torch.Generator) -> Tensor:
    """Brightness by +-0.5, saturation times 0 to 2, contrast times 0.5 to 1.5."""
    x = x + (_uniform(x, draw) - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (2 * _uniform(x, draw)) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (_uniform(x, draw) + 0.5) + mean


def _translation(x: Tensor, draw: torch.Generator) -> Tensor:
    """Shifts by up to an eighth of the side; what comes in is black (-1 is the pad of a shifted frame)."""
    rows, columns = (_shifted(side, x, draw) for side in (x.shape[2], x.shape[3]))
    samples = torch.arange(x.shape[0], device=x.device)[:, None, None]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), value=-1.0)
    moved = padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _shifted(side: int, x: Tensor, draw: torch.Generator) -> Tensor:
    reach = int(side * TRANSLATION_SHARE + 0.5)
    shift = ranks.own_rows(lambda n: torch.randint(-reach, reach + 1, (n, 1), generator=draw), len(x))
    return (torch.arange(side)[None] + shift + 1).clamp(0, side + 1).to(x.device)


def _cutout(x: Tensor, draw: torch.Generator) -> Tensor:
    """A grey square of half the side, centred anywhere."""
    inside = []
    for side in (x.shape[2], x.shape[3]):
        centre = ranks.own_rows(partial(_centres, side, draw), len(x))
        inside.append(((torch.arange(side)[None] - centre).abs() <= side * CUTOUT_SHARE / 2).to(x.device))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x * ~hole


def _centres(side: int, draw: torch.Generator, n: int) -> Tensor:
    return torch.randint(0, side, (n, 1), generator=draw)


def _flip(x: Tensor, draw: torch.Generator) -> Tensor:
    return torch.where(_uniform(x, draw) < 0.5, x.flip(3), x)


POLICIES: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
    "flip": _flip,
}
