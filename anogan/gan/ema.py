"""Exponential moving average of a network's weights, buffers included."""

from __future__ import annotations

import copy
from collections.abc import Iterable

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


@torch.no_grad()
def recalibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets batch-norm statistics to the plain average over `batches` of inputs.

    Args:
        network: Changed in place; left in the mode it came in.
        batches: Input batches.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # A cumulative average.
    network.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)
