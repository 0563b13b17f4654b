"""Writes the pieces of a scorer file beside it, once they decide as the whole file does."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import onnx

from anogan.errors import ExportError, StorageError
from anogan.export.files import replace_file, serialised, write_file
from anogan.export.parity import Images, Tolerance, decides_otherwise
from anogan.export.pieces import build_pieces
from anogan.scoring import Scorer
from anogan.station.manifest import ScorerManifest
from anogan.station.scorer import Scorer as StationScorer
from anogan.station.sealed import PIECE_KEY
from anogan.station.stepwise import StepwiseScorer, piece_paths


def write_pieces(
    scorer: Scorer,
    out: Path,
    whole: bytes,
    station: StationScorer,
    manifest: ScorerManifest,
    images: Images,
    tolerance: Tolerance,
    quantised_encoder: onnx.ModelProto | None = None,
) -> tuple[Path, ...]:
    """Writes scorer-begin.onnx, scorer-step.onnx and scorer-finish.onnx beside the file `out`.

    Args:
        scorer: The PyTorch scorer with the calibration of the file.
        out: Where the whole file will lie.
        whole: Its bytes; their hash names the export that the pieces belong to.
        station: The whole file with the same thresholds, loaded.
        manifest: What the whole file says of itself, and so every piece.
        images: On which both must agree.
        tolerance: Its `exact` is what their scores may differ by: the runtime optimises the two otherwise.
        quantised_encoder: Of the whole file.

    Returns:
        Where they lie.

    Raises:
        ExportError: The pieces decide otherwise.
        StorageError: They cannot be written.
    """
    if scorer.calibration is None:
        raise ExportError("The pieces of a file need its calibration; calibrate the model first.")
    pieces = build_pieces(
        scorer.model,
        scorer.calibration,
        precision=manifest.precision,
        quantised_encoder=quantised_encoder,
    )
    export = hashlib.sha256(whole).hexdigest()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent)
    except OSError as error:
        raise StorageError(
            f"{out.parent} cannot be written: {error.strerror or error}; permit writing there, or give "
            "another -o."
        ) from error
    with folder as work:
        draft = Path(work) / out.name
        for name, path in piece_paths(draft).items():
            piece = json.dumps({"name": name, "of": export})
            write_file(path, serialised(pieces[name], manifest, **{PIECE_KEY: piece}))
        _require_agreement(station, StepwiseScorer(draft, providers=["cpu"]), images, tolerance)
        for name, path in piece_paths(draft).items():
            replace_file(path, piece_paths(out)[name])
    return tuple(piece_paths(out).values())


def _require_agreement(
    whole: StationScorer, pieces: StepwiseScorer, images: Images, tolerance: Tolerance
) -> None:
    for variant in whole.variants or (None,):
        for a, b in zip(whole.score(images, variant), pieces.score(images, variant), strict=True):
            limits = (whole.threshold, whole.review_threshold)
            near = abs(a.score - b.score) <= tolerance.exact * max(1, abs(a.score))
            if not near or decides_otherwise(a, b, limits, tolerance.near):
                raise ExportError(
                    f"The pieces for a host's own loop score an image {b.score:.6g} ({b.verdict}) that the "
                    f"whole file scores {a.score:.6g} ({a.verdict}); nothing was written. Please report this "
                    "model's config as a bug."
                )
