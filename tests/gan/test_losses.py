from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from anogan.config import GanConfig
from anogan.gan.losses import (
    clip_weights,
    discriminator_loss,
    discriminator_penalty,
    feature_matching_loss,
    generator_loss,
    gradient_penalty,
    mode_seeking_loss,
    r1_penalty,
)

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


CROSS_ENTROPY = -(log_sigmoid(2) + log_sigmoid(-1)) / 2 - (log_sigmoid(-0.5) + log_sigmoid(3)) / 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("minimax", CROSS_ENTROPY),
        ("non-saturating", CROSS_ENTROPY),
        ("lsgan", 0.5 * (((2 - 1) ** 2 + (-1 - 1) ** 2) / 2 + (0.5**2 + 3**2) / 2)),
        ("hinge", (0 + 2) / 2 + (1.5 + 0) / 2),
        ("wgan", (0.5 - 3) / 2 - (2 - 1) / 2),
        ("wgan-gp", (0.5 - 3) / 2 - (2 - 1) / 2),
    ],
)
def test_discriminator_loss_is_what_its_paper_writes(kind: str, expected: float) -> None:
    assert discriminator_loss(kind, REAL, FAKE).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("minimax", (log_sigmoid(-0.5) + log_sigmoid(3)) / 2),
        ("non-saturating", -(log_sigmoid(0.5) + log_sigmoid(-3)) / 2),
        ("lsgan", 0.5 * (0.5**2 + 4**2) / 2),
        ("hinge", -(0.5 - 3) / 2),
        ("wgan", -(0.5 - 3) / 2),
    ],
)
def test_generator_loss_is_what_its_paper_writes(kind: str, expected: float) -> None:
    assert generator_loss(kind, FAKE).item() == pytest.approx(expected, rel=1e-6)


def test_minimax_saturates_where_the_non_saturating_loss_does_not() -> None:
    gradients = {}
    for kind in ("minimax", "non-saturating"):
        logit = torch.tensor([-12.0], requires_grad=True)
        generator_loss(kind, logit).backward()
        gradients[kind] = abs(logit.grad.item())
    assert gradients["minimax"] < 1e-5
    assert gradients["non-saturating"] > 0.99


def test_losses_stay_finite_for_huge_logits() -> None:
    huge = torch.tensor([1e4, -1e4])
    for kind in ("minimax", "non-saturating", "lsgan", "hinge", "wgan"):
        assert torch.isfinite(discriminator_loss(kind, huge, huge))
        assert torch.isfinite(generator_loss(kind, huge))


@pytest.mark.parametrize("kind", ["non-saturating", "lsgan"])
def test_label_smoothing_moves_the_best_answer_on_real_images_only(kind: str) -> None:
    logits = torch.linspace(-6, 6, 2401)
    zero = torch.zeros(1)
    real = torch.stack([discriminator_loss(kind, x[None], zero, 0.1) for x in logits])
    best = logits[real.argmin()].item()
    # 0.9 as a probability for cross entropy, as a value for least squares.
    assert best == pytest.approx(math.log(9) if kind == "non-saturating" else 0.9, abs=0.01)
    fakes = [
        discriminator_loss(kind, zero, FAKE, s) - discriminator_loss(kind, zero, -FAKE, s) for s in (0, 0.1)
    ]
    assert fakes[0].item() == pytest.approx(fakes[1].item(), rel=1e-6)


def smooth_discriminator() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 1)).double()


def finite_difference_norms(network: nn.Module, x: torch.Tensor, h: float = 1e-5) -> torch.Tensor:
    gradient = torch.zeros(len(x), x[0].numel(), dtype=x.dtype)
    for i in range(gradient.shape[1]):
        delta = torch.zeros(x[0].numel(), dtype=x.dtype)
        delta[i] = h
        delta = delta.reshape(x[0].shape)
        gradient[:, i] = (network(x + delta) - network(x - delta)).flatten() / (2 * h)
    return gradient.norm(dim=1)


