"""Scoring many files: a bad one is reported and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from anogan.errors import ConfigError, ImageError, ShapeError, is_out_of_memory, too_large
from anogan.images.decode import read_image
from anogan.images.variants import variant_of
from anogan.inspection import ScoredFile
from anogan.scoring import Evidence
from anogan.scoring.judge import Judge

_Named = tuple[NDArray[Any], str | None]  # An image and its variant.
READ_AHEAD = 16  # Images held at once at most; enough to fill a chunk of tiles with small ones.
READ_AHEAD_PIXELS = 2**23  # Of all of them, so that large ones are held one by one.


def score_files(scorer: Judge, paths: Sequence[Path], variant: str | None = None) -> Iterator[ScoredFile]:
    """Scores files in order, a few at a time, yielding each as soon as it is known.

    Args:
        scorer: A calibrated model or baseline.
        paths: Image files.
        variant: Of the product on all of them; by default each file's folder says it, if the model knows
            variants.
    """
    for path, image, evidence in gather_evidence(scorer, paths, variant):
        if isinstance(evidence, str):
            yield ScoredFile(path, error=evidence)
        else:
            yield ScoredFile(path, replace(scorer.judge(evidence, image), path=path), image)


def gather_evidence(
    scorer: Judge, paths: Sequence[Path], variant: str | None = None
) -> Iterator[tuple[Path, NDArray[Any], Evidence | str]]:
    """(path, pixels, evidence or error sentence) per file, in order."""
    for group in _groups(scorer, paths):
        usable = [
            (image, variant_of(path, scorer.config, variant))
            for path, image in group
            if not isinstance(image, str)
        ]
        found = iter(_evidence_each(scorer, usable))
        for path, image in group:
            if isinstance(image, str):
                yield path, None, image  # type: ignore[misc]
            else:
                evidence = next(found)
                yield path, image, f"{path}: {evidence}" if isinstance(evidence, str) else evidence


def _groups(scorer: Judge, paths: Sequence[Path]) -> Iterator[list[tuple[Path, NDArray[Any] | str]]]:
    """Files with their pixels, or why they have none; as many as are held at once."""
    group: list[tuple[Path, NDArray[Any] | str]] = []
    pixels = 0
    for path in paths:
        image = _read(scorer, path)
        group.append((path, image))
        pixels += 0 if isinstance(image, str) else image.shape[0] * image.shape[1]
        if len(group) == READ_AHEAD or pixels >= READ_AHEAD_PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _read(scorer: Judge, path: Path) -> NDArray[Any] | str:
    images = scorer.config.images
    try:
        return read_image(path, channels=images.channels, bit_depth=images.bit_depth)
    except ImageError as error:
        return str(error)


def _evidence_each(scorer: Judge, images: Sequence[_Named]) -> list[Evidence | str]:
    try:
        return list(scorer.evidence([image for image, _ in images], [variant for _, variant in images]))
    except Exception as error:
        if not _is_fault_of_one(error):
            raise
    # One of them has a wrong size or variant, or is too large; find out which without failing the others, and
    # not within `except`, where the error holds what filled the memory.
    return [_evidence_or_error(scorer, image) for image in images]


def _evidence_or_error(scorer: Judge, image: _Named) -> Evidence | str:
    try:
        return scorer.evidence([image[0]], [image[1]])[0]
    except Exception as error:
        if is_out_of_memory(error):
            return too_large(error)
        if not _is_fault_of_one(error):
            raise
        return str(error)


def _is_fault_of_one(error: Exception) -> bool:
    return isinstance(error, ConfigError | ImageError | ShapeError) or is_out_of_memory(error)
