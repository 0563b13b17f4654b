"""The whole station graph: raw pixels in, verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx
from onnx import helper, numpy_helper

from anogan.calibration import Calibration, part_name
from anogan.config import Config
from anogan.errors import ExportError
from anogan.export.evidence import (
    at_least_reviewed,
    calibrated_map,
    in_distribution,
    pooled,
    spread,
    tile_evidence,
    used_parts,
    verdict,
)
from anogan.export.geometry import (
    COLUMNS,
    ROWS,
    Tiling,
    cut,
    length,
    resize,
    scaled_length,
    smooth,
    stitch,
    tiling,
    with_positions,
    with_variants,
)
from anogan.export.gradient import forward
from anogan.export.graph import BOOL, DOUBLE, FLOAT, INT64, UINT8, UINT16, Graph, Precision
from anogan.export.networks import FoldedNetworks, given
from anogan.export.registration import Pose, find_pose, from_reference, seen, to_reference
from anogan.export.search import latent_search
from anogan.export.support import refuse_unsupported
from anogan.images.exposure import DARKEST, LEVEL
from anogan.images.tiling import scaled_size
from anogan.scoring.model import Model
from anogan.scoring.scorer import CHUNK_PIXELS

_PAIRS_PER_PIXEL = 64
_DTYPES = {8: UINT8, 16: UINT16}


@dataclass(frozen=True)
class Found:
    """Per-tile results, stacked over all tiles.

    Attributes:
        pictures: (T, P + C, t, t): evidence maps in order, then the reconstruction.
        scores: (T, 3): R, D, A.
        steps_used: (T,) int64.
    """

    pictures: str
    scores: str
    steps_used: str


@dataclass(frozen=True)
class Version:
    """The image at one scale: how it is covered by tiles, and how many those of all images are (scalar)."""

    scale: float
    rows: Tiling
    columns: Tiling
    n_tiles: str


@dataclass(frozen=True)
class Cut:
    """Images cut into tiles.

    Attributes:
        versions: One for each scale.
        tiles: (T, C + K, t, t) in [-1, 1], of all images, scale by scale.
        height: Of the images at network resolution, int64 scalar.
        width: The same.
        brightness: `anogan.images.exposure.brightness` of each image, (N, 1, 1, 1).
        gain: What each image was multiplied with, (N, 1, 1, 1); None where each keeps its own exposure.
        pose: How each part lies; None for a model that does not register.
    """

    versions: list[Version]
    tiles: str
    height: str
    width: str
    brightness: str
    gain: str | None
    pose: Pose | None


def resizes(model: Model) -> bool:
    """Whether images of another size are resized rather than refused."""
    images = model.config.images
    return model.image_size is not None and (images.size is not None or images.on_mixed_sizes == "resize")


def build_scorer(
    model: Model,
    calibration: Calibration,
    *,
    precision: Precision = "fp32",
    chunk_pixels: int = CHUNK_PIXELS,
    quantised_encoder: onnx.ModelProto | None = None,
) -> onnx.ModelProto:
    """The graph that scores images as `anogan.scoring.Scorer` does.

    Inputs: `image` (N, H, W, C) uint8 or uint16; optional `threshold`, `review_threshold` (float32
    scalars) and `steps` (int64 scalar); for a model with variants `variant` (N,) int64, their places in
    `network.variants`. Outputs: `score`, `verdict` (0 pass, 1 review, 2 reject),
    `residual_score`, `discrimination_score`, `anomaly_score`, `steps_used`, `brightness`, for a
    model that registers `registered` and for one with limits `in_distribution` (N,); `anomaly_map`
    (N, H, W); `reconstruction` (N, H, W, C) of the image's type.

    Args:
        model: Frozen networks.
        calibration: Map statistics and thresholds.
        precision: Of the convolutions; see `Precision`.
        chunk_pixels: Tiles of so many pixels are searched at once; bounds the memory, not the image.
        quantised_encoder: What stands for the encoder, `x` -> `z`, with precision int8.

    Raises:
        ExportError: The model has something that the graph cannot hold.
    """
    config = model.config
    refuse_unsupported(config)
    networks = FoldedNetworks.of(model, quantised_encoder)
    g = Graph(precision=precision)
    _write(g, model, networks, calibration, chunk_pixels)
    steps = helper.make_tensor_value_info("steps", INT64, [])
    inputs = [*image_inputs(model), *threshold_inputs(), steps]
    defaults = [
        *thresholds(calibration),
        numpy_helper.from_array(np.array(config.search.steps, np.int64), "steps"),
    ]
    return g.finish("anogan", inputs, outputs(config, calibration), defaults)


def image_inputs(model: Model) -> list[onnx.ValueInfoProto]:
    """Raw pixels and, for a model with variants, which one they show."""
    images = model.config.images
    fixed = model.image_size is not None and not resizes(model)
    height, width = model.image_size if fixed and model.image_size else ("height", "width")
    # Without a default: a part must not be judged as another variant because nobody said which it is.
    variants = [helper.make_tensor_value_info("variant", INT64, ["batch"])]
    return [
        helper.make_tensor_value_info(
            "image", _DTYPES[images.bit_depth], ["batch", height, width, images.channels]
        ),
        *(variants if model.config.network.condition == "variant" else []),
    ]


def threshold_inputs() -> list[onnx.ValueInfoProto]:
    """Optional inputs that decide the verdict."""
    return [helper.make_tensor_value_info(name, FLOAT, []) for name in ("threshold", "review_threshold")]


def outputs(config: Config, calibration: Calibration) -> list[onnx.ValueInfoProto]:
    """What the file tells of images."""
    sides = ["batch", "height", "width"]
    per_image = {
        "score": FLOAT,
        "verdict": INT64,
        "residual_score": FLOAT,
        "discrimination_score": FLOAT,
        "anomaly_score": FLOAT,
        "steps_used": INT64,
        "brightness": FLOAT,
    }
    if config.images.registration != "none":
        per_image["registered"] = BOOL
    if calibration.limits:
        per_image["in_distribution"] = BOOL
    return [
        *(helper.make_tensor_value_info(name, kind, ["batch"]) for name, kind in per_image.items()),
        helper.make_tensor_value_info("anomaly_map", FLOAT, sides),
        helper.make_tensor_value_info(
            "reconstruction", _DTYPES[config.images.bit_depth], [*sides, config.images.channels]
        ),
    ]


def thresholds(calibration: Calibration) -> list[onnx.TensorProto]:
    """The values of `threshold_inputs` that nobody gave."""
    return [
        numpy_helper.from_array(np.array(calibration.threshold, np.float32), "threshold"),
        numpy_helper.from_array(np.array(calibration.review_threshold, np.float32), "review_threshold"),
    ]


def _write(
    g: Graph, model: Model, networks: FoldedNetworks, calibration: Calibration, chunk_pixels: int
) -> None:
    image = cut_image(g, model)
    most = max(1, chunk_pixels // pixels_per_tile(model.config))
    found = _search_in_chunks(g, networks, model.config, image.tiles, most)
    write_results(g, model, networks, calibration, image, found)


def cut_image(g: Graph, model: Model) -> Cut:
    """The tiles of the input `image`."""
    bright = _brightness(g, model.config)
    gain = _exposure_gain(g, model.config, bright)
    x, height, width = _sized_pixels(g, model, gain)
    top = 2.0**model.config.images.bit_depth - 1
    pose = None
    if model.aligner is not None:
        pose = find_pose(g, x, top, model.aligner.pose_search)
        x = to_reference(g, x, pose)
    x = g.op("Sub", g.op("Mul", g.op("Div", x, g.f32(top)), g.f32(2)), g.f32(1))
    versions, tiles = _cut_versions(g, model.config, x, height, width)
    return Cut(versions, tiles, height, width, bright, gain, pose)


def write_results(
    g: Graph, model: Model, networks: FoldedNetworks, calibration: Calibration, image: Cut, tiles: Found
) -> None:
    """From what was found about each tile to the outputs of the file."""
    config, versions = model.config, image.versions
    names = _parts(networks, config)
    anomaly_map, reconstruction = "", ""
    for version, pictures in zip(versions, _by_version(g, tiles.pictures, versions), strict=True):
        evidence, again = _stitched(g, config, pictures, version, len(names))
        smoothed = smooth(g, evidence, config.score.smoothing_sigma)
        at_scale = [part_name(name, version.scale) for name in names]
        found = calibrated_map(g, smoothed, at_scale, calibration, config.score)
        if version.scale == 1:
            anomaly_map, reconstruction = found, again
        else:
            anomaly_map = g.op("Max", anomaly_map, resize(g, found, image.height, image.width))
    if (pose := image.pose) is not None:
        # Where registration had to invent pixels there is nothing to be found.
        anomaly_map = g.op("Where", seen(g, pose), anomaly_map, g.f32(0))
    score = pooled(g, anomaly_map, config.score)
    if model.image_size is None:
        score = _unless_too_small(g, score, image, config)
    score = g.rename(score, "score")
    _write_tile_scores(g, tiles, versions)
    g.rename(g.op("Reshape", image.brightness, g.i64([-1])), "brightness")
    decided = verdict(g, score, "threshold", "review_threshold")
    # What was not inspected as promised: laid in no place, or unlike all good images.
    if pose is not None:
        decided = at_least_reviewed(g, decided, g.rename(pose.registered, "registered"))
    if calibration.limits:
        decided = at_least_reviewed(g, decided, in_distribution(g, calibration.limits))
    g.rename(decided, "verdict")
    _write_pictures(g, model, anomaly_map, reconstruction, image)


def least_side(config: Config) -> int:
    """Pixels that the sides of an image need at least where each is searched at its own size."""
    tile = config.tiles.size
    covered = next(
        side
        for side in count(tile)
        if all(min(scaled_size((side, side), s)) >= tile for s in config.tiles.scales)
    )
    return max(covered, 2 * config.score.border + 1)


def _unless_too_small(g: Graph, score: str, image: Cut, config: Config) -> str:
    """No score, and so a review, for an image smaller than a tile or of which the border leaves nothing."""
    fits = g.op("Not", g.op("Less", g.op("Min", image.height, image.width), g.i64(least_side(config))))
    return g.op("Where", fits, score, g.f32(np.nan))


def pixels_per_tile(config: Config) -> int:
    """What a tile counts towards a chunk.

    A network holds a few hundred values per pixel of its tiles, attention a few for each pair of places.
    """
    tile = config.tiles.size
    return tile**2 + min(config.network.attention_at, tile) ** 4 // _PAIRS_PER_PIXEL


def _cut_versions(g: Graph, config: Config, x: str, height: str, width: str) -> tuple[list[Version], str]:
    """`TilePyramid`: the scales, and the tiles of all images, scale by scale."""
    tile, overlap, channels = config.tiles.size, config.tiles.overlap, config.images.channels
    versions, tiles = [], []
    for scale in config.tiles.scales:
        smaller, sides = x, (height, width)
        if scale != 1:
            sides = (scaled_length(g, height, scale), scaled_length(g, width, scale))
            smaller = resize(g, x, *sides)
        rows, columns = (tiling(g, side, tile, overlap) for side in sides)
        own = cut(g, smaller, rows, columns, channels, tile)
        if config.network.condition == "tile-position":
            own = with_positions(g, own, rows, columns)
        elif config.network.condition == "variant":
            own = with_variants(g, own, "variant", len(config.network.variants))
        tiles.append(own)
        versions.append(Version(scale, rows, columns, length(g, own, 0)))
    return versions, tiles[0] if len(tiles) == 1 else g.op("Concat", *tiles, axis=0)


def _by_version(g: Graph, values: str, versions: list[Version]) -> list[str]:
    """Per-tile values, apart by scale."""
    if len(versions) == 1:
        return [values]
    sizes = [g.op("Unsqueeze", version.n_tiles, g.i64([0])) for version in versions]
    return g.ops("Split", len(versions), values, g.op("Concat", *sizes, axis=0), axis=0)


def _stitched(g: Graph, config: Config, pictures: str, version: Version, n_parts: int) -> tuple[str, str]:
    """Evidence maps (N, P, h, w) and reconstruction (N, C, h, w) of one scale."""
    channels = config.images.channels
    found = stitch(g, pictures, version.rows, version.columns, n_parts + channels, config.tiles.size)
    evidence, reconstruction = g.ops("Split", 2, found, g.i64([n_parts, channels]), axis=1)
    return evidence, reconstruction


def _parts(networks: FoldedNetworks, config: Config) -> list[str]:
    names = ["residual", "discrimination"] + ([] if networks.head is None else ["head"])
    names += [] if networks.pretrained is None else ["perceptual"]
    used = used_parts(names, config.score)
    if not used:
        raise ExportError(
            f"None of the parts {names} has a weight above 0; raise one of score.*_weight and calibrate."
        )
    return used


def _sized_pixels(g: Graph, model: Model, gain: str | None) -> tuple[str, str, str]:
    """`anogan.images.exposure.sized_and_exposed`: (N, C, h, w) at network resolution, h and w."""
    x = g.op("Transpose", g.cast("image", FLOAT), perm=[0, 3, 1, 2])
    if model.image_size is None:
        height, width = length(g, x, ROWS), length(g, x, COLUMNS)
    else:
        height, width = (g.i64(side) for side in model.image_size)
        if resizes(model):
            x = resize(g, x, height, width)
    if gain is not None:
        x = g.op("Min", g.op("Mul", x, gain), g.f32(2**model.config.images.bit_depth - 1))
    return x, height, width


def _brightness(g: Graph, config: Config) -> str:
    """`brightness` of each image, (N, 1, 1, 1)."""
    total = g.op("ReduceSum", g.cast("image", DOUBLE), g.i64([1, 2, 3]), keepdims=1)
    numbers = g.op("ReduceProd", g.op("Shape", "image", start=1), keepdims=0)
    mean = g.cast(g.op("Div", total, g.cast(numbers, DOUBLE)), FLOAT)
    return g.op("Div", mean, g.f32(2**config.images.bit_depth - 1))


def _exposure_gain(g: Graph, config: Config, bright: str) -> str | None:
    """`exposure_gain` of each image, (N, 1, 1, 1); None where each keeps its own exposure."""
    if config.images.exposure == "keep":
        return None
    return g.op("Div", g.f32(LEVEL), g.op("Max", bright, g.f32(DARKEST)))


def _search_in_chunks(g: Graph, networks: FoldedNetworks, config: Config, tiles: str, most: int) -> Found:
    """Searches all tiles, at most `most` at once.

    The chunks are of one size, as the scan outputs of a `Loop` must be; what is missing in the last one is
    filled with the last tile, which wastes less than one tile per chunk.
    """
    total = length(g, tiles, 0)
    one = g.i64(1)
    n_chunks = g.op("Div", g.op("Add", total, g.i64(most - 1)), g.i64(most))
    size = g.op("Div", g.op("Sub", g.op("Add", total, n_chunks), one), n_chunks)
    places = g.op("Range", g.i64(0), size, one)
    final = g.op("Sub", total, one)

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        chunk, going = inputs
        own = body.op("Min", body.op("Add", places, body.op("Mul", chunk, size)), final)
        found = _search_chunk(body, networks, config, body.op("Gather", tiles, own, axis=0))
        return [going, found.pictures, found.scores, found.steps_used]

    body = g.body(trip, [INT64, BOOL], [BOOL, FLOAT, FLOAT, INT64])
    stacked = g.ops("Loop", 3, n_chunks, g.constant(True, np.bool_), body=body)
    return Found(*(_all_tiles(g, value, total) for value in stacked))


def _all_tiles(g: Graph, stacked: str, total: str) -> str:
    """(chunks, size, ...) -> (T, ...)."""
    shape = g.op("Concat", g.i64([-1]), g.op("Shape", stacked, start=2), axis=0)
    flat = g.op("Reshape", stacked, shape)
    return g.op("Slice", flat, g.i64([0]), g.op("Unsqueeze", total, g.i64([0])), g.i64([0]))


def _search_chunk(g: Graph, networks: FoldedNetworks, config: Config, x: str) -> Found:
    z, steps_used = latent_search(g, networks, config.search, x, "steps")
    return found_at(g, networks, config, x, z, steps_used)


def found_at(g: Graph, networks: FoldedNetworks, config: Config, x: str, z: str, steps_used: str) -> Found:
    """What tiles x and the end z of their search tell."""
    reconstruction = forward(g, networks.generator, given(g, networks, z, x))[-1]
    found = tile_evidence(g, networks, x, reconstruction)
    weight = config.search.lambda_
    anomaly = g.op(
        "Add",
        g.op("Mul", found.residual, g.f32(1 - weight)),
        g.op("Mul", found.discrimination, g.f32(weight)),
    )
    maps = [found.maps[name] for name in _parts(networks, config)]
    columns = [g.op("Unsqueeze", s, g.i64([1])) for s in (found.residual, found.discrimination, anomaly)]
    return Found(
        pictures=g.op("Concat", *maps, reconstruction, axis=1),
        scores=g.op("Concat", *columns, axis=1),
        steps_used=steps_used,
    )


def _write_tile_scores(g: Graph, chunks: Found, versions: list[Version]) -> None:
    """Scores of each image's worst tile and steps of its slowest."""
    steps = _greatest(g, chunks.steps_used, versions, [])
    g.rename(steps, "steps_used")
    worst = _greatest(g, chunks.scores, versions, [3])
    for column, name in enumerate(("residual_score", "discrimination_score", "anomaly_score")):
        g.rename(g.op("Gather", worst, g.i64(column), axis=1), name)


