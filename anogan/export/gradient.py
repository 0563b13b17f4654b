"""Forward passes and hand-derived vector-Jacobian products as ONNX nodes.

ONNX Runtime has no autograd. In eval mode every layer's product is short: a convolution's is the
transposed convolution with the same weight and the reverse, an activation's is a mask (LeakyReLU) or
1 - tanh^2. `torch.func.vjp` is the oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

from anogan.errors import ExportError
from anogan.export.graph import FLOAT, FLOAT16, Graph
from anogan.export.layers import Convolution, Layer, Leaky, Tanh, Upsample


def forward(g: Graph, layers: Sequence[Layer], x: str) -> list[str]:
    """The input and every layer's output, (N, C, H, W) each; the last one is the network's output."""
    values = [x]
    for layer in layers:
        values.append(_forward(g, layer, values[-1]))
    return values


def backward(g: Graph, layers: Sequence[Layer], values: Sequence[str], gradient: str) -> str:
    """The gradient at the input from the gradient at the output.

    Args:
        g: Where to write.
        layers: The layers of the forward pass.
        values: What `forward` returned for them.
        gradient: (N, C, H, W) of the output.

    Returns:
        The name of the gradient, (N, C, H, W) of the input.
    """
    for layer, output in zip(reversed(layers), reversed(values), strict=False):
        gradient = _backward(g, layer, output, gradient)
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


def _backward(g: Graph, layer: Layer, output: str, gradient: str) -> str:
    match layer:
        case Convolution():
            kind = "Conv" if layer.transposed else "ConvTranspose"
            _refuse_lost_pixels(layer)
            return _convolve(g, kind, layer, gradient)
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


def _convolve(g: Graph, kind: str, layer: Convolution, x: str, *bias: str) -> str:
    """A convolution of either kind; in half precision between casts when the graph says so."""
    weight = g.weight(layer.weight)
    if g.precision != "mixed":
        return g.op(kind, x, weight, *bias, **_attributes(layer))
    return g.cast(g.op(kind, g.cast(x, FLOAT16), weight, *bias, **_attributes(layer)), FLOAT)


def _refuse_lost_pixels(layer: Convolution) -> None:
    """Sides are powers of two, so a stride that leaves pixels over does so at every size."""
    kernel = layer.dilation * (layer.weight.shape[2] - 1) + 1
    if not layer.transposed and (2 * layer.padding - kernel) % layer.stride:
        raise ExportError(
            f"A convolution of kernel {kernel}, stride {layer.stride} and padding {layer.padding} does not "
            "use every pixel of its input; the export has no gradient for it. Score this model with PyTorch."
        )


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
