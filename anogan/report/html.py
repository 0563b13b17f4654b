"""The report: one HTML file that can be mailed, opened without a network, and kept as a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anogan import __version__
from anogan.calibration import HELD_OUT, ON_GOOD
from anogan.errors import AnoganError, DataError
from anogan.inspection import Inspection, Verdict
from anogan.report import _words
from anogan.report._page import assets, data_uri, template, write_page
from anogan.report.gathered import PICTURES, badness, distance, most_telling
from anogan.report.overlay import Picture, panel_pictures, report_scale

Images = Callable[[Inspection], NDArray[np.generic]]
Masks = Callable[[Inspection, tuple[int, int]], NDArray[np.bool_] | None]

_JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class _Card:
    """One image in the report, ready to print."""

    name: str
    folder: str
    inspection: Inspection
    distance: float
    pictures: tuple[tuple[str, str], ...]
    problem: str
    has_mask: bool


def write_report(
    path: Path,
    *,
    title: str,
    inspections: Sequence[Inspection],
    images: Images,
    calibrated_on: str,
    evaluation: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    errors: Mapping[Any, str] | None = None,
    figures: Mapping[str, bytes] | None = None,
    config: Mapping[str, Any] | None = None,
    masks: Masks | None = None,
    max_images: int = PICTURES,
) -> Path:
    """Writes a self-contained HTML page: summary, promise, figures, images with heatmaps, settings.

    Pictures are read one at a time while the file is written, so memory does not grow with their
    number. An image that can no longer be read is shown with the reason and the rest goes on.

    Args:
        path: The HTML file; missing folders are made, an existing file is replaced only at the end.
        title: Heading, such as the product's name.
        inspections: In any order; the page lists the highest score first.
        images: Gives the (H, W, C) pixels of an inspection, uint8 or uint16; may raise `AnoganError`.
        calibrated_on: What the threshold was set on; must be one of `ON_GOOD`.
        evaluation: `image_auroc`, ..., `per_kind`, `intervals`, as `Evaluation.to_dict()` gives them.
        calibration: The fields of a threshold estimate: `threshold` and, each optional,
            `review_threshold`, `false_reject` (promised rate), `interval` (95 %), `n_good`, `warning`.
        errors: Path -> why that file could not be scored.
        figures: Caption -> PNG bytes, shown in this order.
        config: Settings as a tree of plain values.
        masks: Gives the ground truth of an inspection whose photograph is (H, W), of that size, or None.
        max_images: Inspections shown with pictures: the worst, and those nearest to the threshold.

    Returns:
        `path`.

    Raises:
        DataError: The threshold was not set on held-out good images.
        StorageError: The file cannot be written; an earlier report is left as it was.
    """
    _refuse_other_calibration(path, calibrated_on)
    ranked = sorted(inspections, key=badness, reverse=True)
    shown = most_telling(ranked, max_images)
    context = {
        "title": title,
        "version": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "counts": _counts(ranked),
        **_evaluated(evaluation),
        **_promised(calibration),
        "errors": [(str(name), reason) for name, reason in (errors or {}).items()],
        "figures": [(name, data_uri("png", png), _is_wide(png)) for name, png in (figures or {}).items()],
        "settings": list(_words.flat(config or {})),
        "rows": ranked,
        "n_shown": len(shown),
        "cards": (_card(inspection, images, masks) for inspection in shown),
        "masked": masks is not None,
    }
    write_page(path, template("report.html.j2").generate(**context, **assets()))
    return path


def _refuse_other_calibration(path: Path, calibrated_on: str) -> None:
    if calibrated_on not in ON_GOOD:
        raise DataError(
            f"The report {path.name} was refused: its threshold was calibrated on {calibrated_on}, expected "
            f"{HELD_OUT}; calibrate on good images that are neither trained on nor tested."
        )


def _evaluated(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "measures": _measures(evaluation),
        "tested": None if evaluation is None else _tested(evaluation),
        "kinds": _kinds(evaluation),
    }


def _tested(evaluation: Mapping[str, Any]) -> str:
    n_defect, n_masked = evaluation["n_defect"], evaluation["n_masked"]
    counts = f"{evaluation['n_good']} good and {n_defect} defective test images"
    partly = f" {_words.masks(n_masked, n_defect)}" if 0 < n_masked < n_defect else ""
    return f"Measured on {counts}; rates at the calibrated threshold.{partly}"


def _promised(calibration: Mapping[str, Any] | None) -> dict[str, Any]:
    if calibration is None:
        return {"promise": [], "warning": None}
    return {"promise": _words.promise(calibration), "warning": calibration.get("warning")}


def _counts(inspections: Sequence[Inspection]) -> list[tuple[str, int]]:
    counter = Counter(inspection.verdict for inspection in inspections)
    return [(str(verdict), counter[verdict]) for verdict in Verdict]


def _measures(evaluation: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    if evaluation is None:
        return []
    bounds = evaluation.get("intervals") or {}
    return [
        (label, _words.metric(name, evaluation[name]), _words.interval(name, bounds.get(name)))
        for name, label in _words.TILES
        if evaluation.get(name) is not None
    ]


def _kinds(evaluation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    per_kind = {} if evaluation is None else evaluation.get("per_kind") or {}
    names = ("image_auroc", "detection_rate", "pixel_auroc")
    return [
        {
            "kind": kind,
            "n": values.get("n", _words.MISSING),
            "found": values.get("detection_rate") or 0,
            **{name: _words.metric(name, values.get(name)) for name in names},
        }
        for kind, values in sorted(per_kind.items(), key=lambda item: _ease(item[1]))
    ]


def _ease(values: Mapping[str, Any]) -> list[float]:
    """Sorts the hardest kinds first: they are what the reader has to know."""
    found = (values.get(name) for name in ("detection_rate", "image_auroc"))
    return [inf if share is None else share for share in found]


def _card(inspection: Inspection, images: Images, masks: Masks | None) -> _Card:
    path = PurePath(inspection.path or "image")
    pictures: tuple[tuple[str, str], ...] = ()
    problem, mask = "", None
    try:
        image = images(inspection)
        mask = None if masks is None else masks(inspection, (image.shape[0], image.shape[1]))
        pictures = _pictures(inspection, image, mask)
    except (AnoganError, OSError) as error:
        problem = f"No picture: {error}"
    return _Card(
        name=path.name,
        folder=path.parent.name,
        inspection=inspection,
        distance=min(distance(inspection), 1e30),
        pictures=pictures,
        problem=problem,
        has_mask=mask is not None,
    )


def _pictures(
    inspection: Inspection, image: NDArray[np.generic], mask: NDArray[np.bool_] | None
) -> tuple[tuple[str, str], ...]:
    pictures = panel_pictures(inspection, image, mask, scale=report_scale((image.shape[0], image.shape[1])))
    return tuple(zip(("image", "reconstruction", "heatmap"), map(_jpeg, pictures), strict=True))


def _jpeg(picture: Picture) -> str:
    # Full colour resolution: halved, a thin cyan outline turns grey.
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return data_uri("jpeg", encoded.tobytes())


def _is_wide(png: bytes) -> bool:
    """Wide figures get a row of their own; the width stands in the PNG's header."""
    return int.from_bytes(png[16:20], "big") > 1100
