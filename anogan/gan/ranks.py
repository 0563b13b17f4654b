"""What several processes that train one model ("ranks") share, and how they agree.

Everything is defined on the global batch, which one process alone would draw. Rank r of n works on its blocks
r, r + n, r + 2n, ..., so that a prefix of a rank's share is its share of a prefix. A loss that is a mean over
samples needs no exchange: the mean of the ranks' gradients is the gradient of the global mean. What looks
across the batch in another way goes through `mean`, `total` or `gather`.

With one process, and inside `alone`, every function here does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function

T = TypeVar("T")


@dataclass(frozen=True)
class _Group:
    index: int = 0
    count: int = 1
    block: int = 1
    fabric: Any = None


_group = _Group()


@contextmanager
def joined(fabric: Any, block: int) -> Iterator[None]:
    """This process is one of a launched `lightning_fabric.Fabric` while the context is open.

    Args:
        fabric: Its process group is what the functions below talk through.
        block: Neighbouring samples that stay on one rank, as `gan.packing` asks for.
    """
    global _group
    before, _group = _group, _Group(fabric.global_rank, fabric.world_size, block, fabric)
    try:
        yield
    finally:
        _group = before


@contextmanager
def alone() -> Iterator[None]:
    """What runs inside is whole on this rank, for work that one rank does or that all repeat."""
    global _group
    before, _group = _group, replace(_Group(), index=_group.index)
    try:
        yield
    finally:
        _group = before


def count() -> int:
    """How many ranks share a batch."""
    return _group.count


def is_first() -> bool:
    """Whether this rank is the one that writes, logs and talks."""
    return _group.index == 0


def own(x: Tensor, block: int | None = None) -> Tensor:
    """This rank's share of a global batch, (N, ...) -> (N / ranks, ...)."""
    n, block = _group.count, block or _group.block
    if n == 1:
        return x
    blocks: Tensor = x.unflatten(0, (-1, n, block))
    return blocks[:, _group.index].flatten(0, 1)


def own_rows(draw: Callable[[int], Tensor], n: int, block: int | None = None) -> Tensor:
    """This rank's n rows of a random draw for the batch of all ranks.

    Args:
        draw: Gives that many rows, (N, ...), the same on each rank.
        n: Rows of this rank.
        block: As for `own`; 1 where a row is a whole pack.
    """
    return own(draw(n * _group.count), block)


class _Total(Function):
    """Sum over ranks; so is its gradient, which makes it differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient)


def total(x: Tensor) -> Tensor:
    """Sum over ranks, the same on each; gradients flow to every rank's share."""
    if _group.count == 1:
        return x
    out = _Total.apply(x)
    assert isinstance(out, Tensor)
    return out


def mean(x: Tensor) -> Tensor:
    """Mean over ranks; of a mean over this rank's share, that is the mean over the global batch."""
    return total(x) / _group.count if _group.count > 1 else x


def gather(x: Tensor) -> Tensor:
    """The shares of all ranks, (ranks, *x.shape), in the order of the ranks."""
    if _group.count == 1:
        return x[None]
    zeros = x.new_zeros(x.shape)
    return total(torch.stack([x if rank == _group.index else zeros for rank in range(_group.count)]))


def pooled(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over the global batch, from those over this rank's share.

    Mean variance plus variance of the means (Chan et al. 1983), without the cancellation of E[x^2] - E[x]^2.
    """
    if _group.count == 1:
        return mean, variance
    means, variances = gather(torch.stack([mean, variance])).unbind(1)
    mean = means.mean(dim=0)
    return mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0)


@torch.no_grad()
def average_gradients(*modules: nn.Module) -> None:
    """Replaces each parameter's gradient by its mean over ranks, in one exchange.

    Lightning's DDP wrapper would do so on its own, but only for a network that is called once, as a whole,
    per backward pass; D is read layer by layer here, and penalties differentiate twice.
    """
    if _group.count == 1:
        return
    gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    flat = mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


def agreed(value: T) -> T:
    """The first rank's value, on every rank."""
    if _group.count == 1:
        return value
    shared: T = _group.fabric.broadcast(value, src=0)
    return shared


def wait() -> None:
    """Returns when every rank has come here."""
    if _group.count > 1:
        _group.fabric.barrier()
