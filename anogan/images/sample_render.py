"""Draws the sample board: artwork masks, then colour, relief and parts, at `scale` pixels per unit.

Everything here is drawn large, without antialiasing; the camera of `sample_board` shrinks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.images import sample_layout as layout
from anogan.images.sample_layout import MARGIN, VIEW, Part, Point

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
Colour = tuple[int, int, int]

_FRACTION_BITS = 4  # Sub-pixel bits of OpenCV's fixed-point drawing.

LAMINATE, TRACK, GOLD, TIN, BARE, COPPER, HOLE, SILK = range(8)
PALETTE = np.array(
    [
        (14, 74, 44),  # Solder mask over laminate.
        (46, 128, 72),  # Solder mask over copper.
        (222, 184, 92),
        (186, 190, 192),
        (150, 146, 96),  # Laminate without its mask.
        (236, 156, 96),  # Copper without its mask.
        (12, 14, 14),
        (228, 232, 224),
    ],
    dtype=np.uint8,
)


@dataclass(frozen=True, slots=True)
class Brush:
    """Draws in board units on arrays of `scale` pixels per unit."""

    scale: float

    @property
    def side(self) -> int:
        """Pixels along one side of the whole artwork, margins included."""
        return round((VIEW + 2 * MARGIN) * self.scale)

    def blank(self) -> Image:
        """An empty mask of the whole artwork."""
        return np.zeros((self.side, self.side), np.uint8)

    def _fixed(self, points: Points | Sequence[Point]) -> NDArray[np.int32]:
        pixels = (np.asarray(points, np.float64) + MARGIN) * self.scale - 0.5
        return np.round(pixels * (1 << _FRACTION_BITS)).astype(np.int32)

    def polygon(self, target: Image, points: Points | Sequence[Point], colour: int | Colour) -> None:
        """A filled outline."""
        value = (colour,) if isinstance(colour, int) else colour
        cv2.fillPoly(target, [self._fixed(points)], value, cv2.LINE_8, _FRACTION_BITS)

    def disc(self, target: Image, centre: Point, radius: float, colour: int | Colour) -> None:
        """A filled circle."""
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        self.polygon(target, np.stack([np.cos(turn), np.sin(turn)], 1) * radius + centre, colour)

    def stroke(
        self, target: Image, points: Points | Sequence[Point], width: float, colour: int | Colour
    ) -> None:
        """A polyline with round ends."""
        value = (colour,) if isinstance(colour, int) else colour
        thickness = max(1, round(width * self.scale))
        cv2.polylines(target, [self._fixed(points)], False, value, thickness, cv2.LINE_8, _FRACTION_BITS)


@dataclass(slots=True)
class PlacedPart:
    """A part as one board carries it: where it came to lie, its shade, and its solder's gloss."""

    part: Part
    tint: float = 1.0
    gloss: Points = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(slots=True)
class Scene:
    """One board before it is coloured; masks are 0 or 255. Defects change it."""

    brush: Brush
    copper: Image
    opening: Image
    tinned: Image
    drill: Image
    silk: Image
    scratch: Image
    parts: list[PlacedPart] = field(default_factory=list)
    bridges: list[Points] = field(default_factory=list)


@lru_cache(maxsize=2)
def _artwork(scale: float) -> tuple[Image, ...]:
    brush = Brush(scale)
    tracks, opening, tinned, drill, silk = (brush.blank() for _ in range(5))
    for trace in layout.TRACES:
        brush.stroke(tracks, trace.points, trace.width, 255)
    for x, y in layout.VIAS:
        brush.disc(tracks, (x, y), layout.VIA_RADIUS, 255)
        brush.disc(opening, (x, y), layout.VIA_RADIUS - 0.5, 255)
        brush.disc(drill, (x, y), layout.VIA_DRILL, 255)
    _draw_header(brush, tracks, opening, drill)
    for part in layout.PARTS:
        for pad in layout.pads_of(part.kind):
            corners = part.place(layout.rectangle(pad.x, pad.y, pad.width, pad.height))
            for mask in (tracks, opening, tinned):
                brush.polygon(mask, corners, 255)
    copper = _with_pours(brush, tracks)
    _draw_silk(brush, silk)
    silk[cv2.dilate(opening, _disc_kernel(0.8 * scale)) > 0] = 0  # Ink never lies on a pad.
    return copper, opening, tinned, drill, silk


