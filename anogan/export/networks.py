"""A model's networks as layers, and what the graph reads of them: features, pictures, conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from anogan.export.gradient import forward
from anogan.export.graph import Graph
from anogan.export.layers import Convolution, Layer, fold
from anogan.export.pretrained import Pretrained
from anogan.gan.condition import condition_dim
from anogan.gan.networks import feature_stack
from anogan.scoring.inverter import starting_codes
from anogan.scoring.memory import Memory
from anogan.scoring.model import Model


@dataclass(frozen=True, eq=False)
class FoldedNetworks:
    """A model's networks as layers.

    Attributes:
        generator: z -> image.
        stages: D's hidden layers, one tuple per feature.
        encoder: Image -> z, or None.
        head: `head_input` -> logit, or None.
        feature_scales: (L,).
        fixed_starts: (R, d, g, g), the codes that a search starts from.
        image_shape: (C, t, t) of one tile's picture.
        bank: (B, d, g, g), the codes from which each tile's starts are taken, or None.
        condition: K, the maps of its condition behind it.
        contrast_window: Of what the head sees, pixels; 0 for none.
        pretrained: Pretrained features, or None where none count.
        memory: Of the head's false alarms, or None.
        quantised_encoder: A model that stands for `encoder`, or None.
    """

    generator: tuple[Layer, ...]
    stages: tuple[tuple[Layer, ...], ...]
    encoder: tuple[Layer, ...] | None
    head: tuple[Layer, ...] | None
    feature_scales: NDArray[np.float32]
    fixed_starts: NDArray[np.float32]
    image_shape: tuple[int, int, int]
    bank: NDArray[np.float32] | None = None
    condition: int = 0
    contrast_window: int = 0
    pretrained: Pretrained | None = None
    memory: Memory | None = None
    quantised_encoder: onnx.ModelProto | None = None

    @property
    def feature_shapes(self) -> list[tuple[int, int, int]]:
        """(C_l, H_l, W_l) of each of D's hidden layers."""
        _, side, _ = self.image_shape
        shapes = []
        for stage in self.stages:
            channels = 0
            for layer in stage:
                if isinstance(layer, Convolution):
                    kernel = layer.dilation * (layer.weight.shape[2] - 1) + 1
                    side = (side + 2 * layer.padding - kernel) // layer.stride + 1
                    channels = layer.weight.shape[0]
            shapes.append((channels, side, side))
        return shapes

    @classmethod
    def of(cls, model: Model, quantised_encoder: onnx.ModelProto | None = None) -> FoldedNetworks:
        """Folds a frozen model's networks."""
        networks, config = model.networks, model.config
        starts, bank = starting_codes(config)
        size = config.tiles.size
        shape = (config.images.channels, size, size)
        return cls(
            generator=fold(networks.generator, "generator"),
            stages=tuple(
                fold(stage.children(), "discriminator") for stage in feature_stack(networks.discriminator)
            ),
            encoder=None if networks.encoder is None else fold(networks.encoder, "encoder"),
            head=None if model.head is None else fold(model.head, "head"),
            feature_scales=np.asarray(model.feature_scales.cpu().numpy(), np.float32),
            fixed_starts=starts.numpy(),
            image_shape=shape,
            bank=None if bank is None else bank.numpy(),
            condition=condition_dim(config),
            contrast_window=config.head.contrast_window,
            pretrained=_pretrained(model, shape),
            memory=model.memory,
            quantised_encoder=quantised_encoder,
        )


def _pretrained(model: Model, image_shape: tuple[int, int, int]) -> Pretrained | None:
    """Nothing of a network that neither the search nor the score looks at goes into the file."""
    weight, config = model.config.features.search_weight, model.config
    if model.perceptual is None or not (weight > 0 or config.score.perceptual_weight > 0):
        return None
    return Pretrained.of(model.perceptual, image_shape, weight)


def features(g: Graph, networks: FoldedNetworks, x: str) -> list[str]:
    """f(x): the activations of D's hidden layers, finest first."""
    found = []
    for stage in networks.stages:
        x = forward(g, stage, x)[-1]
        found.append(x)
    return found


def image_of(g: Graph, networks: FoldedNetworks, tiles: str) -> str:
    """The pictures of tiles (N, C + K, t, t) without their condition."""
    return first_channels(g, tiles, networks.image_shape[0]) if networks.condition else tiles


def given(g: Graph, networks: FoldedNetworks, x: str, tiles: str) -> str:
    """Codes or pictures (N, d, h, w) under the condition of their tiles: (N, d + K, h, w)."""
    if not networks.condition:
        return x
    begin = [networks.image_shape[0], 0, 0]
    end = [begin[0] + networks.condition, 1, 1]
    condition = g.op("Slice", tiles, g.i64(begin), g.i64(end), g.i64([1, 2, 3]))
    sides = g.op("Concat", g.i64([1, 1]), g.op("Shape", x, start=2), axis=0)
    return g.op("Concat", x, g.op("Expand", condition, sides), axis=1)


def first_channels(g: Graph, x: str, channels: int) -> str:
    """(N, C, H, W) -> its first `channels` maps, which those of a condition follow."""
    return g.op("Slice", x, g.i64([0]), g.i64([channels]), g.i64([1]))
