from __future__ import annotations

import pytest
import torch

from anogan.config import config_from_dict
from anogan.scoring.unet import build_head


def _head(size: int, width: int = 4) -> torch.nn.Sequential:
    torch.manual_seed(0)
    config = config_from_dict({"tiles": {"size": size}, "head": {"width": width}}, "test")
    return build_head(config).eval()


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_every_tile_size_gets_one_logit_per_pixel(size: int) -> None:
    assert _head(size)(torch.randn(2, 10, size, size)).shape == (2, 1, size, size)


def test_a_pixel_depends_on_its_own_value_and_on_the_far_side_of_the_tile() -> None:
    x = torch.randn(1, 10, 128, 128, requires_grad=True)

    _head(128)(x)[0, 0, 64, 64].backward()

    assert x.grad is not None
    reach = x.grad[0].abs().amax(dim=0) > 0
    assert reach[64, 64]
    assert reach[2, 2]
    assert reach[125, 125]


def test_the_logits_of_a_tile_do_not_depend_on_its_batch() -> None:
    head, x = _head(32), torch.randn(5, 10, 32, 32)

    torch.testing.assert_close(head(x)[3:4], head(x[3:4]), rtol=1e-5, atol=1e-6)
