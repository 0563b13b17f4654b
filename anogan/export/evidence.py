"""From found codes to scores, maps and a verdict, as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from anogan.calibration import Calibration, Limits, part_kind
from anogan.config import ScoreConfig
from anogan.errors import CalibrationError
from anogan.export.geometry import COLUMNS, ROWS, length
from anogan.export.gradient import enlarge, forward
from anogan.export.graph import DOUBLE, FLOAT, INT64, Graph
from anogan.export.memory import weakened
from anogan.export.networks import FoldedNetworks, features, given, image_of
from anogan.export.pretrained import perceptual_map, unit_features
from anogan.scoring.evidence import score_weights
from anogan.scoring.maps import CONTRAST_FLOOR

PASS, REVIEW, REJECT = 0, 1, 2


@dataclass(frozen=True)
class TileEvidence:
    """What the search found about each tile.

    Attributes:
        maps: Kind of evidence -> (T, 1, t, t), not smoothed.
        residual: (T,), R(x).
        discrimination: (T,), D(x).
    """

    maps: dict[str, str]
    residual: str
    discrimination: str


def tile_evidence(g: Graph, networks: FoldedNetworks, x: str, reconstruction: str) -> TileEvidence:
    """Residual, discrimination, head and perceptual maps of tiles (T, C + K, t, t) and their scores."""
    image = image_of(g, networks, x)
    signed = g.op("Sub", image, reconstruction)
    difference = g.op("Abs", signed)
    discrimination = _discrimination_map(g, networks, x, given(g, networks, reconstruction, x))
    maps = {
        "residual": g.op("ReduceMean", difference, g.i64([1]), keepdims=1),
        "discrimination": discrimination,
    }
    if networks.head is not None:
        seen = [x, reconstruction, difference, discrimination]
        if networks.contrast_window:
            seen += _local_contrast(g, image, signed, networks.contrast_window)
        logits = forward(g, networks.head, g.op("Concat", *seen, axis=1))[-1]
        memory = networks.memory
        maps["head"] = logits if memory is None else weakened(g, memory, image, logits)
    if (pretrained := networks.pretrained) is not None:
        wanted = unit_features(g, pretrained, image)
        maps["perceptual"] = perceptual_map(
            g, pretrained, wanted, unit_features(g, pretrained, reconstruction)
        )
    return TileEvidence(maps, _tile_mean(g, difference), _tile_mean(g, discrimination))


def _local_contrast(g: Graph, x: str, difference: str, window: int) -> list[str]:
    """`local_contrast` of (N, C, t, t), its two halves."""
    centred = g.op("Sub", x, _local_mean(g, x, window))
    spread = g.op("Sqrt", _local_mean(g, g.op("Mul", centred, centred), window))
    deviation = g.op("Add", spread, g.f32(CONTRAST_FLOOR))
    return [g.op("Div", centred, deviation), g.op("Div", difference, deviation)]


def _local_mean(g: Graph, x: str, window: int) -> str:
    half = window // 2
    rows = g.op("AveragePool", x, kernel_shape=[window, 1], pads=[half, 0, half, 0])
    return g.op("AveragePool", rows, kernel_shape=[1, window], pads=[0, half, 0, half])


def _tile_mean(g: Graph, x: str) -> str:
    return g.op("ReduceMean", x, g.i64([1, 2, 3]), keepdims=0)


def _discrimination_map(g: Graph, networks: FoldedNetworks, x: str, reconstruction: str) -> str:
    wanted, got = features(g, networks, x), features(g, networks, reconstruction)
    side = networks.image_shape[1]
    layers = []
    for a, b, scale, (_, feature_side, _) in zip(
        wanted, got, networks.feature_scales, networks.feature_shapes, strict=True
    ):
        difference = _channel_mean(g, g.op("Abs", g.op("Sub", a, b)))
        layers.append(enlarge(g, g.op("Div", difference, g.f32(scale)), side // feature_side))
    return g.op("Div", g.op("Sum", *layers), g.f32(len(layers)))


def _channel_mean(g: Graph, x: str) -> str:
    """(N, 1, H, W): mean over many channels.

    `ReduceMean` along axis 1 adds up in another order where the batch is one image; along the last axis not.
    """
    last = g.op("ReduceMean", g.op("Transpose", x, perm=[0, 2, 3, 1]), g.i64([3]), keepdims=0)
    return g.op("Unsqueeze", last, g.i64([1]))


def used_parts(names: Sequence[str], config: ScoreConfig) -> list[str]:
    """The kinds of evidence that count, in the order in which they are summed."""
    weights = score_weights(config)
    return [name for name in names if weights[name] > 0]


def calibrated_map(
    g: Graph, parts: str, names: Sequence[str], calibration: Calibration, config: ScoreConfig
) -> str:
    """`combine`: smoothed parts (N, P, h, w) -> map (N, 1, h, w) in standard deviations of good parts."""
    missing = [name for name in names if name not in calibration.statistics]
    if missing:
        raise CalibrationError(f"The calibration knows no part {missing[0]!r}; calibrate the model again.")
    statistics = [calibration.statistics[name] for name in names]
    mean = g.f32(np.stack([s.mean for s in statistics]))
    std = g.f32(np.stack([s.std for s in statistics]))
    weights = [score_weights(config)[part_kind(name)] for name in names]
    norm = math.sqrt(sum(w**2 for w in weights))
    shares = g.f32(np.reshape([w / norm for w in weights], (-1, 1, 1)))
    normalised = g.op("Div", g.op("Sub", parts, mean), std)
    return g.op("ReduceSum", g.op("Mul", normalised, shares), g.i64([1]), keepdims=1)


def pooled(g: Graph, anomaly_map: str, config: ScoreConfig) -> str:
    """`pool` of (N, 1, h, w): (N,); not a number where any counted pixel is not."""
    border = config.border
    if border:
        anomaly_map = g.op(
            "Slice", anomaly_map, g.i64([border, border]), g.i64([-border, -border]), g.i64([ROWS, COLUMNS])
        )
    flat = g.op("Flatten", anomaly_map, axis=1)
    if config.pooling == "max":
        value = g.op("ReduceMax", flat, g.i64([1]), keepdims=0)
    else:
        share = g.f64(config.top_share)
        count = g.op("Mul", g.cast(length(g, flat, 1), DOUBLE), share)
        k = g.op("Reshape", g.cast(g.op("Ceil", count), INT64), g.i64([1]))
        top = g.ops("TopK", 2, flat, k, axis=1, sorted=0)[0]
        value = g.cast(g.op("ReduceMean", g.cast(top, DOUBLE), g.i64([1]), keepdims=0), FLOAT)
    # A maximum may pass over what is not a number.
    broken = g.op("ReduceMax", g.cast(g.op("IsNaN", flat), FLOAT), g.i64([1]), keepdims=0)
    return g.op("Where", g.op("Greater", broken, g.f32(0)), g.f32(np.nan), value)


def verdict(g: Graph, score: str, threshold: str, review_threshold: str) -> str:
    """`decide`: 0 pass, 1 review, 2 reject, (N,) int64; what is not finite goes to review."""
    review = g.op("Min", review_threshold, threshold)
    above = g.op(
        "Add",
        g.cast(g.op("Greater", score, review), INT64),
        g.cast(g.op("Greater", score, threshold), INT64),
    )
    # A host may give a threshold that is no number, above which nothing lies: never a silent pass.
    unknown = g.op("IsInf", score)
    for value in (score, threshold, review_threshold):
        unknown = g.op("Or", unknown, g.op("IsNaN", value))
    return g.op("Where", unknown, g.i64(REVIEW), above)


def at_least_reviewed(g: Graph, decided: str, promised: str) -> str:
    """The verdict (N,), no pass where the image was not inspected as promised."""
    return g.op("Where", promised, decided, g.op("Max", decided, g.i64(REVIEW)))


def in_distribution(g: Graph, limits: Limits) -> str:
    """`within`, (N,); what is no number lies nowhere."""
    sides = []
    for name, (low, high) in limits.items():
        sides += [g.op("GreaterOrEqual", name, g.f32(low)), g.op("LessOrEqual", name, g.f32(high))]
    return g.rename(reduce(lambda a, b: g.op("And", a, b), sides), "in_distribution")


def spread(g: Graph, anomaly_map: str, pixels: int) -> str:
    """`spread` of (N, 1, h, w)."""
    if pixels == 0:
        return anomaly_map
    side = 2 * pixels + 1
    return g.op("MaxPool", anomaly_map, kernel_shape=[side, side], pads=[pixels] * 4)
