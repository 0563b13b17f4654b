"""The memory of the head's false alarms as ONNX nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anogan.export.gradient import enlarge
from anogan.export.graph import Graph
from anogan.scoring.memory import AROUND, FAINTEST, GROUP, STRIDE, Memory, margin


def weakened(g: Graph, memory: Memory, image: str, logits: str) -> str:
    """`Memory.forward` of (N, C, t, t) and (N, 1, t, t).

    In single precision whatever the networks': a small distance is the difference of large numbers.
    """
    strongest = g.op("ReduceMax", logits, g.i64([1, 2, 3]), keepdims=0)
    alarmed = g.op("NonZero", g.op("Greater", strongest, g.f32(memory.alarm)))
    # Most tiles have nothing to compare. The first one always is: not every runtime takes a batch of none.
    these = g.op("Concat", g.i64([0]), g.op("Reshape", alarmed, g.i64([-1])), axis=0)
    weaker = _weakened(g, memory, g.op("Gather", image, these), g.op("Gather", logits, these))
    return g.op("ScatterND", logits, g.op("Unsqueeze", these, g.i64([1])), weaker)


def _weakened(g: Graph, memory: Memory, image: str, logits: str) -> str:
    alarms = g.op("MaxPool", logits, kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2)
    compared = g.op("Greater", _around(g, alarms), g.f32(memory.alarm))
    # Nearest of the windows around: MaxPool of the negative.
    near = _around(g, g.op("Neg", _squared_distance(g, memory, image, compared)))
    unlike = g.op("Sub", g.f32(1), g.op("Exp", g.op("Div", near, g.f32(2 * np.square(_array(memory.reach))))))
    above = g.op("Relu", g.op("Sub", logits, g.f32(memory.alarm)))
    weaker = g.op("Mul", above, enlarge(g, unlike, STRIDE))
    return g.op("Add", g.op("Min", logits, g.f32(memory.alarm)), weaker)


def _around(g: Graph, cells: str) -> str:
    return g.op("MaxPool", cells, kernel_shape=[2 * AROUND + 1] * 2, pads=[AROUND] * 4)


def _squared_distance(g: Graph, memory: Memory, image: str, compared: str) -> str:
    """Where it is to be compared; 0 elsewhere."""
    kernels, patches = _array(memory.kernels), _array(memory.patches)
    aside = margin(kernels.shape[-1])
    padded = g.op("Pad", image, g.i64([0, 0, aside, aside] * 2), mode="reflect")
    offsets = _array(memory.offsets)
    if memory.pattern:
        found = g.op("Conv", padded, g.f32(kernels), strides=[STRIDE, STRIDE])
        found = g.op("Div", found, _deviation(g, memory, padded))
        found = g.op("Add", found, g.f32(offsets[:, None, None]))
    else:
        found = g.op("Conv", padded, g.f32(kernels), g.f32(offsets), strides=[STRIDE, STRIDE])
    last = g.op("Transpose", found, perm=[0, 2, 3, 1])
    every = g.op("Reshape", last, g.i64([-1, len(kernels)]))
    wanted = g.op("NonZero", g.op("Reshape", compared, g.i64([-1])))
    # The first window always: not every runtime takes a batch of none.
    these = g.op("Concat", g.i64([0]), g.op("Reshape", wanted, g.i64([-1])), axis=0)
    nearest = _nearest(g, patches, g.op("Gather", every, these))
    nowhere = g.op("ConstantOfShape", g.op("Shape", every, start=0, end=1))
    distance = g.op("ScatterND", nowhere, g.op("Unsqueeze", these, g.i64([1])), nearest)
    shape = g.op("Concat", g.i64([-1, 1]), g.op("Shape", found, start=2), axis=0)
    return g.op("Reshape", distance, shape)


def _nearest(g: Graph, patches: NDArray[np.float32], codes: str) -> str:
    """The squared distance of each of (R, D) to the nearest patch, (R,)."""
    nearest = ""
    for start in range(0, len(patches), GROUP):
        group = patches[start : start + GROUP]
        closest = g.op("Gemm", codes, g.f32(2 * group.T), g.f32(-(group**2).sum(axis=1)))
        closest = g.op("ReduceMax", closest, g.i64([1]), keepdims=0)
        nearest = g.op("Max", nearest, closest) if nearest else closest
    squares = g.op("ReduceSum", g.op("Mul", codes, codes), g.i64([1]), keepdims=0)
    return g.op("Relu", g.op("Sub", squares, nearest))


def _deviation(g: Graph, memory: Memory, image: str) -> str:
    average = g.f32(_array(memory.average))
    mean = g.op("Conv", image, average, strides=[STRIDE, STRIDE])
    square = g.op("Conv", g.op("Mul", image, image), average, strides=[STRIDE, STRIDE])
    variance = g.op("Relu", g.op("Sub", square, g.op("Mul", mean, mean)))
    return g.op("Sqrt", g.op("Add", variance, g.f32(FAINTEST**2)))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.cpu().numpy(), np.float32)
