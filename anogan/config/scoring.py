"""From a tile to a verdict: latent search, evidence, threshold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from anogan.config.section import Section

FEWEST_TO_COMPARE = 40  # Held-out parts: of fewer no test sees that the networks know the others by heart.


class SearchConfig(Section):
    """Latent search (Schlegl et al. 2017): Adam on z only."""

    steps: int = Field(20, ge=0, description="Steps per tile; more is slower and fits closer.")
    learning_rate: float = Field(0.1, gt=0, description="Largest change of a number in z per step, about.")
    gradient: Literal["smooth", "exact"] = Field(
        "smooth",
        description="`smooth` has no jumps where a difference or an activation is about 0, so that PyTorch "
        "and ONNX Runtime find the same score; `exact` is plain Adam on the plain gradient, as in the paper, "
        "and lets rounding grow.",
    )
    lambda_: float = Field(0.1, ge=0, le=1, alias="lambda", description="Weight of D(x) in A(x).")
    restarts: int = Field(1, ge=1, description="Starting codes per tile; the best one is kept.")
    polish_steps: int = Field(
        0,
        ge=0,
        description="Steps of L-BFGS after Adam's, each about as long; for models without encoder, where it "
        "comes lower than as many more steps of Adam. Cannot be exported.",
    )
    prior_weight: float = Field(1e-3, ge=0, description="Penalty on mean z^2.")
    bank: int = Field(
        0,
        ge=0,
        description="Codes screened per tile for the starts, for models without encoder; 0 takes the first "
        "`restarts` codes.",
    )
    residual: Literal["l1", "charbonnier", "trimmed"] = Field(
        "l1",
        description="Pixel term of the objective; `trimmed` ignores the worst pixels, so that a defect "
        "does not pull z.",
    )
    trimmed_share: float = Field(0.05, gt=0, lt=0.5, description="Share of pixels that `trimmed` ignores.")
    mask: float = Field(
        0.0,
        ge=0,
        le=2,
        description="Searches a sparse defect mask with z (RGI, Mou 2022): differences above this, in "
        "[-1, 1] units, are masked; 0 is off.",
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        description="Stop a tile whose best objective fell by less than this share in "
        "`patience` steps; 0 never stops early.",
    )
    patience: int = Field(5, ge=1, description="See `tolerance`.")

    @model_validator(mode="after")
    def _bank_fits(self) -> SearchConfig:
        if 0 < self.bank < self.restarts:
            raise ValueError(f"bank {self.bank} must be 0 or at least restarts {self.restarts}")
        return self


class FeaturesConfig(Section):
    """Optional pretrained features for a perceptual residual; off without a weights file."""

    weights: str | None = Field(
        None,
        description="A torchvision state dict as .safetensors file; never a download. It is copied into the "
        "model, and into an exported file.",
    )
    backbone: Literal["resnet18", "resnet34", "resnet50", "wide_resnet50_2"] = Field(
        "resnet18", description="Whose weights they are."
    )
    search_weight: float = Field(
        0.0, ge=0, description="Weight of the perceptual difference in the search objective; 0 is off."
    )


class ScoreConfig(Section):
    """How evidence becomes one number."""

    select: bool = Field(
        False,
        description="Let `fit` replace the weights, smoothing and pooling below, and (unless parts are "
        "registered) `calibration.map: per-pixel`, by what best tells synthetic defects on held-out good "
        "images, and leave the memory of false alarms away where it hides them.",
    )
    residual_weight: float = Field(1.0, ge=0, description="Of |x - G(z)| per pixel.")
    discrimination_weight: float = Field(0.1, ge=0, description="Of the difference of D's features.")
    head_weight: float = Field(
        1.0, ge=0, description="Of what the head says; counts only with `head.enabled`."
    )
    perceptual_weight: float = Field(
        1.0, ge=0, description="Counts only where features.weights names a file."
    )
    smoothing_sigma: float = Field(1.5, ge=0, description="Gaussian blur of the map, pixels.")
    spread: int = Field(
        0,
        ge=0,
        description="Pixels by which marks grow in the map that is shown, as a box drawn around a defect is "
        "larger than the defect; scores stay as they are.",
    )
    border: int = Field(0, ge=0, description="Pixels at the image border that never count.")
    pooling: Literal["max", "top"] = Field("max", description="Maximum, or mean of the top share.")
    top_share: float = Field(0.001, gt=0, le=1, description="Share of pixels averaged by `top`.")


class CalibrationConfig(Section):
    """Threshold from good parts only."""

    false_reject: float = Field(0.005, gt=0, lt=0.5, description="Share of good parts rejected, at most.")
    map: Literal["per-pixel", "global"] = Field(
        "per-pixel", description="`per-pixel` for parts that always lie alike, else `global`."
    )
    prior_images: float = Field(
        20.0, ge=0, description="Per-pixel variance is shrunk to the global one as by so many images."
    )
    leave_out_outliers: bool = Field(
        False,
        description="Held-out good images that score far above the others, at most one in twenty, do not "
        "count for the threshold: a defective part among the good ones would hide defects. They are named "
        "either way.",
    )
    cross_fit: bool = Field(
        False,
        description="The training images set the threshold as well as the held-out ones, each scored, where "
        "there is a `memory`, with one that never saw its part: a surer threshold from the same images. Only "
        "where 40 parts are held out, and networks score images that they learned from like others; `fit` "
        "compares both and tells.",
    )
    review_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of good parts that may be reviewed or rejected. 0, or no "
        "more than `false_reject`: none is reviewed.",
    )

    def may_cross_fit(self, held_out: int) -> bool:
        """Whether training images may set the threshold too: asked for, and enough parts are held out."""
        return self.cross_fit and held_out >= FEWEST_TO_COMPARE
