"""Structural similarity says what its paper says, in any precision around it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anogan.gan.ssim import ssim


def test_similarity_of_an_image_with_itself_is_1_and_falls_with_noise() -> None:
    x = torch.rand(1, 2, 24, 24) * 2 - 1
    noise = torch.randn_like(x)

    torch.testing.assert_close(ssim(x, x), torch.ones_like(x))
    falling = [float(ssim(x, x + level * noise).mean()) for level in (0.0, 0.1, 0.3, 1.0)]
    assert falling == sorted(falling, reverse=True)
    assert float(ssim(x, -x).mean()) < 0


def test_similarity_is_equation_13_of_wang_2004() -> None:
    x, y = torch.rand(1, 1, 11, 11) * 2 - 1, torch.rand(1, 1, 11, 11) * 2 - 1
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = ((v.numpy()[0, 0].astype(float) + 1) / 2 for v in (x, y))
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    spread = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (
        (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread + c2))
    )

    assert float(ssim(x, y)[0, 0, 5, 5]) == pytest.approx(expected, abs=1e-4)


def test_half_precision_around_it_changes_nothing() -> None:
    x = torch.rand(1, 1, 24, 24) * 0.02  # Nearly even: its variance is below what bfloat16 can tell from 0.
    y = (x + torch.randn_like(x) * 0.002).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ssim(x, y)
    torch.testing.assert_close(found, ssim(x, y))
    found.mean().backward()
    assert y.grad is not None
    assert y.grad.isfinite().all()
