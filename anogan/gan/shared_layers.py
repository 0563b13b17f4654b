"""Layers of a network whose batch lies on several ranks: they act as on the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.gan import ranks


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of the global batch, on any device.

    torch's SyncBatchNorm runs on CUDA only and cannot be differentiated twice, which gradient penalties do.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; as `nn.BatchNorm2d` in eval mode or with one rank."""
        if not self.training or ranks.count() == 1:
            return super().forward(x)
        values = x.float()
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), unbiased=False)
        mean, variance = ranks.pooled(mean, variance)
        self._follow(mean.detach(), variance.detach(), values.numel() // values.shape[1] * ranks.count())
        gain = (variance + self.eps).rsqrt() * self.weight
        out = values * gain[:, None, None] + (self.bias - mean * gain)[:, None, None]
        return out.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Moves the running statistics, as `nn.BatchNorm2d` does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * n / max(1, n - 1), self.momentum)


class SharedDropout2d(nn.Dropout2d):
    """Dropout whose mask is drawn for the global batch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not self.training or ranks.count() == 1:
            return super().forward(x)
        ones = torch.ones(1, device=x.device, dtype=x.dtype)
        # Block 1: dropout comes after packing, where a row is a pack.
        mask = ranks.own_rows(lambda n: F.dropout2d(ones.expand(n, x.shape[1], 1, 1), self.p), len(x), 1)
        return x * mask


def share_layers(network: nn.Module) -> None:
    """Puts the layers above in the place of torch's where there are several ranks; changes `network`."""
    if ranks.count() == 1:
        return
    for name, layer in network.named_children():
        if type(layer) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine)
            shared.load_state_dict(layer.state_dict())
            setattr(network, name, shared)
        elif type(layer) is nn.Dropout2d:
            setattr(network, name, SharedDropout2d(layer.p))
        else:
            share_layers(layer)
