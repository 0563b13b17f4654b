"""Generator, discriminator and encoder, and how the two play against each other."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from anogan.config.section import Section

Norm = Literal["batch", "group", "layer", "none"]


class NetworkConfig(Section):
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


class GanConfig(Section):
    """Adversarial training (Radford et al. 2015 by default)."""

    steps: int = Field(2000, ge=1, description="Optimiser steps of the generator.")
    batch_size: int = Field(64, ge=2, description="Tiles per step.")
    generator_learning_rate: float = Field(2e-4, gt=0, description="Adam's, of G.")
    discriminator_learning_rate: float = Field(2e-4, gt=0, description="Adam's, of D.")
    decay_share: float = Field(
        0.0, ge=0, le=1, description="Learning rates fall to 0 over this last share of the steps."
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first decay; 0.5 in Radford 2015.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's second decay.")
    loss: Literal["minimax", "non-saturating", "lsgan", "wgan", "wgan-gp", "hinge"] = Field(
        "non-saturating", description="What G and D play for; see docs/training.md."
    )
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


class EncoderConfig(Section):
    """E: image -> z. `joint` trains it with the GAN, `izi_f` after it with G and D frozen."""

    mode: Literal["none", "joint", "izi", "izi_f", "ziz"] = Field(
        "joint",
        description="none: searches start from fixed random codes; joint: trained with the GAN; after it: "
        "izi (image to code to image), izi_f (also by the residual of D's features), ziz (code to image to "
        "code).",
    )
    steps: int = Field(1000, ge=1, description="Steps of a separate encoder training.")
    learning_rate: float = Field(5e-4, gt=0, description="Adam's, of E.")
    reconstruction_weight: float = Field(50.0, ge=0, description="Weight of |x - G(E(x))| (joint).")
    structure_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of 1 - SSIM of x and G(E(x)) (joint): edges count by their shape, not by their "
        "contrast (Bergmann 2018, arXiv:1807.02011).",
    )
    feature_weight: float = Field(1.0, ge=0, description="Weight of the feature residual.")
    latent_weight: float = Field(0.05, ge=0, description="Pull of E(x) towards the prior N(0, 1).")
    latent_noise: float = Field(0.1, ge=0, description="Noise added to E(x) in joint training.")
    remove_defects: bool = Field(
        False,
        description="Feed inputs damaged by synthetic defects and ask for the clean image. Beside a head it "
        "gained nothing (docs/experiments.md).",
    )
