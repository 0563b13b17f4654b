"""Copies of networks: the exponential moving average, and the best state so far; buffers included."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


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


class BestState(nn.Module):
    """A copy of networks as they were at the best look; each checkpoint holds it, for a resumed run."""

    taken: Tensor

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._copies = nn.ModuleDict(copy.deepcopy(dict(networks)))
        self.register_buffer("taken", torch.zeros((), dtype=torch.bool))

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """Copies the networks."""
        for name, network in networks.items():
            self._copies[name].load_state_dict(network.state_dict())
        self.taken.fill_(True)

    def networks(self) -> dict[str, nn.Module] | None:
        """What was copied last, if anything."""
        return dict(self._copies.items()) if self.taken else None
