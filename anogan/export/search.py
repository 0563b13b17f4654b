"""The latent search as ONNX nodes: the objective, its gradient, one step of Adam, the `Loop`.

The arithmetic is that of `anogan.scoring.search`, value by value; the tests compare single steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from anogan.config import SearchConfig
from anogan.errors import ExportError
from anogan.export.adam import adam, as_map, code_mean, first_state, keep_best, state_types
from anogan.export.bank import best_of_bank
from anogan.export.gradient import backward, forward
from anogan.export.graph import BOOL, FLOAT, INT64, Graph
from anogan.export.layers import Convolution, Layer, fold
from anogan.export.pretrained import Pretrained, perceptual_term, unit_features
from anogan.export.residuals import defect_mask, direction, pixel_term, sample_mean
from anogan.gan.condition import condition_dim
from anogan.gan.networks import feature_stack
from anogan.scoring.inverter import starting_codes
from anogan.scoring.model import Model
from anogan.scoring.smooth import FEATURE_STEEPNESS


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
        pretrained: Pretrained features, or None where none count.
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
    pretrained: Pretrained | None = None
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
            pretrained=_pretrained(model, shape),
            quantised_encoder=quantised_encoder,
        )


def _pretrained(model: Model, image_shape: tuple[int, int, int]) -> Pretrained | None:
    """Nothing of a network that neither the search nor the score looks at goes into the file."""
    weight, config = model.config.features.search_weight, model.config
    if model.perceptual is None or not (weight > 0 or config.score.perceptual_weight > 0):
        return None
    return Pretrained.of(model.perceptual, image_shape, weight)


@dataclass(frozen=True)
class Point:
    """The objective at one z.

    Attributes:
        value: (N,), A(x) plus the prior penalty.
        gradient: Of `value` with respect to z, shape of z; empty when it was not asked for.
    """

    value: str
    gradient: str


def features(g: Graph, networks: FoldedNetworks, x: str) -> list[str]:
    """f(x): the activations of D's hidden layers, finest first."""
    found = []
    for stage in networks.stages:
        x = forward(g, stage, x)[-1]
        found.append(x)
    return found


def compared(g: Graph, networks: FoldedNetworks, config: SearchConfig, tiles: str) -> list[str]:
    """What the objective compares of tiles (N, C + K, t, t): D's features, then the pretrained ones."""
    found = features(g, networks, tiles) if config.lambda_ > 0 else []
    if networks.pretrained is not None and networks.pretrained.search_weight > 0:
        found += unit_features(g, networks.pretrained, image_of(g, networks, tiles))
    return found


def image_of(g: Graph, networks: FoldedNetworks, tiles: str) -> str:
    """The pictures of tiles (N, C + K, t, t) without their condition."""
    return _first(g, tiles, networks.image_shape[0]) if networks.condition else tiles


def given(g: Graph, networks: FoldedNetworks, x: str, tiles: str) -> str:
    """Codes or pictures (N, d, h, w) under the condition of their tiles: (N, d + K, h, w)."""
    if not networks.condition:
        return x
    begin = [networks.image_shape[0], 0, 0]
    end = [begin[0] + networks.condition, 1, 1]
    condition = g.op("Slice", tiles, g.i64(begin), g.i64(end), g.i64([1, 2, 3]))
    sides = g.op("Concat", g.i64([1, 1]), g.op("Shape", x, start=2), axis=0)
    return g.op("Concat", x, g.op("Expand", condition, sides), axis=1)


def _first(g: Graph, x: str, channels: int) -> str:
    return g.op("Slice", x, g.i64([0]), g.i64([channels]), g.i64([1]))


def starts(g: Graph, networks: FoldedNetworks, x: str) -> str:
    """(R N, d, g, g), for each tile: E(x) if there is an encoder, then fixed codes; or the bank's best."""
    fixed = networks.fixed_starts
    if networks.bank is not None:
        return best_of_bank(g, networks.generator, networks.bank, x, len(fixed))
    parts = []
    if networks.quantised_encoder is not None:
        parts.append(g.include(networks.quantised_encoder, x))
    elif networks.encoder is not None:
        parts.append(forward(g, networks.encoder, x)[-1])
    if networks.encoder is not None:
        fixed = fixed[1:]
    if len(fixed):
        n = g.op("Shape", x, end=1)
        shape = g.op("Concat", n, g.i64(fixed.shape[1:]), axis=0)
        parts += [g.op("Expand", g.constant(code[None]), shape) for code in fixed]
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=0)


