"""Forward passes and hand-derived vector-Jacobian products as ONNX nodes.

ONNX Runtime has no autograd. In eval mode every layer's product is short: a convolution's is the
transposed convolution with the same weight and the reverse, an activation's is a mask (LeakyReLU) or
1 - tanh^2, a norm's is the gradient without its mean and its share along the output. `torch.func.vjp` is the
oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anogan.errors import ExportError
from anogan.export.graph import FLOAT, FLOAT16, Graph
from anogan.export.layers import (
    Attention,
    Beside,
    Convolution,
    GroupNorm,
    Layer,
    Leaky,
    MaxPool,
    Residual,
    Tanh,
    Upsample,
)
from anogan.scoring.smooth import ACTIVATION_STEEPNESS


def forward(g: Graph, layers: Sequence[Layer], x: str) -> list[str]:
    """The input and every layer's output, (N, C, H, W) each; the last one is the network's output."""
    values = [x]
    for layer in layers:
        values.append(_forward(g, layer, values[-1]))
    return values


def backward(
    g: Graph, layers: Sequence[Layer], values: Sequence[str], gradient: str, *, smooth: bool = False
) -> str:
    """The gradient at the input from the gradient at the output.

    Args:
        g: Where to write.
        layers: The layers of the forward pass.
        values: What `forward` returned for them.
        gradient: (N, C, H, W) of the output.
        smooth: Whether activations have the slopes of `anogan.scoring.smooth`.

    Returns:
        The name of the gradient, (N, C, H, W) of the input.
    """
    for layer, x, output in reversed(list(zip(layers, values[:-1], values[1:], strict=True))):
        if smooth and isinstance(layer, Leaky):
            gradient = _ramped(g, layer.slope, output, gradient)
        else:
            gradient = _backward(g, layer, x, output, gradient)
    return gradient


def _forward(g: Graph, layer: Layer, x: str) -> str:
    match layer:
        case Convolution():
            kind = "ConvTranspose" if layer.transposed else "Conv"
            return _convolve(g, kind, layer, x, g.weight(layer.bias))
        case Leaky():
            return g.op("LeakyRelu", x, alpha=layer.slope) if layer.slope else g.op("Relu", x)
        case Tanh():
            return g.op("Tanh", x)
        case Upsample():
            return enlarge(g, x, layer.factor)
        case GroupNorm():
            standard, _ = _standardised(g, layer, x)
            scaled = g.op("Mul", _as_shaped(g, standard, x), _per_channel(g, layer.gain))
            return g.op("Add", scaled, _per_channel(g, layer.shift))
        case Attention():
            _, _, value, weights = _attended(g, layer, x)
            mixed = g.op("MatMul", value, _turned(g, weights))
            return g.op("Add", x, g.op("Mul", _as_shaped(g, mixed, x), g.f32(layer.gamma)))
        case MaxPool():
            return g.op("MaxPool", x, **_window(layer))
        case Residual():
            return g.op("Add", *(values[-1] for values in _branches(g, layer, x)))
        case Beside():
            return g.op("Concat", x, _inside(g, layer, x)[-1], axis=1)


def _backward(g: Graph, layer: Layer, x: str, output: str, gradient: str) -> str:
    match layer:
        case Convolution():
            kind = "Conv" if layer.transposed else "ConvTranspose"
            return _convolve(g, kind, layer, gradient, **_lost_pixels(layer))
        case Leaky():
            # The output has the input's sign; at 0 PyTorch takes the slope as well.
            below = g.op("Mul", gradient, g.f32(layer.slope)) if layer.slope else g.f32(0)
            return g.op("Where", g.op("Greater", output, g.f32(0)), gradient, below)
        case Tanh():
            return g.op("Mul", gradient, g.op("Sub", g.f32(1), g.op("Mul", output, output)))
        case Upsample():
            side = layer.factor
            mean = g.op("AveragePool", gradient, kernel_shape=[side, side], strides=[side, side])
            return g.op("Mul", mean, g.f32(side * side))
        case GroupNorm():
            return _group_norm_product(g, layer, x, gradient)
        case Attention():
            return _attention_product(g, layer, x, gradient)
        case MaxPool():
            return _max_pool_product(g, layer, x, gradient)
        case Residual():
            ways = zip((layer.body, layer.shortcut), _branches(g, layer, x), strict=True)
            return g.op("Add", *(backward(g, way, values, gradient) for way, values in ways))
        case Beside():
            return _beside_product(g, layer, x, gradient)


def _branches(g: Graph, layer: Residual, x: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `forward` returns for the body and for the shortcut."""
    body = g.once((layer, "body", x), lambda g: tuple(forward(g, layer.body, x)))
    return body, g.once((layer, "shortcut", x), lambda g: tuple(forward(g, layer.shortcut, x)))


