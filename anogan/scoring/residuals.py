"""Pixel terms of the search objective, and the mask that keeps a defect from pulling z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anogan.config import SearchConfig
from anogan.errors import ShapeError
from anogan.scoring.smooth import RESIDUAL_STEEPNESS, smooth_abs

CHARBONNIER_EPS = 1e-2  # In [-1, 1] units: about one grey level of 256 counts as no difference.
MAX_MASKED = 0.25  # Share of pixels; a start far from the image differs everywhere and must still be pulled.


def residual_score(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean absolute pixel difference, one value per image.

    The residual loss of Schlegl et al. 2017 (arXiv:1703.05921, eq. 2), as a mean so that it does
    not grow with the image.

    Args:
        x: Images, (N, C, H, W), in [-1, 1].
        reconstruction: G(z) for the same images, same shape and range.

    Returns:
        (N,), in [0, 2]; higher is more anomalous.

    Raises:
        ShapeError: If the shapes differ.
    """
    if x.shape != reconstruction.shape:
        raise ShapeError(f"x is {tuple(x.shape)} but its reconstruction {tuple(reconstruction.shape)}.")
    return (x - reconstruction).abs().flatten(1).mean(dim=1)


def charbonnier_residual(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean of sqrt(d^2 + eps^2), (N,): |d| with a gradient that vanishes smoothly at 0."""
    squared = (x - reconstruction).square() + CHARBONNIER_EPS**2
    return squared.sqrt().flatten(1).mean(dim=1)


def trimmed_residual(x: Tensor, reconstruction: Tensor, share: float) -> Tensor:
    """Mean absolute difference of the (1 - share) best fitting pixels of each image, (N,).

    Least trimmed absolute deviations (Hawkins & Olive 1999): what is ignored does not move z, so a defect
    up to `share` of the tile leaves the reconstruction of everything else alone.
    """
    differences = _per_pixel(x, reconstruction).flatten(1)
    kept = math.ceil((1 - share) * differences.shape[1])
    limit = _kth_smallest(differences.detach(), kept)
    return (differences * (differences <= limit)).sum(dim=1) / kept


def pixel_term(x: Tensor, reconstruction: Tensor, config: SearchConfig) -> Tensor:
    """The configured residual, (N,)."""
    if config.residual == "trimmed":
        return trimmed_residual(x, reconstruction, config.trimmed_share)
    if config.residual == "l1" and config.gradient == "smooth":
        return smooth_abs(x - reconstruction, RESIDUAL_STEEPNESS).flatten(1).mean(dim=1)
    return _RESIDUALS[config.residual](x, reconstruction)


def defect_mask(x: Tensor, reconstruction: Tensor, level: float) -> Tensor:
    """The mask M that is best for this reconstruction, (N, 1, H, W) in {0, 1}.

    For mean((1 - M) |x - G(z)|) + level mean(M), the sparse mask of RGI (Mou et al. 2022, arXiv:2302.12464),
    the best M is known: 1 where the difference exceeds `level`. So z and M are searched together
    although only z takes steps.

    Args:
        x: (N, C, H, W) in [-1, 1].
        reconstruction: G(z), same shape.
        level: Cost of masking a pixel, in (0, 2]; the largest differences only, at most a quarter of
            the image, are masked.
    """
    differences = _per_pixel(x, reconstruction).detach()
    limit = _kth_smallest(differences.flatten(1), math.ceil((1 - MAX_MASKED) * differences[0].numel()))
    return (differences > limit.clamp_min(level).view(-1, 1, 1, 1)).float()


def masked_image(x: Tensor, reconstruction: Tensor, mask: Tensor) -> Tensor:
    """x with G(z) where it is masked: there it fits, whatever z is; (N, C, H, W)."""
    return torch.where(mask > 0, reconstruction.detach(), x)


def _per_pixel(x: Tensor, reconstruction: Tensor) -> Tensor:
    return (x - reconstruction).abs().mean(dim=1, keepdim=True)


def _kth_smallest(rows: Tensor, k: int) -> Tensor:
    return rows.kthvalue(max(1, k), dim=1, keepdim=True).values


_RESIDUALS = {"l1": residual_score, "charbonnier": charbonnier_residual}
