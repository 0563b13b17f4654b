"""Optional pretrained features: what differs in the eyes of a network that has seen other pictures.

The weights come from a file that the user names; nothing is ever downloaded. They are kept in the model
folder, so that a model scores without the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.config import FeaturesConfig
from anogan.errors import ConfigError

# Statistics of ImageNet, which every torchvision weights file was trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STEM = ("conv1", "bn1", "relu", "maxpool")
_STAGES = ("layer1", "layer2", "layer3")  # layer4 is trained on kinds of objects, not on texture.
UNIT_EPS = 1e-6
COUNTER = "num_batches_tracked"  # A counter of training, without meaning for a frozen network.


class Perceptual(nn.Module):
    """The first three stages of a torchvision ResNet, frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str) -> None:
        """Random weights; see `load_perceptual`."""
        super().__init__()
        import torchvision  # type: ignore[import-untyped]

        net: Any = torchvision.models.get_model(backbone, weights=None)
        for name in (*_STEM, *_STAGES):
            self.add_module(name, getattr(net, name))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Activations after each stage, every pixel's vector of length 1.

        Args:
            x: (N, C, H, W) in [-1, 1]; one channel is repeated.

        Returns:
            (N, C_l, H / 4, W / 4), then / 8 and / 16.
        """
        colour = x.float().expand(-1, 3, -1, -1) if x.shape[1] == 1 else x.float()
        x = ((colour + 1) / 2 - self.mean) / self.std
        found = []
        for stage in self.stages():
            for module in stage:
                x = module(x)
            found.append(F.normalize(x, dim=1, eps=UNIT_EPS))
        return found

    def stages(self) -> list[list[nn.Module]]:
        """What is applied in turn up to each stage's end; the stem begins the first one."""
        stages = [list(self.get_submodule(name).children()) for name in _STAGES]
        return [[self.get_submodule(name) for name in _STEM] + stages[0], *stages[1:]]


def perceptual_map(wanted: list[Tensor], got: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Squared difference of unit feature vectors per pixel, averaged over stages.

    LPIPS without its learned weights (Zhang et al. 2018, arXiv:1801.03924, eq. 1); coarse stages are enlarged
    bilinearly.

    Args:
        wanted: Features of the image, see `Perceptual.forward`.
        got: Features of its reconstruction.
        size: (H, W) of the map.

    Returns:
        (N, 1, H, W), in [0, 4]; higher is more anomalous.
    """
    stages = [
        F.interpolate(
            (a - b).square().sum(dim=1, keepdim=True), size=size, mode="bilinear", align_corners=False
        )
        for a, b in zip(wanted, got, strict=True)
    ]
    return torch.stack(stages).mean(dim=0)


def perceptual_score(wanted: list[Tensor], got: list[Tensor]) -> Tensor:
    """Mean squared difference of unit feature vectors, (N,), in [0, 4]: the search's perceptual term."""
    stages = [(a - b).square().sum(dim=1).flatten(1).mean(dim=1) for a, b in zip(wanted, got, strict=True)]
    return torch.stack(stages).mean(dim=0)


def load_perceptual(config: FeaturesConfig) -> Perceptual | None:
    """The features of `features.weights`, or None where the config names no file.

    Raises:
        ConfigError: The file is missing, not safetensors, or not of this backbone.
    """
    if config.weights is None:
        return None
    features = Perceptual(config.backbone)
    state = _read(Path(config.weights))
    # Many files leave the counters out.
    wanted = {k: v for k, v in features.state_dict().items() if not k.endswith(COUNTER)}
    missing = sorted(set(wanted) - set(state))
    wrong = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or wrong:
        raise ConfigError(
            f"features.weights {config.weights} does not fit features.backbone {config.backbone} (first: "
            f"{(missing + wrong)[0]}); give the state dict of torchvision's {config.backbone}, saved as "
            "safetensors."
        )
    features.load_state_dict({key: state[key] for key in wanted}, strict=False)
    return features


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"features.weights {path} cannot be read: {reason}; name a file on disk."
        ) from error
    except SafetensorError as error:
        raise ConfigError(
            f"features.weights {path} is not a safetensors file ({error}); convert it once with "
            "safetensors.torch.save_file(state_dict, path)."
        ) from error
