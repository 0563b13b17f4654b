"""A trained network as a list of plain layers, batch norm folded into the convolutions.

What the ONNX graph is written from. Only the layers that the package's networks are made of are known;
anything else is refused by name, because each needs its own vector-Jacobian product.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anogan.errors import ExportError
from anogan.gan.blocks import SelfAttention
from anogan.scoring.head_network import Skip

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution or transposed convolution with bias.

    Attributes:
        weight: (out, in, k, k), or (in, out, k, k) when `transposed`.
        bias: (out,).
        stride: Pixels, both axes.
        padding: Pixels at each edge, both axes.
        dilation: Both axes; 1 when `transposed`.
        transposed: A `ConvTranspose2d`.
    """

    weight: Array
    bias: Array
    stride: int
    padding: int
    dilation: int
    transposed: bool


@dataclass(frozen=True)
class Leaky:
    """max(x, slope * x); ReLU for slope 0."""

    slope: float


@dataclass(frozen=True)
class Tanh:
    """Hyperbolic tangent."""


@dataclass(frozen=True)
class Upsample:
    """Each pixel repeated `factor` times along both axes."""

    factor: int


@dataclass(frozen=True, eq=False)
class GroupNorm:
    """A sample's groups of channels at mean 0 and variance 1, then scaled (Wu 2018, arXiv:1803.08494).

    Layer norm over channels and positions is the same with one group.

    Attributes:
        groups: Equal parts of the channels.
        gain: (C,).
        shift: (C,).
        eps: Added to the variance.
    """

    groups: int
    gain: Array
    shift: Array
    eps: float


@dataclass(frozen=True, eq=False)
class Attention:
    """x + gamma * attention(x) over all positions (Zhang 2019, arXiv:1805.08318, eq. 3).

    Attributes:
        query: 1 x 1, C -> inner channels.
        key: 1 x 1, C -> inner channels.
        value: 1 x 1, C -> C.
        gamma: Share of what is attended to.
    """

    query: Convolution
    key: Convolution
    value: Convolution
    gamma: float


@dataclass(frozen=True)
class MaxPool:
    """The greatest of each window, nothing counted outside the input."""

    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True, eq=False)
class Residual:
    """body(x) + shortcut(x) (He 2016, arXiv:1512.03385); an empty shortcut is x itself."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class Beside:
    """[x, inner(x)] along the channels, a U-Net's skip connection."""

    inner: tuple[Layer, ...]


Layer = Convolution | Leaky | Tanh | Upsample | GroupNorm | Attention | MaxPool | Residual | Beside


def fold(network: Iterable[nn.Module], name: str) -> tuple[Layer, ...]:
    """The layers of a network in eval mode.

    Batch norm is folded in float64. Dropout and identity do nothing at inference and are left out.

    Args:
        network: Modules that are applied in turn, such as an `nn.Sequential`.
        name: What error messages call it.

    Raises:
        ExportError: A layer has no counterpart here.
    """
    layers: list[Layer] = []
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            if not layers or not isinstance(layers[-1], Convolution):
                raise ExportError(
                    f"The {name} has a batch norm that follows no convolution; the export folds one into the "
                    "convolution before it. Train with another architecture to export."
                )
            layers[-1] = _with_batch_norm(layers[-1], module)
        elif not isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
            layers.append(_layer(module, name))
    return tuple(layers)


def _layer(module: nn.Module, name: str) -> Layer:
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            return _convolution(module, name)
        case nn.ReLU():
            return Leaky(0.0)
        case nn.LeakyReLU():
            return Leaky(float(module.negative_slope))
        case nn.Tanh():
            return Tanh()
        case Skip():
            return Beside(fold(module.inner, name))
        case nn.Upsample(scale_factor=float(factor)) if module.mode == "nearest" and factor.is_integer():
            return Upsample(int(factor))
        case nn.GroupNorm():
            return _group_norm(module)
        case SelfAttention():
            query, key, value = (_convolution(c, name) for c in (module.query, module.key, module.value))
            return Attention(query, key, value, float(module.gamma.detach()))
    raise ExportError(
        f"The {name} has a {type(module).__name__} layer, for which the export knows no gradient; it knows "
        "convolutions, batch, group and layer norm, self-attention, ReLU, LeakyReLU, Tanh and nearest "
        "upsampling: score it with PyTorch."
    )


def _convolution(module: nn.Conv2d | nn.ConvTranspose2d, name: str) -> Convolution:
    transposed = isinstance(module, nn.ConvTranspose2d)
    square = all(
        len({int(side) for side in pair}) == 1
        for pair in (module.stride, module.padding, module.dilation, module.kernel_size)
    )
    plain = module.groups == 1 and module.padding_mode == "zeros" and not any(module.output_padding)
    if not square or not plain or (transposed and module.dilation[0] != 1):
        raise ExportError(
            f"The {name} has a convolution with groups, uneven sides or another padding than zeros "
            f"({module}); the export knows plain square ones. Score this model with PyTorch."
        )
    outputs = module.out_channels
    bias = torch.zeros(outputs) if module.bias is None else module.bias
    return Convolution(
        weight=_array(module.weight),  # With spectral norm this is the normalised weight.
        bias=_array(bias),
        stride=int(module.stride[0]),
        padding=int(module.padding[0]),
        dilation=int(module.dilation[0]),
        transposed=transposed,
    )


def _with_batch_norm(layer: Convolution, norm: nn.BatchNorm2d) -> Convolution:
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError("A batch norm keeps no running statistics, so it has no meaning for one image.")
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gain = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    scale = (gain / (variance + norm.eps).sqrt()).detach().cpu().numpy()
    offset = shift.detach().cpu().numpy() - mean.cpu().numpy() * scale
    along_outputs = (1, -1, 1, 1) if layer.transposed else (-1, 1, 1, 1)
    return Convolution(
        weight=np.asarray(layer.weight * scale.reshape(along_outputs), np.float32),
        bias=np.asarray(layer.bias * scale + offset, np.float32),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        transposed=layer.transposed,
    )


def _group_norm(module: nn.GroupNorm) -> GroupNorm:
    ones = torch.ones(module.num_channels)
    return GroupNorm(
        groups=module.num_groups,
        gain=_array(ones if module.weight is None else module.weight),
        shift=_array(ones * 0 if module.bias is None else module.bias),
        eps=module.eps,
    )


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