def _max_pool_product(g: Graph, layer: MaxPool, x: str, gradient: str) -> str:
    """Each window's gradient goes to the first of its greatest values; windows overlap."""
    greatest = g.ops("MaxPool", 2, x, **_window(layer))[1]
    flat = g.i64([-1])
    nothing = g.op("Mul", g.op("Reshape", x, flat), g.f32(0))
    places, parts = g.op("Reshape", greatest, flat), g.op("Reshape", gradient, flat)
    return _as_shaped(g, g.op("ScatterElements", nothing, places, parts, axis=0, reduction="add"), x)


def _inside(g: Graph, layer: Beside, x: str) -> tuple[str, ...]:
    return g.once((layer, x), lambda g: tuple(forward(g, layer.inner, x)))


def _beside_product(g: Graph, layer: Beside, x: str, gradient: str) -> str:
    channels, axis = g.op("Shape", x, start=1, end=2), g.i64([1])
    direct = g.op("Slice", gradient, g.i64([0]), channels, axis)
    through = g.op("Slice", gradient, channels, g.i64([2**31 - 1]), axis)
    return g.op("Add", direct, backward(g, layer.inner, _inside(g, layer, x), through))


def _ramped(g: Graph, slope: float, output: str, gradient: str) -> str:
    """The product with a slope that has no jump at 0; see `anogan.scoring.smooth`."""
    share = g.op("Clip", g.op("Mul", output, g.f32(ACTIVATION_STEEPNESS)), g.f32(0), g.f32(1))
    if slope:
        share = g.op("Add", g.op("Mul", share, g.f32(1 - slope)), g.f32(slope))
    return g.op("Mul", gradient, share)


def _standardised(g: Graph, layer: GroupNorm, x: str) -> tuple[str, ...]:
    """(N, groups, -1) at mean 0 and variance 1, and the deviation (N, groups, 1) that it was divided by."""

    def write(g: Graph) -> tuple[str, ...]:
        rows = _in_groups(g, layer, x)
        centred = g.op("Sub", rows, _row_mean(g, rows))
        variance = _row_mean(g, g.op("Mul", centred, centred))
        deviation = g.op("Sqrt", g.op("Add", variance, g.f32(layer.eps)))
        return g.op("Div", centred, deviation), deviation

    return g.once((layer, x), write)


def _group_norm_product(g: Graph, layer: GroupNorm, x: str, gradient: str) -> str:
    """(w - mean(w) - s mean(w s)) / deviation, where w = gain * gradient and s is what was scaled by gain."""
    standard, deviation = _standardised(g, layer, x)
    w = _in_groups(g, layer, g.op("Mul", gradient, _per_channel(g, layer.gain)))
    along = g.op("Mul", standard, _row_mean(g, g.op("Mul", w, standard)))
    across = g.op("Sub", g.op("Sub", w, _row_mean(g, w)), along)
    return _as_shaped(g, g.op("Div", across, deviation), x)


def _in_groups(g: Graph, layer: GroupNorm, x: str) -> str:
    return g.op("Reshape", x, g.i64([0, layer.groups, -1]))


def _row_mean(g: Graph, rows: str) -> str:
    return g.op("ReduceMean", rows, g.i64([2]), keepdims=1)


