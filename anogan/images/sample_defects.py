"""Faults of a bare or populated board, made in the artwork as the process would make them.

Each function changes a `Scene` and returns nothing; what differs in the two photographs is the mask.
Places are chosen where parts do not hide them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.images import sample_layout as layout
from anogan.images.sample_layout import MARGIN, VIEW
from anogan.images.sample_render import Brush, Image, PlacedPart, Points, Scene

_EDGE = 7.0  # Units between a defect and the rim of the picture: shift and rotation must not hide it.
_ATTEMPTS = 4000
_SHADOW = 0.8  # Units by which a part's shadow reaches to the lower right.


@dataclass(frozen=True, slots=True)
class _Site:
    """A point on the centre line of a track."""

    at: NDArray[np.float64]
    along: NDArray[np.float64]
    across: NDArray[np.float64]
    width: float


def _visible(scene: Scene, margin: float = 1.5) -> NDArray[np.bool_]:
    """Where nothing covers the board: no part, pad, hole or lettering within `margin` units."""
    covered = scene.drill | scene.opening | scene.silk
    for part in layout.PARTS:
        width, height = layout.BODY_SIZE[part.kind]
        outline = part.place(layout.rectangle(0, 0, width + 4, height + 4))
        scene.brush.polygon(covered, outline + _SHADOW, 255)
    clear = cv2.distanceTransform(~covered, cv2.DIST_L2, 3) > margin * scene.brush.scale
    rim = round((MARGIN + _EDGE) * scene.brush.scale)
    inside = np.zeros_like(clear)
    inside[rim:-rim, rim:-rim] = True
    return np.asarray(clear & inside, np.bool_)


def _at(mask: NDArray[np.generic], brush: Brush, point: NDArray[np.float64]) -> bool:
    column, row = np.round((point + MARGIN) * brush.scale - 0.5).astype(int)
    return bool(mask[row, column])


def _track_site(
    scene: Scene, rng: np.random.Generator, suits: Callable[[_Site], bool] = lambda _site: True
) -> _Site:
    """A random visible point on a track, each unit of length equally likely."""
    visible = _visible(scene)
    segments = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64), trace.width)
        for trace in layout.TRACES
        for a, b in zip(trace.points, trace.points[1:], strict=False)
    ]
    lengths = np.array([np.hypot(*(b - a)) for a, b, _ in segments])
    for _ in range(_ATTEMPTS):
        a, b, width = segments[rng.choice(len(segments), p=lengths / lengths.sum())]
        along = (b - a) / np.hypot(*(b - a))
        across = np.array([-along[1], along[0]]) * rng.choice((-1.0, 1.0))
        site = _Site(a + (b - a) * rng.uniform(0.1, 0.9), along, across, width)
        inside = np.all((site.at > _EDGE) & (site.at < VIEW - _EDGE))
        if inside and _at(visible, scene.brush, site.at) and suits(site):
            return site
    raise RuntimeError("the sample layout has no place left for this defect")  # pragma: no cover


def _clearance(scene: Scene, site: _Site, limit: float) -> float:
    """Units of bare laminate beside the track on the side of `across`, at most `limit`."""
    edge = site.width / 2 + 0.6
    for step in np.arange(0.0, limit, 0.25):
        if _at(scene.copper, scene.brush, site.at + site.across * (edge + step)):
            return float(step)
    return limit


def _blob(rng: np.random.Generator, centre: Points, radius: float, stretch: float = 1.0) -> Points:
    """An irregular round outline, (24, 2): etching leaves no circles."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    waves = np.zeros_like(turn)
    for order in (2, 3, 4):
        waves += rng.uniform(-0.11, 0.11) * np.cos(order * turn + rng.uniform(0, 2 * np.pi))
    ring = np.stack([np.cos(turn) * stretch, np.sin(turn)], 1) * (radius * (1 + waves))[:, None]
    tilt = rng.uniform(0, np.pi)
    spin = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    return np.asarray(ring @ spin + centre, np.float64)


def _open(scene: Scene, rng: np.random.Generator) -> None:
    """A track is interrupted."""
    site = _track_site(scene, rng)
    half, reach = rng.uniform(2.2, 4.5), site.width / 2 + 0.9
    ends = [
        site.at + site.along * (sign * half + rng.uniform(-0.6, 0.6)) + site.across * side * reach
        for sign, side in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    scene.brush.polygon(scene.copper, np.array(ends), 0)


def _short(scene: Scene, rng: np.random.Generator) -> None:
    """Two neighbouring tracks are joined."""
    site = _track_site(scene, rng, lambda s: 1.5 <= _clearance(scene, s, 9.0) < 9.0)
    gap = _clearance(scene, site, 9.0)
    end = site.at + site.across * (site.width / 2 + gap + 1.2) + site.along * rng.uniform(-1, 1)
    scene.brush.stroke(scene.copper, np.array([site.at, end]), rng.uniform(2.6, 5.0), 255)
    middle = site.at + site.across * (site.width / 2 + gap / 2)
    scene.brush.polygon(scene.copper, _blob(rng, middle, rng.uniform(1.8, 2.8)), 255)


def _mousebite(scene: Scene, rng: np.random.Generator) -> None:
    """The etchant ate into the edge of a track; the track still conducts."""
    site = _track_site(scene, rng)
    radius = rng.uniform(2.1, 2.6) if site.width < 4 else rng.uniform(2.3, 3.6)
    depth = min(1.2 * radius, site.width * 0.72)
    centre = site.at + site.across * (site.width / 2 + radius - depth)
    scene.brush.polygon(scene.copper, _blob(rng, centre, radius), 0)


def _spur(scene: Scene, rng: np.random.Generator) -> None:
    """Copper sticks out of a track's edge without reaching the next one."""
    length = rng.uniform(4.0, 6.5)
    site = _track_site(scene, rng, lambda s: _clearance(scene, s, 9.0) > length + 1.0)
    base = site.at + site.across * site.width / 2
    tip = base + site.across * length + site.along * rng.uniform(-1.5, 1.5)
    half = rng.uniform(1.8, 2.8)
    root = base - site.across * 0.5  # Inside the track, so that no gap remains between the two.
    outline = [root - site.along * half, root + site.along * half, tip + site.along, tip - site.along]
    scene.brush.polygon(scene.copper, np.array(outline), 255)
    scene.brush.disc(scene.copper, (float(tip[0]), float(tip[1])), rng.uniform(1.0, 1.5), 255)


def _random_point(scene: Scene, rng: np.random.Generator, allowed: NDArray[np.bool_]) -> Points:
    rows, columns = np.nonzero(allowed)
    chosen = rng.integers(len(rows))
    return np.array([columns[chosen], rows[chosen]]) / scene.brush.scale - MARGIN


def _depth_within(mask: Image, brush: Brush) -> NDArray[np.float64]:
    """Distance in units from each pixel of the mask to its rim."""
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float64) / brush.scale


