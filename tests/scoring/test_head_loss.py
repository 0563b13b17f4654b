"""What the residual head learns from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anogan.scoring.head import image_loss


def _tiles(n: int = 2, level: float = -4.0) -> tuple[Tensor, Tensor]:
    """Logits that call every pixel good, and masks that agree."""
    return torch.full((n, 1, 32, 32), level), torch.zeros(n, 1, 32, 32)


def test_one_wrong_spot_on_a_good_tile_costs_as_much_as_a_wrong_tile() -> None:
    logits, mask = _tiles(1)
    right = image_loss(logits, mask)
    logits[0, 0, 8:17, 8:17] = 4.0
    spot = image_loss(logits, mask)

    assert right < 0.05
    assert spot == pytest.approx(image_loss(*_tiles(1, level=4.0)).item(), rel=0.01)


def test_a_defect_counts_by_its_strongest_spot() -> None:
    logits, mask = _tiles(1)
    mask[0, 0, 4:28, 4:28] = 1
    missed = image_loss(logits, mask)
    logits[0, 0, 10:20, 10:20] = 4.0

    assert missed > 4
    assert image_loss(logits, mask) < 0.1


def test_a_defect_smaller_than_a_spot_is_judged_by_its_own_pixels() -> None:
    logits, mask = _tiles(1)
    mask[0, 0, 10:12, 10:12] = 1

    assert image_loss(logits, mask).item() == pytest.approx(2 * math.log1p(math.exp(-4)) + 4, rel=1e-4)


def test_tiles_without_defects_do_not_thin_out_those_with_some() -> None:
    logits, mask = _tiles(4)
    mask[0, 0, 4:28, 4:28] = 1

    alone = image_loss(logits[:1], mask[:1])
    torch.testing.assert_close(image_loss(logits, mask), alone)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_batch_of_one_kind_of_pixels_has_a_finite_loss_and_gradient(level: float) -> None:
    logits = torch.randn(3, 1, 32, 32, requires_grad=True)
    loss = image_loss(logits, torch.full((3, 1, 32, 32), level))
    loss.backward()

    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0
