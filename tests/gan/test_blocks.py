from __future__ import annotations

import torch
from torch import nn

from anogan.gan.blocks import MinibatchDiscrimination, MinibatchStddev, SelfAttention, norm_layer


def test_minibatch_stddev_is_zero_for_a_collapsed_batch_and_grows_with_spread() -> None:
    alike = torch.randn(1, 5, 4, 4).expand(8, -1, -1, -1)
    varied = alike + torch.randn(8, 5, 4, 4)
    layer = MinibatchStddev()
    assert layer(alike)[:, 5].max() < 1e-3
    assert torch.allclose(layer(varied)[:, 5], varied.std(dim=0, unbiased=False).mean(), atol=1e-5)
    assert torch.equal(layer(varied)[:, :5], varied)


def test_minibatch_discrimination_is_the_formula_over_the_other_samples() -> None:
    layer = MinibatchDiscrimination(6)
    x = torch.randn(5, 6)
    rows = (x @ layer.weight).reshape(5, 16, 8)
    expected = torch.stack(
        [sum((-(rows[i] - rows[j]).abs().sum(dim=1)).exp() for j in range(5) if j != i) for i in range(5)]
    )
    assert torch.allclose(layer(x)[:, 6:], expected, atol=1e-5)


def test_minibatch_discrimination_tells_a_collapsed_batch() -> None:
    layer = MinibatchDiscrimination(3 * 16)
    alike = torch.randn(1, 3, 4, 4).expand(8, -1, -1, -1)
    assert torch.allclose(layer(alike)[:, 3:], torch.full((8, 16, 4, 4), 7.0))
    assert layer(torch.randn(8, 3, 4, 4) * 5)[:, 3:].mean() < 1


def test_self_attention_is_the_identity_at_first_and_then_sees_far_positions() -> None:
    layer = SelfAttention(16)
    x = torch.randn(2, 16, 5, 5, requires_grad=True)
    assert torch.equal(layer(x), x)
    layer.gamma.data.fill_(1.0)
    layer(x)[0, :, 0, 0].sum().backward()
    assert x.grad[0, :, 4, 4].abs().max() > 0
    assert x.grad[1].abs().max() == 0


def test_self_attention_agrees_with_the_matrices_of_the_paper() -> None:
    layer = SelfAttention(8)
    layer.gamma.data.fill_(0.7)
    x = torch.randn(2, 8, 3, 4)
    q, k, v = (f(x).flatten(2) for f in (layer.query, layer.key, layer.value))
    weights = torch.einsum("ncq,nck->nqk", q, k).softmax(dim=2)
    expected = x + 0.7 * torch.einsum("nqk,nck->ncq", weights, v).reshape(x.shape)
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_layer_and_group_norm_treat_each_sample_alone_and_batch_norm_does_not() -> None:
    x = torch.randn(6, 12, 3, 3)
    for kind, alone in (("layer", True), ("group", True), ("batch", False)):
        norm = nn.Sequential(*norm_layer(kind, 12))
        changed = torch.cat([x[:1], 3 * x[1:] + 1])
        assert torch.allclose(norm(x)[0], norm(changed)[0], atol=1e-5) is alone
    assert norm_layer("none", 12) == []
