"""What the latent search promises of each image's z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from anogan import load
from anogan.config import SearchConfig
from anogan.errors import ShapeError
from anogan.images.resize import to_network
from anogan.scoring import Scorer
from anogan.scoring.inverter import Inverter
from anogan.scoring.search import SearchResult, latent_search, search_objective
from tests.tiny import part


@pytest.fixture(scope="module")
def scorer(trained: Path) -> Scorer:
    return load(trained)


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Six tiles, every other one with a defect."""
    tiles = [to_network(part(2000 + i, size=(32, 32), defect=i % 2 == 1), 8) for i in range(6)]
    return torch.stack([torch.from_numpy(tile) for tile in tiles])


def _inverter(scorer: Scorer, **search: Any) -> Inverter:
    settings = scorer.config.search.model_copy(update=search)
    config = scorer.config.model_copy(update={"search": settings})
    return Inverter(config, scorer.model.networks, scorer.model.feature_scales)


def _objective(inverter: Inverter, x: Tensor, z: Tensor) -> Tensor:
    config = inverter.config.search
    with torch.no_grad():
        wanted = inverter.objective.wanted(x, config)
        return search_objective(x, wanted, z, inverter.objective, config)[0]


@pytest.mark.parametrize("learning_rate", [0.05, 1.0, 30.0])
def test_the_search_never_ends_above_its_start(learning_rate: float, scorer: Scorer, x: Tensor) -> None:
    """A rate of 30 throws z about; the best z is kept all the same."""
    inverter = _inverter(scorer, learning_rate=learning_rate)
    found = inverter.search(x, 15)
    start = _objective(inverter, x, inverter.starts(x)[0])

    assert (found.objective <= start).all()


def test_what_is_reported_is_what_the_kept_z_gives(scorer: Scorer, x: Tensor) -> None:
    inverter = _inverter(scorer, learning_rate=2.0)
    found = inverter.search(x, 12)
    with torch.no_grad():
        again = inverter.networks.generator(found.z)

    torch.testing.assert_close(found.reconstruction, again, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.objective, _objective(inverter, x, found.z), rtol=1e-4, atol=1e-5)


def test_no_step_is_what_the_encoder_says(scorer: Scorer, x: Tensor) -> None:
    networks = scorer.model.networks
    assert networks.encoder is not None
    with torch.no_grad():
        z = networks.encoder(x)
        again = networks.generator(z)
    found = _inverter(scorer).search(x, 0)

    torch.testing.assert_close(found.z, z, rtol=0, atol=0)
    torch.testing.assert_close(found.reconstruction, again, rtol=0, atol=0)
    assert found.steps_used.tolist() == [0] * 6


def test_steps_bring_the_objective_down(scorer: Scorer, x: Tensor) -> None:
    inverter = _inverter(scorer)
    start, end = inverter.search(x, 0).objective, inverter.search(x, 20).objective

    assert (end < start).all()


def test_the_prior_penalty_steers_z_and_is_told_apart_from_the_score(scorer: Scorer, x: Tensor) -> None:
    free, bound = _inverter(scorer, prior_weight=0.0), _inverter(scorer, prior_weight=1.0)
    at_start_free, at_start_bound = free.search(x, 0), bound.search(x, 0)

    # No step: the same z, so all that differs is the penalty.
    torch.testing.assert_close(at_start_bound.reconstruction, at_start_free.reconstruction, rtol=0, atol=0)
    torch.testing.assert_close(
        at_start_bound.objective - at_start_bound.penalty, at_start_free.objective, rtol=1e-5, atol=1e-6
    )
    assert (at_start_free.penalty == 0).all()
    z_free, z_bound = free.search(x, 20).z, bound.search(x, 20).z
    assert (z_bound.square().mean() < z_free.square().mean()).item()


def test_scores_hold_no_prior_penalty(scorer: Scorer) -> None:
    settings = scorer.config.search.model_copy(update={"prior_weight": 100.0})
    config = scorer.config.model_copy(update={"search": settings})
    from dataclasses import replace

    heavy = Scorer(replace(scorer.model, config=config), scorer.calibration, steps=0)
    light = Scorer(scorer.model, scorer.calibration, steps=0)
    image = part(3000)

    assert heavy.score([image])[0].score == light.score([image])[0].score
    assert heavy.score([image])[0].anomaly_score == light.score([image])[0].anomaly_score


def test_restarts_are_never_worse_than_the_first_start(scorer: Scorer, x: Tensor) -> None:
    one, four = _inverter(scorer).search(x, 8), _inverter(scorer, restarts=4).search(x, 8)

    assert (four.objective <= one.objective + 1e-6).all()


def test_restarts_help_where_no_encoder_does(scorer: Scorer, x: Tensor) -> None:
    inverter = _inverter(scorer)
    draws = torch.randn(
        8, len(x), *inverter.fixed_starts.shape[1:], generator=torch.Generator().manual_seed(1)
    )
    one = latent_search(x, draws[:1], inverter.objective, inverter.config.search, 5)
    eight = latent_search(x, draws, inverter.objective, inverter.config.search, 5)

    assert (eight.objective <= one.objective + 1e-6).all()
    assert float(eight.objective.mean()) < float(one.objective.mean()) - 1e-3


def _alone(inverter: Inverter, x: Tensor, steps: int) -> list[SearchResult]:
    return [inverter.search(x[i : i + 1], steps) for i in range(len(x))]


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_z_of_an_image_does_not_depend_on_its_batch(tolerance: float, scorer: Scorer, x: Tensor) -> None:
    inverter = _inverter(scorer, tolerance=tolerance, patience=2)
    together = inverter.search(x, 25)
    for i, alone in enumerate(_alone(inverter, x, 25)):
        torch.testing.assert_close(alone.objective[0], together.objective[i], rtol=1e-3, atol=1e-4)
        assert alone.steps_used[0] == together.steps_used[i]


def test_each_image_stops_when_it_has_settled(scorer: Scorer, x: Tensor) -> None:
    inverter = _inverter(scorer, tolerance=0.01, patience=2)
    found, full = inverter.search(x, 60), _inverter(scorer).search(x, 60)

    assert len(set(found.steps_used.tolist())) > 1
    assert int(found.steps_used.max()) < 60
    # What was saved costs little: each stopped where two steps brought less than one per cent.
    assert (found.objective < 1.5 * full.objective).all()


def test_a_zero_gradient_moves_nothing_and_makes_no_nan(scorer: Scorer, x: Tensor) -> None:
    config = SearchConfig(steps=5, prior_weight=0.0, **{"lambda": 0.0}, residual="charbonnier")
    inverter = _inverter(scorer)
    starts = inverter.starts(x)
    with torch.no_grad():
        reachable = inverter.networks.generator(starts[0])
    found = latent_search(reachable, starts, inverter.objective, config)

    assert torch.isfinite(found.z).all()
    torch.testing.assert_close(found.reconstruction, reachable, rtol=0, atol=1e-3)


def test_starts_that_do_not_belong_to_the_images_are_refused(scorer: Scorer, x: Tensor) -> None:
    inverter = _inverter(scorer)

    with pytest.raises(ShapeError, match="starts is"):
        latent_search(x, inverter.starts(x[:3]), inverter.objective, inverter.config.search)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 1, 32, 32)])
def test_tiles_of_another_shape_are_refused(shape: tuple[int, ...], scorer: Scorer) -> None:
    with pytest.raises(ShapeError):
        _inverter(scorer).search(torch.zeros(shape))
