"""Copies of networks: the exponential moving average, and the best state so far; buffers included."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from anogan.gan.alarms import Points
from anogan.gan.keeping import last_look_is_best
from anogan.gan.networks import Networks


class Ema:
    """A slowly following copy of a network.

    The averaged generator gives steadier images than the last iterate (Yazici et al. 2018,
    arXiv:1806.04498). Batch-norm buffers are copied at each update: an average of weights with the
    statistics of other weights is a broken network.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves the copy towards `network`; the decay grows from 0 so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        ours: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)


class BestNetworks(nn.Module):
    """A copy of networks as they were at the best look; each checkpoint holds it, for a resumed run."""

    taken: Tensor

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self._copies = nn.ModuleDict(copy.deepcopy(networks.modules()))
        self.register_buffer("taken", torch.zeros((), dtype=torch.bool))

    def take(self, networks: Networks, points: Points) -> None:
        """Copies the networks if the last look was the best."""
        if last_look_is_best(points):
            for name, network in networks.modules().items():
                self._copies[name].load_state_dict(network.state_dict())
            self.taken.fill_(True)

    def networks(self) -> Networks | None:
        """What was copied last, if anything."""
        if not self.taken:
            return None
        copies = dict(self._copies.items())
        generator, discriminator, encoder = (
            copies.get(name) for name in ("generator", "discriminator", "encoder")
        )
        return Networks(generator, discriminator, encoder)  # type: ignore[arg-type]
