"""How much arithmetic a network is."""

from __future__ import annotations

from collections.abc import Sequence

from anogan.export.layers import Attention, Convolution, Layer, MaxPool, Residual, Upsample


def multiply_adds(layers: Sequence[Layer], side: int) -> int:
    """Multiply-adds of all convolutions and attentions for one square input.

    Args:
        layers: The network.
        side: Side of its input, pixels; 1 for a latent vector.
    """
    return _count(layers, side)[0]


def _count(layers: Sequence[Layer], side: int) -> tuple[int, int]:
    """Multiply-adds, and the side of the output."""
    total = 0
    for layer in layers:
        if isinstance(layer, Upsample):
            side *= layer.factor
        elif isinstance(layer, MaxPool):
            side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
        elif isinstance(layer, Residual):
            total += _count(layer.shortcut, side)[0]
            own, side = _count(layer.body, side)
            total += own
        elif isinstance(layer, Attention):
            inner, channels = layer.query.weight.shape[:2]
            maps = (2 * inner + channels) * channels * side**2
            total += maps + (inner + channels) * side**4
        elif isinstance(layer, Convolution):
            kernel = layer.dilation * (layer.weight.shape[2] - 1) + 1
            before = side
            if layer.transposed:
                side = (side - 1) * layer.stride - 2 * layer.padding + kernel
            else:
                side = (side + 2 * layer.padding - kernel) // layer.stride + 1
            # A transposed convolution touches each input pixel with each weight, the other each output pixel.
            places = before if layer.transposed else side
            total += layer.weight.size * places * places
    return total, side
