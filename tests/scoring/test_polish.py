"""L-BFGS after Adam: it comes lower, never higher, and every image goes its own way."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from anogan.gan.networks import sample_prior
from anogan.scoring.inverter import Inverter
from anogan.scoring.polish import Evaluate, polish
from tests.export.conftest import build_model, small_config

SHAPE = (6, 4, 1, 1)


def rosenbrock(z: Tensor) -> Tensor:
    """A curved valley; its minimum is 0 at all ones."""
    f = z.flatten(1)
    return (100 * (f[:, 1:] - f[:, :-1] ** 2) ** 2 + (1 - f[:, :-1]) ** 2).sum(dim=1)


def kinked(z: Tensor) -> Tensor:
    """Narrow in one direction, with a kink at its minimum, 0 at 0.3."""
    f = (z - 0.3).flatten(1)
    return f.abs() @ torch.tensor([1.0, 30.0, 5.0, 0.1])


def with_gradient(function: object) -> Evaluate:
    def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_(True)
        value = function(z)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient

    return evaluate


def starts() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def test_a_curved_valley_is_followed_to_its_end() -> None:
    end = polish(starts(), with_gradient(rosenbrock), 80, 0.05)
    torch.testing.assert_close(end, torch.ones(SHAPE), rtol=0, atol=1e-3)


def test_a_quadratic_with_scales_a_thousand_apart_is_solved() -> None:
    weights = torch.tensor([1000.0, 30.0, 5.0, 1.0])
    evaluate = with_gradient(lambda z: ((z - 2).flatten(1) ** 2) @ weights)
    end = polish(starts(), evaluate, 30, 0.05)
    torch.testing.assert_close(end, torch.full(SHAPE, 2.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("function", [rosenbrock, kinked])
def test_no_image_ends_higher_than_it_began_nor_after_more_steps(function: object) -> None:
    evaluate = with_gradient(function)
    values = [evaluate(polish(starts(), evaluate, steps, 0.05))[0] for steps in (0, 1, 2, 5, 20, 60)]
    for before, after in pairwise(values):
        assert (after <= before).all()
    assert (values[-1] < 0.3 * values[0]).all()


def test_every_row_goes_as_it_would_alone_to_the_bit() -> None:
    """Also beside rows whose objective is not a number, or is a million times larger."""
    sizes = torch.tensor([1.0, 1e6, 1e-4, float("nan"), 1.0, 3.0])
    together = polish(starts(), with_gradient(lambda z: rosenbrock(z) * sizes), 25, 0.05)
    for row in (0, 1, 2, 4, 5):
        own = sizes[row]
        alone = polish(
            starts()[row : row + 1], with_gradient(lambda z, own=own: rosenbrock(z) * own), 25, 0.05
        )
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=0)
    torch.testing.assert_close(together[3], starts()[3], rtol=0, atol=0)


def test_a_step_into_what_is_not_a_number_is_taken_back() -> None:
    evaluate = with_gradient(lambda z: (-torch.log(z) + 3 * z).flatten(1).sum(dim=1))
    end = polish(torch.full(SHAPE, 0.02), evaluate, 60, 0.5)
    torch.testing.assert_close(end, torch.full(SHAPE, 1 / 3), rtol=0, atol=1e-3)


def test_at_a_minimum_nothing_moves() -> None:
    end = polish(torch.ones(SHAPE), with_gradient(rosenbrock), 5, 0.05)
    torch.testing.assert_close(end, torch.ones(SHAPE), rtol=0, atol=0)


def inverter_of(**search: object) -> Inverter:
    config = small_config(encoder={"mode": "none"}, search={"learning_rate": 0.05} | search)
    model = build_model(config, (32, 32))
    return Inverter(config, model.networks, model.feature_scales)


def known_tiles(inverter: Inverter, n: int) -> Tensor:
    """Tiles that the generator can make."""
    z = sample_prior(n, inverter.config, torch.Generator().manual_seed(9), torch.device("cpu"))
    with torch.no_grad():
        return inverter.networks.generator(z)


def test_half_the_steps_as_l_bfgs_come_lower_than_adam_alone() -> None:
    adam, polished = inverter_of(steps=40), inverter_of(steps=20, polish_steps=20)
    x = known_tiles(adam, 6)
    found, better = adam.search(x), polished.search(x)
    assert better.objective.mean() < 0.8 * found.objective.mean()
    assert (better.objective <= inverter_of(steps=20).search(x).objective).all()
    assert better.steps_used.tolist() == [40] * 6


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_result_of_a_tile_is_the_same_to_the_bit_in_every_batch(restarts: int) -> None:
    inverter = inverter_of(steps=3, polish_steps=12, restarts=restarts)
    x = known_tiles(inverter, 4)
    together, backwards = inverter.search(x), inverter.search(x.flip(0))
    for name in ("z", "reconstruction", "objective", "penalty", "steps_used"):
        values = getattr(together, name)
        torch.testing.assert_close(getattr(backwards, name).flip(0), values, rtol=0, atol=0)
        for i in (3, 0, 2):
            alone = getattr(inverter.search(x[i : i + 1]), name)
            torch.testing.assert_close(alone[0], values[i], rtol=0, atol=0)


def test_reconstruction_objective_and_penalty_belong_to_the_polished_code() -> None:
    inverter = inverter_of(steps=2, polish_steps=5)
    x = known_tiles(inverter, 3)
    found = inverter.search(x)
    with torch.no_grad():
        torch.testing.assert_close(found.reconstruction, inverter.networks.generator(found.z))
    expected = inverter.config.search.prior_weight * found.z.square().flatten(1).mean(dim=1)
    torch.testing.assert_close(found.penalty, expected)
