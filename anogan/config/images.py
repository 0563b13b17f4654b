"""From the files on disk to tiles, and which images each stage gets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from anogan.config.section import Section
from anogan.errors import DataError

NetworkSize = Literal[32, 64, 128, 256]


class ImagesConfig(Section):
    """What an image is before it is cut into tiles."""

    channels: Literal[1, 3] = Field(3, description="1: grey, 3: colour.")
    bit_depth: Literal[8, 16] = Field(8, description="Bits per channel of the camera's files.")
    size: tuple[int, int] | None = Field(
        None, description="Resize every image to (height, width) pixels first; null keeps its own."
    )
    on_mixed_sizes: Literal["error", "resize", "keep"] = Field(
        "error",
        description="When images differ in size: refuse, resize all to the most common size, or keep each "
        "(needs calibration.map: global).",
    )
    exposure: Literal["keep", "mean"] = Field(
        "keep",
        description="Brightness of each photograph: as it came, or multiplied so that all have one mean, cut "
        "at white. For parts that fill the picture, under several exposures; one that is darker all over is "
        "then no defect.",
    )
    registration: Literal["none", "translation", "euclidean"] = Field(
        "none",
        description="Lay every part over the training parts' pose first, by shift, or shift and rotation. "
        "Up to a quarter of the picture and 20 degrees.",
    )


class TilesConfig(Section):
    """How an image is laid out for the network."""

    size: NetworkSize = Field(64, description="Side of the network's square input, pixels.")
    overlap: int = Field(16, ge=0, description="Pixels that neighbouring tiles share when scoring.")
    scales: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        description="The same networks also look at smaller versions of the image, such as [1.0, 0.5]; for "
        "defects larger than a tile. Each version adds its tiles to the time.",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> TilesConfig:
        if self.overlap > self.size // 2:
            raise ValueError(f"overlap {self.overlap} must be at most half of size {self.size}")
        return self

    @model_validator(mode="after")
    def _scales_fall(self) -> TilesConfig:
        steps = zip(self.scales, self.scales[1:], strict=False)
        # Nearly equal scales see the same and cost twice.
        if self.scales[0] != 1 or any(not 0 < b <= 0.9 * a for a, b in steps):
            raise ValueError(
                f"scales {list(self.scales)} must begin with 1.0, each next one at most 0.9 of the one before"
            )
        return self


class SplitConfig(Section):
    """How `good/` is divided; the test folder is never part of it."""

    early_stop: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share held out for the monitor, to pick weights and score settings, for the reach of "
        "the memory, and for the statistics of the anomaly map.",
    )
    calibrate: float = Field(0.25, gt=0, lt=0.9, description="Share held out for the threshold.")
    group: str | None = Field(
        None,
        description="Regular expression for the part in a file's name, such as `part(\\d+)`: photographs of "
        "one part stay together, so that the threshold is set on parts that no network has seen; each counts "
        "once for it, by its highest score.",
    )

    @field_validator("group")
    @classmethod
    def _is_an_expression(cls, group: str | None) -> str | None:
        try:
            blank = group is not None and re.compile(group).fullmatch("") is not None
        except re.error as error:
            raise ValueError(f"'{group}' is no regular expression ({error})") from error
        if blank:
            raise ValueError(f"'{group}' finds a part in no name at all; name one, such as 'part(\\d+)'")
        return group

    @model_validator(mode="after")
    def _leaves_training_images(self) -> SplitConfig:
        if self.early_stop + self.calibrate >= 1:
            raise ValueError("early_stop + calibrate must leave a share to train on")
        return self

    def part_of(self, path: Path) -> str | None:
        """The part that a photograph shows, by its name within its folder; None without `group`.

        Variants of a product lie in folders of their own, and may number their parts alike.

        Raises:
            DataError: `group` finds none.
        """
        if self.group is None:
            return None
        found = re.search(self.group, path.name)
        given = () if found is None else (found.groups() or (found.group(),))
        part = next((piece for piece in given if piece), None)
        if part is None:
            raise DataError(
                f"split.group '{self.group}' finds no part in the name of {path}; name the part in every "
                "file, or leave split.group out."
            )
        return f"{path.parent.name}/{part}"


class AugmentationStep(Section):
    """One albumentations transform by its class name."""

    name: str = Field(description="Class name in albumentations, such as HorizontalFlip.")
    args: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments.")
