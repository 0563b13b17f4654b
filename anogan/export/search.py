"""The latent search as ONNX nodes: starting codes, one step, the `Loop`, the best of the restarts.

The arithmetic is that of `anogan.scoring.search`, value by value; the tests compare single steps.
"""

from __future__ import annotations

import numpy as np

from anogan.config import SearchConfig
from anogan.errors import ExportError
from anogan.export.adam import adam, as_map, first_state, keep_best, state_types
from anogan.export.bank import best_of_bank
from anogan.export.gradient import forward
from anogan.export.graph import BOOL, INT64, Graph
from anogan.export.networks import FoldedNetworks
from anogan.export.objective import compared, objective


def starts(g: Graph, networks: FoldedNetworks, x: str) -> str:
    """(R N, d, g, g), for each tile: E(x) if there is an encoder, then fixed codes; or the bank's best."""
    fixed = networks.fixed_starts
    if networks.bank is not None:
        return best_of_bank(g, networks.generator, networks.bank, x, len(fixed))
    parts = []
    if networks.quantised_encoder is not None:
        parts.append(g.include(networks.quantised_encoder, x))
    elif networks.encoder is not None:
        parts.append(forward(g, networks.encoder, x)[-1])
    if networks.encoder is not None:
        fixed = fixed[1:]
    if len(fixed):
        n = g.op("Shape", x, end=1)
        shape = g.op("Concat", n, g.i64(fixed.shape[1:]), axis=0)
        parts += [g.op("Expand", g.constant(code[None]), shape) for code in fixed]
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=0)


def search_step(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    x: str,
    wanted: list[str],
    state: dict[str, str],
    step: str,
) -> dict[str, str]:
    """One trip of the loop: look, keep the best, move the tiles that are still searched."""
    point = objective(g, networks, config, x, wanted, state["z"], gradient=True)
    kept = keep_best(g, config, state, point.value, step)
    moved = adam(g, config, state, point.gradient)
    if config.tolerance > 0:
        moved["z"] = g.op("Where", as_map(g, kept["active"]), moved["z"], state["z"])
    return moved | kept


def latent_search(
    g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str, steps: str
) -> tuple[str, str]:
    """The best code of each tile after at most `steps` steps.

    Args:
        g: Where to write.
        networks: Folded networks.
        config: The search's settings.
        x: Tiles (N, C + K, t, t) in [-1, 1].
        steps: int64 scalar.

    Returns:
        z (N, d, g, g) and the steps taken (N,) int64.
    """
    repeated, wanted, state = begin_search(g, networks, config, x)
    types = state_types(config)

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        step, going, *values = inputs
        new = search_step(
            body, networks, config, repeated, wanted, dict(zip(types, values, strict=True)), step
        )
        if config.tolerance > 0:
            going = body.cast(body.op("ReduceMax", body.cast(new["active"], INT64), keepdims=0), BOOL)
        return [going, *(new[name] for name in types)]

    going = g.constant(True, np.bool_)
    body = g.body(trip, [INT64, BOOL, *types.values()], [BOOL, *types.values()])
    ends = g.ops("Loop", len(types), steps, going, *(state[name] for name in types), body=body)
    return end_search(g, networks, config, repeated, wanted, dict(zip(types, ends, strict=True)), steps)


def begin_search(
    g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str
) -> tuple[str, list[str], dict[str, str]]:
    """What the steps of a search of tiles (N, C + K, t, t) begin with.

    Returns:
        The tiles once for each restart, (R N, C + K, t, t), what they are compared by, and the first state.
    """
    state = first_state(g, config, starts(g, networks, x))
    return *what_is_read(g, networks, config, x), state


def what_is_read(g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str) -> tuple[str, list[str]]:
    """Tiles (N, C + K, t, t) once for each restart, (R N, C + K, t, t), and what those are compared by."""
    restarts = len(networks.fixed_starts)
    if restarts < 1:
        raise ExportError("search.restarts is 0; expected at least 1.")
    repeated = x if restarts == 1 else g.op("Concat", *[x] * restarts, axis=0)
    return repeated, [] if config.mask > 0 else compared(g, networks, config, repeated)


def end_search(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    repeated: str,
    wanted: list[str],
    state: dict[str, str],
    steps: str,
) -> tuple[str, str]:
    """z (N, d, g, g) and the steps taken (N,), after a last look at where the steps led."""
    last = objective(g, networks, config, repeated, wanted, state["z"], gradient=False)
    kept = keep_best(g, config, state, last.value, steps)
    return _best_of_restarts(g, kept, len(networks.fixed_starts))


def _best_of_restarts(g: Graph, kept: dict[str, str], restarts: int) -> tuple[str, str]:
    if restarts == 1:
        return kept["best_z"], kept["steps_used"]
    values = g.op("Reshape", kept["best_value"], g.i64([restarts, -1]))
    choice = g.op("ArgMin", values, axis=0, keepdims=0)
    n = g.op("Shape", values, start=1, end=2)
    tile = g.op("Range", g.i64(0), g.op("Squeeze", n), g.i64(1))
    rows = g.op("Add", g.op("Mul", choice, n), tile)
    return g.op("Gather", kept["best_z"], rows, axis=0), g.op("Gather", kept["steps_used"], rows, axis=0)