def _draw_header(brush: Brush, tracks: Image, opening: Image, drill: Image) -> None:
    first, *others = layout.HEADER_PADS
    side = 2 * layout.HEADER_RADIUS
    for mask in (tracks, opening):
        brush.polygon(mask, layout.rectangle(*first, side, side), 255)  # Pin 1 is square.
        for centre in others:
            brush.disc(mask, centre, layout.HEADER_RADIUS, 255)
        brush.disc(mask, layout.MOUNT, layout.MOUNT_RADIUS, 255)
        for centre in layout.FIDUCIALS:
            brush.disc(mask, centre, 2.4, 255)
    for centre in layout.HEADER_PADS:
        brush.disc(drill, centre, layout.HEADER_DRILL, 255)
    brush.disc(drill, layout.MOUNT, layout.MOUNT_DRILL, 255)


def _with_pours(brush: Brush, tracks: Image) -> Image:
    pour, grounded = brush.blank(), brush.blank()
    for outline in layout.POURS:
        brush.polygon(pour, outline, 255)
    for centre in layout.GROUND_VIAS:
        brush.disc(grounded, centre, layout.VIA_RADIUS, 255)
    other_nets = cv2.subtract(tracks, grounded)
    keep_out = cv2.dilate(other_nets, _disc_kernel(layout.POUR_CLEARANCE * brush.scale))
    return np.asarray(cv2.bitwise_or(tracks, cv2.subtract(pour, keep_out)), np.uint8)


def _disc_kernel(radius: float) -> Image:
    side = 2 * round(radius) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _draw_silk(brush: Brush, silk: Image) -> None:
    for label in layout.LABELS:
        for stroke in layout.text_strokes(label.text, label.x, label.y, label.height):
            brush.stroke(silk, stroke, 1.0, 255)
    for part in layout.PARTS:
        width, height = layout.BODY_SIZE[part.kind]
        grow = 3.2 if part.kind in ("electrolytic", "qfp", "soic", "crystal") else 5.0
        outline = part.place(layout.rectangle(0, 0, width + (3.2 if grow < 5 else 10), height + grow))
        brush.stroke(silk, np.vstack([outline, outline[:1]]), 0.9, 255)
    (left, y), (right, _) = layout.HEADER_PADS[0], layout.HEADER_PADS[-1]
    frame = layout.rectangle((left + right) / 2, y, right - left + 13, 13)
    brush.stroke(silk, np.vstack([frame, frame[:1]]), 0.9, 255)


def new_scene(scale: float) -> Scene:
    """A board without parts and without defects, whose masks may be changed."""
    brush = Brush(scale)
    copper, opening, tinned, drill, silk = (mask.copy() for mask in _artwork(scale))
    return Scene(brush, copper, opening, tinned, drill, silk, brush.blank())


def paint(scene: Scene) -> Image:
    """The board in colour, (side, side, 3) RGB, before the camera."""
    image = _paint_bare_board(scene)
    _cast_shadows(image, scene)
    for placed in scene.parts:
        _PAINTERS[placed.part.kind](scene.brush, image, placed)
    for outline in scene.bridges:
        _paint_solder(scene.brush, image, outline)
    return image


