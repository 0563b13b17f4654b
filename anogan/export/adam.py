"""The search's state as ONNX nodes: steps of Adam, the best code so far, and which tiles go on.

The arithmetic is that of `anogan.scoring.search`, value by value; the tests compare single steps.
"""

from __future__ import annotations

import numpy as np

from anogan.config import SearchConfig
from anogan.export.graph import BOOL, DOUBLE, FLOAT, INT64, Graph
from anogan.scoring.search import ADAM_BETAS, ADAM_EPS

STATE_TYPES: dict[str, int] = {
    "z": FLOAT,
    "m": FLOAT,
    "v": FLOAT,
    "decay1": DOUBLE,
    "decay2": DOUBLE,
    "best_z": FLOAT,
    "best_value": FLOAT,
    "steps_used": INT64,
}
STOP_TYPES: dict[str, int] = {"reference": FLOAT, "since": INT64, "active": BOOL}


def code_mean(g: Graph, z: str) -> str:
    """(N, 1, 1, 1): mean of each code.

    `ReduceMean` adds up a row of some lengths in another order where it is the only one, or not the first.
    """
    return g.op("GlobalAveragePool", g.op("Reshape", z, g.i64([0, 1, -1, 1])))


def adam(g: Graph, config: SearchConfig, state: dict[str, str], gradient: str) -> dict[str, str]:
    """One step of Adam: new z, m, v and decays.

    The bias corrections are computed from running powers of beta, so that nothing is a constant that the
    graph optimiser could fold: it removes `+ 1e-8` as if it were `+ 0`, and a zero gradient is then 0 / 0.
    """
    beta1, beta2 = ADAM_BETAS
    m = _average(g, state["m"], gradient, beta1)
    v = _average(g, state["v"], g.op("Mul", gradient, gradient), beta2)
    one = g.f64(1.0)
    decay1 = g.op("Mul", state["decay1"], g.f64(beta1))
    decay2 = g.op("Mul", state["decay2"], g.f64(beta2))
    root = g.op("Sqrt", g.op("Sub", one, decay2))
    rate = g.op("Div", g.op("Mul", root, g.f64(config.learning_rate)), g.op("Sub", one, decay1))
    eps = g.op("Mul", root, g.f64(ADAM_EPS))
    size = g.op("Sqrt", v)
    if config.gradient == "smooth":
        of_tile = g.op("Sqrt", code_mean(g, v))
        size = g.op("Mul", g.op("Add", size, of_tile), g.f32(0.5))
    bottom = g.op("Add", size, g.cast(eps, FLOAT))
    moved = g.op("Sub", state["z"], g.op("Div", g.op("Mul", m, g.cast(rate, FLOAT)), bottom))
    return {"z": moved, "m": m, "v": v, "decay1": decay1, "decay2": decay2}


def _average(g: Graph, old: str, new: str, beta: float) -> str:
    return g.op("Add", g.op("Mul", old, g.f32(beta)), g.op("Mul", new, g.f32(1 - beta)))


def keep_best(g: Graph, config: SearchConfig, state: dict[str, str], value: str, step: str) -> dict[str, str]:
    """The best code so far, the steps taken and which tiles go on, after the objective at `state["z"]`."""
    better = g.op("Less", value, state["best_value"])
    used = step
    if config.tolerance > 0:
        better = g.op("And", state["active"], better)
        used = g.op("Where", state["active"], step, state["steps_used"])
    elif step:
        used = g.op("Expand", step, g.op("Shape", value))
    kept = {
        "best_z": g.op("Where", as_map(g, better), state["z"], state["best_z"]),
        "best_value": g.op("Where", better, value, state["best_value"]),
        "steps_used": used,
    }
    return kept | (_stop_the_settled(g, config, state, kept["best_value"]) if config.tolerance > 0 else {})


def _stop_the_settled(g: Graph, config: SearchConfig, state: dict[str, str], best: str) -> dict[str, str]:
    fell = g.op("Less", best, g.op("Mul", state["reference"], g.f32(1 - config.tolerance)))
    since = g.op("Where", fell, g.i64(0), g.op("Add", state["since"], g.i64(1)))
    return {
        "reference": g.op("Where", fell, best, state["reference"]),
        "since": since,
        "active": g.op("And", state["active"], g.op("Less", since, g.i64(config.patience))),
    }


def as_map(g: Graph, per_tile: str) -> str:
    """(N,) -> (N, 1, 1, 1)."""
    return g.op("Reshape", per_tile, g.i64([-1, 1, 1, 1]))


def first_state(g: Graph, config: SearchConfig, z: str) -> dict[str, str]:
    """The search's state before its first step."""
    n = g.op("Shape", z, end=1)
    zeros = g.op("Mul", z, g.f32(0))
    state = {
        "z": z,
        "m": zeros,
        "v": zeros,
        "decay1": g.f64(1.0),
        "decay2": g.f64(1.0),
        "best_z": z,
        "best_value": g.op("Expand", g.f32(np.inf), n),
        "steps_used": g.op("Expand", g.i64(0), n),
    }
    if config.tolerance > 0:
        state |= {
            "reference": g.op("Expand", g.f32(np.inf), n),
            "since": g.op("Expand", g.i64(0), n),
            "active": g.op("Expand", g.constant(True, np.bool_), n),
        }
    return state


def state_types(config: SearchConfig) -> dict[str, int]:
    """ONNX element type of each part of the state, in order."""
    return STATE_TYPES | (STOP_TYPES if config.tolerance > 0 else {})
