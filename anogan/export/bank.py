"""Starting codes from a bank, screened for each tile, as ONNX nodes (`anogan.scoring.bank`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anogan.export.gradient import forward
from anogan.export.graph import BOOL, FLOAT, INT64, Graph
from anogan.export.layers import Layer

_CHUNK = 32  # Codes generated at once.


def best_of_bank(g: Graph, generator: Sequence[Layer], codes: NDArray[np.float32], x: str, n: int) -> str:
    """The n codes whose pictures differ least from each tile.

    Args:
        g: Where to write.
        generator: z -> image.
        codes: (B, d, g, g).
        x: Tiles (N, C, t, t) in [-1, 1].
        n: At most B.

    Returns:
        (n N, d, g, g): the best code of every tile, then the second best.
    """
    (pictures,) = g.root.once(("pictures of the bank",), lambda root: (_pictures(root, generator, codes),))

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        code, going = inputs
        difference = body.op("Abs", body.op("Sub", x, body.op("Gather", pictures, code, axis=0)))
        return [going, body.op("ReduceMean", difference, body.i64([1, 2, 3]), keepdims=0)]

    body = g.body(trip, [INT64, BOOL], [BOOL, FLOAT])
    # One picture after the other: all differences at once would be B times the tiles.
    distances = g.ops("Loop", 1, g.i64(len(codes)), g.constant(True, np.bool_), body=body)[0]
    # Equally good codes come in the order of the bank, as `TopK` promises.
    order = g.ops("TopK", 2, distances, g.i64([n]), axis=0, largest=0, sorted=1)[1]
    chosen = g.op("Gather", g.constant(codes), order, axis=0)
    return g.op("Reshape", chosen, g.i64([-1, *codes.shape[1:]]))


def _pictures(root: Graph, generator: Sequence[Layer], codes: NDArray[np.float32]) -> str:
    """G of every code, (B, C, t, t).

    It depends on constants alone, so ONNX Runtime computes it once, when it loads the file.
    """
    stored = root.constant(codes)
    parts = []
    for start in range(0, len(codes), _CHUNK):
        chunk = root.op("Slice", stored, root.i64([start]), root.i64([start + _CHUNK]), root.i64([0]))
        parts.append(forward(root, generator, chunk)[-1])
    return parts[0] if len(parts) == 1 else root.op("Concat", *parts, axis=0)
