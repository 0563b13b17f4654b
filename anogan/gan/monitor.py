"""Figures that tell a healthy GAN from a failing one, cheap enough for every look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from anogan.config import Config
from anogan.gan.adversary import Adversary, pack
from anogan.gan.batch_norm import batch_statistics
from anogan.gan.condition import condition_dim, given, image_of
from anogan.gan.networks import Networks, sample_prior
from anogan.gan.tiles import TileSource

TILES = 64  # Per look and kind: enough to tell failures apart, under two training steps of work.
FIXED_TRAINING_STEP = 30_000_000  # A step number that training itself never draws.
SEARCH_STEPS = 10


class Monitor:
    """Looks at a GAN with a fixed set of training tiles, held-out good tiles and codes."""

    def __init__(
        self, config: Config, source: TileSource, held_out: TileSource, device: torch.device
    ) -> None:
        self._config, self._source, self._held_out_source, self._device = config, source, held_out, device
        self._k = condition_dim(config)

    @cached_property
    def _real(self) -> tuple[Tensor, Tensor]:
        """Training and held-out tiles, (64, C + K, t, t) each; the same at every look."""
        train = self._source.batch(FIXED_TRAINING_STEP, TILES)
        held_out = self._held_out_source.batch(0, TILES)
        return train.to(self._device), held_out.to(self._device)

    @cached_property
    def _extract(self) -> FeatureExtractor:
        return FeatureExtractor(self._config.images.channels, image_of(self._real[0], self._k))

    def figures(
        self,
        adversary: Adversary,
        networks: Networks,
        averaged: Networks,
        optimisers: Mapping[str, optim.Optimizer],
    ) -> dict[str, float]:
        """All figures by name; `docs/training.md` says what each tells.

        Args:
            adversary: The discriminators as they train.
            networks: The networks as they train.
            averaged: The networks that will be kept.
            optimisers: Generator's (and encoder's), right after a step, for the size of its updates.
        """
        train, held_out = self._real
        codes = sample_prior(TILES, self._config, torch.Generator().manual_seed(0), self._device)
        codes = given(codes, train, self._k)
        with torch.no_grad():
            fakes = batch_statistics(networks.generator, codes)
            kept = batch_statistics(averaged.generator, codes).float()
            figures = self._discriminator_figures(adversary, train, held_out, given(fakes, train, self._k))
            figures |= self._image_figures(kept, image_of(train, self._k), image_of(held_out, self._k))
        figures["held_out_reconstruction"] = self._inversion_error(averaged, held_out)
        figures |= {
            "g_gradient": gradient_norm(networks.generator),
            "d_gradient": gradient_norm(networks.discriminator),
            "g_update": relative_update(optimisers["generator"]),
            "d_update": relative_update(adversary.optimisers[0]),
            "distinct_images": float(self._distinct_images),
        }
        if adversary.config.ada_target is not None:
            figures["ada_probability"] = float(adversary.probability)
        return figures

    @cached_property
    def _distinct_images(self) -> int:
        return self._source.distinct_images

    def _discriminator_figures(
        self, adversary: Adversary, train: Tensor, held_out: Tensor, fakes: Tensor
    ) -> dict[str, float]:
        """What the first D makes of three kinds of tiles, each in a batch of its own as in training.

        In eval mode D would mix the statistics of real and generated tiles, and its answers would mean
        nothing.
        """
        k, discriminator = adversary.config.packing, adversary.discriminators[0]
        logits = [
            batch_statistics(discriminator, pack(x.float(), k)).float().flatten()
            for x in (train, held_out, fakes)
        ]
        on_train, on_held_out, on_fakes = (float(x.mean()) for x in logits)
        gap = on_train - on_fakes
        overfitting = (on_train - on_held_out) / gap if gap > 1e-6 else 0.0
        return {
            "d_accuracy_train": float((logits[0] > 0).float().mean()),
            "d_accuracy_held_out": float((logits[1] > 0).float().mean()),
            "d_accuracy_generated": float((logits[2] <= 0).float().mean()),
            "d_logit_gap": gap,
            "d_logit_spread": float(torch.cat(logits).std()),
            "d_overfitting": max(-1.0, min(2.0, overfitting)),
        }

    def _image_figures(self, fakes: Tensor, train: Tensor, held_out: Tensor) -> dict[str, float]:
        """Diversity, duplicates, distance to the training tiles, distance of the distributions."""
        extract = self._extract
        ours, seen, unseen = extract(fakes), extract(train), extract(held_out)
        pairs, real_pairs = F.pdist(ours), F.pdist(seen)
        to_train = torch.cdist(_small(fakes), _small(train)).amin(dim=1).median()
        expected = torch.cdist(_small(held_out), _small(train)).amin(dim=1).median()
        return {
            "diversity": float(pairs.mean() / real_pairs.mean().clamp_min(1e-6)),
            "duplicates": float((pairs < 0.1 * real_pairs.mean()).float().mean()),
            "nearest_training_tile": float(to_train / expected.clamp_min(1e-6)),
            "kid": kernel_distance(ours, unseen),
            "kid_floor": kernel_distance(seen, unseen),
            "saturated": float((fakes.abs() > 0.999).float().mean()),
        }

    def _inversion_error(self, networks: Networks, x: Tensor) -> float:
        """Mean |x - G(z)| of held-out good tiles, with E's code or after a short search."""
        if networks.encoder is not None:
            with torch.no_grad():
                # The averages' own buffers are those of other weights until `recalibrate_batch_norm`.
                z = batch_statistics(networks.encoder, x)
                again = batch_statistics(networks.generator, given(z, x, self._k))
            return float((image_of(x, self._k) - again).abs().mean())
        tiles, generator = x[: TILES // 4], networks.generator.eval()
        x = image_of(tiles, self._k)
        z = torch.zeros_like(sample_prior(len(x), self._config, torch.Generator(), self._device))
        z.requires_grad_(True)
        optimiser = optim.Adam([z], lr=0.1)
        for _ in range(SEARCH_STEPS):
            # Summed over tiles: each is searched as if it were alone.
            again = generator(given(z, tiles, self._k))
            error = (x - again).abs().flatten(1).mean(dim=1).sum()
            (z.grad,) = torch.autograd.grad(error, z)
            optimiser.step()
        with torch.no_grad():
            return float((x - generator(given(z, tiles, self._k))).abs().mean())


class FeatureExtractor:
    """A fixed random convolutional network: texture statistics at three scales, without a download.

    Untrained features rank image distributions usefully (Naeem et al. 2020, arXiv:2002.09797, section 4);
    they are whitened per dimension by reference tiles.
    """

    def __init__(self, channels: int, reference: Tensor) -> None:
        """Draws the network from a fixed seed; `reference` is (N, channels, t, t) in [-1, 1]."""
        draw = torch.Generator().manual_seed(0)
        self._kernels = [
            (torch.randn(16, before, 3, 3, generator=draw) / math.sqrt(9 * before)).to(reference.device)
            for before in (channels, 16, 16)
        ]
        raw = self._raw(reference)
        self._mean, self._std = raw.mean(dim=0), raw.std(dim=0).clamp_min(1e-3)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, t, t) -> (N, 96 + 64): mean and spread of each map, and a coarse layout."""
        return (self._raw(x) - self._mean) / self._std

    def _raw(self, x: Tensor) -> Tensor:
        parts = [F.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), 8).flatten(1)]
        for kernel in self._kernels:
            x = F.leaky_relu(F.conv2d(x, kernel, stride=2, padding=1), 0.2)
            parts += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        return torch.cat(parts, dim=1)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3 (KID, Binkowski et al. 2018, arXiv:1801.01401).

    Args:
        a: Features, (N, d), N at least 2.
        b: Features, (M, d), M at least 2.

    Returns:
        About 0 when both come from one distribution (it may be below 0).
    """
    d, n, m = a.shape[1], a.shape[0], b.shape[0]
    within_a, within_b, across = (((x @ y.T) / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    own_a = (within_a.sum() - within_a.diagonal().sum()) / (n * (n - 1))
    own_b = (within_b.sum() - within_b.diagonal().sum()) / (m * (m - 1))
    return float(own_a + own_b - 2 * across.mean())


def gradient_norm(network: nn.Module) -> float:
    """Euclidean norm of the gradients of the last step; 0 where there are none."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


@torch.no_grad()
def relative_update(optimiser: optim.Optimizer) -> float:
    """Size of Adam's last update over the size of the weights; 0 for a network that stands still."""
    moved = total = 0.0
    for group in optimiser.param_groups:
        for p in group["params"]:
            total += float(p.square().sum())
            if "exp_avg" in (state := optimiser.state.get(p, {})):
                moment, second = (1 - beta ** state["step"] for beta in group["betas"])
                update = state["exp_avg"] / moment / ((state["exp_avg_sq"] / second).sqrt() + group["eps"])
                moved += float(group["lr"] ** 2 * update.square().sum())
    return math.sqrt(moved / max(total, 1e-12))


def _small(x: Tensor) -> Tensor:
    """Tiles as 8 x 8 thumbnails, (N, C * 64), for distances that a shift by a pixel does not rule."""
    return F.adaptive_avg_pool2d(x.float(), 8).flatten(1)
