from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn, optim

from anogan.gan.monitor import (
    FeatureExtractor,
    gradient_norm,
    kernel_distance,
    relative_update,
)
from anogan.gan.training import GanStage

Build = Callable[..., GanStage]


def test_kernel_distance_is_that_of_the_formula_and_about_zero_for_one_distribution() -> None:
    a, b, far = torch.randn(40, 6), torch.randn(30, 6), torch.randn(30, 6) + 2
    kernel = lambda x, y: float((x @ y / 6 + 1) ** 3)  # noqa: E731
    within = [
        np.mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
        for x in (a, far)
    ]
    across = np.mean([kernel(x, y) for x in a for y in far])
    assert kernel_distance(a, far) == pytest.approx(within[0] + within[1] - 2 * across, rel=1e-4)
    assert abs(kernel_distance(a, b)) < 0.1 * kernel_distance(a, far)


def test_features_are_the_same_every_time_and_tell_textures_apart(boards: list[np.ndarray]) -> None:
    x = torch.from_numpy(np.stack(boards)).permute(0, 3, 1, 2).float()[:, :, :64, :64] / 127.5 - 1
    extract = FeatureExtractor(3, x)
    assert torch.equal(extract(x), FeatureExtractor(3, x)(x))
    blurred = nn.functional.avg_pool2d(x, 5, 1, 2)
    assert kernel_distance(extract(x[:5]), extract(blurred)) > 2 * abs(
        kernel_distance(extract(x[:5]), extract(x[5:]))
    )


def test_relative_update_is_the_step_that_adam_took() -> None:
    network = nn.Linear(5, 4)
    optimiser = optim.Adam(network.parameters(), 1e-3, (0.5, 0.9))
    assert relative_update(optimiser) == 0
    for _ in range(3):
        before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        optimiser.zero_grad()
        network(torch.randn(7, 5)).square().mean().backward()
        optimiser.step()
        after = torch.cat([p.detach().flatten() for p in network.parameters()])
        expected = ((after - before).norm() / after.norm()).item()
        assert relative_update(optimiser) == pytest.approx(expected, rel=1e-4)


def test_gradient_norm_is_zero_without_gradients_and_euclidean_with_them() -> None:
    network = nn.Linear(3, 1)
    assert gradient_norm(network) == 0
    network(torch.tensor([1.0, 2.0, 2.0])).backward()
    assert gradient_norm(network) == pytest.approx(10**0.5)


def set_output(stage: GanStage, image: torch.Tensor) -> None:
    """Makes the kept generator give one and the same image, whatever z."""
    for generator in (stage.networks.generator, stage.averaged().generator):
        with torch.no_grad():
            for p in generator.parameters():
                p.zero_()
            generator[-2].bias.copy_(image)


def test_collapsed_generator_reads_no_diversity_and_all_duplicates(tiny_stage: Build) -> None:
    stage = tiny_stage()
    stage.step(0)
    set_output(stage, torch.zeros(3))
    figures = stage.look(0)
    assert figures["diversity"] < 1e-3
    assert figures["duplicates"] == 1
    assert figures["kid"] > 100 * abs(figures["kid_floor"])


def test_generator_that_gives_training_tiles_reads_as_good_and_as_a_copy(tiny_stage: Build) -> None:
    stage = tiny_stage()
    stage.step(0)
    monitor = stage._monitor
    train, held_out = monitor._real
    copied = monitor._image_figures(train + 0.001 * torch.randn_like(train), train, held_out)
    honest = monitor._image_figures(held_out, train, held_out)
    assert copied["nearest_training_tile"] < 0.05
    assert honest["nearest_training_tile"] == pytest.approx(1)
    assert copied["diversity"] == pytest.approx(1, abs=0.05)
    noise = monitor._image_figures(torch.randn_like(train).clamp(-1, 1), train, held_out)
    assert honest["kid"] < 0.2 < 10 < noise["kid"]


def test_look_has_the_figures_that_the_alarms_read_and_all_are_finite(tiny_stage: Build) -> None:
    for changes in ({}, {"encoder": {"mode": "joint"}}, {"gan": {"packing": 2, "loss": "wgan"}}):
        stage = tiny_stage(**changes)
        stage.step(0)
        figures = stage.look(0)
        assert all(np.isfinite(value) for value in figures.values())
        assert {"d_update", "g_update", "kid", "diversity", "d_overfitting", "distinct_images"} <= set(
            figures
        )
        assert figures["distinct_images"] == 7


def test_inversion_error_falls_as_an_encoder_less_generator_learns(tiny_stage: Build) -> None:
    stage = tiny_stage(gan={"steps": 60, "batch_size": 16}, network={"width": 8})
    errors = []
    for step in range(60):
        stage.step(step)
        if step in (0, 59):
            errors.append(stage.look(step)["held_out_reconstruction"])
    assert errors[1] < errors[0]
