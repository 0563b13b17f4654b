"""By which statistics batch norm acts, outside of training."""

import numpy as np
import pytest
import torch
from torch import nn

from anogan.gan.batch_norm import (
    batch_statistics,
    fix_batch_norm,
    recalibrate_batch_norm,
    statistics_tiles,
)
from anogan.gan.encoder import EncoderStage
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from tests.tiny import tiny_config


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU())


def test_recalibration_gives_the_statistics_of_all_batches() -> None:
    norm = nn.BatchNorm2d(3)
    batches = [i + torch.randn(8, 3, 5, 5) for i in range(6)]
    norm(torch.randn(4, 3, 5, 5) * 100)
    recalibrate_batch_norm(norm, batches)
    means = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    variances = torch.stack([b.transpose(0, 1).flatten(1).var(dim=1) for b in batches]).mean(dim=0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)
    assert torch.allclose(norm.running_var, variances, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_recalibration_leaves_mode_momentum_and_weights_alone(training: bool) -> None:
    network = small_network().train(training)
    before = [p.detach().clone() for p in network.parameters()]
    recalibrate_batch_norm(network, [torch.randn(8, 2, 4, 4)])
    assert network.training is training
    assert network[1].momentum == 0.1
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_network_with_fixed_statistics_still_learns_and_heeds_no_neighbour() -> None:
    network = nn.Sequential(*small_network(), nn.Dropout2d())
    x = torch.randn(8, 2, 4, 4)
    fix_batch_norm(network)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert torch.allclose(network[:3](x)[:1], network[:3](x[:1]), atol=1e-6)
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network[3].training


def test_batch_statistics_are_those_of_training_and_leave_no_trace() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout2d(0.5)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    output = batch_statistics(network, 3 + torch.randn(16, 2, 4, 4))
    assert torch.allclose(output.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_separate_encoder_ends_with_the_statistics_of_many_batches(boards: list[np.ndarray]) -> None:
    config = tiny_config(encoder={"mode": "izi", "steps": 1})
    source, cpu = TileSource(boards, config, 0), torch.device("cpu")
    stage = EncoderStage(config, source, source, GanStage(config, source, source, cpu).finish(), cpu)
    stage.step(0)
    encoder = stage.finish().encoder
    assert encoder is not None
    found = {name: buffer.clone() for name, buffer in encoder.named_buffers() if "running" in name}
    recalibrate_batch_norm(encoder, statistics_tiles(source, config.gan.batch_size, cpu))
    assert found
    for name, buffer in encoder.named_buffers():
        assert name not in found or torch.allclose(found[name], buffer)
