"""The objective of the latent search and its gradient with respect to z, as ONNX nodes.

The arithmetic is that of `anogan.scoring.search`, value by value; the tests compare single steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anogan.config import SearchConfig
from anogan.export.adam import code_mean
from anogan.export.gradient import backward, forward
from anogan.export.graph import FLOAT, Graph
from anogan.export.networks import FoldedNetworks, features, first_channels, given, image_of
from anogan.export.pretrained import perceptual_term, unit_features
from anogan.export.residuals import defect_mask, direction, pixel_term, sample_mean
from anogan.scoring.smooth import FEATURE_STEEPNESS


@dataclass(frozen=True)
class Point:
    """The objective at one z.

    Attributes:
        value: (N,), A(x) plus the prior penalty.
        gradient: Of `value` with respect to z, shape of z; empty when it was not asked for.
    """

    value: str
    gradient: str


def compared(g: Graph, networks: FoldedNetworks, config: SearchConfig, tiles: str) -> list[str]:
    """What the objective compares of tiles (N, C + K, t, t): D's features, then the pretrained ones."""
    found = features(g, networks, tiles) if config.lambda_ > 0 else []
    if networks.pretrained is not None and networks.pretrained.search_weight > 0:
        found += unit_features(g, networks.pretrained, image_of(g, networks, tiles))
    return found


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
    picture = image_of(g, networks, x)
    generated = forward(g, networks.generator, given(g, networks, z, x))
    y = generated[-1]
    # A gradient per pixel of a mean is below what half precision can hold, so it is carried as a sum's.
    scale = int(np.prod(networks.image_shape)) if g.precision == "mixed" else 1
    difference, cost = g.op("Sub", y, picture), ""
    if config.mask > 0:
        difference, wanted, cost = _masked(g, networks, config, x, picture, y, difference)
    weight = 1 - config.lambda_
    value, slope = pixel_term(g, config, difference, networks.image_shape, scale * weight)
    value = g.op("Mul", g.op("Add", value, cost) if cost else value, g.f32(weight))
    asked = scale if gradient else 0
    value, slope = _with_features(g, networks, config, (value, slope), x, y, wanted, asked)
    if config.prior_weight > 0:
        size = g.op("Reshape", code_mean(g, g.op("Mul", z, z)), g.i64([-1]))
        value = g.op("Add", value, g.op("Mul", size, g.f32(config.prior_weight)))
    if not gradient:
        return Point(value, "")
    return Point(value, _at_code(g, networks, config, generated, slope, scale, z))


def _masked(
    g: Graph, networks: FoldedNetworks, config: SearchConfig, x: str, picture: str, y: str, difference: str
) -> tuple[str, list[str], str]:
    """The difference and what is compared without the pixels of a defect mask, and the mask's cost (N,)."""
    mask = defect_mask(g, difference, networks.image_shape, config.mask)
    cost = g.op("Mul", sample_mean(g, g.cast(mask, FLOAT)), g.f32(config.mask))
    # Where it is masked, x is what G makes of z, so that nothing there pulls z.
    difference, picture = g.op("Where", mask, g.f32(0), difference), g.op("Where", mask, y, picture)
    return difference, compared(g, networks, config, given(g, networks, picture, x)), cost


def _with_features(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    of_pixels: tuple[str, str],
    x: str,
    y: str,
    wanted: list[str],
    scale: int,
) -> tuple[str, str]:
    """The pixels' term and its gradient at the images y, with those of all features added.

    Args:
        g: Where to write.
        networks: Folded networks.
        config: lambda.
        of_pixels: Value (N,), and `scale` times its gradient at the image.
        x: Tiles (N, C + K, t, t).
        y: G(z), (N, C, t, t).
        wanted: `compared` of the tiles.
        scale: Factor of the gradient; 0 adds to the value alone.
    """
    value, slope = of_pixels
    if config.lambda_ > 0:
        seen, n_own = given(g, networks, y, x), len(networks.stages)
        distance, at_image = _discrimination(g, networks, config, seen, wanted[:n_own], scale)
        wanted = wanted[n_own:]
        value = g.op("Add", value, distance)
        slope = g.op("Add", slope, image_of(g, networks, at_image)) if scale else slope
    if networks.pretrained is not None and networks.pretrained.search_weight > 0:
        distance, at_image = perceptual_term(g, networks.pretrained, y, wanted, scale)
        value = g.op("Add", value, distance)
        slope = g.op("Add", slope, at_image) if scale else slope
    return value, slope


def _at_code(
    g: Graph,
    networks: FoldedNetworks,
    config: SearchConfig,
    generated: list[str],
    slope: str,
    scale: int,
    z: str,
) -> str:
    """The objective's gradient at z, given `scale` times that at the image (N, C, t, t)."""
    at_z = backward(g, networks.generator, generated, slope, smooth=config.gradient == "smooth")
    code = networks.fixed_starts[0]
    if networks.condition:
        # The condition stands still: what would move it is left out.
        at_z = first_channels(g, at_z, len(code))
    at_z = at_z if scale == 1 else g.op("Mul", at_z, g.f32(1 / scale))
    if config.prior_weight > 0:
        at_z = g.op("Add", at_z, g.op("Mul", z, g.f32(2 * config.prior_weight / code.size)))
    return at_z


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
