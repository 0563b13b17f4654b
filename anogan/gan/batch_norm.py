"""Batch norm outside of training: by which statistics a network acts.

The running statistics lag behind the weights and remember some tens of tiles, which is little where light
or parts vary from photograph to photograph.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anogan.gan.tiles import TileSource

BATCHES = 20  # So many make the statistics that scoring uses.
FIRST_BATCH = 10_000_000  # The first of them, as a step of the data: no training gets there.


def statistics_tiles(source: TileSource, n: int, device: torch.device) -> list[Tensor]:
    """Batches of n training tiles to measure statistics on, other ones than any step of training draws."""
    return [source.batch(step, n).to(device) for step in range(FIRST_BATCH, FIRST_BATCH + BATCHES)]


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


def fix_batch_norm(network: nn.Module) -> None:
    """Leaves a network in training, but with its running statistics, which nothing changes any more."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def batch_statistics(network: nn.Module, x: Tensor) -> Tensor:
    """Output with batch norm by this batch as in training, dropout off; no buffer of the network changes."""
    was_training = network.training
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    output = functional_call(network, buffers, (x,))
    network.train(was_training)
    assert isinstance(output, Tensor)
    return output
