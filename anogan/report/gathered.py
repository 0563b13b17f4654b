"""Which of very many inspections a report shows, and the maps of those alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np

from anogan.inspection import Inspection
from anogan.report.overlay import reduced

PICTURES = 200  # Inspections that a report shows with pictures.
_NO_MAP = np.zeros((0, 0), np.float32)


class Gathered:
    """Inspections in the order in which they came, with maps only those that a report will show.

    Thousands of maps would fill the memory; a report shows the worst images and those nearest to the
    threshold, and an image that is neither now can become neither later.

    Attributes:
        inspections: All of them; those not to be shown without maps and reconstructions, the others with such
            as a report shows (see `reduced`).
    """

    def __init__(self, threshold: float, pictures: int = PICTURES) -> None:
        """Gathers for a report of so many pictures; 0 keeps no map at all."""
        self._threshold, self._pictures = threshold, pictures
        self.inspections: list[Inspection] = []
        self._with_maps: list[int] = []

    def add(self, inspection: Inspection) -> None:
        """Takes one result."""
        self._with_maps.append(len(self.inspections))
        self.inspections.append(reduced(inspection) if self._pictures else inspection)
        if len(self._with_maps) > 3 * self._pictures:  # Not at each one: it sorts them all.
            self._prune()

    def _prune(self) -> None:
        found = {i: badness(self.inspections[i]) for i in self._with_maps}
        worst = sorted(found, key=lambda i: -found[i])[: self._pictures]
        nearest = sorted(found, key=lambda i: abs(found[i] - self._threshold))[: self._pictures]
        keep = {*worst, *nearest}
        for i in self._with_maps:
            if i not in keep:
                self.inspections[i] = replace(
                    self.inspections[i], anomaly_map=_NO_MAP, reconstruction=_NO_MAP
                )
        self._with_maps = sorted(keep)


def badness(inspection: Inspection) -> float:
    """The score; infinite where it is not to be relied on, for somebody has to look at that image."""
    return inspection.score if inspection.doubt is None else inf


def distance(inspection: Inspection) -> float:
    """How far the score is from the threshold."""
    return abs(badness(inspection) - inspection.threshold)


def most_telling(ranked: Sequence[Inspection], n: int) -> list[Inspection]:
    """Three quarters are the worst, the rest those nearest to the threshold; highest score first.

    Args:
        ranked: Highest score first.
        n: How many.
    """
    if len(ranked) <= n:
        return list(ranked)
    worst = n - n // 4
    borderline = sorted(ranked[worst:], key=distance)[: n - worst]
    return [*ranked[:worst], *sorted(borderline, key=badness, reverse=True)]
