"""What a scorer file says of itself: the input it takes, its calibration, and how it was checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anogan.errors import BundleError
from anogan.station.sealed import MANIFEST_KEY

SCHEMA_VERSION = 1
FORMAT = "anogan-scorer"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputContract(_Part):
    """The images that a scorer takes.

    Attributes:
        channels: 1 or 3, RGB.
        bit_depth: 8 (uint8) or 16 (uint16).
        size: (height, width) in pixels at which images are searched; None: each at its own.
        resizes: Whether images of another size are resized to `size` rather than refused.
        tile_size: Side of the network's input, pixels; no image may be smaller when `size` is None.
        tile_overlap: Pixels that neighbouring tiles share.
        tile_scales: Versions of the image that are searched, by their sides over the image's, falling from 1.
    """

    channels: Literal[1, 3]
    bit_depth: Literal[8, 16]
    size: tuple[int, int] | None
    resizes: bool
    tile_size: int = Field(ge=1)
    tile_overlap: int = Field(ge=0)
    tile_scales: tuple[float, ...] = (1.0,)


class StepsCalibration(_Part):
    """The thresholds that belong to one number of search steps, and what they promise.

    Attributes:
        steps: Of the latent search.
        threshold: Scores above it are rejected, a float32 value.
        review_threshold: Scores above it are at least reviewed, a float32 value.
        false_reject: Share of good parts rejected at most, on average.
        n_good: Good images that the thresholds stand on.
    """

    steps: int = Field(ge=0)
    threshold: float
    review_threshold: float
    false_reject: float = Field(gt=0, le=1)
    n_good: int = Field(ge=1)


class ScorerManifest(_Part):
    """The whole manifest.

    Attributes:
        format: Always `anogan-scorer`.
        schema_version: Of this manifest.
        package_version: The anogan that exported the file.
        precision: fp32, mixed, fp16 or int8 (the encoder).
        model_sha256: Digest of the model that was exported, or None for one that was never saved.
        input: What images it takes.
        calibrations: By number of steps; the first is the default, the others serve time budgets.
        calibrated_on: Which images set the threshold.
        promise: The calibration's estimate: rates, interval, number of good images.
        limits: Between which values each of `anogan.calibration.LIMITED` lies on images of such parts; else
            an image is reviewed at least (`in_distribution`). Empty where nothing is known.
        doubtful: Why the training is doubtful and the scores not to be trusted, as a sentence; None if it is
            not.
        parity: What the comparison with PyTorch found; see `docs/embedding.md`.
        config: Every setting of the model.
    """

    format: Literal["anogan-scorer"] = FORMAT  # type: ignore[assignment]
    schema_version: Literal[1] = 1
    package_version: str
    precision: Literal["fp32", "mixed", "fp16", "int8"]
    model_sha256: str | None
    input: InputContract
    calibrations: tuple[StepsCalibration, ...] = Field(min_length=1)
    calibrated_on: str
    promise: dict[str, Any]
    limits: dict[str, tuple[float, float]] = {}
    doubtful: str | None = None
    parity: dict[str, Any]
    config: dict[str, Any]


def parse_manifest(properties: Mapping[str, str], where: str) -> ScorerManifest:
    """The manifest in an ONNX file's `metadata_props`; `where` names the file in error messages.

    Raises:
        BundleError: There is none, it is damaged, or a newer anogan wrote it.
    """
    text = properties.get(MANIFEST_KEY)
    if text is None:
        raise BundleError(
            f"{where} has no manifest ({MANIFEST_KEY} is missing from its metadata); export the model anew."
        )
    try:
        tree = json.loads(text)
        version = tree["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{where} has a damaged manifest ({error!r}); export the model anew.") from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{where} was exported by anogan {tree.get('package_version', 'unknown')} (manifest schema "
            f"{version}); this anogan reads up to schema {SCHEMA_VERSION}: install the newer version here."
        )
    try:
        return ScorerManifest.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{where} has a damaged manifest ({key}: {first['msg']}); export the model anew."
        ) from error
