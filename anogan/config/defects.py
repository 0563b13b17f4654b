"""Synthetic defects, the head that learns from them, and the memory of its false alarms."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from anogan.config.section import Section

DefectKind = Literal[
    "blob",
    "scratch",
    "cut-paste",
    "blur",
    "contrast",
    "edge-bite",
    "crack",
    "shade",
    "texture",
    "missing",
    "bridge",
    "seam",
    "uneven",
]

ON_REQUEST = frozenset({"bridge", "seam", "uneven"})  # Drawn only where the config names them.


class SyntheticDefectsConfig(Section):
    """Defects drawn on good images; sizes in pixels of the (resized) image."""

    kinds: tuple[DefectKind, ...] = Field(
        tuple(kind for kind in get_args(DefectKind) if kind not in ON_REQUEST),
        min_length=1,
        description="Leave out what cannot happen to your part. Name as well `bridge` where conductors are "
        "shorted or parted (a strip from one edge across to the next), and on ground, rolled or brushed "
        "surfaces `seam` (a straight crack along the grain) and `uneven` (worked more or less, up to a line "
        "across the grain or in a spot). On binarised images `blur`, `contrast`, `shade`, `texture`, "
        "`uneven` and `cut-paste` are left out: nothing of them shows there, or only what is good elsewhere.",
    )
    min_size: float = Field(3, gt=0, description="Smallest that matters.")
    max_size: float = Field(24, gt=0, description="Largest that is drawn.")
    max_per_tile: int = Field(2, ge=1, description="At most so many on one tile.")

    @model_validator(mode="after")
    def _sizes_rise(self) -> SyntheticDefectsConfig:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size:g} must be at most max_size {self.max_size:g}")
        return self


class HeadConfig(Section):
    """Residual head: [x, G(z), |x - G(z)|, feature residual] -> defect logit per pixel."""

    enabled: bool = Field(True, description="Whether there is a head.")
    network: Literal["dilated", "unet"] = Field(
        "dilated",
        description="dilated sees about 60 pixels around each one; unet the whole tile, for defects that are "
        "larger, at half the time of training with width 16.",
    )
    width: int = Field(
        24, ge=4, description="Channels at half the resolution; up to eight times as many within."
    )
    contrast_window: int = Field(
        0,
        ge=0,
        description="Side of the surroundings in pixels, odd, by whose mean and spread the head sees x and "
        "x - G(z) once more, for photographs of uneven light; 0 leaves that out.",
    )
    steps: int = Field(1000, ge=1, description="Steps of the head's training, after all others.")
    batch_size: int = Field(16, ge=1, description="Tiles per step.")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's.")
    ema_decay: float = Field(
        0,
        ge=0,
        lt=1,
        description="The moving average of the head's weights over the last third of its steps is kept in "
        "their place; 0 is off. Batches of few tiles leave a head to luck, and the average less so.",
    )
    image_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of each tile's strongest good spot and strongest defect in the loss, of which an "
        "image's score is made: more finds weaker defects, less marks whole ones.",
    )

    @field_validator("contrast_window")
    @classmethod
    def _window_has_a_centre(cls, window: int) -> int:
        if window and (window < 3 or window % 2 == 0):
            raise ValueError(f"{window} must be 0 or an odd number from 3")
        return window


class MemoryConfig(Section):
    """What the head marks on good tiles is remembered; what looks alike counts less."""

    patches: int = Field(
        0,
        ge=0,
        description="At most so many false alarms are kept, 0 for none; counts only with "
        "`head.enabled`. For parts whose details "
        "recur at any place, such as pads and vias (16384 in `pcb`); on grain no patch is like another.",
    )
    window: int = Field(
        32, ge=8, multiple_of=8, description="Side of what is compared in pixels, a multiple of 8."
    )
    compare: Literal["pixels", "pattern"] = Field(
        "pixels",
        description="What of a window is compared: its pixels; or its pattern (less its mean, divided by its "
        "deviation), for stains and marks that come again under another light.",
    )
    alarm: float = Field(
        0.0,
        description="Logit above which a mark of the head is an alarm: remembered, and weakened down to it.",
    )
    tiles: int = Field(
        12000,
        ge=1,
        description="Training tiles, at most, that false alarms are looked for on, cut as scoring cuts them; "
        "fewer once their windows fill 256 MiB.",
    )
