from __future__ import annotations

import pytest
import torch

from anogan.config import config_from_dict
from anogan.scoring.head_network import build_head

NETWORKS = ("unet", "dilated")


def _head(size: int, network: str = "unet") -> torch.nn.Sequential:
    torch.manual_seed(0)
    tree = {"tiles": {"size": size}, "head": {"width": 4, "network": network}}
    return build_head(config_from_dict(tree, "test")).eval()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_every_tile_size_gets_one_logit_per_pixel(size: int, network: str) -> None:
    assert _head(size, network)(torch.randn(2, 10, size, size)).shape == (2, 1, size, size)


def _reach(network: str) -> torch.Tensor:
    """Which pixels of a tile the logit of its centre depends on, (256, 256)."""
    x = torch.randn(1, 10, 256, 256, requires_grad=True)
    _head(256, network)(x)[0, 0, 128, 128].backward()
    assert x.grad is not None
    return x.grad[0].abs().amax(dim=0) > 0


def test_the_u_net_sees_the_pixel_itself_and_far_around_it() -> None:
    reach = _reach("unet")

    assert reach[128, 128]
    assert reach[128 - 80, 128 - 80]
    assert reach[128 + 80, 128 + 80]


def test_the_dilated_head_sees_the_surroundings_and_no_further() -> None:
    reach = _reach("dilated")

    assert reach[128, 128]
    assert reach[128 - 25, 128 + 25]
    assert not reach[:80].any()
    assert not reach[:, 176:].any()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_logits_of_a_tile_do_not_depend_on_its_batch(network: str) -> None:
    head, x = _head(32, network), torch.randn(5, 10, 32, 32)

    torch.testing.assert_close(head(x)[3:4], head(x[3:4]), rtol=1e-5, atol=1e-6)
