"""Adversarial training of generator and discriminator, with or without a jointly trained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn, optim

from anogan.config import Config
from anogan.gan import ranks
from anogan.gan.adversary import Adversary, pack
from anogan.gan.alarms import Points
from anogan.gan.batch_norm import recalibrate_batch_norm, statistics_tiles
from anogan.gan.condition import condition_dim, given, image_of, tile_channels
from anogan.gan.device import autocast, training_precision
from anogan.gan.ema import BestState, Ema
from anogan.gan.keeping import ends_early, keeps_best, last_look_is_best
from anogan.gan.losses import feature_matching_loss, generator_loss, mode_seeking_loss
from anogan.gan.monitor import Monitor
from anogan.gan.networks import (
    Networks,
    build_networks,
    build_training_discriminator,
    feature_stack,
    features,
    for_scoring,
    logit_layers,
    sample_prior,
)
from anogan.gan.rates import decay_factor, scale_learning_rates
from anogan.gan.shared_layers import share_layers
from anogan.gan.ssim import ssim
from anogan.gan.tiles import TileSource

ATTEMPT_STRIDE = 1_000_000_000  # Steps between the random streams of a run and of its repetition.


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
        self.attempt = 0
        self._k = condition_dim(config)
        self._source, self._held_out, self._device = source, held_out, device
        self._precision = training_precision(config.runtime, device)
        self.networks = build_networks(config, training=True)
        self._joint = config.encoder.mode == "joint"
        if not self._joint:
            self.networks.encoder = None
        rivals = [build_training_discriminator(config) for _ in range(1, config.gan.discriminators)]
        for module in [*self.networks.modules().values(), *rivals]:
            share_layers(module)
            module.to(device).to(memory_format=torch.channels_last)
        self.adversary = Adversary(
            config.gan,
            [self.networks.discriminator, *rivals],
            condition=self._k,
            mixed=self._mixed,
            on_gradients=ranks.average_gradients,
        )
        self._stages = feature_stack(self.networks.discriminator)
        self._logit_layers = logit_layers(self.networks.discriminator)
        self._ema = {"generator": Ema(self.networks.generator, config.gan.ema_decay)}
        if self.networks.encoder is not None:
            self._ema["encoder"] = Ema(self.networks.encoder, config.gan.ema_decay)
        self._best = BestState(self.averaged().modules()).to(device) if keeps_best(config) else None
        self._optimisers = self._build_optimisers()
        self._monitor = Monitor(config, source, held_out, device)

    def _mixed(self) -> AbstractContextManager[object]:
        return autocast(self._device, self._precision)

    def _build_optimisers(self) -> dict[str, optim.Optimizer]:
        gan, betas = self.config.gan, (self.config.gan.beta1, self.config.gan.beta2)
        rates = {"generator": gan.generator_learning_rate, "encoder": self.config.encoder.learning_rate}
        return {
            name: optim.Adam(module.parameters(), rates[name], betas, foreach=True)
            for name, module in self.networks.modules().items()
            if name in rates
        }

    def modules(self) -> Mapping[str, nn.Module]:
        """Networks, what adapts on the discriminators' side, and averages."""
        averages = {f"{name}_ema": ema.network for name, ema in self._ema.items()}
        trained = {name: self.networks.modules()[name] for name in self._optimisers}
        best = {} if self._best is None else {"best": self._best}
        return {"adversary": self.adversary} | trained | averages | best

    def optimisers(self) -> Mapping[str, optim.Optimizer]:
        """One Adam per network."""
        rivals = {f"discriminator_{i}": o for i, o in enumerate(self.adversary.optimisers)}
        return self._optimisers | rivals

    def step(self, step: int) -> dict[str, float]:
        """n_critic discriminator steps and one generator step."""
        gan = self.config.gan
        # Everything random is a function of (seed, step, attempt), so that a resumed run repeats it.
        index = step + ATTEMPT_STRIDE * self.attempt
        seed = hash((self.config.seed, index)) & 0x7FFFFFFF
        torch.manual_seed(seed)  # Dropout draws from the global stream.
        draw = torch.Generator().manual_seed(seed)
        scale_learning_rates(
            self.optimisers().values(), decay_factor(step, self.total_steps, gan.decay_share)
        )
        metrics: dict[str, Tensor] = {}
        for critic in range(gan.n_critic):
            x, seen = self._batch(index * gan.n_critic + critic)
            with self._mixed(), torch.set_grad_enabled(critic == gan.n_critic - 1):
                fakes = self._fakes(seen, draw)
            judged = self._judged(x)
            images = [fakes["prior"]]
            if "reconstruction" in fakes:
                images.append(fakes["reconstruction"][: len(fakes["prior"])])
            images = [given(image, x, self._k) for image in images]
            metrics |= self.adversary.learn(step, x[:judged], images, draw)
        metrics |= self._generator_step(step, x, fakes, draw)
        for name, ema in self._ema.items():
            ema.update(self.networks.modules()[name], step)
        # One transfer from the device, not one per figure.
        values = ranks.mean(torch.stack(list(metrics.values())))
        return dict(zip(metrics, values.tolist(), strict=True))

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """This rank's real tiles and what the encoder sees of them."""
        n = self.config.gan.batch_size
        if self._joint and self.config.encoder.remove_defects:
            drawn = self._source.damaged_batch(step, n, clean_share=0.5)
            return self._move(ranks.own(drawn.clean)), self._move(ranks.own(drawn.damaged))
        x = self._move(ranks.own(self._source.batch(step, n)))
        return x, x

    def _judged(self, x: Tensor) -> int:
        """How many real tiles D sees per step.

        Beside a joint encoder half of them: the pixel loss already teaches on all, and D's passes are
        two thirds of a step's arithmetic.
        """
        return max(2, len(x) // 2) if self._joint else len(x)

    def _move(self, x: Tensor) -> Tensor:
        return x.to(self._device, memory_format=torch.channels_last)

    def _fakes(self, seen: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """G(z) from the prior and, with an encoder, G(E(x)); the graph is kept for the generator's step."""
        n = max(1, self._judged(seen) // 2) if self._joint else len(seen)
        prior = ranks.own_rows(lambda rows: sample_prior(rows, self.config, draw, self._device), n)
        fakes = {"prior": self.networks.generator(given(prior, seen, self._k)), "code": prior}
        if self.networks.encoder is not None:
            z = self.networks.encoder(seen).float()
            shape = z.shape[1:]
            noise = ranks.own_rows(lambda rows: torch.randn((rows, *shape), generator=draw), len(z))
            # Noise keeps neighbouring codes meaning neighbouring images, which a search relies on.
            noisy = z + self.config.encoder.latent_noise * noise.to(z.device)
            fakes["reconstruction"] = self.networks.generator(given(noisy, seen, self._k))
            fakes["z"] = z
        return fakes

    def _generator_step(
        self, step: int, x: Tensor, fakes: Mapping[str, Tensor], draw: torch.Generator
    ) -> dict[str, Tensor]:
        gan = self.config.gan
        adversarial = self.adversary.judge(step, given(fakes["prior"], x, self._k), draw, x)
        metrics = {"g_loss": adversarial.detach()}
        loss = adversarial
        with self._mixed():
            if "reconstruction" in fakes:
                extra, figures = self._reconstruction_loss(step, x, fakes, draw)
                loss = gan.adversarial_weight * loss + extra
                metrics |= figures
            if gan.feature_matching_weight > 0:
                matching = self._feature_matching(x, fakes["prior"])
                loss = loss + gan.feature_matching_weight * matching
                metrics["feature_matching"] = matching.detach()
        if gan.mode_seeking_weight > 0:
            seeking = mode_seeking_loss(fakes["code"], fakes["prior"].float())
            loss = loss + gan.mode_seeking_weight * seeking
            metrics["mode_seeking"] = seeking.detach()
        for optimiser in self._optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(*(self.networks.modules()[name] for name in self._optimisers))
        for optimiser in self._optimisers.values():
            optimiser.step()
        return metrics

    def _reconstruction_loss(
        self, step: int, x: Tensor, fakes: Mapping[str, Tensor], draw: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels, their structure, D's features, D's opinion, and the pull of E(x) towards the prior."""
        encoder = self.config.encoder
        image, again = image_of(x, self._k), fakes["reconstruction"].float()
        pixels = (image - again).abs().mean()
        figures = {"reconstruction": pixels.detach()}
        structure = pixels.new_zeros(())
        if encoder.structure_weight > 0:
            structure = 1 - ssim(image, again).mean()
            figures["structure"] = structure.detach()
        judged = self._judged(x)
        x, reconstruction = x[:judged], given(fakes["reconstruction"][:judged], x, self._k)
        with torch.no_grad():
            wanted = features(self._stages, x)
        got = features(self._stages, reconstruction)
        difference = torch.stack(
            [
                (a.float() - b.float()).abs().mean() / (ranks.mean(a.float().abs().mean()) + 1e-6)
                for a, b in zip(wanted, got, strict=True)
            ]
        ).mean()
        if self.adversary.sees_images_as_they_are:
            # The features lead to the logit: no second pass through D.
            logits = self._logit_layers(got[-1]).float()
            adversarial = generator_loss(self.config.gan.loss, logits)
        else:
            adversarial = self.adversary.judge(step, reconstruction, draw, x)
        prior = prior_divergence(fakes["z"])
        loss = (
            encoder.reconstruction_weight * pixels
            + encoder.structure_weight * structure
            + encoder.feature_weight * difference
            + self.config.gan.adversarial_weight * adversarial
            + encoder.latent_weight * prior
        )
        figures |= {"feature_residual": difference.detach(), "latent_divergence": prior.detach()}
        return loss, figures

    def _feature_matching(self, x: Tensor, fake: Tensor) -> Tensor:
        """Of D's last hidden layer; packed as D sees them."""
        with torch.no_grad():
            wanted = features(self._stages, pack(x, self.config.gan.packing))[-1]
        fake = pack(given(fake, x, self._k), self.config.gan.packing)
        return feature_matching_loss(wanted, features(self._stages, fake)[-1])

    def look(self, step: int) -> dict[str, float]:
        """The health figures, see `Monitor`."""
        return self._monitor.figures(self.adversary, self.networks, self.averaged(), self._optimisers)

    def keep(self, points: Points) -> None:
        """Copies the averages, and D, if the last look was the best."""
        if self._best is not None and last_look_is_best(points):
            self._best.take(self.averaged().modules())

    def ends_early(self, points: Points) -> bool:
        """Whether `gan.early_stop_patience` is used up."""
        return ends_early(self.config, points)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """What a person should see of this state: (16, C, t, t) in [-1, 1] per name.

        `generated` are G(z) of fixed codes, under the condition of held-out tiles if the model has one;
        `reconstructions` are eight held-out good tiles, then G(E(x)).
        """
        networks = self.averaged()
        codes = sample_prior(16, self.config, torch.Generator().manual_seed(0), self._device)
        x = self._move(self._held_out.batch(0, 16))
        pictures = {"generated": networks.generator.eval()(given(codes, x, self._k))}
        if networks.encoder is not None:
            x = x[:8]
            again = networks.generator(given(networks.encoder.eval()(x), x, self._k))
            pictures["reconstructions"] = torch.cat([image_of(x, self._k), again])
        return {name: images.float().cpu() for name, images in pictures.items()}

    def averaged(self) -> Networks:
        """D as it is and the averages of the others."""
        encoder = self._ema["encoder"].network if "encoder" in self._ema else None
        return Networks(self._ema["generator"].network, self.networks.discriminator, encoder)  # type: ignore[arg-type]

    @torch.no_grad()
    def finish(self) -> Networks:
        """The networks to score with: averages with recalibrated batch norm, frozen, in eval mode."""
        best = None if self._best is None else self._best.networks()
        networks = self.averaged() if best is None else Networks.of(best)
        networks.discriminator = for_scoring(networks.discriminator, tile_channels(self.config))
        with ranks.alone():  # Each repeats it: in every one the next stage needs the networks.
            self._recalibrate(networks)
        return networks.eval_frozen()

    def _recalibrate(self, networks: Networks) -> None:
        n = self.config.gan.batch_size
        tiles = [self._move(x) for x in statistics_tiles(self._source, n, self._device)]
        if networks.encoder is not None:
            encoder = networks.encoder
            recalibrate_batch_norm(encoder, tiles)
            codes = [given(encoder.eval()(x), x, self._k) for x in tiles]
        else:
            draw = torch.Generator().manual_seed(self.config.seed)
            codes = [given(sample_prior(n, self.config, draw, self._device), x, self._k) for x in tiles]
        recalibrate_batch_norm(networks.generator, codes)


def prior_divergence(z: Tensor) -> Tensor:
    """KL divergence from N(0, 1) of a Gaussian with z's mean and variance per channel; 0 when they match."""
    per_channel = z.transpose(0, 1).flatten(1)
    n = per_channel.shape[1] * ranks.count()
    variance, mean = torch.var_mean(per_channel, dim=1, unbiased=False)
    mean, variance = ranks.pooled(mean, variance)
    variance = variance * (n / (n - 1)) + 1e-6
    return 0.5 * (variance + mean.square() - 1 - variance.log()).mean()