def test_gradient_penalty_agrees_with_finite_differences() -> None:
    network = smooth_discriminator()
    real, fake = torch.randn(5, 3, 2, 2).double(), torch.randn(5, 3, 2, 2).double()
    penalty = gradient_penalty(network, real, fake, torch.Generator().manual_seed(7))
    share = torch.rand((5, 1, 1, 1), generator=torch.Generator().manual_seed(7))
    norms = finite_difference_norms(network, share * real + (1 - share) * fake)
    assert penalty.item() == pytest.approx((norms - 1).square().mean().item(), rel=1e-6)


def test_r1_agrees_with_finite_differences() -> None:
    network, real = smooth_discriminator(), torch.randn(5, 3, 2, 2).double()
    norms = finite_difference_norms(network, real)
    assert r1_penalty(network, real).item() == pytest.approx(0.5 * norms.square().mean().item(), rel=1e-6)


@pytest.mark.parametrize("config", [GanConfig(loss="wgan-gp"), GanConfig(r1_weight=2.0, r1_interval=1)])
def test_penalty_reaches_the_discriminators_weights(config: GanConfig) -> None:
    network = smooth_discriminator()
    x = torch.randn(4, 3, 2, 2).double()
    penalty = discriminator_penalty(config, 0, network, x, -x, torch.Generator())
    penalty.backward()
    assert network[1].weight.grad.abs().max() > 0


def test_lazy_r1_has_the_mean_strength_of_r1_at_each_step() -> None:
    network, x = smooth_discriminator(), torch.randn(4, 3, 2, 2).double()
    sums = []
    for interval in (1, 4):
        config = GanConfig(r1_weight=1.0, r1_interval=interval)
        penalties = [discriminator_penalty(config, i, network, x, x, torch.Generator()) for i in range(8)]
        sums.append(sum(p.item() for p in penalties if p is not None))
    assert sums[0] == pytest.approx(sums[1], rel=1e-9)


def test_penalties_add_up_and_none_is_due_by_default() -> None:
    network, x = smooth_discriminator(), torch.randn(4, 3, 2, 2).double()
    draw = torch.Generator
    assert discriminator_penalty(GanConfig(), 0, network, x, -x, draw().manual_seed(0)) is None
    parts = [
        discriminator_penalty(config, 0, network, x, -x, draw().manual_seed(0)).item()
        for config in (
            GanConfig(gradient_penalty_weight=3.0),
            GanConfig(r1_weight=2.0),
            GanConfig(gradient_penalty_weight=3.0, r1_weight=2.0),
        )
    ]
    assert parts[0] + parts[1] == pytest.approx(parts[2])


def test_weights_lie_within_the_limit_after_clipping() -> None:
    network = nn.Linear(8, 8)
    clip_weights(network, 0.01)
    assert max(p.abs().max().item() for p in network.parameters()) == pytest.approx(0.01)


def test_feature_matching_asks_for_the_mean_of_the_data_and_for_nothing_else() -> None:
    real = torch.randn(64, 5, 2, 2)
    same_mean = real.mean(dim=0, keepdim=True).expand(8, -1, -1, -1)
    assert feature_matching_loss(real, same_mean).item() == pytest.approx(0, abs=1e-12)
    assert feature_matching_loss(real, same_mean + 0.5).item() == pytest.approx(0.25, rel=1e-5)


def test_feature_matching_moves_the_generated_side_alone() -> None:
    real, fake = torch.ones(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    feature_matching_loss(real, fake).backward()
    assert real.grad is None
    assert (fake.grad < 0).all()


def test_mode_seeking_loss_falls_when_far_codes_give_far_images() -> None:
    z = torch.randn(8, 4, 1, 1)
    alike, apart = torch.zeros(8, 3, 4, 4), torch.randn(8, 3, 4, 4)
    assert mode_seeking_loss(z, apart) < mode_seeking_loss(z, 0.5 * apart) < mode_seeking_loss(z, alike)


def test_mode_seeking_loss_is_finite_with_a_gradient_for_a_collapsed_generator() -> None:
    z = torch.randn(8, 4, 1, 1)
    images = (torch.zeros(8, 3, 4, 4) + 1e-4 * torch.randn(8, 3, 4, 4)).requires_grad_(True)
    mode_seeking_loss(z, images).backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().max() > 0