def _greatest(g: Graph, values: str, versions: list[Version], shape: list[int]) -> str:
    """Per-tile values (T, *shape) -> the greatest of each image, (N, *shape)."""
    found = []
    for version, own in zip(versions, _by_version(g, values, versions), strict=True):
        per_image = g.op("Unsqueeze", g.op("Mul", version.rows.n, version.columns.n), g.i64([0]))
        sides = [g.i64([-1]), per_image, *([g.i64(shape)] if shape else [])]
        by_image = g.op("Reshape", own, g.op("Concat", *sides, axis=0))
        found.append(g.op("ReduceMax", by_image, g.i64([1]), keepdims=0))
    return found[0] if len(found) == 1 else g.op("Max", *found)


def _write_pictures(g: Graph, model: Model, anomaly_map: str, reconstruction: str, image: Cut) -> None:
    """Map and reconstruction at the input's resolution, and where the part lies there."""
    anomaly_map = spread(g, anomaly_map, model.config.score.spread)
    if image.pose is not None:
        anomaly_map = from_reference(g, anomaly_map, image.pose, outside=0.0)
        reconstruction = from_reference(g, reconstruction, image.pose)
    if resizes(model):
        height, width = length(g, "image", 1), length(g, "image", 2)
        anomaly_map = resize(g, anomaly_map, height, width)
        reconstruction = resize(g, reconstruction, height, width)
    g.rename(g.op("Squeeze", anomaly_map, g.i64([1])), "anomaly_map")
    if image.gain is not None:
        reconstruction = g.op("Sub", g.op("Div", g.op("Add", reconstruction, g.f32(1)), image.gain), g.f32(1))
    bit_depth = model.config.images.bit_depth
    top = g.f32(2**bit_depth - 1)
    scaled = g.op("Mul", g.op("Div", g.op("Add", reconstruction, g.f32(1)), g.f32(2)), top)
    clipped = g.op("Min", g.op("Max", g.op("Round", scaled), g.f32(0)), top)
    pixels = g.cast(g.op("Transpose", clipped, perm=[0, 2, 3, 1]), _DTYPES[bit_depth])
    g.rename(pixels, "reconstruction")
