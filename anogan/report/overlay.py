"""Pictures of one inspection: heat over the image, and the panel that shows how it was judged.

Every colour picture here is RGB, as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log2
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan.errors import ShapeError
from anogan.inspection import Inspection, Verdict

Picture = NDArray[np.uint8]

THRESHOLD_COLOUR = (255, 255, 255)
DEFECT_COLOUR = (0, 229, 255)
VERDICT_COLOURS = {
    Verdict.PASS: (0, 158, 115),
    Verdict.REVIEW: (230, 159, 0),
    Verdict.REJECT: (213, 94, 0),
}
MIN_PANEL_HEIGHT = 256
REPORT_HEIGHT, REPORT_WIDTH = 320, 420  # Pixels of a report's pictures; three fit a wide screen side by side.

_MAX_ALPHA = 0.75  # The part stays recognisable under the hottest colour.
_HEAT_START = 0.35  # Inferno begins in black, which would look like shadow on the part.
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BACKGROUND = (24, 24, 27)


def overlay(
    image: NDArray[np.generic],
    anomaly_map: NDArray[np.floating[Any]],
    *,
    threshold: float,
    mask: NDArray[np.bool_] | None = None,
) -> Picture:
    """The image with heat where the map comes near the threshold or passes it.

    Heat begins at 0.5 and is strongest from 1.5 times the threshold on; a white line runs where the
    map passes the threshold, a cyan one around the ground truth. Pixels of the map that are not
    finite are painted as the hottest, since what could not be scored must not look good.

    Args:
        image: (H, W, C), uint8 or uint16, grey (C = 1) or RGB (C = 3).
        anomaly_map: (H, W), higher is more anomalous, on the scale of `threshold`.
        threshold: Scores above it are rejected.
        mask: (H, W), True on the known defect, if there is ground truth.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ShapeError: The image is of another shape or dtype, or map or mask differ from it in size.
    """
    picture = to_display(image)
    _require_size("anomaly_map", anomaly_map, picture)
    heat = _finite(anomaly_map)
    low, span = _ramp(threshold)
    alpha = _MAX_ALPHA * np.clip((heat - low) / span, 0.0, 1.0)[..., None]
    strength = np.clip((heat - low) / (2.5 * span), 0.0, 1.0)
    blended = (1 - alpha) * picture + alpha * _colours(strength)
    result: Picture = np.ascontiguousarray(np.rint(blended).astype(np.uint8))
    draw_outline(result, heat > threshold, THRESHOLD_COLOUR)
    if mask is not None:
        _require_size("mask", mask, picture)
        draw_outline(result, np.asarray(mask, dtype=bool), DEFECT_COLOUR)
    return result


def to_display(image: NDArray[np.generic], *, white: int | None = None) -> Picture:
    """An 8-bit RGB picture of any image that the package reads.

    Args:
        image: (H, W, C), uint8 or uint16, C = 1 or 3.
        white: Value shown as white. Default for 16 bit: the top of the smallest whole number of bits
            that holds the image, because 10 and 12 bit cameras save into 16 bit files.

    Returns:
        (H, W, 3) uint8, a copy.

    Raises:
        ShapeError: Another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise ShapeError(
            f"The image has shape {image.shape}; expected (H, W, 1) or (H, W, 3): "
            "add the channel axis of a grey image with image[..., None]."
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise ShapeError(
            f"The image is {image.dtype}; expected uint8 or uint16: pass the pixels as they were read."
        )
    white = _white(image) if white is None else white
    values = image if white == 255 else np.clip(np.rint(image.astype(np.float32) * (255.0 / white)), 0, 255)
    picture: Picture = np.repeat(values, 3 // image.shape[2], axis=2).astype(np.uint8)
    return picture


def inspection_panel(
    inspection: Inspection, image: NDArray[np.generic], mask: NDArray[np.bool_] | None = None
) -> Picture:
    """Image, reconstruction and heatmap side by side, with the verdict as a caption.

    Args:
        inspection: What was found in `image`.
        image: (H, W, C) as in `overlay`.
        mask: (H, W) ground truth, outlined on the image and on the heatmap.

    Returns:
        (H', W', 3) uint8; images lower than 256 pixels are enlarged so that captions stay legible.

    Raises:
        ShapeError: The parts differ in size, or the image is of another shape or dtype.
    """
    scale = max(1.0, MIN_PANEL_HEIGHT / image.shape[0]) if image.ndim else 1.0
    pictures = panel_pictures(inspection, image, mask, scale=scale)
    score = f"{inspection.score:.2f}" if np.isfinite(inspection.score) else "no score"
    verdict = f"{inspection.verdict.upper()}  {score} / {inspection.threshold:.2f}"
    colours = ((235, 235, 235), (235, 235, 235), VERDICT_COLOURS[inspection.verdict])
    captions = ("image", "reconstruction", verdict)
    columns = [_captioned(*parts) for parts in zip(pictures, captions, colours, strict=True)]
    gap = np.full((columns[0].shape[0], max(4, columns[0].shape[0] // 64), 3), _BACKGROUND, np.uint8)
    return np.hstack([columns[0], gap, columns[1], gap, columns[2]])


def panel_pictures(
    inspection: Inspection,
    image: NDArray[np.generic],
    mask: NDArray[np.bool_] | None = None,
    *,
    scale: float = 1.0,
) -> tuple[Picture, Picture, Picture]:
    """Image, reconstruction and heatmap overlay, all drawn at `scale` times the image's size.

    Lines and heat are drawn after scaling, so they stay thin when a small image is enlarged, and the
    map is shrunk by its maximum, so a defect of one pixel survives when a large one is reduced. Of an
    inspection that is `reduced` already, map and reconstruction are taken as they are.

    Raises:
        ShapeError: The parts differ in size, or the image is of another shape or dtype.
    """
    white = 255 if image.dtype == np.uint8 else _white(image)
    original = to_display(image, white=white)
    reconstruction = to_display(inspection.reconstruction, white=white)
    shown = _scaled(original, scale)
    if inspection.anomaly_map.shape != shown.shape[:2]:
        _require_size("anomaly_map", inspection.anomaly_map, original)
    if reconstruction.shape != shown.shape:
        _require_size("reconstruction", reconstruction, original)
        reconstruction = _scaled(reconstruction, scale)
    heat = _scaled_map(_finite(inspection.anomaly_map), shown.shape[:2])
    known = None
    if mask is not None:
        _require_size("mask", mask, original)
        known = _scaled_map(np.asarray(mask, dtype=np.float32), shown.shape[:2]) >= 0.5
    heatmap = overlay(shown, heat, threshold=inspection.threshold, mask=known)
    if known is not None:
        shown = shown.copy()
        draw_outline(shown, known, DEFECT_COLOUR)
    return shown, reconstruction, heatmap


def report_scale(size: tuple[int, int]) -> float:
    """What an image of (height, width) is scaled by in a report."""
    return min(REPORT_HEIGHT / size[0], REPORT_WIDTH / size[1])


def reduced(inspection: Inspection) -> Inspection:
    """The inspection with map and reconstruction no larger than a report shows them.

    Hundreds are held for a report: of a photograph of 5 megapixels a tenth of a megapixel is shown.
    """
    height, width = inspection.anomaly_map.shape
    if not inspection.anomaly_map.size or (scale := report_scale((height, width))) >= 1:
        return inspection
    size = _scaled_size((height, width), scale)
    pixels: NDArray[Any] = inspection.reconstruction
    again = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    return replace(
        inspection,
        anomaly_map=_scaled_map(_finite(inspection.anomaly_map), size),
        reconstruction=np.asarray(again).reshape(*size, -1),
    )


def _white(image: NDArray[np.generic]) -> int:
    if image.dtype == np.uint8 or image.size == 0:
        return 255
    return int(2 ** max(8, ceil(log2(int(image.max()) + 1)))) - 1


def _require_size(name: str, array: NDArray[Any], picture: Picture) -> None:
    wanted = picture.shape[: 3 if array.ndim == 3 else 2]
    if array.shape != wanted:
        raise ShapeError(
            f"{name} has shape {array.shape} but the image is {picture.shape[0]} x {picture.shape[1]}; "
            f"expected {wanted}: pass the parts of one inspection."
        )


def _finite(anomaly_map: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    top = float(np.finfo(np.float32).max)
    values = anomaly_map.astype(np.float32)
    values[np.isnan(values)] = top
    return values.clip(-top, top)


def _ramp(threshold: float) -> tuple[float, float]:
    """Where heat begins, and how far above it is full; works for a threshold of zero or less too."""
    span = max(abs(threshold), 1e-6)
    return threshold - 0.5 * span, span


def _colours(strength: NDArray[np.floating[Any]]) -> Picture:
    index = np.rint(255 * (_HEAT_START + (1 - _HEAT_START) * strength)).astype(np.uint8)
    coloured = cv2.applyColorMap(index, cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def draw_outline(picture: Picture, region: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Draws around the region, in place; nothing inside it is hidden, however small it is."""
    height, width = region.shape
    thickness = max(1 if max(height, width) < 256 else 2, round(max(height, width) / 500))
    inside = region.astype(np.uint8)
    line = cv2.dilate(inside, _disc(thickness)).astype(bool)
    if min(height, width) >= 128:  # A dark rim makes the line readable on light parts.
        rim = cv2.dilate(inside, _disc(thickness + max(1, thickness // 2))).astype(bool)
        picture[rim & ~line] = 0
    picture[line & ~region] = colour


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def _scaled(picture: Picture, scale: float) -> Picture:
    height, width = _scaled_size((picture.shape[0], picture.shape[1]), scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)


def _scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scaled_map(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    height, width = size
    reduction = max(values.shape[0] / height, values.shape[1] / width)
    method = cv2.INTER_LINEAR
    if reduction > 1:
        side = ceil(reduction) // 2 * 2 + 1  # Odd, and at least the distance between kept pixels.
        values = np.asarray(cv2.dilate(values, np.ones((side, side), np.uint8)), dtype=np.float32)
        method = cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(values, (width, height), interpolation=method), dtype=np.float32)


def _captioned(picture: Picture, text: str, colour: tuple[int, int, int]) -> Picture:
    """The picture with a bar of text above it, widened when the text needs more room."""
    size = max(14.0, picture.shape[0] / 18)  # Height of a capital letter and its surroundings, pixels.
    scale, thickness = size / 26, max(1, round(size / 16))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    bar = round(1.8 * size)
    width = max(picture.shape[1], text_width + round(size))
    column: Picture = np.full((bar + picture.shape[0], width, 3), _BACKGROUND, np.uint8)
    left = (width - picture.shape[1]) // 2
    column[bar:, left : left + picture.shape[1]] = picture
    origin = (round(size / 2) if left == 0 else (width - text_width) // 2, (bar + text_height) // 2)
    cv2.putText(column, text, origin, _FONT, scale, colour, thickness, cv2.LINE_AA)
    return column
