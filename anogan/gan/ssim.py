"""Structural similarity, as a loss and as a residual."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anogan.calibration import gaussian_kernel

_SIGMA = 1.5  # A window of 11 x 11, as in Wang et al. 2004.
_C1, _C2 = 0.01**2, 0.03**2  # K1, K2 of Wang et al. for values in [0, 1].


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity per pixel and channel (Wang et al. 2004, doi:10.1109/TIP.2003.819861, eq. 13).

    Gaussian window of 11 x 11 pixels, edges mirrored.

    Args:
        x: (N, C, H, W) in [-1, 1], at least 6 pixels a side.
        y: The same shape.

    Returns:
        (N, C, H, W) in [-1, 1]; 1 where the two agree.
    """
    # Half precision would lose the small differences that variances are.
    with torch.autocast(x.device.type, enabled=False):
        return _ssim(x.float(), y.float())


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    # To [0, 1]: of negative brightness the formula would call an image and its negative alike.
    x, y = (x + 1) / 2, (y + 1) / 2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return likeness / ((mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2))


def _window_mean(x: Tensor) -> Tensor:
    kernel = torch.from_numpy(gaussian_kernel(_SIGMA)).to(x)
    radius, channels = len(kernel) // 2, x.shape[1]
    padded = F.pad(x, (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
