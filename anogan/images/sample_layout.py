"""The one board that the sample set photographs: where its copper, parts and lettering lie.

Coordinates are board units, (x right, y down); one unit is one pixel of a 192-pixel picture. The
camera sees 0..192 in both axes and the artwork goes on for `MARGIN` units beyond.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

VIEW = 192.0
MARGIN = 12.0
PIN_PITCH = 6.0
_BUNDLE_SHIFT = PIN_PITCH * float(np.tan(np.pi / 8))  # Keeps a bundle's spacing through a 45 degree bend.

Point = tuple[float, float]
PartKind = Literal["resistor", "capacitor", "led", "crystal", "electrolytic", "qfp", "soic"]


@dataclass(frozen=True, slots=True)
class Trace:
    """A copper track under the solder mask."""

    points: tuple[Point, ...]
    width: float = 3.4


@dataclass(frozen=True, slots=True)
class Part:
    """A placed component; `angle` in degrees, clockwise on the picture."""

    ref: str
    kind: PartKind
    x: float
    y: float
    angle: float = 0.0
    marking: str = ""

    def place(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """Board coordinates of points, (N, 2), given around the part's centre."""
        turn = np.deg2rad(self.angle)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.asarray(local @ rotation + (self.x, self.y), np.float64)


def moved(part: Part, x: float, y: float, turn: float) -> Part:
    """The part shifted by (x, y) units and turned by `turn` degrees."""
    return replace(part, x=part.x + x, y=part.y + y, angle=part.angle + turn)


