"""What a GAN has to beat: older and simpler ways to the same anomaly map.

Each is fitted on the training tiles alone and judged like a model: the same smoothing, the same calibration
of the map, the same conformal threshold. They are for comparison and are neither saved nor exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from anogan.config import Config
from anogan.errors import ConfigError
from anogan.scoring.baselines.autoencoder import Loss, fit_autoencoder
from anogan.scoring.baselines.patches import fit_patch_neighbours, fit_patch_pca
from anogan.scoring.baselines.pixels import fit_pixel_statistics
from anogan.scoring.baselines.scorer import Baseline, BaselineScorer, Pixels

OnStep = Callable[[int, int], None]
BASELINES = {
    "pixel statistics": "mean and standard deviation of each pixel (variation model)",
    "patch neighbours": "distance to the nearest good patch in PCA space",
    "patch PCA": "what the principal components of good patches leave over",
    "autoencoder L2": "residual of a convolutional autoencoder of the config's shape, squared error",
    "autoencoder SSIM": "the same trained and judged by structural similarity",
}
"""Name -> what it is."""

__all__ = ["BASELINES", "Baseline", "BaselineScorer", "fit_baseline"]


def fit_baseline(
    name: str,
    images: Sequence[Pixels],
    config: Config,
    device: torch.device,
    on_step: OnStep = lambda *_: None,
) -> Baseline:
    """Fits one of `BASELINES`.

    Args:
        name: Its key there.
        images: (H, W, C) uint8 or uint16 good training images at network resolution.
        config: Shapes, augmentation and seed.
        device: For the autoencoders.
        on_step: Told (done, total) by those that train in steps.

    Raises:
        ConfigError: There is no baseline of this name.
        DataError: The images do not fit it.
    """
    if name == "pixel statistics":
        return fit_pixel_statistics(images, config)
    if name == "patch neighbours":
        return fit_patch_neighbours(images, config)
    if name == "patch PCA":
        return fit_patch_pca(images, config)
    losses: dict[str, Loss] = {"autoencoder L2": "l2", "autoencoder SSIM": "ssim"}
    if name not in losses:
        raise ConfigError(f"There is no baseline {name!r}; expected one of {', '.join(BASELINES)}.")
    return fit_autoencoder(images, config, losses[name], device, on_step)