def objective(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    x: str,
    wanted: list[str],
    z: str,
    *,
    gradient: bool,
) -> Point:
    """`search_objective` at z, and on demand its gradient.

    Args:
        g: Where to write.
        networks: Folded networks.
        config: lambda, residual, prior weight.
        x: Tiles (N, C + K, t, t).
        wanted: `compared` of the tiles; not used with a mask, under which they change with z.
        z: (N, d, g, g).
        gradient: Whether the gradient is wanted.
    """
    tiles, x = x, image_of(g, networks, x)
    generated = forward(g, networks.generator, given(g, networks, z, tiles))
    y = generated[-1]
    pixels = int(np.prod(networks.image_shape))
    # A gradient per pixel of a mean is below what half precision can hold, so it is carried as a sum's.
    scale = pixels if g.precision == "mixed" else 1
    weight, cost = 1 - config.lambda_, ""
    difference = g.op("Sub", y, x)
    if config.mask > 0:
        mask = defect_mask(g, difference, networks.image_shape, config.mask)
        cost = g.op("Mul", sample_mean(g, g.cast(mask, FLOAT)), g.f32(config.mask))
        # Where it is masked, x is what G makes of z, so that nothing there pulls z.
        difference, x = g.op("Where", mask, g.f32(0), difference), g.op("Where", mask, y, x)
        wanted = compared(g, networks, config, given(g, networks, x, tiles))
    value, slope = pixel_term(g, config, difference, networks.image_shape, scale * weight)
    value = g.op("Mul", g.op("Add", value, cost) if cost else value, g.f32(weight))
    asked = scale if gradient else 0
    if config.lambda_ > 0:
        seen, n_own = given(g, networks, y, tiles), len(networks.stages)
        distance, at_image = _discrimination(g, networks, config, seen, wanted[:n_own], asked)
        wanted = wanted[n_own:]
        value = g.op("Add", value, distance)
        if gradient and networks.condition:
            at_image = _first(g, at_image, networks.image_shape[0])
        slope = g.op("Add", slope, at_image) if gradient else slope
    if networks.pretrained is not None and networks.pretrained.search_weight > 0:
        distance, at_image = perceptual_term(g, networks.pretrained, y, wanted, asked)
        value = g.op("Add", value, distance)
        slope = g.op("Add", slope, at_image) if gradient else slope
    d = networks.fixed_starts[0].size
    if config.prior_weight > 0:
        size = g.op("Reshape", code_mean(g, g.op("Mul", z, z)), g.i64([-1]))
        penalty = g.op("Mul", size, g.f32(config.prior_weight))
        value = g.op("Add", value, penalty)
    if not gradient:
        return Point(value, "")
    at_z = backward(g, networks.generator, generated, slope, smooth=config.gradient == "smooth")
    if networks.condition:
        # The condition stands still: what would move it is left out.
        at_z = _first(g, at_z, networks.fixed_starts.shape[1])
    at_z = at_z if scale == 1 else g.op("Mul", at_z, g.f32(1 / scale))
    if config.prior_weight > 0:
        at_z = g.op("Add", at_z, g.op("Mul", z, g.f32(2 * config.prior_weight / d)))
    return Point(value, at_z)


def _discrimination(
    g: Graph, networks: FoldedNetworks, config: SearchConfig, y: str, wanted: list[str], scale: int
) -> tuple[str, str]:
    """Weighted discrimination score (N,) and `scale` times its gradient at the image; no gradient for 0."""
    passes, x = [], y
    for stage in networks.stages:
        passes.append(forward(g, stage, x))
        x = passes[-1][-1]
    differences = [g.op("Sub", values[-1], want) for values, want in zip(passes, wanted, strict=True)]
    shares = config.lambda_ / (len(passes) * networks.feature_scales.astype(np.float64))
    terms = [
        g.op("Mul", sample_mean(g, g.op("Abs", d)), g.f32(share))
        for d, share in zip(differences, shares, strict=True)
    ]
    value = terms[0]
    for term in terms[1:]:
        value = g.op("Add", value, term)
    if not scale:
        return value, ""
    sizes = [int(np.prod(shape)) for shape in networks.feature_shapes]
    slope = ""
    steepness = FEATURE_STEEPNESS / networks.feature_scales
    for stage, values, d, share, size, steep in reversed(
        list(zip(networks.stages, passes, differences, shares, sizes, steepness, strict=True))
    ):
        own = g.op("Mul", direction(g, config, d, steep), g.f32(scale * share / size))
        above = g.op("Add", own, slope) if slope else own
        slope = backward(g, stage, values, above, smooth=config.gradient == "smooth")
    return value, slope


