"""The discriminators' side of the game: how they learn, and what they tell the generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call

from anogan.config import GanConfig
from anogan.gan import ranks
from anogan.gan.condition import condition_of, image_of, with_condition
from anogan.gan.diffaugment import ada_step, augment
from anogan.gan.losses import clip_weights, discriminator_loss, discriminator_penalty, generator_loss

ACCURACY_MEMORY = 0.95  # Decay of the accuracy that `pause_above` compares with.
Context = Callable[[], AbstractContextManager[object]]


class Adversary(nn.Module):
    """One or several discriminators with their optimisers, and every remedy that acts on what they see.

    Works on images (N, C, H, W) and, for the remedies that do not need pixels, on any (N, ...) samples.
    Buffers hold what adapts, so that a checkpoint has it.
    """

    probability: Tensor
    accuracy: Tensor

    def __init__(
        self,
        config: GanConfig,
        discriminators: Sequence[nn.Module],
        *,
        condition: int = 0,
        mixed: Context = nullcontext,
        on_gradients: Callable[[nn.Module], None] = lambda _: None,
    ) -> None:
        """Takes the discriminators over.

        Args:
            config: Losses, regularisers, learning rates and the number of steps.
            discriminators: At least one; the first gives the figures.
            condition: How many of the samples' last channels are their condition: neither augmented nor
                penalised, and alike in row i of real and generated samples.
            mixed: Precision of forward passes; penalties are always in fp32.
            on_gradients: Called with a network between its backward pass and its update.
        """
        super().__init__()
        self.config = config
        self.discriminators = nn.ModuleList(discriminators)
        self.optimisers = [
            optim.Adam(
                discriminator.parameters(),
                config.discriminator_learning_rate,
                (config.beta1, config.beta2),
                foreach=True,
            )
            for discriminator in discriminators
        ]
        self._mixed, self._on_gradients, self._condition = mixed, on_gradients, condition
        device = next(discriminators[0].parameters()).device
        self.register_buffer("probability", torch.zeros((), device=device))
        self.register_buffer("accuracy", torch.full((), 0.5, device=device))

    @property
    def sees_images_as_they_are(self) -> bool:
        """Whether the first discriminator alone, on untouched images, is the generator's whole opponent."""
        config = self.config
        return not (
            config.diffaugment
            or config.instance_noise
            or config.unroll_steps
            or config.discriminators > 1
            or config.dropout
            or config.minibatch != "none"
        )

    def learn(
        self, step: int, real: Tensor, fakes: Sequence[Tensor], draw: torch.Generator
    ) -> dict[str, Tensor]:
        """One update of each discriminator; returns the first one's figures.

        Args:
            step: From 0; instance noise and lazy penalties depend on it.
            real: Real samples, (N, ...).
            fakes: Generated samples, detached here; each goes through D as a batch of its own, since batch
                norm must not mix what differs in kind.
            draw: CPU generator of every random number.
        """
        self.discriminators.requires_grad_(True)
        fakes = [fake.detach() for fake in fakes]
        figures = [
            self._learn_one(step, index, real, fakes, draw) for index in range(len(self.discriminators))
        ]
        self.discriminators.requires_grad_(False)
        return figures[0]

    def _learn_one(
        self, step: int, index: int, real: Tensor, fakes: Sequence[Tensor], draw: torch.Generator
    ) -> dict[str, Tensor]:
        discriminator, optimiser = self.discriminators[index], self.optimisers[index]
        seen = self.view(real, step, draw)
        seen_fakes = [self.view(fake, step, draw) for fake in fakes]
        with self._mixed():
            logits = discriminator(seen).float()
            fake_logits = torch.cat([discriminator(fake).float() for fake in seen_fakes])
        loss = discriminator_loss(self.config.loss, logits, fake_logits, self.config.label_smoothing)
        n = min(len(seen), len(seen_fakes[0]))
        images, fake_images = (image_of(x[:n], self._condition) for x in (seen, seen_fakes[0]))
        judge = self._under_condition(discriminator, seen[:n])
        penalty = discriminator_penalty(self.config, step, judge, images, fake_images.float(), draw)
        optimiser.zero_grad(set_to_none=True)
        (loss if penalty is None else loss + penalty).backward()
        self._on_gradients(discriminator)
        right_real, right_fake = (logits > 0).float().mean(), (fake_logits <= 0).float().mean()
        if index == 0:
            self._adapt(logits.detach(), 0.5 * (right_real + right_fake))
        if self.config.pause_above is None or self.accuracy <= self.config.pause_above:
            optimiser.step()
        if self.config.loss == "wgan":
            clip_weights(discriminator, self.config.weight_clip)
        return {"d_loss": loss.detach(), "d_accuracy_real": right_real, "d_accuracy_fake": right_fake}

    def _adapt(self, real_logits: Tensor, accuracy: Tensor) -> None:
        self.accuracy.lerp_(ranks.mean(accuracy), 1 - ACCURACY_MEMORY)
        if self.config.ada_target is not None:
            images = len(real_logits) * self.config.packing * ranks.count()
            self.probability.copy_(ada_step(self.probability, real_logits, self.config.ada_target, images))

    def judge(self, step: int, fake: Tensor, draw: torch.Generator, real: Tensor | None = None) -> Tensor:
        """The generator's adversarial loss: the mean over the discriminators.

        Args:
            step: From 0.
            fake: Generated samples with their graph, (N, ...).
            draw: CPU generator of every random number.
            real: Real samples; needed by `unroll_steps` only.
        """
        seen = self.view(fake, step, draw)
        losses = []
        for discriminator, optimiser in zip(self.discriminators, self.optimisers, strict=True):
            if self.config.unroll_steps and real is not None:
                rate = float(optimiser.param_groups[0]["lr"])
                logits = self._unrolled(discriminator, rate, self.view(real, step, draw), seen)
            else:
                with self._mixed():
                    logits = discriminator(seen)
            losses.append(generator_loss(self.config.loss, logits.float()))
        return torch.stack(losses).mean()

    def view(self, x: Tensor, step: int, draw: torch.Generator) -> Tensor:
        """What a discriminator sees of x: augmented, noisy, packed, as the config says."""
        config, condition = self.config, self._condition_of(x)
        x = image_of(x, self._condition)
        if config.diffaugment:
            adaptive = None if config.ada_target is None else self.probability
            x = augment(x, config.diffaugment, draw, adaptive)
        if config.instance_noise > 0:
            # Overlapping supports keep D's loss informative (Sonderby et al. 2017, arXiv:1610.04490).
            sigma, shape = config.instance_noise * max(0.0, 1 - step / config.steps), x.shape[1:]
            noise = ranks.own_rows(lambda n: torch.randn((n, *shape), generator=draw), len(x))
            x = x + sigma * noise.to(x.device)
        return pack(x if condition is None else with_condition(x, condition), config.packing)

    def _condition_of(self, x: Tensor) -> Tensor | None:
        return condition_of(x, self._condition) if self._condition else None

    def _under_condition(self, discriminator: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
        """D as a function of images alone, under the condition of x."""
        condition = self._condition_of(x)
        return discriminator if condition is None else lambda i: discriminator(with_condition(i, condition))

    def _unrolled(self, discriminator: nn.Module, rate: float, real: Tensor, fake: Tensor) -> Tensor:
        """Logits of D after `unroll_steps` more steps, differentiable through them.

        Metz et al. 2017 (arXiv:1611.02163), eq. 9. Each layer's step is as long as Adam's would be; its
        length counts as a constant, since through Adam's own moments the gradient explodes.
        """
        parameters = dict(discriminator.named_parameters())
        buffers = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
        ahead: Mapping[str, Tensor] = {
            name: p.detach().requires_grad_(True) for name, p in parameters.items()
        }
        for _ in range(self.config.unroll_steps):
            logits = functional_call(discriminator, {**ahead, **buffers}, (real,)).float()
            fake_logits = functional_call(discriminator, {**ahead, **buffers}, (fake,)).float()
            loss = discriminator_loss(self.config.loss, logits, fake_logits, self.config.label_smoothing)
            gradients = torch.autograd.grad(loss, list(ahead.values()), create_graph=True)
            ahead = {
                name: p - rate * gradient / gradient.detach().square().mean().sqrt().clamp_min(1e-12)
                for (name, p), gradient in zip(ahead.items(), map(ranks.mean, gradients), strict=True)
            }
        logits = functional_call(discriminator, {**ahead, **buffers}, (fake,))
        assert isinstance(logits, Tensor)
        return logits


def pack(x: Tensor, k: int) -> Tensor:
    """Stacks k neighbouring samples along the channels: (N, C, ...) -> (N // k, k C, ...).

    A D that judges packs sees that k images are alike (PacGAN, Lin et al. 2018, arXiv:1712.04086).
    """
    if k == 1:
        return x
    whole = x.shape[0] // k * k
    return x[:whole].reshape(whole // k, k * x.shape[1], *x.shape[2:])
