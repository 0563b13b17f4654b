"""The tree of settings: frozen pydantic models that refuse unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

NetworkSize = Literal[32, 64, 128, 256]
Norm = Literal["batch", "group", "layer", "none"]
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
]
AlarmPolicy = Literal["off", "warn", "restore", "stop"]
AlarmKind = Literal[
    "non-finite",
    "learning-rate",
    "collapse",
    "discriminator-wins",
    "discriminator-dead",
    "memorised",
    "stalled",
    "few-images",
    "identical-images",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ImagesConfig(_Section):
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
    registration: Literal["none", "translation", "euclidean"] = Field(
        "none",
        description="Lay every part over the training parts' pose first, by shift, or shift and rotation. "
        "Cannot be exported.",
    )


class TilesConfig(_Section):
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


class SplitConfig(_Section):
    """How `good/` is divided; the test folder is never part of it."""

    early_stop: float = Field(0.1, gt=0, lt=0.5, description="Share held out to pick the checkpoint.")
    calibrate: float = Field(0.25, gt=0, lt=0.9, description="Share held out for the threshold.")

    @model_validator(mode="after")
    def _leaves_training_images(self) -> SplitConfig:
        if self.early_stop + self.calibrate >= 1:
            raise ValueError("early_stop + calibrate must leave a share to train on")
        return self


class AugmentationStep(_Section):
    """One albumentations transform by its class name."""

    name: str = Field(description="Class name in albumentations, such as HorizontalFlip.")
    args: dict[str, Any] = Field(default_factory=dict, description="Its keyword arguments.")


class NetworkConfig(_Section):
    """Shape of generator, discriminator and encoder."""

    latent_dim: int = Field(100, ge=1, description="Channels of z.")
    latent_grid: int = Field(
        1, ge=1, description="Side of the latent map; 1 is the classic vector of Radford 2015."
    )
    width: int = Field(64, ge=4, description="Channels of the widest-resolution hidden layer.")
    upsampling: Literal["transpose", "resize"] = Field(
        "transpose", description="`resize` enlarges, then convolves: no checkerboard (Odena 2016)."
    )
    generator_norm: Norm = Field("batch", description="`layer` and `group` depend on no other image.")
    discriminator_norm: Norm = Field("batch", description="wgan-gp needs another one than `batch`.")
    attention_at: int = Field(
        0,
        ge=0,
        description="Side of the feature map that gets self-attention (SAGAN), such as 16; 0 is off.",
    )
    condition: Literal["none", "tile-position", "variant"] = Field(
        "none",
        description="What the networks are told of a tile beside its pixels. `tile-position` (y and x of its "
        "centre in the image): for parts that always lie alike, where what is right in one place is a defect "
        "in another. `variant` (which product it shows, by the folders good/<variant>/): for one model of "
        "several products that look alike.",
    )
    variants: tuple[str, ...] = Field(
        (), description="Names of the variants in their order; `fit` fills in the folders of good/."
    )

    @model_validator(mode="after")
    def _variants_are_told_apart(self) -> NetworkConfig:
        if self.variants and self.condition != "variant":
            raise ValueError(f"variants needs condition variant, got {self.condition}")
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants {list(self.variants)} names one twice")
        return self


class GanConfig(_Section):
    """Adversarial training (Radford et al. 2015 by default)."""

    steps: int = Field(2000, ge=1, description="Optimiser steps of the generator.")
    batch_size: int = Field(64, ge=2, description="Tiles per step.")
    generator_learning_rate: float = Field(2e-4, gt=0)
    discriminator_learning_rate: float = Field(2e-4, gt=0)
    decay_share: float = Field(
        0.0, ge=0, le=1, description="Learning rates fall to 0 over this last share of the steps."
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first decay; 0.5 in Radford 2015.")
    beta2: float = Field(0.999, ge=0, lt=1)
    loss: Literal["minimax", "non-saturating", "lsgan", "wgan", "wgan-gp", "hinge"] = "non-saturating"
    n_critic: int = Field(1, ge=1, description="Discriminator steps per generator step.")
    r1_weight: float = Field(0.0, ge=0, description="R1 gradient penalty (Mescheder 2018), 0 is off.")
    r1_interval: int = Field(16, ge=1, description="Apply R1 each so many steps (lazy).")
    adversarial_weight: float = Field(
        1.0, ge=0, description="Weight of D's opinion in G's loss beside a joint encoder's terms."
    )
    keep: Literal["best", "last"] | None = Field(
        None,
        description="Weights that the model gets: of the look with the lowest inversion error of held-out "
        "good tiles, or the last ones; null is best with a joint encoder, else last.",
    )
    early_stop_patience: int | None = Field(
        None,
        ge=1,
        description="End when so many looks in a row did not lower the inversion error; null does every "
        "step. It cuts the end of decay_share off.",
    )
    feature_matching_weight: float = Field(0.0, ge=0, description="Salimans 2016; 0 is off.")
    spectral_norm: bool = Field(False, description="Miyato 2018, on the discriminator.")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="Averaged generator; 0 is off.")
    gradient_penalty_weight: float | None = Field(
        None, ge=0, description="Gulrajani 2017; null is 10 with wgan-gp and off with other losses."
    )
    weight_clip: float = Field(0.01, gt=0, description="Limit of D's weights with loss wgan.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Real images get the label 1 minus this (one-sided, Salimans 2016)."
    )
    instance_noise: float = Field(
        0.0, ge=0, description="Noise on all that D sees, falling to 0 at the end (Sonderby 2017)."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of D's feature maps dropped in training.")
    minibatch: Literal["none", "stddev", "discrimination"] = Field(
        "none", description="Lets D compare the images of a batch (Karras 2018, Salimans 2016)."
    )
    mode_seeking_weight: float = Field(0.0, ge=0, description="Mao 2019: far codes, far images; 0 is off.")
    packing: int = Field(1, ge=1, description="Images that D judges together (PacGAN, Lin 2018).")
    discriminators: int = Field(1, ge=1, description="Independent Ds; G answers to their mean (GMAN).")
    unroll_steps: int = Field(
        0, ge=0, description="G looks so many D steps ahead (Metz 2017); each costs one more D step."
    )
    pause_above: float | None = Field(
        None, gt=0.5, le=1, description="D skips its update while its smoothed accuracy is above this."
    )
    diffaugment: tuple[Literal["color", "translation", "cutout", "flip"], ...] = Field(
        (), description="Augments what D sees (Zhao 2020). D grows blind to a defect that looks like it."
    )
    ada_target: float | None = Field(
        None, gt=0, lt=1, description="Adapts diffaugment's probability (Karras 2020; 0.6); null: always."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> GanConfig:
        if self.label_smoothing > 0 and self.loss not in ("minimax", "non-saturating", "lsgan"):
            raise ValueError(f"label_smoothing does nothing with loss {self.loss}, which has no labels")
        if self.ada_target is not None and not self.diffaugment:
            raise ValueError("ada_target needs diffaugment, such as [color, translation]")
        if self.packing > self.batch_size // 2:
            raise ValueError(f"packing {self.packing} must be at most half of batch_size {self.batch_size}")
        return self


class EncoderConfig(_Section):
    """E: image -> z. `joint` trains it with the GAN, `izi_f` after it with G and D frozen."""

    mode: Literal["none", "joint", "izi", "izi_f", "ziz"] = "joint"
    steps: int = Field(1000, ge=1, description="Steps of a separate encoder training.")
    learning_rate: float = Field(5e-4, gt=0)
    reconstruction_weight: float = Field(50.0, ge=0, description="Weight of |x - G(E(x))| (joint).")
    feature_weight: float = Field(1.0, ge=0, description="Weight of the feature residual.")
    latent_weight: float = Field(0.05, ge=0, description="Pull of E(x) towards the prior N(0, 1).")
    latent_noise: float = Field(0.1, ge=0, description="Noise added to E(x) in joint training.")
    remove_defects: bool = Field(
        True, description="Feed inputs damaged by synthetic defects and ask for the clean image."
    )


class SyntheticDefectsConfig(_Section):
    """Defects drawn on good images; sizes in pixels of the (resized) image."""

    kinds: tuple[DefectKind, ...] = get_args(DefectKind)
    min_size: float = Field(3, gt=0)
    max_size: float = Field(24, gt=0)
    max_per_tile: int = Field(2, ge=1)


class HeadConfig(_Section):
    """Residual head: [x, G(z), |x - G(z)|, feature residual] -> defect logit per pixel."""

    enabled: bool = True
    network: Literal["dilated", "unet"] = Field(
        "dilated",
        description="dilated sees about 60 pixels around each one; unet the whole tile, for defects that are "
        "larger, at half the time of training with width 16.",
    )
    width: int = Field(
        24, ge=4, description="Channels at half the resolution; up to eight times as many within."
    )
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)


class SearchConfig(_Section):
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
    patience: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _bank_fits(self) -> SearchConfig:
        if 0 < self.bank < self.restarts:
            raise ValueError(f"bank {self.bank} must be 0 or at least restarts {self.restarts}")
        return self


class FeaturesConfig(_Section):
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


class ScoreConfig(_Section):
    """How evidence becomes one number."""

    select: bool = Field(
        False,
        description="Let `fit` replace the weights, smoothing and pooling below by those that best tell "
        "synthetic defects on held-out good images.",
    )
    residual_weight: float = Field(1.0, ge=0)
    discrimination_weight: float = Field(0.1, ge=0)
    head_weight: float = Field(1.0, ge=0)
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

    @model_validator(mode="after")
    def _some_evidence(self) -> ScoreConfig:
        if self.residual_weight + self.discrimination_weight + self.head_weight == 0:
            raise ValueError("at least one of the score weights must be above 0")
        return self


class CalibrationConfig(_Section):
    """Threshold from good parts only."""

    false_reject: float = Field(0.005, gt=0, lt=0.5, description="Share of good parts rejected, at most.")
    map: Literal["per-pixel", "global"] = Field(
        "per-pixel", description="`per-pixel` for parts that always lie alike, else `global`."
    )
    prior_images: float = Field(
        20.0, ge=0, description="Per-pixel variance is shrunk to the global one as by so many images."
    )
    review_share: float = Field(
        0.05, ge=0, lt=1, description="Share of good parts that may go to review (0: no band)."
    )


class MonitorConfig(_Section):
    """How often training is looked at."""

    interval: int = Field(100, ge=1, description="Steps between log lines and health checks.")
    checkpoint_interval: int = Field(500, ge=1)
    alarms: dict[AlarmKind, AlarmPolicy] = Field(
        default_factory=dict, description="What an alarm does, where not its default (docs/training.md)."
    )

    @model_validator(mode="after")
    def _non_finite_is_repaired(self) -> MonitorConfig:
        if self.alarms.get("non-finite", "restore") not in ("restore", "stop"):
            raise ValueError("alarms.non-finite must be restore or stop; nothing can be learned from it")
        return self


class RuntimeConfig(_Section):
    """The machine."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where it is faster.")
    threads: int | None = Field(None, ge=1, description="CPU threads per process; null is every core.")
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="Devices that `fit` trains on at once, one process each; auto takes every GPU that the "
        "batch sizes can be shared out to. With device cpu: that many processes.",
    )


