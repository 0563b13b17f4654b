"""The search in the graph against `anogan.scoring.search`: single steps, whole runs, and its promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from anogan.config import Config
from anogan.export.adam import adam, state_types
from anogan.export.gradient import forward
from anogan.export.graph import BOOL, DOUBLE, FLOAT, INT64, Graph
from anogan.export.networks import FoldedNetworks, features, given
from anogan.export.objective import objective
from anogan.export.parity import JUMPING_SEARCH, tolerance_for
from anogan.export.search import latent_search, search_step, starts
from anogan.gan.condition import condition_dim, with_condition
from anogan.gan.networks import features as torch_features
from anogan.scoring.inverter import Inverter
from anogan.scoring.search import search_objective
from tests.export.conftest import Run, build_model, session_run, small_config

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "latent map": {"network": {"latent_grid": 4}},
    "no encoder": {"encoder": {"mode": "none"}},
    "restarts": {"search": {"restarts": 3}},
    "restarts without encoder": {"encoder": {"mode": "none"}, "search": {"restarts": 2}},
    "charbonnier": {"search": {"residual": "charbonnier"}},
    "exact": {"search": {"gradient": "exact"}},
    "lambda 0": {"search": {"lambda": 0.0}},
    "lambda 1": {"search": {"lambda": 1.0}},
    "no prior": {"search": {"prior_weight": 0.0}},
    "grey": {"images": {"channels": 1}},
    "resize convolution": {"network": {"upsampling": "resize"}},
    "no batch norm": {"network": {"generator_norm": "none", "discriminator_norm": "none"}},
    "group norm": {"network": {"generator_norm": "group", "discriminator_norm": "group"}},
    "layer norm": {"network": {"generator_norm": "layer", "discriminator_norm": "layer"}},
    "self-attention": {"network": {"attention_at": 8}},
    "bank": {"encoder": {"mode": "none"}, "search": {"bank": 40}},
    "bank with restarts": {"encoder": {"mode": "none"}, "search": {"bank": 40, "restarts": 3}},
    "trimmed": {"search": {"residual": "trimmed", "trimmed_share": 0.1}},
    "mask": {"search": {"mask": 0.3}},
    "mask and lambda 0": {"search": {"mask": 0.9, "lambda": 0.0}},
    "mask and trimmed": {"search": {"mask": 0.3, "residual": "trimmed"}},
    "early stop": {"search": {"tolerance": 0.02, "patience": 2}},
    "tile position": {"network": {"condition": "tile-position"}},
    "tile position, latent map": {"network": {"condition": "tile-position", "latent_grid": 4}},
    "tile position and mask": {"network": {"condition": "tile-position"}, "search": {"mask": 0.3}},
}
RANKS = {"z": 4, "m": 4, "v": 4, "best_z": 4, "decay1": 0, "decay2": 0}


def inverter_of(config: Config) -> Inverter:
    model = build_model(config, with_head=False)
    return Inverter(config, model.networks, model.feature_scales)


def folded(inverter: Inverter) -> FoldedNetworks:
    model = build_model(inverter.config, with_head=False)
    return FoldedNetworks.of(model)


def tiles(config: Config, n: int) -> Tensor:
    smooth = torch.nn.functional.interpolate(
        torch.randn(n, config.images.channels, 6, 6), size=32, mode="bicubic"
    )
    return with_condition((0.5 * smooth).clamp(-1, 1), torch.rand(n, condition_dim(config)) * 2 - 1)


def info(name: str, kind: int, rank: int) -> Any:
    return helper.make_tensor_value_info(name, kind, [f"{name}{axis}" for axis in range(rank)])


def search_graph(config: Config, networks: FoldedNetworks) -> Run:
    g = Graph()
    z, used = latent_search(g, networks, config.search, "x", "steps")
    g.rename(z, "z")
    g.rename(used, "steps_used")
    g.rename(forward(g, networks.generator, given(g, networks, z, "x"))[-1], "reconstruction")
    return session_run(
        g.finish(
            "test",
            [info("x", FLOAT, 4), info("steps", INT64, 0)],
            [info("z", FLOAT, 4), info("steps_used", INT64, 1), info("reconstruction", FLOAT, 4)],
        )
    )


def step_graph(config: Config, networks: FoldedNetworks) -> Run:
    """One step from a state that is given."""
    g = Graph()
    types = state_types(config.search)
    wanted = features(g, networks, "x") if config.search.lambda_ > 0 else []
    new = search_step(g, networks, config.search, "x", wanted, {name: name for name in types}, "step")
    for name in types:
        g.rename(new[name], f"new_{name}")
    inputs = [info(name, kind, RANKS.get(name, 1)) for name, kind in types.items()]
    outputs = [info(f"new_{name}", kind, RANKS.get(name, 1)) for name, kind in types.items()]
    return session_run(g.finish("test", [info("x", FLOAT, 4), info("step", INT64, 0), *inputs], outputs))


@pytest.mark.parametrize("name", VARIANTS)
def test_objective_and_its_gradient_are_those_of_autograd(name: str) -> None:
    config = small_config(**VARIANTS[name])
    inverter = inverter_of(config)
    x = tiles(config, 3)
    z = torch.randn(3, *inverter.fixed_starts.shape[1:], requires_grad=True)
    wanted = torch_features(inverter.objective.stages, x)
    value, _, _ = search_objective(x, wanted, z, inverter.objective, config.search)
    (gradient,) = torch.autograd.grad(value.sum(), z)

    g, networks = Graph(), folded(inverter)
    own = features(g, networks, "x")
    point = objective(g, networks, config.search, "x", own, "z", gradient=True)
    g.rename(point.value, "value")
    g.rename(point.gradient, "gradient")
    run = session_run(
        g.finish(
            "test",
            [info("x", FLOAT, 4), info("z", FLOAT, 4)],
            [info("value", FLOAT, 1), info("gradient", FLOAT, 4)],
        )
    )
    got = run(x=x.numpy(), z=z.detach().numpy())
    np.testing.assert_allclose(got["value"], value.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(got["gradient"], gradient.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["plain", "latent map", "charbonnier", "exact", "early stop", "tile position"]
)
def test_each_step_from_a_given_state_is_the_step_of_pytorch(name: str) -> None:
    config = small_config(**VARIANTS[name])
    inverter = inverter_of(config)
    x = tiles(config, 5)
    run = step_graph(config, folded(inverter))
    # A search that may go on keeps its best; one more step tells the state after each.
    types = state_types(config.search)
    state = first_state(inverter, x, list(types))
    distances = []
    for step in range(6):
        feed = {**state, "step": np.array(step, np.int64)}
        got = run(x=x.numpy(), **feed)
        want = torch_step(inverter, x, state, step)
        distances.append(np.abs(got["new_z"] - want["z"]))
        np.testing.assert_allclose(got["new_best_value"], want["best_value"], rtol=1e-5)
        np.testing.assert_allclose(got["new_v"], want["v"], rtol=1e-2, atol=1e-9)
        state = {name: got[f"new_{name}"] for name in types} | {"z": want["z"]}
    assert np.median(distances) < 1e-6
    # Where a residual is about 0, rounding decides its sign, and Adam's first steps follow it.
    assert np.quantile(distances, 0.98) < 1e-4 if name == "exact" else np.max(distances) < 1e-5


def first_state(inverter: Inverter, x: Tensor, names: list[str]) -> dict[str, NDArray[Any]]:
    z = inverter.starts(x)[0].numpy()
    n = len(z)
    state: dict[str, NDArray[Any]] = {
        "z": z,
        "m": np.zeros_like(z),
        "v": np.zeros_like(z),
        "decay1": np.array(1.0),
        "decay2": np.array(1.0),
        "best_z": z,
        "best_value": np.full(n, np.inf, np.float32),
        "steps_used": np.zeros(n, np.int64),
        "reference": np.full(n, np.inf, np.float32),
        "since": np.zeros(n, np.int64),
        "active": np.ones(n, np.bool_),
    }
    return {name: state[name] for name in names}


def torch_step(
    inverter: Inverter, x: Tensor, state: dict[str, NDArray[Any]], step: int
) -> dict[str, NDArray[Any]]:
    """The published update rule (Kingma and Ba 2015, algorithm 1) from PyTorch's gradient.

    A smooth search divides by the mean of a number's own root mean square gradient and its tile's.
    """
    search = inverter.config.search
    z = torch.from_numpy(state["z"]).clone().requires_grad_(True)
    wanted = torch_features(inverter.objective.stages, x)
    value, _, _ = search_objective(x, wanted, z, inverter.objective, search)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    value = value.detach()
    moved, v = (_adam if search.gradient == "exact" else _smooth_adam)(search, z, gradient, state, step)
    best = torch.minimum(value, torch.from_numpy(state["best_value"]))
    if "active" in state:
        moved = torch.where(_goes_on(search, state, best), moved, torch.from_numpy(state["z"]))
    return {"z": moved.numpy(), "v": v.numpy(), "best_value": best.numpy()}


def _adam(
    search: Any, z: Tensor, gradient: Tensor, state: dict[str, NDArray[Any]], step: int
) -> tuple[Tensor, Tensor]:
    optimiser = torch.optim.Adam([z], lr=search.learning_rate, betas=(0.9, 0.999))
    optimiser.state[z] = {
        "step": torch.tensor(float(step)),
        "exp_avg": torch.from_numpy(state["m"]).clone(),
        "exp_avg_sq": torch.from_numpy(state["v"]).clone(),
    }
    z.grad = gradient
    optimiser.step()
    return z.detach(), optimiser.state[z]["exp_avg_sq"]


def _smooth_adam(
    search: Any, z: Tensor, gradient: Tensor, state: dict[str, NDArray[Any]], step: int
) -> tuple[Tensor, Tensor]:
    m = 0.9 * torch.from_numpy(state["m"]).double() + 0.1 * gradient.double()
    v = 0.999 * torch.from_numpy(state["v"]).double() + 0.001 * gradient.double() ** 2
    m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
    size = (v_hat.sqrt() + v_hat.mean(dim=(1, 2, 3), keepdim=True).sqrt()) / 2
    moved = z.detach().double() - search.learning_rate * m_hat / (size + 1e-8)
    return moved.float(), v.float()


def _goes_on(search: Any, state: dict[str, NDArray[Any]], best: Tensor) -> Tensor:
    fell = best.numpy() < state["reference"] * np.float32(1 - search.tolerance)
    since = np.where(fell, 0, state["since"] + 1)
    return torch.from_numpy(state["active"] & (since < search.patience))[:, None, None, None]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_short_search_finds_what_pytorch_finds(name: str, steps: int) -> None:
    config = small_config(**VARIANTS[name])
    inverter = inverter_of(config)
    x = tiles(config, 5)
    got = search_graph(config, folded(inverter))(x=x.numpy(), steps=np.array(steps, np.int64))
    want = inverter.search(x, steps)
    distance = np.abs(got["reconstruction"] - want.reconstruction.numpy())
    assert np.median(distance) < 2e-6
    jumps = tolerance_for(config, "fp32") == JUMPING_SEARCH and steps > 0
    assert distance.max() < (2e-2 if jumps else 1e-5)
    np.testing.assert_array_equal(got["steps_used"], want.steps_used.numpy())


@pytest.mark.parametrize("name", VARIANTS)
def test_result_of_a_tile_does_not_depend_on_its_batch_to_the_bit(name: str) -> None:
    config = small_config(**VARIANTS[name])
    run = search_graph(config, folded(inverter_of(config)))
    x = tiles(config, 5).numpy()
    steps = np.array(6, np.int64)
    together = run(x=x, steps=steps)
    for index in (0, 3):
        alone = run(x=x[index : index + 1], steps=steps)
        backwards = run(x=x[::-1].copy(), steps=steps)
        for value in ("z", "steps_used", "reconstruction"):
            np.testing.assert_array_equal(alone[value][0], together[value][index])
            np.testing.assert_array_equal(backwards[value][4 - index], together[value][index])


def test_bank_starts_each_tile_from_the_codes_that_pytorch_picks() -> None:
    config = small_config(encoder={"mode": "none"}, search={"bank": 40, "restarts": 3})
    inverter = inverter_of(config)
    x = tiles(config, 5)
    g = Graph()
    g.rename(starts(g, folded(inverter), "x"), "z")
    got = session_run(g.finish("test", [info("x", FLOAT, 4)], [info("z", FLOAT, 4)]))(x=x.numpy())
    want = inverter.starts(x).flatten(0, 1).numpy()
    np.testing.assert_array_equal(got["z"], want)
    assert len(np.unique(want[:5], axis=0)) > 1, "tiles differ in their best code"


def test_early_stop_ends_each_tile_at_its_own_step() -> None:
    config = small_config(search={"tolerance": 0.003, "patience": 3}, encoder={"mode": "none"})
    inverter = inverter_of(config)
    x = tiles(config, 5)
    got = search_graph(config, folded(inverter))(x=x.numpy(), steps=np.array(60, np.int64))
    want = inverter.search(x, 60)
    assert len(set(got["steps_used"].tolist())) > 1
    assert got["steps_used"].max() < 60
    np.testing.assert_allclose(got["steps_used"], want.steps_used.numpy(), atol=3)


def test_long_search_ends_where_pytorch_ends() -> None:
    # Still descending: of two steps whose objectives are equal but for rounding, either may be the best.
    config = small_config(search={"learning_rate": 0.005})
    inverter = inverter_of(config)
    x = tiles(config, 4)
    got = search_graph(config, folded(inverter))(x=x.numpy(), steps=np.array(60, np.int64))
    want = inverter.search(x, 60)
    np.testing.assert_allclose(got["reconstruction"], want.reconstruction.numpy(), atol=1e-5)


def test_long_search_with_jumps_reaches_the_objective_that_pytorch_reaches() -> None:
    config = small_config(search={"learning_rate": 0.01, "residual": "charbonnier", "gradient": "exact"})
    inverter = inverter_of(config)
    x = tiles(config, 4)
    got = search_graph(config, folded(inverter))(x=x.numpy(), steps=np.array(200, np.int64))
    want = inverter.search(x, 200)
    wanted = torch_features(inverter.objective.stages, x)
    reached, _, _ = search_objective(x, wanted, torch.from_numpy(got["z"]), inverter.objective, config.search)
    np.testing.assert_allclose(reached.numpy(), want.objective.numpy(), rtol=2e-3)


def test_the_best_code_is_kept_when_the_search_leaves_it() -> None:
    config = small_config(search={"learning_rate": 3.0})
    inverter = inverter_of(config)
    x = tiles(config, 4)
    run = search_graph(config, folded(inverter))
    wanted = torch_features(inverter.objective.stages, x)
    reached = []
    for steps in (0, 1, 3, 8):
        z = torch.from_numpy(run(x=x.numpy(), steps=np.array(steps, np.int64))["z"])
        reached.append(search_objective(x, wanted, z, inverter.objective, config.search)[0].numpy())
    assert np.all(np.diff(reached, axis=0) <= 1e-7)


@pytest.mark.parametrize("steps", [1, 2000])
def test_adam_stays_finite_at_zero_gradients(steps: int) -> None:
    config = small_config()
    g = Graph()
    names = ("z", "m", "v", "decay1", "decay2")
    kinds = (FLOAT, FLOAT, FLOAT, DOUBLE, DOUBLE)

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        new = adam(body, config.search, dict(zip(names, inputs[2:], strict=True)), "gradient")
        return [inputs[1], *(new[name] for name in names)]

    body = g.body(trip, [INT64, BOOL, *kinds], [BOOL, *kinds])
    one = g.constant(1.0, np.float64)
    zeros = g.op("Mul", "start", g.f32(0))
    ends = g.ops("Loop", 5, "steps", g.constant(True, np.bool_), "start", zeros, zeros, one, one, body=body)
    g.rename(ends[0], "z")
    run = session_run(
        g.finish(
            "test",
            [info("start", FLOAT, 4), info("gradient", FLOAT, 4), info("steps", INT64, 0)],
            [info("z", FLOAT, 4)],
        )
    )
    start = np.random.default_rng(0).standard_normal((2, 3, 1, 1)).astype(np.float32)
    got = run(start=start, gradient=np.zeros_like(start), steps=np.array(steps, np.int64))["z"]
    np.testing.assert_array_equal(got, start)


def test_a_perfect_reconstruction_is_left_alone() -> None:
    config = small_config(search={"prior_weight": 0.0}, encoder={"mode": "none"})
    inverter = inverter_of(config)
    with torch.no_grad():
        x = inverter.networks.generator(inverter.fixed_starts[:1]).repeat(2, 1, 1, 1)
    got = search_graph(config, folded(inverter))(x=x.numpy(), steps=np.array(5, np.int64))
    assert np.isfinite(got["z"]).all()
    np.testing.assert_allclose(got["reconstruction"], x.numpy(), atol=1e-5)
