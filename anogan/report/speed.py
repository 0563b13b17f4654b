"""The plot of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def speed_plot(rows: Sequence[tuple[str, int, float]]) -> bytes:
    """Images per second against images per call, one line per runtime.

    Args:
        rows: (name of the runtime, batch size, images per second).

    Returns:
        PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for colour, name in zip(_COLOURS, dict.fromkeys(row[0] for row in rows), strict=False):
        points = sorted((batch, speed) for own, batch, speed in rows if own == name)
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
    batches = sorted({batch for _, batch, _ in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images per call")
    axes.set_ylabel("images per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
