"""Plots as PNG bytes: scores, ROC, training curves, grids of images.

Figures are made without pyplot, so nothing global is touched and any thread may draw. Colours are
those of Okabe and Ito, told apart by colour-blind people too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anogan.errors import DataError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GOOD, _DEFECT, _REVIEW, _INK = "#0072B2", "#D55E00", "#B37700", "#222222"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DPI = 120
_BINS = 40
_SMOOTH_FROM = 60  # Points; shorter curves are shown as they are.
_CHINESE = ("Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei")


def score_histogram(
    good_scores: ArrayLike, defect_scores: ArrayLike, threshold: float, review_threshold: float
) -> bytes:
    """How far good and defective parts lie apart, and where the threshold cuts.

    Args:
        good_scores: (n,) image scores of good parts; higher is more anomalous.
        defect_scores: (m,) image scores of defective parts; may be empty.
        threshold: Scores above it are rejected.
        review_threshold: Scores above it go to a person; equal to `threshold` for no review band.

    Returns:
        PNG. Scores far beyond the rest are counted in the last bar, which is then labelled so.

    Raises:
        DataError: No finite score at all.
    """
    groups = [("good", _scores(good_scores), _GOOD), ("defect", _scores(defect_scores), _DEFECT)]
    shown = [group for group in groups if group[1].size]
    if not shown:
        raise DataError("The score histogram got no finite score; score at least one image first.")
    edges, beyond = _edges(np.concatenate([scores for _, scores, _ in shown]), threshold)
    figure = _figure(8, 1.3 + 1.6 * len(shown))
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, scores, colour) in zip(panels, shown, strict=True):
        axes.hist(scores.clip(edges[0], edges[-1]), bins=edges, color=colour, rwidth=0.92)
        axes.set_ylabel(f"{name}\n(n = {scores.size})", rotation=0, ha="right", va="center")
        _tidy(axes)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        axes.axvline(threshold, color=_INK, linewidth=1.4)
        if review_threshold < threshold:
            axes.axvline(review_threshold, color=_REVIEW, linewidth=1.4, linestyle="--")
    _label_thresholds(panels[0], threshold, review_threshold)
    note = f" (last bar: {edges[-2]:.3g} and above)" if beyond else ""
    panels[-1].set_xlabel(f"image score{note}")
    return _png(figure)


def roc_curve(good_scores: ArrayLike, defect_scores: ArrayLike, threshold: float) -> bytes:
    """Share of defects found against share of good parts rejected, for every possible threshold.

    Args:
        good_scores: (n,) image scores of good test parts.
        defect_scores: (m,) image scores of defective test parts.
        threshold: The calibrated one, marked on the curve.

    Returns:
        PNG.

    Raises:
        DataError: Either group has no finite score.
    """
    good, defect = _scores(good_scores), _scores(defect_scores)
    if not good.size or not defect.size:
        raise DataError(
            f"A ROC curve needs good and defective images, got {good.size} and {defect.size} finite scores; "
            "add the missing kind to the test folder."
        )
    false_rejects, found = roc_points(good, defect)
    figure = _figure(5.6, 5.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    axes.plot(false_rejects, found, color=_GOOD, linewidth=2.2, clip_on=False)
    here = (float(np.mean(good > threshold)), float(np.mean(defect > threshold)))
    axes.plot(*here, "o", color=_DEFECT, markersize=9, clip_on=False, zorder=5)
    area = float(np.trapezoid(found, false_rejects))
    axes.text(0.97, 0.20, f"AUROC {area:.3f}", ha="right", fontsize=13, color=_GOOD)
    words = f"{here[1]:.1%} of defects found,\n{here[0]:.1%} of good rejected"
    axes.text(
        0.97, 0.03, f"at the threshold ({threshold:.3g}):\n{words}", ha="right", fontsize=10, color=_DEFECT
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("good parts rejected")
    axes.set_ylabel("defects found")
    _tidy(axes)
    return _png(figure)


def roc_points(
    good_scores: NDArray[np.float64], defect_scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the ROC from (0, 0) to (1, 1); equal scores make one slanted step.

    Returns:
        (k,) share of good parts rejected and (k,) share of defects found, both rising.
    """
    cuts = np.unique(np.concatenate([good_scores, defect_scores]))[::-1]
    good, defect = np.sort(good_scores), np.sort(defect_scores)
    rejected = 1 - np.searchsorted(good, cuts, side="left") / good.size
    found = 1 - np.searchsorted(defect, cuts, side="left") / defect.size
    return np.concatenate([[0.0], rejected]), np.concatenate([[0.0], found])


