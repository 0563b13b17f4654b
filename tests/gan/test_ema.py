from __future__ import annotations

import torch
from torch import nn

from anogan.gan.ema import Ema


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU())


def test_average_follows_the_formula() -> None:
    network = small_network()
    ema = Ema(network, decay=0.9)
    expected = network[0].weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            network[0].weight.normal_(generator=torch.Generator().manual_seed(step))
        ema.update(network, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
    assert torch.allclose(ema.network[0].weight, expected, atol=1e-6)


def test_average_has_the_batch_norm_buffers_of_the_network() -> None:
    network = small_network()
    ema = Ema(network, decay=0.999)
    network(5 + torch.randn(16, 2, 4, 4))
    ema.update(network, 1000)
    for own, other in zip(ema.network.buffers(), network.buffers(), strict=True):
        assert torch.equal(own, other)


def test_decay_of_zero_is_the_network_itself() -> None:
    network = small_network()
    ema = Ema(network, decay=0.0)
    with torch.no_grad():
        network[0].weight.add_(1)
    ema.update(network, 10)
    assert torch.equal(ema.network[0].weight, network[0].weight)


def test_average_takes_no_gradient_and_leaves_the_network_trainable() -> None:
    network = small_network()
    ema = Ema(network, decay=0.9)
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert all(p.requires_grad for p in network.parameters())
