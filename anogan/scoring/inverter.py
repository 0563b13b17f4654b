"""Image -> G(z*): encoder, starting codes and latent search behind one call."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from anogan.config import Config
from anogan.gan.condition import condition_dim, tile_channels
from anogan.gan.networks import Networks, check_images, feature_stack, sample_prior
from anogan.scoring.bank import Bank
from anogan.scoring.maps import discrimination_map, head_input
from anogan.scoring.perceptual import Perceptual
from anogan.scoring.search import Objective, SearchResult, joined, latent_search


def starting_codes(config: Config) -> tuple[Tensor, Tensor | None]:
    """The fixed starts of a model's search, (restarts, d, g, g), and its bank, (B, d, g, g), or None.

    A function of the config alone: a score must not depend on how many were asked before it.
    """
    draw, device = torch.Generator().manual_seed(config.seed), torch.device("cpu")
    fixed = sample_prior(config.search.restarts, config, draw, device)
    screened = config.search.bank > 0 and config.encoder.mode == "none"
    return fixed, sample_prior(config.search.bank, config, draw, device) if screened else None


class Inverter:
    """Finds z for tiles with frozen networks; the same tile always gives the same z."""

    def __init__(
        self,
        config: Config,
        networks: Networks,
        feature_scales: Tensor,
        perceptual: Perceptual | None = None,
    ) -> None:
        """Freezes `networks`; `feature_scales` is (L,), see `measure_feature_scales`.

        `perceptual` is used in the search only where `features.search_weight` is above 0.
        """
        self.config = config
        self.networks = networks.eval_frozen()
        device = next(networks.generator.parameters()).device
        stages = feature_stack(networks.discriminator)
        self.objective = Objective(
            networks.generator, stages, feature_scales.to(device), condition=condition_dim(config)
        )
        if config.search.gradient == "smooth":
            self.objective = self.objective.smooth()
        if perceptual is not None and config.features.search_weight > 0:
            self.objective = replace(
                self.objective, perceptual=perceptual, perceptual_weight=config.features.search_weight
            )
        fixed, bank = starting_codes(config)
        self.fixed_starts = fixed.to(device)
        self._bank = None if bank is None else Bank(networks.generator, bank.to(device))

    def starts(self, x: Tensor) -> Tensor:
        """(R, N, d, g, g): E(x) first if there is an encoder, then the fixed codes, or the bank's best."""
        if self._bank is not None:
            return self._bank.best(x, self.config.search.restarts)
        fixed = self.fixed_starts[:, None].expand(-1, x.shape[0], -1, -1, -1)
        if self.networks.encoder is None:
            return fixed
        with torch.no_grad():
            encoded = self.networks.encoder(x)[None]
        return torch.cat([encoded, fixed[1:]])

    def search(self, x: Tensor, steps: int | None = None) -> SearchResult:
        """The best code of each tile; x is (N, C + K, t, t) in [-1, 1], colours and condition."""
        check_images(x, tile_channels(self.config), self.config.tiles.size)
        if self.config.search.polish_steps == 0:
            return self._search(x, steps)
        # Batches of one and of many round differently in the seventh digit, and L-BFGS on an objective with
        # kinks makes that the second: one tile at a time has the same code in every batch, to the bit.
        return joined([self._search(tile.clone(), steps) for tile in x.split(1)])

    def _search(self, x: Tensor, steps: int | None) -> SearchResult:
        return latent_search(x, self.starts(x), self.objective, self.config.search, steps)

    def discrimination(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """The discrimination map of a reconstruction, (N, 1, t, t)."""
        return discrimination_map(x, reconstruction, self.objective)

    def head_input(self, x: Tensor, steps: int | None = None) -> Tensor:
        """What the head sees of tiles after a search; see `anogan.scoring.maps.head_input`."""
        reconstruction = self.search(x, steps).reconstruction
        with torch.no_grad():
            discrimination = self.discrimination(x, reconstruction)
        return head_input(x, reconstruction, discrimination, self.config.head.contrast_window)