def search_step(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    x: str,
    wanted: list[str],
    state: dict[str, str],
    step: str,
) -> dict[str, str]:
    """One trip of the loop: look, keep the best, move the tiles that are still searched."""
    point = objective(g, networks, config, x, wanted, state["z"], gradient=True)
    kept = keep_best(g, config, state, point.value, step)
    moved = adam(g, config, state, point.gradient)
    if config.tolerance > 0:
        moved["z"] = g.op("Where", as_map(g, kept["active"]), moved["z"], state["z"])
    return moved | kept


def latent_search(
    g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str, steps: str
) -> tuple[str, str]:
    """The best code of each tile after at most `steps` steps.

    Args:
        g: Where to write.
        networks: Folded networks.
        config: The search's settings.
        x: Tiles (N, C + K, t, t) in [-1, 1].
        steps: int64 scalar.

    Returns:
        z (N, d, g, g) and the steps taken (N,) int64.
    """
    repeated, wanted, state = begin_search(g, networks, config, x)
    types = state_types(config)

    def trip(body: Graph, inputs: list[str]) -> list[str]:
        step, going, *values = inputs
        new = search_step(
            body, networks, config, repeated, wanted, dict(zip(types, values, strict=True)), step
        )
        if config.tolerance > 0:
            going = body.cast(body.op("ReduceMax", body.cast(new["active"], INT64), keepdims=0), BOOL)
        return [going, *(new[name] for name in types)]

    going = g.constant(True, np.bool_)
    body = g.body(trip, [INT64, BOOL, *types.values()], [BOOL, *types.values()])
    ends = g.ops("Loop", len(types), steps, going, *(state[name] for name in types), body=body)
    return end_search(g, networks, config, repeated, wanted, dict(zip(types, ends, strict=True)), steps)


def begin_search(
    g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str
) -> tuple[str, list[str], dict[str, str]]:
    """What the steps of a search of tiles (N, C + K, t, t) begin with.

    Returns:
        The tiles once for each restart, (R N, C + K, t, t), what they are compared by, and the first state.
    """
    state = first_state(g, config, starts(g, networks, x))
    return *what_is_read(g, networks, config, x), state


def what_is_read(g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str) -> tuple[str, list[str]]:
    """Tiles (N, C + K, t, t) once for each restart, (R N, C + K, t, t), and what those are compared by."""
    restarts = len(networks.fixed_starts)
    if restarts < 1:
        raise ExportError("search.restarts is 0; expected at least 1.")
    repeated = x if restarts == 1 else g.op("Concat", *[x] * restarts, axis=0)
    return repeated, [] if config.mask > 0 else compared(g, networks, config, repeated)


def end_search(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    repeated: str,
    wanted: list[str],
    state: dict[str, str],
    steps: str,
) -> tuple[str, str]:
    """z (N, d, g, g) and the steps taken (N,), after a last look at where the steps led."""
    last = objective(g, networks, config, repeated, wanted, state["z"], gradient=False)
    kept = keep_best(g, config, state, last.value, steps)
    return _best_of_restarts(g, kept, len(networks.fixed_starts))


def _best_of_restarts(g: Graph, kept: dict[str, str], restarts: int) -> tuple[str, str]:
    if restarts == 1:
        return kept["best_z"], kept["steps_used"]
    values = g.op("Reshape", kept["best_value"], g.i64([restarts, -1]))
    choice = g.op("ArgMin", values, axis=0, keepdims=0)
    n = g.op("Shape", values, start=1, end=2)
    tile = g.op("Range", g.i64(0), g.op("Squeeze", n), g.i64(1))
    rows = g.op("Add", g.op("Mul", choice, n), tile)
    return g.op("Gather", kept["best_z"], rows, axis=0), g.op("Gather", kept["steps_used"], rows, axis=0)
