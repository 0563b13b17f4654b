"""Adversarial losses, one value per batch.

Every function takes logits (N, ...) and returns a scalar; `real` and `fake` are D's logits before any
sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.config import GanConfig
from anogan.gan import ranks

Judge = Callable[[Tensor], Tensor]  # A discriminator: samples -> logits.


def discriminator_loss(kind: str, real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """What D minimises.

    `smoothing` lowers the label of real images to 1 - smoothing and leaves that of fakes alone: smoothing
    both would ask G for a mixture with its own mistakes (Salimans 2016, arXiv:1606.03498, section 3.4).

    minimax and non-saturating: Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1; lsgan: Mao et al. 2017
    (arXiv:1611.04076), eq. 2; hinge: Lim & Ye 2017 (arXiv:1705.02894); wgan, wgan-gp: Arjovsky et al. 2017
    (arXiv:1701.07875), eq. 2.
    """
    if kind in ("minimax", "non-saturating"):
        # Cross entropy with label 1 - s is softplus(-real) + s * real.
        return F.softplus(-real).mean() + smoothing * real.mean() + F.softplus(fake).mean()
    if kind == "lsgan":
        return 0.5 * ((real - (1 - smoothing)).square().mean() + fake.square().mean())
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What G minimises; `minimax` is the saturating original, log(1 - D(G(z)))."""
    if kind == "minimax":
        return -F.softplus(fake).mean()
    if kind == "non-saturating":
        return F.softplus(-fake).mean()
    if kind == "lsgan":
        return 0.5 * (fake - 1).square().mean()
    return -fake.mean()


def gradient_penalty(discriminator: Judge, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """E[(|grad D(x^)| - 1)^2] on lines from real to fake (Gulrajani 2017, arXiv:1704.00028, eq. 3)."""
    ones = [1] * (real.ndim - 1)
    share = ranks.own_rows(lambda n: torch.rand((n, *ones), generator=generator), len(real), 1).to(
        real.device
    )
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (lengths - 1).square().mean()


def r1_penalty(discriminator: Judge, real: Tensor) -> Tensor:
    """Half of E[|grad D(x)|^2] on real images (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(dim=1).mean()


def discriminator_penalty(
    config: GanConfig,
    step: int,
    discriminator: Judge,
    real: Tensor,
    fake: Tensor,
    generator: torch.Generator,
) -> Tensor | None:
    """The sum of the regularisers that are due at this step, or None."""
    weight = config.gradient_penalty_weight
    if weight is None:
        weight = 10.0 if config.loss == "wgan-gp" else 0.0
    penalty = None
    if weight > 0:
        penalty = weight * gradient_penalty(discriminator, real, fake, generator)
    if config.r1_weight > 0 and step % config.r1_interval == 0:
        # Lazy: scaled up by the interval so that its mean strength does not change (Karras 2020).
        r1 = config.r1_weight * config.r1_interval * r1_penalty(discriminator, real)
        penalty = r1 if penalty is None else penalty + r1
    return penalty


def clip_weights(discriminator: nn.Module, limit: float = 0.01) -> None:
    """Weight clipping of the original WGAN (arXiv:1701.07875, algorithm 1)."""
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.clamp_(-limit, limit)


def feature_matching_loss(real: Tensor, fake: Tensor) -> Tensor:
    """|mean f(x) - mean f(G(z))|^2, as a mean over features so that it does not grow with D's width.

    Salimans et al. 2016 (arXiv:1606.03498), eq. 1; G then aims at statistics of the data, which D's next step
    cannot turn around as it can its logit.

    Args:
        real: D's last hidden layer on real samples, (N, ...); a target, so without a gradient.
        fake: The same on generated samples, (M, ...).

    Returns:
        Scalar, at least 0.
    """
    ours, wanted = ranks.mean(fake.float().mean(dim=0)), ranks.mean(real.detach().float().mean(dim=0))
    return (ours - wanted).square().mean()


def mode_seeking_loss(z: Tensor, images: Tensor) -> Tensor:
    """|z_1 - z_2| / |G(z_1) - G(z_2)| over pairs: large when far codes give like images.

    Mao et al. 2019 (arXiv:1903.05628), eq. 4, with mean absolute differences; the pairs are the first and the
    second half of the batch.

    Args:
        z: Codes, (N, ...), N at least 2.
        images: G(z), (N, ...).

    Returns:
        Scalar, at least 0.
    """
    half = z.shape[0] // 2
    codes = (z[:half] - z[half : 2 * half]).flatten(1).abs().mean(dim=1)
    pixels = (images[:half] - images[half : 2 * half]).flatten(1).abs().mean(dim=1)
    return 1 / ranks.mean((pixels / codes + 1e-5).mean())
