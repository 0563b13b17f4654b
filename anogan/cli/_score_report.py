"""The HTML report of a `score` run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from anogan.cli._model import OpenedModel

if TYPE_CHECKING:
    from anogan.inspection import Inspection, ScoredFile


class ReportPages:
    """Gathers the results of a run for its report, as `Gathered` keeps them."""

    def __init__(self, opened: OpenedModel) -> None:
        from anogan.report.gathered import Gathered

        self._opened = opened
        self._gathered = Gathered(opened.scorer.threshold)
        self._errors: dict[str, str] = {}

    @property
    def inspections(self) -> list[Inspection]:
        """All of them, in the order in which they came; those not to be shown without maps."""
        return self._gathered.inspections

    def add(self, file: ScoredFile) -> None:
        """Takes one result."""
        if file.inspection is None:
            self._errors[str(file.path)] = file.error or ""
        else:
            self._gathered.add(file.inspection)

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
            calibration=self._opened.promise,
            errors=self._errors,
            config=self._opened.config,
        )
