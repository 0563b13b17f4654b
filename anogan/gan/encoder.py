"""Encoder training after the GAN, with G and D frozen (f-AnoGAN, Schlegl et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn, optim

from anogan.config import Config
from anogan.gan import ranks
from anogan.gan.alarms import Points
from anogan.gan.batch_norm import recalibrate_batch_norm, statistics_tiles
from anogan.gan.condition import condition_dim, given, image_of
from anogan.gan.device import autocast, training_precision
from anogan.gan.networks import Networks, build_encoder_of, feature_stack, features, sample_prior
from anogan.gan.shared_layers import share_layers
from anogan.gan.tiles import TileSource


class EncoderStage:
    """E: image -> z for a fixed G (doi:10.1016/j.media.2019.01.010, section 3.2).

    - `ziz`: z -> G(z) -> E(G(z)), the squared error in z; needs no images.
    - `izi`: x -> E(x) -> G(E(x)), the squared error in pixels (eq. 4).
    - `izi_f`: izi plus kappa times the squared error of D's last hidden features (eq. 5).
    """

    name = "encoder"

    def __init__(
        self,
        config: Config,
        source: TileSource,
        held_out: TileSource,
        networks: Networks,
        device: torch.device,
    ) -> None:
        """Builds E from `config.seed`; `networks` are frozen."""
        torch.manual_seed(config.seed + 2)
        self.config, self.total_steps = config, config.encoder.steps
        self._source, self._held_out, self._device = source, held_out, device
        self._precision = training_precision(config.runtime, device)
        self._networks = networks.eval_frozen()
        self._stages = feature_stack(networks.discriminator)
        self._k = condition_dim(config)
        encoder = build_encoder_of(config)
        share_layers(encoder)
        self.encoder = encoder.to(device).to(memory_format=torch.channels_last)
        self._optimiser = optim.Adam(self.encoder.parameters(), config.encoder.learning_rate, foreach=True)

    def modules(self) -> Mapping[str, nn.Module]:
        """The encoder alone: G and D are frozen."""
        return {"encoder": self.encoder}

    def optimisers(self) -> Mapping[str, optim.Optimizer]:
        """One Adam."""
        return {"encoder": self._optimiser}

    def step(self, step: int) -> dict[str, float]:
        """One batch of codes (ziz) or tiles (izi)."""
        with autocast(self._device, self._precision):
            loss = self._code_loss(step) if self.config.encoder.mode == "ziz" else self._image_loss(step)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(self.encoder)
        self._optimiser.step()
        return {"encoder_loss": float(ranks.mean(loss.detach()))}

    def _code_loss(self, step: int) -> Tensor:
        draw = torch.Generator().manual_seed(hash((self.config.seed, step, 1)) & 0x7FFFFFFF)
        n = self.config.gan.batch_size
        z = ranks.own(sample_prior(n, self.config, draw, self._device))
        # A code has no condition of its own: it takes that of a training tile.
        tiles = ranks.own(self._source.batch(step, n)).to(self._device) if self._k else z
        with torch.no_grad():
            images = self._networks.generator(given(z, tiles, self._k))
        error: Tensor = (self.encoder(given(images, tiles, self._k)).float() - z).square().mean()
        return error

    def _image_loss(self, step: int) -> Tensor:
        n, encoder = self.config.gan.batch_size, self.config.encoder
        if encoder.remove_defects:
            batch = self._source.damaged_batch(step, n, clean_share=0.5)
            target, seen = (ranks.own(x).to(self._device) for x in (batch.clean, batch.damaged))
        else:
            target = seen = ranks.own(self._source.batch(step, n)).to(self._device)
        again = self._networks.generator(given(self.encoder(seen), seen, self._k))
        loss: Tensor = (image_of(target, self._k) - again.float()).square().mean()
        if encoder.mode == "izi_f":
            wanted = features(self._stages, target)[-1].float()
            got = features(self._stages, given(again, seen, self._k))[-1].float()
            loss = loss + encoder.feature_weight * (wanted - got).square().mean()
        return loss

    @torch.no_grad()
    def look(self, step: int) -> dict[str, float]:
        """Mean absolute reconstruction error of held-out good tiles."""
        x = self._held_out.batch(0, 32).to(self._device)
        again = self._networks.generator(given(self.encoder.eval()(x), x, self._k))
        self.encoder.train()
        return {"held_out_reconstruction": float((image_of(x, self._k) - again).abs().mean())}

    def keep(self, points: Points) -> None:
        """Nothing: the last weights are the ones."""

    def ends_early(self, points: Points) -> bool:
        """No: every step is done."""
        return False

    def finish(self) -> Networks:
        """The GAN's networks with the trained encoder, its batch norm recalibrated, frozen, in eval mode."""
        tiles = statistics_tiles(self._source, self.config.gan.batch_size, self._device)
        with ranks.alone():  # Each repeats it: in every one the next stage needs the encoder.
            recalibrate_batch_norm(self.encoder, tiles)
        return Networks(self._networks.generator, self._networks.discriminator, self.encoder).eval_frozen()
