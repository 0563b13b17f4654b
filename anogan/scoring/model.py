"""The trained parts together, and their exchange with plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anogan.config import Config
from anogan.errors import BundleError
from anogan.gan.networks import Networks, build_networks
from anogan.images.registration import Aligner
from anogan.scoring.head_network import build_head
from anogan.scoring.memory import Memory
from anogan.scoring.perceptual import COUNTER, Perceptual

_SCALES = "feature_scales"
_REGISTRATION, _REFERENCE, _ASPECT = "registration", "reference", "pixel_aspect"
Arrays = Mapping[str, Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Model:
    """Everything that was learned.

    Attributes:
        config: The settings it was trained with.
        networks: Generator, discriminator and, if any, encoder; frozen.
        feature_scales: (L,) mean activation per hidden layer of D on good tiles.
        head: The residual head, or None.
        image_size: (height, width) that images have when they are tiled; None when each keeps its own.
        aligner: What lays parts in place, or None where the config asks for no registration.
        perceptual: Pretrained features, or None.
        memory: Of the head's false alarms, or None.
    """

    config: Config
    networks: Networks
    feature_scales: Tensor
    head: nn.Sequential | None
    image_size: tuple[int, int] | None
    aligner: Aligner | None = None
    perceptual: Perceptual | None = None
    memory: Memory | None = None

    def to_arrays(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Network name -> tensor name -> float32 array."""
        modules: dict[str, nn.Module] = dict(self.networks.modules())
        if self.head is not None:
            modules["head"] = self.head
        if self.perceptual is not None:
            modules["perceptual"] = self.perceptual
        if self.memory is not None:
            modules["memory"] = self.memory
        arrays = {
            name: {
                key: value.detach().float().cpu().contiguous().numpy()
                for key, value in module.state_dict().items()
                if not key.endswith(COUNTER)
            }
            for name, module in modules.items()
        }
        arrays["discriminator"][_SCALES] = self.feature_scales.cpu().numpy()
        if self.aligner is not None:
            aspect = np.array(self.aligner.aspect, np.float64)
            arrays[_REGISTRATION] = {_REFERENCE: self.aligner.reference, _ASPECT: aspect}
        return arrays

    @classmethod
    def from_arrays(
        cls, config: Config, arrays: Arrays, image_size: tuple[int, int] | None, device: torch.device
    ) -> Model:
        """The model that `to_arrays` came from, frozen, on `device`.

        Raises:
            BundleError: Weights are missing or of another shape than the config says, or what the parts are
                registered to is.
        """
        networks = build_networks(config)
        if "encoder" not in arrays:
            networks.encoder = None
        modules: dict[str, nn.Module] = dict(networks.modules())
        head = build_head(config) if "head" in arrays else None
        if head is not None:
            modules["head"] = head
        # The weights file is not asked for again: what it held is part of the model.
        perceptual = None if config.features.weights is None else Perceptual(config.features.backbone)
        if perceptual is not None:
            modules["perceptual"] = perceptual
        memory = Memory.from_arrays(config, arrays["memory"]) if "memory" in arrays else None
        if memory is not None:
            modules["memory"] = memory
        for name, module in modules.items():
            _load(name, module, arrays)
            # Images stay in one memory layout through all networks: a score must not depend on it.
            module.eval().requires_grad_(False).to(device)
        scales = torch.from_numpy(np.array(arrays["discriminator"][_SCALES])).to(device)
        return cls(
            config,
            networks,
            scales,
            head,
            image_size,
            _aligner(config, arrays, image_size),
            perceptual,
            memory,
        )


def _aligner(config: Config, arrays: Arrays, image_size: tuple[int, int] | None) -> Aligner | None:
    motion = config.images.registration
    if motion == "none":
        return None
    found = arrays.get(_REGISTRATION, {})
    reference, aspect = (found.get(name, np.zeros(())) for name in (_REFERENCE, _ASPECT))
    # Models of before the aspect was kept were registered by another method, and calibrated with that.
    if reference.shape != image_size or not (aspect.size == 1 and 0 < float(aspect) < np.inf):
        raise BundleError(
            "The model registers parts but holds no reference picture for that; fit the model again."
        )
    return Aligner(np.asarray(reference, np.float32), motion, float(aspect))


def _load(name: str, module: nn.Module, arrays: Arrays) -> None:
    try:
        state = {
            key: torch.from_numpy(np.array(value)) for key, value in arrays[name].items() if key != _SCALES
        }
        missing = module.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError) as error:
        raise BundleError(f"The weights of the {name} do not fit its config; fit the model again.") from error
    lost = [key for key in missing.missing_keys if not key.endswith(COUNTER)]
    if lost or missing.unexpected_keys:
        raise BundleError(
            f"The weights of the {name} do not fit its config (first: "
            f"{(lost + missing.unexpected_keys)[0]}); fit the model again."
        )
