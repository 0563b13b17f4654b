"""Adversarial losses, one value per batch.

Every function takes logits (N, ...) and returns a scalar; `real` and `fake` are D's logits before any
sigmoid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.config import GanConfig


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What D minimises.

    minimax and non-saturating: Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1; lsgan: Mao et al. 2017
    (arXiv:1611.04076), eq. 2; hinge: Lim & Ye 2017 (arXiv:1705.02894); wgan, wgan-gp: Arjovsky et al. 2017
    (arXiv:1701.07875), eq. 2.
    """
    if kind in ("minimax", "non-saturating"):
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "lsgan":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
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


def gradient_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """E[(|grad D(x^)| - 1)^2] on lines between real and fake (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3)."""
    share = torch.rand((real.shape[0], 1, 1, 1), generator=generator).to(real.device)
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Half of E[|grad D(x)|^2] on real images (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.flatten(1).square().sum(dim=1).mean()


def discriminator_penalty(
    config: GanConfig,
    step: int,
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    generator: torch.Generator,
) -> Tensor | None:
    """The regulariser that is due at this step, or None."""
    if config.loss == "wgan-gp":
        return 10.0 * gradient_penalty(discriminator, real, fake, generator)
    if config.r1_weight > 0 and step % config.r1_interval == 0:
        # Lazy: scaled up by the interval so that its mean strength does not change (Karras 2020).
        return config.r1_weight * config.r1_interval * r1_penalty(discriminator, real)
    return None


def clip_weights(discriminator: nn.Module, limit: float = 0.01) -> None:
    """Weight clipping of the original WGAN (arXiv:1701.07875, algorithm 1)."""
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.clamp_(-limit, limit)