class Config(_Section):
    """A whole model: from the files on disk to the threshold."""

    seed: int = Field(0, ge=0)
    images: ImagesConfig = ImagesConfig()
    tiles: TilesConfig = TilesConfig()
    split: SplitConfig = SplitConfig()
    augmentation: tuple[AugmentationStep, ...] = ()
    network: NetworkConfig = NetworkConfig()
    gan: GanConfig = GanConfig()
    encoder: EncoderConfig = EncoderConfig()
    defects: SyntheticDefectsConfig = SyntheticDefectsConfig()
    head: HeadConfig = HeadConfig()
    search: SearchConfig = SearchConfig()
    features: FeaturesConfig = FeaturesConfig()
    score: ScoreConfig = ScoreConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    monitor: MonitorConfig = MonitorConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _grid_fits_tile(self) -> Config:
        grid, size = self.network.latent_grid, self.tiles.size
        if grid != 1 and (size % grid or not _power_of_two(size // grid) or size // grid < 2):
            raise ValueError(
                f"network.latent_grid {grid} must be 1 or tiles.size {size} divided by a power of two"
            )
        if self.gan.loss == "wgan-gp" and self.network.discriminator_norm == "batch":
            # The penalty is per image; batch norm mixes images (Gulrajani 2017, section 4).
            raise ValueError("gan.loss wgan-gp needs network.discriminator_norm none, layer or group")
        if self.gan.packing > 1 and self.encoder.mode == "joint":
            raise ValueError("gan.packing needs encoder.mode none, izi, izi_f or ziz")
        self._refuse_with_condition()
        if self.search.bank > 0 and self.encoder.mode != "none":
            raise ValueError("search.bank needs encoder.mode: none; an encoder gives a better start")
        if self.images.size is not None and min(self.images.size) < size:
            raise ValueError(f"images.size {self.images.size} is smaller than tiles.size {size}")
        smallest = self.tiles.scales[-1]
        if self.images.size is not None and min(self.images.size) * smallest + 0.5 < size:
            raise ValueError(
                f"images.size {self.images.size} at scale {smallest:g} is smaller than tiles.size {size}; "
                f"take {smallest:g} out of tiles.scales"
            )
        if self.images.on_mixed_sizes == "keep" and self.calibration.map != "global":
            raise ValueError("images.on_mixed_sizes: keep needs calibration.map: global")
        if self.images.on_mixed_sizes == "keep" and self.images.registration != "none":
            raise ValueError("images.registration needs images of one size; set images.size")
        return self

    def _refuse_with_condition(self) -> None:
        """These compare or prepare images without regard to what each was told."""
        condition = self.network.condition
        without = {
            "gan.packing above 1": self.gan.packing > 1,
            "gan.mode_seeking_weight above 0": self.gan.mode_seeking_weight > 0,
            "search.bank above 0": self.search.bank > 0,
        }
        for setting, used in without.items():
            if condition != "none" and used:
                raise ValueError(f"{setting} needs network.condition: none, got {condition}")


def _power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0
