"""DCGAN generator, discriminator and encoder (Radford et al. 2015, arXiv:1511.06434).

Every network is a plain `nn.Sequential` of convolutions, batch norms and pointwise activations, so that
the ONNX exporter can fold it and write its vector-Jacobian product layer by layer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anogan.config import Config
from anogan.errors import ShapeError
from anogan.gan.blocks import (
    MinibatchDiscrimination,
    MinibatchStddev,
    SelfAttention,
    minibatch_layer,
    norm_layer,
)
from anogan.gan.condition import condition_dim, tile_channels

MINIBATCH = (MinibatchDiscrimination, MinibatchStddev)
TRAINING_ONLY = (*MINIBATCH, nn.Dropout2d)
MAX_WIDTH_FACTOR = 8  # Radford 2015 stops doubling at 8 times the first layer's channels.


@dataclass
class Networks:
    """The trained parts of a model; `encoder` is None for the search-only AnoGAN of 2017."""

    generator: nn.Sequential
    discriminator: nn.Sequential
    encoder: nn.Sequential | None

    @classmethod
    def of(cls, modules: Mapping[str, nn.Module]) -> Networks:
        """The networks whose `modules` these are."""
        parts = (modules.get(name) for name in ("generator", "discriminator", "encoder"))
        return cls(*parts)  # type: ignore[arg-type]

    def modules(self) -> dict[str, nn.Module]:
        """The networks that exist, by the name of their weights file."""
        parts: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        return parts if self.encoder is None else parts | {"encoder": self.encoder}

    def eval_frozen(self) -> Networks:
        """Puts every network in eval mode without gradients of its weights; returns itself.

        Batch statistics would make a score depend on its neighbours, and a search that can move
        G or D would adapt them to the defect.
        """
        for module in self.modules().values():
            module.eval().requires_grad_(False)
        return self


def build_networks(config: Config, *, training: bool = False) -> Networks:
    """Fresh networks for a config, weights from N(0, 0.02) as in Radford 2015.

    Args:
        config: Sizes and kinds of layers.
        training: Give D the layers that only training needs; `for_scoring` takes them out again.
    """
    network, size = config.network, config.tiles.size
    encoder = build_encoder_of(config) if config.encoder.mode != "none" else None
    generator = build_generator_of(config)
    if training:
        return Networks(generator, build_training_discriminator(config), encoder)
    discriminator = build_discriminator(
        size,
        tile_channels(config),
        network.width,
        norm=network.discriminator_norm,
        attention_at=network.attention_at,
    )
    return Networks(generator, discriminator, encoder)


def build_generator_of(config: Config) -> nn.Sequential:
    """A fresh generator for a config: (N, latent_dim + K, g, g) -> (N, C, t, t)."""
    network = config.network
    return build_generator(
        config.tiles.size,
        config.images.channels,
        network.latent_dim + condition_dim(config),
        network.latent_grid,
        network.width,
        upsampling=network.upsampling,
        norm=network.generator_norm,
        attention_at=network.attention_at,
    )


def build_training_discriminator(config: Config) -> nn.Sequential:
    """A fresh D as it trains: packs of images, spectral norm, dropout and batch comparison as configured."""
    gan, network = config.gan, config.network
    return build_discriminator(
        config.tiles.size,
        tile_channels(config) * gan.packing,
        network.width,
        norm=network.discriminator_norm,
        attention_at=network.attention_at,
        spectral_norm=gan.spectral_norm,
        dropout=gan.dropout,
        minibatch=gan.minibatch,
    )


def build_generator(
    size: int,
    channels: int,
    latent_dim: int,
    latent_grid: int,
    width: int,
    *,
    upsampling: str = "transpose",
    norm: str = "batch",
    attention_at: int = 0,
) -> nn.Sequential:
    """G: z (N, latent_dim, g, g), with its condition behind it -> image (N, channels, size, size) in [-1, 1].

    With g = 1 the first layer is the 4 x 4 projection of Radford 2015; a latent map starts with a
    3 x 3 convolution and is fully convolutional from there. `upsampling: resize` puts a nearest
    enlargement and a 3 x 3 convolution in the place of each transposed one.
    """
    side = 4 if latent_grid == 1 else latent_grid
    features = _channels_at(side, size, width)
    first: nn.Module
    if latent_grid == 1:
        first = nn.ConvTranspose2d(latent_dim, features, kernel_size=4, stride=1, padding=0, bias=False)
    else:
        first = nn.Conv2d(latent_dim, features, kernel_size=3, stride=1, padding=1, bias=False)
    layers: list[nn.Module] = [first, *norm_layer(norm, features), nn.ReLU()]
    while side < size:
        layers += [SelfAttention(features)] if side == attention_at else []
        side *= 2
        after = channels if side == size else _channels_at(side, size, width)
        layers += _enlarge(upsampling, features, after, bias=side == size or norm == "none")
        layers += [nn.Tanh()] if side == size else [*norm_layer(norm, after), nn.ReLU()]
        features = after
    return _initialised(nn.Sequential(*layers))


def _enlarge(upsampling: str, before: int, after: int, *, bias: bool) -> list[nn.Module]:
    if upsampling == "transpose":
        return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)]
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1, bias=bias)]


def build_discriminator(
    size: int,
    channels: int,
    width: int,
    *,
    norm: str = "batch",
    attention_at: int = 0,
    spectral_norm: bool = False,
    dropout: float = 0.0,
    minibatch: str = "none",
) -> nn.Sequential:
    """D: image (N, channels, size, size) -> logit (N, 1, 1, 1)."""
    layers = _downsampling(size, 4, channels, width, norm=norm, attention_at=attention_at, dropout=dropout)
    last = _channels_at(4, size, width)
    comparison = minibatch_layer(minibatch, last * 16)
    layers += [*comparison, nn.Conv2d(last + _extra_features(comparison), 1, kernel_size=4)]
    network = _initialised(nn.Sequential(*layers))
    if spectral_norm:
        for index, layer in enumerate(network):
            if isinstance(layer, nn.Conv2d):
                network[index] = nn.utils.parametrizations.spectral_norm(layer)
    return network


@torch.no_grad()
def for_scoring(discriminator: nn.Sequential, channels: int) -> nn.Sequential:
    """A plain copy of a trained D: the same hidden features for an image, without what only training needs.

    Spectral norm is folded into the weights; dropout and the comparison with the batch are left out, so
    that a score cannot depend on neighbours. A D that judges packs of k images sees the same image k
    times: that is the sum of its first layer's weights over the pack.
    """
    layers = [copy.deepcopy(layer) for layer in discriminator.eval() if not isinstance(layer, TRAINING_ONLY)]
    # A new layer, not `remove_parametrizations`: that would strip the trained one through their common class.
    layers = [_conv_like(layer) if nn.utils.parametrize.is_parametrized(layer) else layer for layer in layers]
    first, last = layers[0], layers[-1]
    if isinstance(first, nn.Conv2d) and first.in_channels != channels:
        weight = first.weight.unflatten(1, (-1, channels)).sum(dim=1)
        layers[0] = _conv_like(first, weight)
    if isinstance(last, nn.Conv2d) and (extra := _extra_features(discriminator)) > 0:
        # The logit of a lone image; scores use the hidden layers only.
        layers[-1] = _conv_like(last, last.weight[:, : last.in_channels - extra])
    return nn.Sequential(*layers)


def _extra_features(layers: Iterable[nn.Module]) -> int:
    return sum(layer.extra_features for layer in layers if isinstance(layer, MINIBATCH))


def _conv_like(layer: nn.Module, weight: Tensor | None = None) -> nn.Conv2d:
    assert isinstance(layer, nn.Conv2d)
    weight = layer.weight if weight is None else weight
    sides = layer.weight.shape[2]
    stride, padding = layer.stride[0], int(layer.padding[0])
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], sides, stride, padding, bias=layer.bias is not None)
    conv.weight = nn.Parameter(weight.clone())
    if layer.bias is not None:
        conv.bias = nn.Parameter(layer.bias.clone())
    return conv


def build_encoder_of(config: Config) -> nn.Sequential:
    """A fresh E for a config, see `build_encoder`."""
    network = config.network
    return build_encoder(
        config.tiles.size, tile_channels(config), network.latent_dim, network.latent_grid, network.width
    )


def build_encoder(size: int, channels: int, latent_dim: int, latent_grid: int, width: int) -> nn.Sequential:
    """E: image (N, channels, size, size) -> z (N, latent_dim, g, g), a mirror of the generator."""
    side = 4 if latent_grid == 1 else latent_grid
    layers = _downsampling(size, side, channels, width)
    features = _channels_at(side, size, width)
    if latent_grid == 1:
        layers.append(nn.Conv2d(features, latent_dim, kernel_size=4))
    else:
        layers += [
            nn.Conv2d(features, features, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.LeakyReLU(0.2),
            nn.Conv2d(features, latent_dim, kernel_size=3, padding=1),
        ]
    return _initialised(nn.Sequential(*layers))


def feature_stack(discriminator: nn.Sequential) -> nn.ModuleList:
    """D's hidden layers as stages; each stage ends after its activation and maps the one before.

    The logit layer is left out: its saturated output says nothing about what differs. So is dropout: features
    of the same image must be the same.
    """
    stages, current = [], []
    for layer in discriminator:
        if not isinstance(layer, nn.Dropout2d):
            current.append(layer)
        if isinstance(layer, nn.LeakyReLU):
            stages.append(nn.Sequential(*current))
            current = []
    return nn.ModuleList(stages)


def logit_layers(discriminator: nn.Sequential) -> nn.Sequential:
    """What follows the last stage of `feature_stack`, up to the logits: attention at 4 pixels as well."""
    layers = list(discriminator)
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.LeakyReLU))
    return nn.Sequential(*layers[last + 1 :])


def features(stages: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """f(x): the activations after each stage, (N, C_l, H_l, W_l), finest first."""
    activations = []
    for stage in stages:
        x = stage(x)
        activations.append(x)
    return activations


def check_images(x: Tensor, channels: int, size: int) -> None:
    """Refuses a batch that the networks do not take.

    Raises:
        ShapeError: If x is not (N, channels, size, size).
    """
    if x.ndim != 4 or tuple(x.shape[1:]) != (channels, size, size):
        raise ShapeError(f"Expected images (N, {channels}, {size}, {size}), got {tuple(x.shape)}.")


def _channels_at(side: int, size: int, width: int) -> int:
    return width * min(MAX_WIDTH_FACTOR, size // 2 // side)


def _downsampling(
    size: int,
    until: int,
    channels: int,
    width: int,
    *,
    norm: str = "batch",
    attention_at: int = 0,
    dropout: float = 0.0,
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    side, before = size, channels
    while side > until:
        side //= 2
        after = _channels_at(side, size, width)
        # No norm on the first layer (Radford 2015): it would hide the image's own brightness.
        norms = [] if side * 2 == size else norm_layer(norm, after)
        layers += [
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not norms),
            *norms,
            nn.LeakyReLU(0.2),
        ]
        layers += [nn.Dropout2d(dropout)] if dropout > 0 else []
        layers += [SelfAttention(after)] if side == attention_at else []
        before = after
    return layers


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
    return network


def latent_shape(config: Config) -> tuple[int, int, int]:
    """Shape of one z: (latent_dim, g, g)."""
    grid = config.network.latent_grid
    return config.network.latent_dim, grid, grid


def sample_prior(n: int, config: Config, generator: torch.Generator, device: torch.device) -> Tensor:
    """n codes from N(0, 1), (n, latent_dim, g, g); drawn on the CPU so that every device gets the same."""
    return torch.randn((n, *latent_shape(config)), generator=generator).to(device)
