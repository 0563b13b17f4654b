"""Adversarial training of generator and discriminator, with or without a jointly trained encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn, optim

from anogan.config import Config
from anogan.gan.device import autocast, training_precision
from anogan.gan.ema import Ema, recalibrate_batch_norm
from anogan.gan.losses import clip_weights, discriminator_loss, discriminator_penalty, generator_loss
from anogan.gan.networks import Networks, build_networks, feature_stack, features, sample_prior
from anogan.gan.tiles import TileSource

BATCH_NORM_BATCHES = 20


class GanStage:
    """G against D (Goodfellow et al. 2014; DCGAN's hyper-parameters by default).

    With `encoder.mode: joint` an encoder E is trained beside them: G must also reproduce good tiles from
    E(x), and D judges the reproductions as well (Larsen et al. 2016, arXiv:1512.09300). Its input may carry
    synthetic defects while the target is clean, so that E learns to leave defects out of z.
    """

    name = "gan"

    def __init__(
        self, config: Config, source: TileSource, held_out: TileSource, device: torch.device
    ) -> None:
        """Builds networks from `config.seed`; nothing is trained yet."""
        torch.manual_seed(config.seed)
        self.config = config
        self.total_steps = config.gan.steps
        self._source, self._held_out, self._device = source, held_out, device
        self._precision = training_precision(config.runtime, device)
        self.networks = build_networks(config)
        for module in self.networks.modules().values():
            module.to(device, memory_format=torch.channels_last)
        self._stages = feature_stack(self.networks.discriminator)
        self._joint = config.encoder.mode == "joint"
        if not self._joint:
            self.networks.encoder = None
        self._ema = {"generator": Ema(self.networks.generator, config.gan.ema_decay)}
        if self.networks.encoder is not None:
            self._ema["encoder"] = Ema(self.networks.encoder, config.gan.ema_decay)
        self._optimisers = self._build_optimisers()

    def _build_optimisers(self) -> dict[str, optim.Optimizer]:
        gan, betas = self.config.gan, (self.config.gan.beta1, self.config.gan.beta2)
        networks = self.networks
        optimisers: dict[str, optim.Optimizer] = {
            "generator": optim.Adam(
                networks.generator.parameters(), gan.generator_learning_rate, betas, foreach=True
            ),
            "discriminator": optim.Adam(
                networks.discriminator.parameters(), gan.discriminator_learning_rate, betas, foreach=True
            ),
        }
        if networks.encoder is not None:
            rate = self.config.encoder.learning_rate
            optimisers["encoder"] = optim.Adam(networks.encoder.parameters(), rate, betas, foreach=True)
        return optimisers

    def modules(self) -> Mapping[str, nn.Module]:
        """Networks and their averages."""
        averages = {f"{name}_ema": ema.network for name, ema in self._ema.items()}
        return self.networks.modules() | averages

    def optimisers(self) -> Mapping[str, optim.Optimizer]:
        """One Adam per network."""
        return self._optimisers

    def step(self, step: int) -> dict[str, float]:
        """n_critic discriminator steps and one generator step."""
        gan = self.config.gan
        generator = torch.Generator().manual_seed(hash((self.config.seed, step)) & 0x7FFFFFFF)
        metrics: dict[str, Tensor] = {}
        for critic in range(gan.n_critic):
            batch = self._batch(step * gan.n_critic + critic)
            with autocast(self._device, self._precision):
                fakes = self._fakes(batch[1], generator)
            metrics |= self._discriminator_step(step, batch[0], fakes, generator)
        metrics |= self._generator_step(batch[0], fakes)
        for name, ema in self._ema.items():
            ema.update(self.networks.modules()[name], step)
        return {name: float(value) for name, value in metrics.items()}

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Real tiles and what the encoder sees of them."""
        n = self.config.gan.batch_size
        if self._joint and self.config.encoder.remove_defects:
            drawn = self._source.damaged_batch(step, n, clean_share=0.5)
            return self._move(drawn.clean), self._move(drawn.damaged)
        x = self._move(self._source.batch(step, n))
        return x, x

    def _move(self, x: Tensor) -> Tensor:
        return x.to(self._device, memory_format=torch.channels_last)

    def _fakes(self, seen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """G(z) from the prior and, with an encoder, G(E(x)); the graph is kept for the generator's step."""
        n = seen.shape[0] // 2 if self._joint else seen.shape[0]
        prior = sample_prior(n, self.config, generator, self._device)
        fakes = {"prior": self.networks.generator(prior)}
        if self.networks.encoder is not None:
            z = self.networks.encoder(seen).float()
            noise = torch.randn(z.shape, generator=generator).to(z.device)
            # Noise keeps neighbouring codes meaning neighbouring images, which a search relies on.
            fakes["reconstruction"] = self.networks.generator(z + self.config.encoder.latent_noise * noise)
            fakes["z"] = z
        return fakes

    def _discriminator_step(
        self, step: int, x: Tensor, fakes: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        gan, discriminator = self.config.gan, self.networks.discriminator
        discriminator.requires_grad_(True)
        images = [fakes[name].detach() for name in ("prior", "reconstruction") if name in fakes]
        with autocast(self._device, self._precision):
            real = discriminator(x).float()
            fake = torch.cat([discriminator(image).float() for image in images])
        loss = discriminator_loss(gan.loss, real, fake)
        n = images[0].shape[0]
        penalty = discriminator_penalty(gan, step, discriminator, x[:n], images[0].float(), generator)
        self._optimisers["discriminator"].zero_grad(set_to_none=True)
        (loss if penalty is None else loss + penalty).backward()
        self._optimisers["discriminator"].step()
        if gan.loss == "wgan":
            clip_weights(discriminator)
        return {
            "d_loss": loss.detach(),
            "d_accuracy_real": (real > 0).float().mean(),
            "d_accuracy_fake": (fake <= 0).float().mean(),
        }

    def _generator_step(self, x: Tensor, fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        gan = self.config.gan
        self.networks.discriminator.requires_grad_(False)
        with autocast(self._device, self._precision):
            adversarial = generator_loss(gan.loss, self.networks.discriminator(fakes["prior"]).float())
            metrics = {"g_loss": adversarial.detach()}
            loss = adversarial
            if "reconstruction" in fakes:
                extra, figures = self._reconstruction_loss(x, fakes["reconstruction"], fakes["z"])
                loss = gan.adversarial_weight * loss + extra
                metrics |= figures
            if gan.feature_matching_weight > 0:
                matching = self._feature_matching(x, fakes["prior"])
                loss = loss + gan.feature_matching_weight * matching
                metrics["feature_matching"] = matching.detach()
        trained = [name for name in ("generator", "encoder") if name in self._optimisers]
        for name in trained:
            self._optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in trained:
            self._optimisers[name].step()
        return metrics

    def _reconstruction_loss(
        self, x: Tensor, reconstruction: Tensor, z: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels, D's features, D's opinion, and the pull of E(x) towards the prior."""
        encoder = self.config.encoder
        pixels = (x - reconstruction.float()).abs().mean()
        with torch.no_grad():
            wanted = features(self._stages, x)
        got = features(self._stages, reconstruction)
        difference = torch.stack(
            [(a.float() - b.float()).abs().mean() / (a.float().abs().mean() + 1e-6)
             for a, b in zip(wanted, got, strict=True)]
        ).mean()
        logits = self.networks.discriminator[-1](got[-1]).float()
        adversarial = generator_loss(self.config.gan.loss, logits)
        prior = prior_divergence(z)
        loss = (
            encoder.reconstruction_weight * pixels
            + encoder.feature_weight * difference
            + self.config.gan.adversarial_weight * adversarial
            + encoder.latent_weight * prior
        )
        return loss, {
            "reconstruction": pixels.detach(),
            "feature_residual": difference.detach(),
            "latent_divergence": prior.detach(),
        }

    def _feature_matching(self, x: Tensor, fake: Tensor) -> Tensor:
        """|mean f(x) - mean f(G(z))|^2 of D's last hidden layer (Salimans et al. 2016, eq. 1)."""
        with torch.no_grad():
            wanted = features(self._stages, x)[-1].float().mean(dim=0)
        return (features(self._stages, fake)[-1].float().mean(dim=0) - wanted).square().mean()

    @torch.no_grad()
    def look(self, step: int) -> dict[str, float]:
        """Figures on held-out good tiles: D's accuracy, diversity of G, E's reconstruction."""
        networks = self.averaged()
        x = self._move(self._held_out.batch(0, 32))
        discriminator = self.networks.discriminator.eval()
        figures = {"d_accuracy_held_out": float((discriminator(x) > 0).float().mean())}
        discriminator.train()
        codes = sample_prior(16, self.config, torch.Generator().manual_seed(0), self._device)
        fakes = networks.generator.eval()(codes)
        figures["diversity"] = mean_pairwise_distance(fakes) / max(mean_pairwise_distance(x[:16]), 1e-6)
        if networks.encoder is not None:
            again = networks.generator(networks.encoder.eval()(x))
            figures["held_out_reconstruction"] = float((x - again).abs().mean())
        return figures

    def averaged(self) -> Networks:
        """D as it is and the averages of the others."""
        encoder = self._ema["encoder"].network if "encoder" in self._ema else None
        return Networks(self._ema["generator"].network, self.networks.discriminator, encoder)  # type: ignore[arg-type]

    @torch.no_grad()
    def finish(self) -> Networks:
        """The networks to score with: averages with recalibrated batch norm, frozen, in eval mode."""
        networks = self.averaged()
        n = self.config.gan.batch_size
        steps = range(BATCH_NORM_BATCHES)
        tiles = [self._move(self._source.batch(10_000_000 + i, n)) for i in steps]
        if networks.encoder is not None:
            encoder = networks.encoder
            recalibrate_batch_norm(encoder, [lambda x=x: x for x in tiles])
            codes = [encoder.eval()(x) for x in tiles]
        else:
            draw = torch.Generator().manual_seed(self.config.seed)
            codes = [sample_prior(n, self.config, draw, self._device) for _ in steps]
        recalibrate_batch_norm(networks.generator, [lambda z=z: z for z in codes])
        return networks.eval_frozen()


def prior_divergence(z: Tensor) -> Tensor:
    """KL divergence from N(0, 1) of a Gaussian with z's mean and variance per channel; 0 when they match."""
    per_channel = z.transpose(0, 1).flatten(1)
    mean, variance = per_channel.mean(dim=1), per_channel.var(dim=1) + 1e-6
    return 0.5 * (variance + mean.square() - 1 - variance.log()).mean()


def mean_pairwise_distance(images: Tensor) -> float:
    """Mean absolute pixel difference over all pairs; near 0 when all images are alike."""
    flat = images.flatten(1).float()
    n = flat.shape[0]
    return float(torch.cdist(flat, flat, p=1).sum() / (n * (n - 1) * flat.shape[1]))