def _pinhole(scene: Scene, rng: np.random.Generator) -> None:
    """A hole inside a copper area."""
    # Half of them in the wide tracks, which small holes fit, half anywhere in the ground areas too.
    radius, widest = (2.0, 3.6) if rng.random() < 0.5 else (rng.uniform(2.0, 3.4), np.inf)
    depth = _depth_within(scene.copper, scene.brush)
    ridge = cv2.dilate(depth, np.ones((round(8 * scene.brush.scale),) * 2))
    roomy = (depth > radius * 1.1 + 0.8) & (ridge < widest)
    centre = _random_point(scene, rng, roomy & _visible(scene, radius + 0.8))
    scene.brush.polygon(scene.copper, _blob(rng, centre, radius), 0)


def _spurious_copper(scene: Scene, rng: np.random.Generator) -> None:
    """An island of copper where the laminate should be bare."""
    radius = rng.uniform(2.1, 4.0)
    free = _depth_within(~scene.copper, scene.brush) > radius * 1.2 + 0.8
    centre = _random_point(scene, rng, free & _visible(scene, radius + 0.8))
    scene.brush.polygon(scene.copper, _blob(rng, centre, radius, rng.uniform(1.0, 1.35)), 255)


def _scratch(scene: Scene, rng: np.random.Generator) -> None:
    """Something sharp took the solder mask off along a line."""
    visible = _visible(scene, 0.5)
    for _ in range(_ATTEMPTS):
        start = rng.uniform(16, VIEW - 16, 2)
        length, heading = rng.uniform(18, 60), rng.uniform(0, 2 * np.pi)
        bow = rng.uniform(-0.5, 0.5) * np.linspace(0, 1, 12)
        steps = np.stack([np.cos(heading + bow), np.sin(heading + bow)], 1) * length / 12
        path = start + np.cumsum(steps, 0)
        inside = np.all((path > _EDGE) & (path < VIEW - _EDGE))
        if inside and np.mean([_at(visible, scene.brush, point) for point in path]) > 0.75:
            break
    scene.brush.stroke(scene.scratch, path, rng.uniform(0.9, 1.7), 255)


_REMOVABLE = tuple(i for i, part in enumerate(layout.PARTS) if part.kind not in ("qfp", "soic"))


def _missing_component(scene: Scene, rng: np.random.Generator) -> None:
    """A part was not placed; its tinned lands are empty."""
    del scene.parts[rng.choice(_REMOVABLE)]


_LOOSE = tuple(i for i, part in enumerate(layout.PARTS) if part.kind in ("resistor", "capacitor", "led"))


def _misplaced_component(scene: Scene, rng: np.random.Generator) -> None:
    """A chip was soldered askew: shifted and turned far beyond what placement varies."""
    index = rng.choice(_LOOSE)
    placed = scene.parts[index]
    x, y = rng.uniform(1.5, 3.5, 2) * rng.choice((-1, 1), 2)
    turn = rng.uniform(14, 40) * rng.choice((-1, 1))
    part = layout.moved(placed.part, float(x), float(y), float(turn))
    scene.parts[index] = PlacedPart(part, placed.tint, placed.gloss)


def _solder_bridge(scene: Scene, rng: np.random.Generator) -> None:
    """Solder joins two neighbouring pins of an IC."""
    part = layout.PARTS[rng.integers(2)]
    rows = np.array([(pad.x, pad.y) for pad in layout.pads_of(part.kind)]).reshape(-1, 6, 2)
    row, first = rng.integers(len(rows)), rng.integers(5)
    centre = part.place(rows[row, first : first + 2].mean(0, keepdims=True) * 1.03)[0]
    scene.bridges.append(_blob(rng, centre, rng.uniform(2.4, 3.4)))


_DEFECTS: dict[str, Callable[[Scene, np.random.Generator], None]] = {
    "open": _open,
    "short": _short,
    "mousebite": _mousebite,
    "spur": _spur,
    "pinhole": _pinhole,
    "spurious_copper": _spurious_copper,
    "missing_component": _missing_component,
    "misplaced_component": _misplaced_component,
    "solder_bridge": _solder_bridge,
    "scratch": _scratch,
}

DEFECT_KINDS: tuple[str, ...] = tuple(_DEFECTS)


def damage(scene: Scene, kind: str, rng: np.random.Generator) -> None:
    """Makes one defect of this kind (a name of `DEFECT_KINDS`) at a place that `rng` chooses."""
    _DEFECTS[kind](scene, rng)
