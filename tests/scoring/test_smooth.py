"""A smooth search gradient: exact values, no jumps, and no growth of rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anogan.scoring.inverter import Inverter
from anogan.scoring.smooth import smooth_abs, softened
from tests.export.conftest import build_model, live, small_config


def network() -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3), nn.ReLU()
    )
    return live(layers)  # type: ignore[return-value]


def slope(function: Any, at: float) -> float:
    x = torch.tensor([at], requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    return float(gradient)


def test_softened_network_computes_the_same_with_the_same_weights() -> None:
    plain = network()
    other = softened(plain)
    x = torch.randn(3, 2, 8, 8)

    torch.testing.assert_close(other(x), plain(x), rtol=0, atol=0)
    assert [id(p) for p in other.parameters()] == [id(p) for p in plain.parameters()]
    assert isinstance(plain[2], nn.LeakyReLU), "the network that was given is left as it was"


def test_a_network_without_activations_is_not_copied() -> None:
    plain = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh())

    assert softened(plain) is plain


@pytest.mark.parametrize("module", [nn.ReLU(), nn.LeakyReLU(0.2)])
def test_slope_of_an_activation_has_no_jump_and_is_the_plain_one_away_from_0(module: nn.Module) -> None:
    ramped = softened(module)

    assert slope(ramped, 1e-7) - slope(ramped, -1e-7) == pytest.approx(0, abs=1e-5)
    assert slope(module, 1e-7) - slope(module, -1e-7) > 0.79
    for far in (-3.0, -0.1, 0.1, 3.0):
        assert slope(ramped, far) == pytest.approx(slope(module, far), rel=1e-6)


def test_slope_of_a_difference_has_no_jump_and_is_its_sign_away_from_0() -> None:
    def size(d: Tensor) -> Tensor:
        return smooth_abs(d, 50.0)

    assert slope(size, 1e-7) - slope(size, -1e-7) == pytest.approx(0, abs=2e-5)
    assert [slope(size, d) for d in (-0.5, -0.03, 0.03, 0.5)] == [-1, -1, 1, 1]
    assert float(size(torch.tensor(-0.25))) == 0.25


def test_a_nudge_of_the_image_moves_the_result_as_little_however_long_the_search() -> None:
    def parts(gradient: str) -> Tensor:
        config = small_config(search={"gradient": gradient, "learning_rate": 0.1})
        model = build_model(config, with_head=False)
        inverter = Inverter(config, model.networks, model.feature_scales)
        # So many tiles that some residual changes its sign on any processor.
        x = 0.5 * torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        nudge = 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
        return (inverter.search(x, 20).z - inverter.search(x + nudge, 20).z).abs().flatten(1).amax(dim=1)

    smooth, exact = parts("smooth"), parts("exact")
    assert smooth.mean() < 2e-5
    assert exact.max() > 100 * smooth.max(), "else nothing here needs to be smooth"