def _paint_bare_board(scene: Scene) -> Image:
    copper, bare = scene.copper > 0, scene.opening > 0
    label = np.where(copper, np.uint8(TRACK), np.uint8(LAMINATE))
    label[bare] = BARE
    label[bare & copper] = GOLD
    label[bare & copper & (scene.tinned > 0)] = TIN
    label[scene.silk > 0] = SILK
    scratched = (scene.scratch > 0) & ~bare
    label[scratched] = BARE
    label[scratched & copper] = COPPER
    label[scene.drill > 0] = HOLE
    return _add_relief(PALETTE[label], scene)


def _add_relief(image: Image, scene: Scene) -> Image:
    """Light from the upper left on the steps that copper makes under the solder mask."""
    scale = scene.brush.scale
    height = cv2.GaussianBlur(scene.copper, (0, 0), 0.45 * scale)
    kernel = np.array([(-1, -1, 0), (-1, 0, 1), (0, 1, 1)], np.float32) * np.float32(0.06 * scale)
    slope = cv2.filter2D(height, cv2.CV_16S, kernel)
    return np.asarray(cv2.add(image, cv2.merge([slope] * 3), dtype=cv2.CV_8U), np.uint8)


_HEIGHT = {"electrolytic": 4.5, "qfp": 2.0, "soic": 2.0, "crystal": 2.4}


def _cast_shadows(image: Image, scene: Scene) -> None:
    shadow = scene.brush.blank()
    for placed in scene.parts:
        part = placed.part
        depth = _HEIGHT.get(part.kind, 1.3)
        outline = part.place(layout.rectangle(0, 0, *layout.BODY_SIZE[part.kind])) + depth * 0.7
        scene.brush.polygon(shadow, outline, 120)
    light = 255 - cv2.blur(shadow, (2 * round(0.8 * scene.brush.scale) + 1,) * 2)
    cv2.multiply(image, cv2.merge([light] * 3), image, scale=1 / 255)


def _shade(colour: Sequence[float], factor: float) -> Colour:
    r, g, b = (min(255, round(channel * factor)) for channel in colour)
    return r, g, b


def _paint_solder(brush: Brush, image: Image, outline: Points) -> None:
    centre = outline.mean(0)
    brush.polygon(image, outline, (150, 154, 158))
    brush.polygon(image, (outline - centre) * 0.75 + centre - 0.25, (196, 200, 203))
    brush.polygon(image, (outline - centre) * 0.3 + centre - 0.5, (244, 246, 247))


def _paint_gloss(brush: Brush, image: Image, placed: PlacedPart) -> None:
    """A bright spot on each solder joint; the joint's wet shape differs from board to board."""
    for pad, (dx, dy) in zip(layout.pads_of(placed.part.kind), placed.gloss, strict=False):
        spot = layout.rectangle(pad.x + dx, pad.y + dy, pad.width * 0.3, pad.height * 0.4)
        brush.polygon(image, placed.part.place(spot), (240, 242, 242))


def _paint_chip(brush: Brush, image: Image, placed: PlacedPart) -> None:
    part = placed.part
    width, height = layout.BODY_SIZE[part.kind]
    body = {"resistor": (44, 42, 46), "capacitor": (176, 138, 96), "led": (232, 228, 214)}[part.kind]
    _paint_gloss(brush, image, placed)
    box = layout.rectangle
    brush.polygon(image, part.place(box(0, 0, width, height)), (206, 208, 210))
    brush.polygon(image, part.place(box(0, height * 0.42, width, height * 0.16)), (150, 152, 156))
    brush.polygon(image, part.place(box(0, 0, width * 0.62, height)), _shade(body, placed.tint))
    edge = box(0, -height * 0.42, width * 0.62, height * 0.14)
    brush.polygon(image, part.place(edge), _shade(body, placed.tint * 1.25))
    if part.kind == "led":
        brush.disc(image, (part.x, part.y), 2.7, _shade((240, 206, 84), placed.tint))
        brush.disc(image, (part.x - 0.7, part.y - 0.7), 0.9, (252, 244, 196))
    _paint_marking(brush, image, placed, 3.8, (214, 214, 208))


