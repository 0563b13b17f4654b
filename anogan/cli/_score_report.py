"""The HTML report of a `score` run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anogan.cli._model import OpenedModel

if TYPE_CHECKING:
    from anogan.inspection import Inspection, ScoredFile

PICTURES = 200
_PRUNE_AT = 2 * PICTURES


class ReportPages:
    """Gathers inspections for a report, the maps of those alone that it will show.

    Thousands of maps would fill the memory; the report shows the worst images and those nearest to the
    threshold, and an image that is neither now can become neither later.

    Attributes:
        inspections: All of them, in the order in which they came; those not to be shown without maps.
    """

    def __init__(self, opened: OpenedModel, *, by_hand: bool) -> None:
        self._opened, self._by_hand = opened, by_hand
        self.inspections: list[Inspection] = []
        self._with_maps: list[int] = []
        self._errors: dict[str, str] = {}

    def add(self, file: ScoredFile) -> None:
        """Takes one result."""
        if file.inspection is None:
            self._errors[str(file.path)] = file.error or ""
            return
        self._with_maps.append(len(self.inspections))
        self.inspections.append(file.inspection)
        if len(self._with_maps) > _PRUNE_AT + PICTURES:
            self._prune()

    def write(self, path: Path) -> None:
        """Writes the page.

        Raises:
            StorageError: It cannot be written.
            DataError: The threshold was not set on held-out good images.
        """
        from anogan.images.decode import read_image
        from anogan.report.html import write_report

        images = self._opened.config["images"]

        def pixels(inspection: Inspection) -> NDArray[Any]:
            assert inspection.path is not None
            return read_image(inspection.path, channels=images["channels"], bit_depth=images["bit_depth"])

        write_report(
            path,
            title=f"anogan: {self._opened.path.name}",
            inspections=self.inspections,
            images=pixels,
            calibrated_on=self._opened.calibrated_on,
            calibration=self._calibration(),
            errors=self._errors,
            config=self._opened.config,
            max_images=PICTURES,
        )

    def _calibration(self) -> dict[str, Any]:
        scorer = self._opened.scorer
        if self._by_hand:
            return {
                "threshold": scorer.threshold,
                "review_threshold": scorer.review_threshold,
                "warning": "The threshold was given by hand, so no false-reject rate is promised.",
            }
        return dict(self._opened.promise)

    def _prune(self) -> None:
        badness = {i: _badness(self.inspections[i]) for i in self._with_maps}
        threshold = self._opened.scorer.threshold
        worst = sorted(badness, key=lambda i: -badness[i])[:PICTURES]
        nearest = sorted(badness, key=lambda i: abs(badness[i] - threshold))[:PICTURES]
        keep = {*worst, *nearest}
        for i in self._with_maps:
            if i not in keep:
                self.inspections[i] = replace(
                    self.inspections[i], anomaly_map=_NO_MAP, reconstruction=_NO_MAP
                )
        self._with_maps = sorted(keep)


_NO_MAP = np.zeros((0, 0), np.float32)


def _badness(inspection: Inspection) -> float:
    return inspection.score if np.isfinite(inspection.score) else np.inf