def training_curves(history: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """Everything that training logged, one panel for each group of names.

    The group is what stands before a `/` (`loss/generator`), else the last word (`generator_loss`).
    Long curves are drawn faint, with their running mean on top; a logarithmic scale is taken when the
    values are positive and span more than a factor of 100.

    Args:
        history: Name -> (step, value) pairs in order; values that are not finite leave a gap.

    Returns:
        PNG.

    Raises:
        DataError: No name has a value.
    """
    groups = _groups({name: curve for name, curve in history.items() if len(curve)})
    if not groups:
        raise DataError(
            "There are no training curves to draw: the history is empty; train at least one step."
        )
    columns = min(3, len(groups))
    rows = ceil(len(groups) / columns)
    figure = _figure(4.3 * columns if columns > 1 else 7, 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (group, curves) in zip(panels, groups.items(), strict=False):
        _draw_curves(axes, curves, named=list(curves) != [group])
        axes.set_title(group, loc="left", fontsize=12, parse_math=False)
        axes.set_xlabel("step")
        _tidy(axes)
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    return _png(figure)


def seed_dots(groups: Mapping[str, Sequence[float]], emphasised: Collection[str], label: str) -> bytes:
    """One line per group with a dot per value and a stroke at their mean, the first group at the top.

    Args:
        groups: Name -> values, such as one figure of each seed.
        emphasised: Names drawn in the first colour, the others in the second.
        label: Of the axis of values.

    Returns:
        PNG.

    Raises:
        DataError: No group has a finite value.
    """
    known = {name: found for name, values in groups.items() if (found := _scores(values)).size}
    if not known:
        raise DataError(f"The plot of {label} got no finite value; score at least one image first.")
    figure = _figure(6, 1.0 + 0.34 * len(known))
    axes = figure.subplots()
    families = _families()
    for place, (name, values) in enumerate(known.items()):
        colour = _GOOD if name in emphasised else _DEFECT
        axes.plot(values, np.full(values.size, place), "o", color=colour, alpha=0.65, markersize=6)
        axes.plot([values.mean()] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
    labels = [_drawable(name, families) for name in known]
    axes.set_yticks(range(len(known)), labels, fontfamily=families, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(label)
    _tidy(axes)
    return _png(figure)


def image_grid(images: NDArray[np.uint8], columns: int, captions: Sequence[str] | None = None) -> bytes:
    """Images in rows, small ones enlarged pixel by pixel to at least 96 pixels.

    Args:
        images: (N, H, W, C) uint8, C = 1 or 3 (RGB).
        columns: Images in a row, at least 1.
        captions: N texts below the images; any characters; cut when wider than the image.

    Returns:
        PNG.

    Raises:
        ShapeError: Another shape or dtype, no image, or not one caption for each image.
    """
    _require_grid(images, columns, captions)
    n, height, width, channels = images.shape
    factor = max(1, ceil(96 / min(height, width)))
    large = images.repeat(factor, axis=1).repeat(factor, axis=2).repeat(3 // channels, axis=3)
    columns = min(columns, n)
    rows, gap, text = ceil(n / columns), 4, 0 if captions is None else 20
    pitch_y, pitch_x = height * factor + gap + text, width * factor + gap
    sheet = np.full((rows * pitch_y + gap, columns * pitch_x + gap, 3), 255, np.uint8)
    corners = [(gap + i // columns * pitch_y, gap + i % columns * pitch_x) for i in range(n)]
    for (top, left), picture in zip(corners, large, strict=True):
        sheet[top : top + height * factor, left : left + width * factor] = picture
    return _captioned_sheet(sheet, corners, (height * factor, width * factor), captions)


def _captioned_sheet(
    sheet: NDArray[np.uint8],
    corners: Sequence[tuple[int, int]],
    cell: tuple[int, int],
    captions: Sequence[str] | None,
) -> bytes:
    from matplotlib.figure import Figure

    # dpi 100: one pixel of the sheet is one pixel of the PNG.
    figure = Figure(figsize=(sheet.shape[1] / 100, sheet.shape[0] / 100), dpi=100)
    figure.figimage(sheet, xo=0, yo=0, origin="upper")
    families, room = _families(), max(3, cell[1] // 7)  # A letter of 8.5 points is about 7 pixels wide.
    for (top, left), caption in zip(corners, captions or (), strict=False):
        words = _drawable(caption if len(caption) <= room else caption[: room - 1] + "…", families)
        x, y = (left + cell[1] / 2) / sheet.shape[1], 1 - (top + cell[0] + 4) / sheet.shape[0]
        figure.text(x, y, words, ha="center", va="top", fontsize=8.5, family=families, parse_math=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _require_grid(images: NDArray[np.uint8], columns: int, captions: Sequence[str] | None) -> None:
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0 or images.dtype != np.uint8:
        raise ShapeError(
            f"The grid got {images.dtype} images of shape {images.shape}; "
            "expected uint8 (N, H, W, C) with C 1 or 3: stack the images first."
        )
    if columns < 1:
        raise ShapeError(f"The grid got {columns} columns; expected 1 or more.")
    if captions is not None and len(captions) != len(images):
        raise ShapeError(
            f"The grid got {len(captions)} captions for {len(images)} images; give one for each."
        )


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)


def _families() -> list[str]:
    """Fonts to try in turn; only installed ones, since each missing one would print a warning."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _CHINESE if name in installed)]


def _drawable(text: str, families: Sequence[str]) -> str:
    """The text with `?` for what no installed font can draw (matplotlib would print warnings)."""
    from matplotlib import font_manager

    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in families]
    return "".join(c if any(font.get_char_index(ord(c)) for font in fonts) else "?" for c in text)


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64).ravel()
    return scores[np.isfinite(scores)]


def _edges(scores: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.float64], bool]:
    """Bar edges that keep the threshold well inside, and whether scores lie beyond them."""
    low = min(float(scores.min()), threshold)
    usual = max(float(np.quantile(scores, 0.9)), threshold)
    room = 1.8 * (threshold - low)
    high = max(usual + 0.1 * (usual - low), low + room)
    top = float(scores.max())
    if top <= low + 1.5 * (high - low):
        high = max(top, low + room)
    if high <= low:
        high = low + max(1.0, abs(low))
    width = (high - low) / _BINS
    first, last = ceil((low - threshold) / width) - 1, ceil((high - threshold) / width)
    # The threshold is an edge, and a score equal to it stays on the left: no bar mixes pass and reject.
    edges = np.nextafter(threshold + width * np.arange(first, last + 1, dtype=np.float64), np.inf)
    return edges, bool(top > edges[-1])


def _label_thresholds(axes: Axes, threshold: float, review_threshold: float) -> None:
    above = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "fontsize": 10}
    where: Any = dict(above)
    axes.annotate(f"reject above {threshold:.3g}", (threshold, 1), (2, 6), color=_INK, ha="left", **where)
    if review_threshold < threshold:
        words = f"review above {review_threshold:.3g}"
        axes.annotate(words, (review_threshold, 1), (-2, 6), color=_REVIEW, ha="right", **where)


def _groups(
    history: Mapping[str, Sequence[tuple[float, float]]],
) -> dict[str, dict[str, Sequence[tuple[float, float]]]]:
    groups: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for name, curve in history.items():
        group, slash, label = name.partition("/")
        if not slash:
            label, _, group = name.rpartition("_")
            label = label or name
        groups.setdefault(group.replace("_", " "), {})[label.replace("_", " ")] = curve
    return groups


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], *, named: bool) -> None:
    everything = []
    for i, (label, curve) in enumerate(curves.items()):
        steps, values = np.asarray(curve, dtype=np.float64).T
        values = np.where(np.isfinite(values), values, np.nan)
        everything.append(values)
        colour = _LINES[i % len(_LINES)]
        smooth = len(values) >= _SMOOTH_FROM
        axes.plot(steps, values, color=colour, linewidth=0.8 if smooth else 1.8, alpha=0.3 if smooth else 1)
        top = _running_mean(values, max(3, len(values) // 30)) if smooth else values
        style = "-" if i < len(_LINES) else "--"
        axes.plot(steps, top, style, color=colour, linewidth=1.8, label=label)
    seen = np.concatenate(everything)
    seen = seen[np.isfinite(seen)]
    if seen.size and seen.min() > 0 and seen.max() > 100 * seen.min():
        axes.set_yscale("log")
    if named:
        legend = axes.legend(fontsize=9, loc="best", framealpha=0.85, edgecolor="none")
        for entry in legend.get_texts():
            entry.set_parse_math(False)


def _running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Centred mean over `window` points, shorter at the ends; gaps are left out of it."""
    known = np.isfinite(values)
    kernel = np.ones(window)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    count = np.convolve(known.astype(np.float64), kernel, mode="same")
    return np.where(known, total / np.maximum(count, 1), np.nan)