def _paint_marking(
    brush: Brush, image: Image, placed: PlacedPart, height: float, colour: Colour, y: float = 0.0
) -> None:
    part = placed.part
    left = -layout.text_width(part.marking, height) / 2
    for stroke in layout.text_strokes(part.marking, left, y - height / 2, height):
        brush.stroke(image, part.place(stroke), max(0.7, height / 8), colour)


def _paint_ic(brush: Brush, image: Image, placed: PlacedPart) -> None:
    part = placed.part
    width, height = layout.BODY_SIZE[part.kind]
    box = layout.rectangle
    for pad in layout.pads_of(part.kind):
        across = (pad.width, pad.height * 0.8) if pad.width > pad.height else (pad.width * 0.8, pad.height)
        pin = box(pad.x * 0.93, pad.y * (1.0 if pad.width > pad.height else 0.93), across[0], across[1])
        if pad.width < pad.height:
            pin = box(pad.x, pad.y * 0.93, *across)
        brush.polygon(image, part.place(pin), (172, 175, 178))
    _paint_gloss(brush, image, placed)
    body = (50, 50, 54)
    brush.polygon(image, part.place(box(0, 0, width, height)), _shade(body, placed.tint * 1.35))
    brush.polygon(image, part.place(box(0.5, 0.5, width - 1, height - 1)), _shade(body, placed.tint * 0.7))
    brush.polygon(image, part.place(box(0, 0, width - 2.4, height - 2.4)), _shade(body, placed.tint))
    dot = part.place(np.array([(-width / 2 + 5.0, -height / 2 + 5.0)]))[0]
    brush.disc(image, (dot[0], dot[1]), 1.7, _shade((28, 28, 32), placed.tint))
    size = 8.0 if part.kind == "qfp" else 5.0
    _paint_marking(brush, image, placed, size, (158, 158, 156))


def _paint_crystal(brush: Brush, image: Image, placed: PlacedPart) -> None:
    part = placed.part
    width, height = layout.BODY_SIZE[part.kind]
    _paint_gloss(brush, image, placed)
    for shrink, shade in ((0.0, 0.72), (1.0, 1.12), (2.4, 1.0)):
        ends = np.array([(-(width - height) / 2, 0.0), ((width - height) / 2, 0.0)])
        brush.stroke(image, part.place(ends), height - shrink, _shade((188, 190, 192), shade * placed.tint))
    _paint_marking(brush, image, placed, 4.2, (92, 94, 98))


def _paint_electrolytic(brush: Brush, image: Image, placed: PlacedPart) -> None:
    part = placed.part
    half = layout.BODY_SIZE[part.kind][0] / 2
    cut = half * 0.45
    base = [(-half, -half), (half - cut, -half), (half, -half + cut), (half, half - cut), (half - cut, half),
            (-half, half)]  # fmt: skip
    _paint_gloss(brush, image, placed)
    brush.polygon(image, part.place(np.array(base, np.float64)), (40, 40, 44))
    centre = (part.x, part.y)
    for radius, shade in ((half * 0.94, 0.62), (half * 0.9, 1.1), (half * 0.78, 0.96)):
        brush.disc(image, centre, radius, _shade((196, 199, 204), shade * placed.tint))
    turn = np.deg2rad(np.linspace(118, 242, 24))
    sector = np.stack([np.cos(turn), np.sin(turn)], 1) * half * 0.78
    brush.polygon(image, part.place(sector), (46, 46, 52))
    _paint_marking(brush, image, placed, 7.0, (70, 72, 78), y=1.0)


_PAINTERS = {
    "resistor": _paint_chip,
    "capacitor": _paint_chip,
    "led": _paint_chip,
    "crystal": _paint_crystal,
    "electrolytic": _paint_electrolytic,
    "qfp": _paint_ic,
    "soic": _paint_ic,
}
