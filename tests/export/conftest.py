"""Tiny models with weights that make every term of the objective count, and sessions for their graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from anogan.calibration import LIMITED, MapStatistics, calibrate, part_name
from anogan.config import Config, config_from_dict
from anogan.gan.blocks import SelfAttention
from anogan.gan.networks import build_networks, feature_stack
from anogan.images.registration import Aligner, grey
from anogan.images.tiling import scaled_size
from anogan.scoring import Model, Scorer
from anogan.scoring.head_network import build_head
from anogan.scoring.memory import Memory

Run = Callable[..., dict[str, NDArray[Any]]]


def small_config(**sections: Any) -> Config:
    """32-pixel tiles, four channels wide; `sections` override single keys."""
    tree: dict[str, Any] = {
        "images": {"channels": 3},
        "tiles": {"size": 32, "overlap": 8},
        "network": {"width": 4, "latent_dim": 6},
        "head": {"width": 4},
        "search": {"steps": 3, "learning_rate": 0.02},
        "calibration": {"map": "global"},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return config_from_dict(tree, "a test")


def live(network: nn.Module) -> nn.Module:
    """Weights and running statistics as of a trained network: no dead layer, no identity batch norm."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            fan = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.weight[:, 0].numel() / 4
            nn.init.normal_(layer.weight, 0.0, fan**-0.5)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, 0.0, 0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.6, 1.4)
            nn.init.normal_(layer.bias, 0.0, 0.2)
            nn.init.normal_(layer.running_mean, 0.0, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
        elif isinstance(layer, SelfAttention):
            nn.init.constant_(layer.gamma, 0.7)  # 0 before training, when attention does nothing.
        elif isinstance(layer, nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.6, 1.4)
            nn.init.normal_(layer.bias, 0.0, 0.2)
    return network.eval().requires_grad_(False)


def build_model(
    config: Config, image_size: tuple[int, int] | None = None, *, with_head: bool = True
) -> Model:
    """A frozen model with random live weights."""
    torch.manual_seed(1)
    networks = build_networks(config)
    for module in networks.modules().values():
        live(module)
    head = live(build_head(config)) if with_head else None
    scales = torch.linspace(0.5, 1.5, len(feature_stack(networks.discriminator)))
    memory = live_memory(config) if with_head and config.memory.patches else None
    aligner, motion = None, config.images.registration
    if image_size is not None and motion != "none":
        aligner = Aligner(grey(random_images(1, image_size)[0], 255), motion)
    return Model(config, networks, scales, head, image_size, aligner=aligner, memory=memory)  # type: ignore[arg-type]


def live_memory(config: Config) -> Memory:
    """Remembers random patches, some of them near to what any picture shows."""
    side, channels, n = config.memory.window, config.images.channels, 5
    kernels = torch.randn(n, channels, side, side) / (channels * side**2) ** 0.5
    patches = 0.5 * torch.randn(config.memory.patches, n)
    alarm, pattern = config.memory.alarm, config.memory.compare == "pattern"
    reach = torch.tensor(0.7)
    return Memory(kernels, 0.1 * torch.randn(n), patches, reach, alarm=alarm, pattern=pattern)


def build_torch_scorer(model: Model, threshold: float = 5.8, map_size: tuple[int, int] = (1, 1)) -> Scorer:
    """The model with invented map statistics; good scores are spread around `threshold`."""
    rng = np.random.default_rng(3)
    names = ["residual", "discrimination"] + ([] if model.head is None else ["head"])
    names += [] if model.perceptual is None else ["perceptual"]
    statistics = {}
    for scale in model.config.tiles.scales:
        size = (1, 1) if map_size == (1, 1) else scaled_size(map_size, scale)
        statistics |= {
            part_name(name, scale): MapStatistics(
                rng.uniform(0.1, 0.6, size).astype(np.float32),
                rng.uniform(0.1, 0.3, size).astype(np.float32),
            )
            for name in names
        }
    scores = np.linspace(0, threshold, 99)
    return Scorer(model, calibrate(scores, false_reject=0.01, review_share=0.1, statistics=statistics))


def random_images(n: int, size: tuple[int, int], channels: int = 3, bit_depth: int = 8) -> list[NDArray[Any]]:
    """Smooth pictures with a bright spot, all different."""
    rng = np.random.default_rng(5)
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    y, x = np.mgrid[: size[0], : size[1]]
    images = []
    for _ in range(n):
        waves = [np.sin(rng.uniform(0.05, 0.4) * x + rng.uniform(0.05, 0.4) * y) for _ in range(channels)]
        picture = 0.5 + 0.3 * np.stack(waves, axis=-1) + 0.02 * rng.standard_normal((*size, channels))
        top, left = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
        picture[top : top + 5, left : left + 5] = 1
        images.append((picture.clip(0, 1) * (2**bit_depth - 1)).astype(dtype))
    return images


def session_run(model: onnx.ModelProto) -> Run:
    """Checks a model and returns `run(**inputs) -> outputs by name`."""
    onnx.checker.check_model(model, full_check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(**inputs: Any) -> dict[str, NDArray[Any]]:
        feed = {name: np.asarray(value) for name, value in inputs.items()}
        return dict(zip(names, session.run(names, feed), strict=True))

    return run


@pytest.fixture
def run_graph() -> Callable[..., Run]:
    """`run_graph(graph, inputs={name: (type, rank)}, outputs={name: (type, rank)})` -> `run`."""
    from onnx import helper

    def info(values: dict[str, tuple[int, int]]) -> Sequence[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, kind, [f"{name}{axis}" for axis in range(rank)])
            for name, (kind, rank) in values.items()
        ]

    def load(graph: Any, inputs: dict[str, tuple[int, int]], outputs: dict[str, tuple[int, int]]) -> Run:
        return session_run(graph.finish("test", info(inputs), info(outputs)))

    return load


def limited_to(scorer: Scorer, image: NDArray[Any]) -> Scorer:
    """The scorer, to which nothing but this image (H, W, C) is like a good one."""
    assert scorer.calibration is not None
    found = scorer.score([image])[0]
    limits = {name: (0.99 * value, 1.01 * value) for name in LIMITED if (value := getattr(found, name))}
    return scorer.with_calibration(replace(scorer.calibration, limits=limits))