def _attended(g: Graph, layer: Attention, x: str) -> tuple[str, ...]:
    """Query, key (N, inner, S), value (N, C, S) and the weights (N, S, S): a row says where a place looks."""

    def write(g: Graph) -> tuple[str, ...]:
        query, key, value = (_in_one_row(g, _forward(g, c, x)) for c in (layer.query, layer.key, layer.value))
        weights = g.op("Softmax", g.op("MatMul", _turned(g, query), key), axis=2)
        return query, key, value, weights

    return g.once((layer, x), write)


def _attention_product(g: Graph, layer: Attention, x: str, gradient: str) -> str:
    """Of x + gamma value softmax(query^T key)^T; that of a row s of a softmax is s (w - sum(w s))."""
    query, key, value, weights = _attended(g, layer, x)
    mixed = _in_one_row(g, g.op("Mul", gradient, g.f32(layer.gamma)))
    w = g.op("MatMul", _turned(g, mixed), value)
    share = g.op("ReduceSum", g.op("Mul", w, weights), g.i64([2]), keepdims=1)
    logits = g.op("Mul", weights, g.op("Sub", w, share))
    parts = [
        (layer.query, g.op("MatMul", key, _turned(g, logits))),
        (layer.key, g.op("MatMul", query, logits)),
        (layer.value, g.op("MatMul", mixed, weights)),
    ]
    # 1 x 1 convolutions: every part has x's positions, and its own channels.
    ways = [_convolve(g, "ConvTranspose", c, _at_places(g, part, c, x)) for c, part in parts]
    return g.op("Sum", gradient, *ways)


def _at_places(g: Graph, rows: str, layer: Convolution, x: str) -> str:
    channels, sides = g.i64([0, layer.weight.shape[0]]), g.op("Shape", x, start=2)
    return g.op("Reshape", rows, g.op("Concat", channels, sides, axis=0))


def _in_one_row(g: Graph, x: str) -> str:
    """(N, C, H, W) -> (N, C, H W)."""
    return g.op("Reshape", x, g.i64([0, 0, -1]))


def _turned(g: Graph, rows: str) -> str:
    return g.op("Transpose", rows, perm=[0, 2, 1])


def _as_shaped(g: Graph, rows: str, x: str) -> str:
    return g.op("Reshape", rows, g.op("Shape", x))


def _per_channel(g: Graph, values: NDArray[np.float32]) -> str:
    return g.f32(values.reshape(-1, 1, 1))


def _convolve(g: Graph, kind: str, layer: Convolution, x: str, *bias: str, **more: list[int]) -> str:
    """A convolution of either kind; in half precision between casts when the graph says so."""
    weight = g.weight(layer.weight)
    if g.precision != "mixed":
        return g.op(kind, x, weight, *bias, **_attributes(layer), **more)
    return g.cast(g.op(kind, g.cast(x, FLOAT16), weight, *bias, **_attributes(layer), **more), FLOAT)


def _lost_pixels(layer: Convolution) -> dict[str, list[int]]:
    """What a convolution's transpose must add: the last pixels, which a stride may leave out.

    Sides are powers of two, so a stride that divides one leaves the same number at every size.
    """
    kernel = layer.dilation * (layer.weight.shape[2] - 1) + 1
    lost = 0 if layer.transposed else (2 * layer.padding - kernel) % layer.stride
    if lost and layer.stride & (layer.stride - 1):
        raise ExportError(
            f"A convolution of kernel {kernel}, stride {layer.stride} and padding {layer.padding} does not "
            "use every pixel of its input; the export has no gradient for it. Score this model with PyTorch."
        )
    return {"output_padding": [lost] * 2} if lost else {}


def _window(layer: MaxPool) -> dict[str, list[int]]:
    return {
        "kernel_shape": [layer.kernel] * 2,
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
    }


def enlarge(g: Graph, x: str, factor: int) -> str:
    """Each pixel of (N, C, H, W) repeated `factor` times along both axes."""
    if factor == 1:
        return x
    return g.op(
        "Resize",
        x,
        "",
        g.f32([1, 1, factor, factor]),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _attributes(layer: Convolution) -> dict[str, list[int]]:
    kernel = list(layer.weight.shape[2:])
    return {
        "kernel_shape": kernel,
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
        "dilations": [layer.dilation] * 2,
    }
