from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anogan.config import GanConfig
from anogan.gan.adversary import Adversary, pack


def critic(inputs: int = 2, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


def adversary(*, discriminators: list[nn.Module] | None = None, **options: Any) -> Adversary:
    return Adversary(GanConfig(**options), discriminators or [critic(2 * options.get("packing", 1))])


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int = 64, centre: float = 1.0) -> Tensor:
    return torch.randn(n, 2) * 0.3 + centre


@pytest.mark.parametrize("loss", ["minimax", "non-saturating", "lsgan", "wgan", "wgan-gp", "hinge"])
def test_discriminator_learns_to_prefer_real_samples(loss: str) -> None:
    game = adversary(loss=loss, discriminator_learning_rate=1e-2, weight_clip=0.1)
    for step in range(60):
        game.learn(step, blobs(), [blobs(centre=-1)], drawn(step))
    discriminator = game.discriminators[0]
    assert discriminator(blobs()).mean() > discriminator(blobs(centre=-1)).mean() + 0.01


def test_generator_gradient_points_to_the_real_samples() -> None:
    game = adversary(discriminator_learning_rate=1e-2)
    for step in range(60):
        game.learn(step, blobs(), [blobs(centre=-1)], drawn(step))
    fake = blobs(centre=0).requires_grad_(True)
    game.judge(60, fake, drawn()).backward()
    assert (-fake.grad).mean(dim=0).min() > 0


def test_judging_leaves_the_discriminator_alone() -> None:
    game = adversary()
    game.learn(0, blobs(), [blobs(centre=-1)], drawn())
    before = [p.detach().clone() for p in game.discriminators.parameters()]
    gradients = [p.grad.clone() for p in game.discriminators.parameters()]
    game.judge(0, blobs(centre=0).requires_grad_(True), drawn()).backward()
    for p, weight, gradient in zip(game.discriminators.parameters(), before, gradients, strict=True):
        assert torch.equal(p, weight)
        assert torch.equal(p.grad, gradient)


def test_pack_stacks_neighbours_and_leaves_the_rest() -> None:
    x = torch.arange(14.0).reshape(7, 2)
    assert torch.equal(pack(x, 3), torch.arange(12.0).reshape(2, 6))
    assert pack(x, 1) is x
    images = torch.randn(5, 3, 4, 4)
    assert torch.equal(pack(images, 2)[1, 3:], images[3])


def test_packed_discriminator_tells_a_collapsed_generator_that_hits_the_data() -> None:
    # Each fake alone is as good as real; that all of a pack are alike only a packed D can see.
    def accuracy(k: int) -> float:
        game = adversary(packing=k, discriminator_learning_rate=5e-3)
        figures: dict[str, Tensor] = {}
        for step in range(300):
            real = torch.randn(128, 2, generator=drawn(step)).sign()
            fake = torch.randn(1, 2, generator=drawn(10_000 + step)).sign().expand(128, -1)
            figures = game.learn(step, real, [fake], drawn(step))
        return float(0.5 * (figures["d_accuracy_real"] + figures["d_accuracy_fake"]))

    assert accuracy(4) > 0.85
    assert accuracy(1) < 0.8


def test_generator_hears_the_mean_of_several_discriminators() -> None:
    both = [critic(seed=1), critic(seed=2)]
    fake = blobs()
    single = [adversary(discriminators=[d]).judge(0, fake, drawn()) for d in both]
    assert torch.allclose(adversary(discriminators=both).judge(0, fake, drawn()), torch.stack(single).mean())


def test_every_one_of_several_discriminators_learns() -> None:
    game = adversary(discriminators=[critic(seed=1), critic(seed=2)])
    before = [d[0].weight.detach().clone() for d in game.discriminators]
    game.learn(0, blobs(), [blobs(centre=-1)], drawn())
    for old, discriminator in zip(before, game.discriminators, strict=True):
        assert not torch.equal(old, discriminator[0].weight)


def test_instance_noise_falls_to_nothing_at_the_last_step() -> None:
    game = adversary(instance_noise=0.5, steps=100)
    x = torch.zeros(4000, 2)
    spreads = [game.view(x, step, drawn()).std().item() for step in (0, 50, 100)]
    assert spreads == pytest.approx([0.5, 0.25, 0.0], abs=0.02)


def test_discriminator_pauses_while_it_is_too_good() -> None:
    game = adversary(pause_above=0.8, discriminator_learning_rate=1e-2)
    moved = []
    for step in range(400):
        before = game.discriminators[0][0].weight.detach().clone()
        game.learn(step, blobs(), [blobs(centre=-1)], drawn(step))
        moved.append(not torch.equal(before, game.discriminators[0][0].weight))
    assert moved[0]
    assert not any(moved[-20:])
    for step in range(60):  # The generator catches up: fakes are like real ones.
        game.learn(step, blobs(), [blobs()], drawn(step))
    assert game.accuracy < 0.8


def test_ada_probability_follows_overfitting_and_is_part_of_the_checkpoint() -> None:
    game = Adversary(
        GanConfig(diffaugment=("color",), ada_target=0.6, discriminator_learning_rate=1e-2),
        [nn.Sequential(nn.Flatten(), nn.Linear(48, 1))],
    )
    bright = torch.ones(64, 3, 4, 4)
    for step in range(40):
        game.learn(step, bright, [-bright], drawn(step))
    assert game.probability > 0
    assert "probability" in game.state_dict()


def test_unrolled_gradient_goes_through_the_discriminators_future() -> None:
    # One step ahead of a linear least-squares D, whose gradient can be written down.
    rate, discriminator = 0.3, nn.Linear(2, 1)
    config = GanConfig(unroll_steps=1, discriminator_learning_rate=rate, loss="lsgan")
    real, fake = blobs(6), blobs(6, -1).requires_grad_(True)
    Adversary(config, [discriminator]).judge(0, fake, drawn(), real).backward()

    w, b = discriminator.weight[0].detach(), discriminator.bias.detach()
    x = fake.detach().clone().requires_grad_(True)
    on_real, on_fake = real @ w + b - 1, x @ w + b
    slope_w = (on_real[:, None] * real).mean(dim=0) + (on_fake[:, None] * x).mean(dim=0)
    slope_b = on_real.mean() + on_fake.mean()
    w_ahead = w - rate * slope_w / slope_w.detach().square().mean().sqrt()
    b_ahead = b - rate * slope_b / slope_b.detach().abs()
    (0.5 * (x @ w_ahead + b_ahead - 1).square().mean()).backward()
    assert torch.allclose(fake.grad, x.grad, atol=1e-6)

    through_now_only = torch.autograd.grad(
        0.5 * (x @ w_ahead.detach() + b_ahead.detach() - 1).square().mean(), x
    )[0]
    assert (x.grad - through_now_only).abs().max() > 1e-2


def test_unrolling_shows_the_generator_a_stronger_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = critic()
    real, fake = blobs(), blobs(centre=-1)
    now, later = (
        Adversary(GanConfig(unroll_steps=k, discriminator_learning_rate=0.2), [discriminator]).judge(
            0, fake, drawn(), real
        )
        for k in (0, 5)
    )
    assert later > now + 0.1


def test_unrolling_changes_neither_weights_nor_batch_norm_statistics() -> None:
    discriminator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    game = Adversary(GanConfig(unroll_steps=3), [discriminator])
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    game.judge(0, blobs(centre=-1).requires_grad_(True), drawn(), blobs()).backward()
    for name, value in discriminator.state_dict().items():
        assert torch.equal(value, before[name]), name
