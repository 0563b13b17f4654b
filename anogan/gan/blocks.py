"""Layers that networks may hold beside convolutions, batch norms and pointwise activations.

None of them is part of the default networks. The first group is used in training only and never reaches a
saved model (see `networks.for_scoring`); the second group stays, and exports.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.gan import ranks

MINIBATCH_KERNELS, MINIBATCH_KERNEL_DIM = 16, 8


class MinibatchStddev(nn.Module):
    """Appends one feature: the standard deviation over the batch, averaged over all features.

    D then sees when all images of a batch are alike (Karras et al. 2018, arXiv:1710.10196, section 3).
    (N, C, ...) -> (N, C + 1, ...).
    """

    extra_features = 1

    def forward(self, x: Tensor) -> Tensor:
        """Appends the same value to every sample."""
        variance, mean = torch.var_mean(x.float(), dim=0, unbiased=False)
        spread = (ranks.pooled(mean, variance)[1] + 1e-8).sqrt().mean()
        return torch.cat([x, spread.to(x.dtype).expand(x.shape[0], 1, *x.shape[2:])], dim=1)


class MinibatchDiscrimination(nn.Module):
    """Appends how close each sample is to the others of its batch, in learned directions.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.2: o(x_i)_b = sum_j exp(-|M_i,b - M_j,b|_1), here over
    j != i. (N, C, ...) -> (N, C + 16, ...).

    Args:
        features: Size of one sample's flattened input.
    """

    extra_features = MINIBATCH_KERNELS

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(features, MINIBATCH_KERNELS * MINIBATCH_KERNEL_DIM) * features**-0.5
        )

    def forward(self, x: Tensor) -> Tensor:
        """Appends the sums as constant feature maps."""
        directions = x.flatten(1) @ self.weight.to(x.dtype)
        rows = directions.float().unflatten(1, (MINIBATCH_KERNELS, MINIBATCH_KERNEL_DIM))
        # One kernel at a time: all at once would leave the processor's cache at large batches. Samples last:
        # a sum over an inner axis of 8 takes twice as long.
        ours, everyone = (
            samples.permute(1, 2, 0).contiguous() for samples in (rows, ranks.gather(rows).flatten(0, 1))
        )
        closeness = torch.stack(
            [
                (-(m[:, :, None] - others[:, None]).abs().sum(dim=0)).exp().sum(dim=1) - 1
                for m, others in zip(ours, everyone, strict=True)
            ],
            dim=1,
        )
        shaped = closeness.to(x.dtype).reshape(*closeness.shape, *[1] * (x.ndim - 2))
        return torch.cat([x, shaped.expand(-1, -1, *x.shape[2:])], dim=1)


class SelfAttention(nn.Module):
    """x + gamma * attention(x) over all positions, gamma from 0 (Zhang 2019, arXiv:1805.08318, eq. 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query = nn.Conv2d(channels, inner, kernel_size=1)
        self.key = nn.Conv2d(channels, inner, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gamma * mixed.transpose(1, 2).reshape(x.shape)


def norm_layer(kind: str, channels: int) -> list[nn.Module]:
    """`batch`, `layer` (over channels and positions of one sample), `group` (8 groups at most) or `none`."""
    if kind == "none":
        return []
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    groups = 1 if kind == "layer" else next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return [nn.GroupNorm(groups, channels)]


def minibatch_layer(kind: str, features: int) -> list[nn.Module]:
    """`none`, `stddev` or `discrimination`, for samples of `features` values."""
    if kind == "none":
        return []
    return [MinibatchStddev() if kind == "stddev" else MinibatchDiscrimination(features)]
