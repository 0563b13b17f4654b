"""The memory of the head's false alarms as ONNX nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anogan.export.gradient import enlarge
from anogan.export.graph import Graph
from anogan.scoring.memory import ALARM, AROUND, GROUP, STRIDE, Memory


def weakened(g: Graph, memory: Memory, image: str, logits: str) -> str:
    """`Memory.forward` of (N, C, t, t) and (N, 1, t, t).

    In single precision whatever the networks': a small distance is the difference of large numbers.
    """
    # Nearest of the windows around: MaxPool of the negative.
    pool = {"kernel_shape": [2 * AROUND + 1] * 2, "pads": [AROUND] * 4}
    near = g.op("MaxPool", g.op("Neg", _squared_distance(g, memory, image)), **pool)
    unlike = g.op("Sub", g.f32(1), g.op("Exp", g.op("Div", near, g.f32(2 * np.square(_array(memory.reach))))))
    above = g.op("Relu", g.op("Sub", logits, g.f32(ALARM)))
    return g.op("Add", g.op("Min", logits, g.f32(ALARM)), g.op("Mul", above, enlarge(g, unlike, STRIDE)))


def _squared_distance(g: Graph, memory: Memory, image: str) -> str:
    kernels, patches = _array(memory.kernels), _array(memory.patches)
    aside = kernels.shape[-1] // 2 - STRIDE // 2
    padded = g.op("Pad", image, g.i64([0, 0, aside, aside] * 2), mode="reflect")
    offsets = g.f32(_array(memory.offsets))
    found = g.op("Conv", padded, g.f32(kernels), offsets, strides=[STRIDE, STRIDE])
    nearest = ""
    for start in range(0, len(patches), GROUP):
        group = patches[start : start + GROUP]
        weights, minus = 2 * group[:, :, None, None], -(group**2).sum(axis=1)
        closest = g.op("Conv", found, g.f32(weights), g.f32(minus))
        closest = g.op("ReduceMax", closest, g.i64([1]), keepdims=1)
        nearest = g.op("Max", nearest, closest) if nearest else closest
    # Along the last axis: see `_channel_mean` in `anogan.export.evidence`.
    last = g.op("Transpose", g.op("Mul", found, found), perm=[0, 2, 3, 1])
    squares = g.op("Unsqueeze", g.op("ReduceSum", last, g.i64([3]), keepdims=0), g.i64([1]))
    return g.op("Relu", g.op("Sub", squares, nearest))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.cpu().numpy(), np.float32)