@dataclass(frozen=True, slots=True)
class Pad:
    """A rectangular solder land in the coordinates of its part: centre, width, height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Label:
    """Silk-screen text; (x, y) is its upper left corner."""

    text: str
    x: float
    y: float
    height: float


def rectangle(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    """The corners, (4, 2), of a rectangle around (x, y)."""
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    return corners * (width, height) + (x, y)


def _pin_rows(offset: float, length: float) -> tuple[Pad, ...]:
    steps = (np.arange(6) - 2.5) * PIN_PITCH
    return tuple(Pad(side * offset, float(y), length, 3.2) for side in (-1, 1) for y in steps)


def pads_of(kind: PartKind) -> tuple[Pad, ...]:
    """The solder lands of a part, around its centre."""
    if kind == "soic":
        return _pin_rows(16.5, 7.0)
    if kind == "qfp":
        rows = _pin_rows(24.5, 7.0)
        return rows + tuple(Pad(p.y, p.x, p.height, p.width) for p in rows)
    offset, width, height = {"crystal": (12.0, 7.0, 7.0), "electrolytic": (17.0, 8.0, 6.0)}.get(
        kind, (6.2, 5.4, 7.6)
    )
    return (Pad(-offset, 0.0, width, height), Pad(offset, 0.0, width, height))


BODY_SIZE: dict[PartKind, tuple[float, float]] = {
    "resistor": (12.5, 6.8),
    "capacitor": (12.5, 6.8),
    "led": (12.5, 7.2),
    "crystal": (26.0, 11.0),
    "electrolytic": (34.0, 34.0),
    "qfp": (40.0, 40.0),
    "soic": (24.0, 40.0),
}

PARTS: tuple[Part, ...] = (
    Part("U1", "qfp", 66, 72, marking="AG32"),
    Part("U2", "soic", 150, 58, marking="M24"),
    Part("Y1", "crystal", 22, 26, marking="16.0"),
    Part("C1", "electrolytic", 154, 148, marking="47"),
    Part("R1", "resistor", 52, 22, 90, "103"),
    Part("R2", "resistor", 66, 22, 90, "103"),
    Part("R3", "resistor", 80, 22, 90, "472"),
    Part("C2", "capacitor", 114, 102),
    Part("C3", "capacitor", 114, 117),
    Part("C4", "capacitor", 150, 24),
    Part("R4", "resistor", 143, 97, marking="221"),
    Part("R5", "resistor", 143, 112, marking="103"),
    Part("D1", "led", 174, 97),
    Part("C5", "capacitor", 18, 122),
)

_PIN_Y = tuple(float(y) for y in (np.arange(6) - 2.5) * PIN_PITCH)


def _bus_to_u2() -> list[Trace]:
    bends = [102 + _BUNDLE_SHIFT * i for i in range(6)]
    return [
        Trace(((90.0, 72 + y), (x, 72 + y), (x + 14, 58 + y), (134.0, 58 + y)))
        for x, y in zip(bends, _PIN_Y, strict=True)
    ]


def _bus_to_left_edge() -> list[Trace]:
    bends = [24 + _BUNDLE_SHIFT * i for i in range(4)]
    return [
        Trace(((42.0, 72 + y), (x, 72 + y), (x - 20, 92 + y), (-MARGIN, 92 + y)))
        for x, y in zip(bends, _PIN_Y[2:], strict=True)
    ]


def _bus_to_right_edge() -> list[Trace]:
    bends = [188 - _BUNDLE_SHIFT * i for i in range(4)]
    return [
        Trace(((166.0, 58 + y), (x, 58 + y), (x + 16 + MARGIN, 74 + MARGIN + y)))
        for x, y in zip(bends, _PIN_Y[1:5], strict=True)
    ]


HEADER_PADS: tuple[Point, ...] = tuple((18.0 + 12.0 * i, 178.0) for i in range(7))


def _fan_to_header() -> list[Trace]:
    starts = (104.0, 107.5, 111.0, 114.5, 112.0, 106.0)
    pads = HEADER_PADS[1:]
    return [
        Trace(((66 + x, 96.0), (66 + x, y), (px, y + abs(px - 66 - x)), (px, 178.0)))
        for x, y, (px, _) in zip(_PIN_Y, starts, pads, strict=True)
    ]


TRACES: tuple[Trace, ...] = (
    *_bus_to_u2(),
    *_bus_to_left_edge(),
    *_bus_to_right_edge(),
    *_fan_to_header(),
    # The supply rail along the top, with a branch to each pull-up.
    Trace(((-MARGIN, 8.5), (105.5, 8.5), (112, 15), (112, 32), (120, 40)), 7.0),
    *(Trace(((x, 16), (x, 8.5)), 4.5) for x in (52.0, 66.0, 80.0)),
    Trace(((51, 47), (51, 43), (44, 36))),
    Trace(((57, 47), (57, 43), (52, 38), (52, 28))),
    Trace(((63, 47), (63, 43), (66, 40), (66, 28))),
    Trace(((69, 47), (69, 42), (73, 38), (73, 35))),
    Trace(((75, 47), (75, 43), (80, 38), (80, 28))),
    Trace(((81, 47), (81, 43), (91, 33))),
    # Crystal.
    Trace(((42, 57), (38, 57), (34, 53), (34, 26))),
    Trace(((42, 63), (30, 63), (10, 43), (10, 26))),
    # The discrete corner.
    Trace(((112, 15), (130, 15), (139, 24), (144, 24)), 5.0),
    Trace(((156, 24), (170, 24), (176, 18))),
    Trace(((166, 43), (180, 43), (188, 35), (204, 35))),
    Trace(((168, 73), (174, 73), (186, 85)), 4.0),
    Trace(((108, 102), (98, 102), (94, 106))),
    Trace(((120, 102), (126, 102), (131, 97), (137, 97))),
    Trace(((108, 117), (103, 117), (98, 122), (98, 132))),
    Trace(((120, 117), (126, 117), (131, 112), (137, 112))),
    Trace(((149, 97), (168, 97)), 4.5),
    Trace(((149, 112), (162, 112), (166, 108))),
    Trace(((180, 97), (186, 97), (186, 110)), 4.0),
    Trace(((137, 148), (128, 148), (118, 138), (110, 138)), 6.5),
    Trace(((12, 122), (4, 130), (4, 136))),
    Trace(((18, 178), (18, 172), (8, 162), (-MARGIN, 162)), 5.0),
)

SIGNAL_VIAS: tuple[Point, ...] = (
    (44, 36), (73, 34), (91, 33), (94, 106), (98, 132), (166, 108), (186, 85), (186, 110), (176, 18),
    (110, 138), (4, 136),
)  # fmt: skip
GROUND_VIAS: tuple[Point, ...] = (
    (128, 180), (184, 178), (184, 130), (128, 129), (112, 182), (154, 180), (186, 148), (134, 3), (160, 3),
    (184, 3),
)  # fmt: skip
VIAS = SIGNAL_VIAS + GROUND_VIAS
VIA_RADIUS = 3.2
VIA_DRILL = 1.4
HEADER_RADIUS = 4.4
HEADER_DRILL = 2.2
MOUNT: Point = (15.0, 148.0)
MOUNT_RADIUS = 9.0
MOUNT_DRILL = 6.0

POURS: tuple[tuple[Point, ...], ...] = (
    ((104, 127), (204, 121), (204, 204), (104, 204)),
    ((118, -12), (204, -12), (204, 12), (126, 12), (118, 4)),
)
POUR_CLEARANCE = 2.8
FIDUCIALS: tuple[Point, ...] = ((126.0, 86.0),)

LABELS: tuple[Label, ...] = (
    Label("U1", 84, 97, 6),
    Label("U2", 135, 28.5, 6),
    Label("Y1", 18, 33.5, 6),
    Label("C1", 178, 161, 6),
    Label("C4", 146, 11.8, 5.5),
    Label("D1", 170, 84.5, 6),
    Label("R4", 136, 86, 5),
    Label("R5", 157, 114.5, 5),
    Label("C2", 110, 92, 5),
    Label("C3", 110, 124.5, 5),
    Label("C5", 13, 110, 5),
    Label("J1", 3, 183, 6),
    Label("LINE 7", 107, 168, 6.5),
    Label("REV B", 107, 151, 5.5),
)

# Strokes on a grid 4 wide and 6 high. Our own letters: OpenCV's fonts differ between its versions.
_GLYPHS: dict[str, str] = {
    "A": "06 02 20 42 46|04 44", "B": "00 06 36 45 44 33 03|33 42 41 30 00", "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 44 42 20 00", "E": "40 00 06 46|03 33", "G": "41 30 10 01 05 16 36 45 43 23",
    "I": "20 26", "J": "40 45 36 16 05", "L": "00 06 46", "M": "06 00 23 40 46", "N": "06 00 46 40",
    "R": "06 00 30 41 42 33 03|23 46", "U": "00 05 16 36 45 40", "V": "00 26 40", "Y": "00 23 40|23 26",
    "0": "10 30 41 45 36 16 05 01 10", "1": "11 20 26|16 36", "2": "01 10 30 41 42 06 46",
    "3": "00 40 22 43 45 36 16 05", "4": "36 30 04 44", "5": "40 00 02 32 43 45 36 16 05",
    "6": "41 30 10 01 05 16 36 45 44 33 03", "7": "00 40 16", ".": "25 26", "+": "21 25|03 43", "-": "03 43",
    " ": "",
}  # fmt: skip


def text_width(text: str, height: float) -> float:
    """Width in units of a line of text of this height."""
    return (len(text) * 5.6 - 1.6) * height / 6


def text_strokes(text: str, x: float, y: float, height: float) -> list[NDArray[np.float64]]:
    """Polylines, each (N, 2), of a line of text whose upper left corner is (x, y)."""
    strokes: list[NDArray[np.float64]] = []
    for i, letter in enumerate(text):
        for stroke in filter(None, _GLYPHS[letter].split("|")):
            grid = np.array([(int(p[0]), int(p[1])) for p in stroke.split()], dtype=np.float64)
            advance = np.array([i * 5.6, 0.0])
            strokes.append((grid + advance) * height / 6 + np.array([x, y]))
    return strokes
