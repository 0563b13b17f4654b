"""All sections together, and the settings that fit only with one another."""

from __future__ import annotations

from pydantic import Field, model_validator

from anogan.config.defects import HeadConfig, MemoryConfig, SyntheticDefectsConfig
from anogan.config.images import AugmentationStep, ImagesConfig, SplitConfig, TilesConfig
from anogan.config.networks import EncoderConfig, GanConfig, NetworkConfig
from anogan.config.runtime import MonitorConfig, RuntimeConfig
from anogan.config.scoring import CalibrationConfig, FeaturesConfig, ScoreConfig, SearchConfig
from anogan.config.section import Section


class Config(Section):
    """A whole model: from the files on disk to the threshold."""

    # scikit-learn, which makes the memory after an hour of training, takes no greater one.
    seed: int = Field(0, ge=0, lt=2**32, description="Of the split, the weights and all that training draws.")
    images: ImagesConfig = ImagesConfig()
    tiles: TilesConfig = TilesConfig()
    split: SplitConfig = SplitConfig()
    augmentation: tuple[AugmentationStep, ...] = Field(
        (),
        description="Transforms of albumentations on training tiles, each with the name of its class and its "
        "arguments: {name: HorizontalFlip, args: {p: 0.5}}.",
    )
    network: NetworkConfig = NetworkConfig()
    gan: GanConfig = GanConfig()
    encoder: EncoderConfig = EncoderConfig()
    defects: SyntheticDefectsConfig = SyntheticDefectsConfig()
    head: HeadConfig = HeadConfig()
    memory: MemoryConfig = MemoryConfig()
    search: SearchConfig = SearchConfig()
    features: FeaturesConfig = FeaturesConfig()
    score: ScoreConfig = ScoreConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    monitor: MonitorConfig = MonitorConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def remembers(self) -> bool:
        """Whether `fit` looks for false alarms of the head."""
        return self.head.enabled and self.memory.patches > 0

    @model_validator(mode="after")
    def _grid_fits_tile(self) -> Config:
        grid, size = self.network.latent_grid, self.tiles.size
        if grid != 1 and (size % grid or not _power_of_two(size // grid) or size // grid < 2):
            raise ValueError(
                f"network.latent_grid {grid} must be 1 or tiles.size {size} divided by a power of two"
            )
        return self

    @model_validator(mode="after")
    def _attention_has_a_place(self) -> Config:
        side, size = self.network.attention_at, self.tiles.size
        if side and not (_power_of_two(side) and 4 <= side <= size // 2):
            sides = ", ".join(str(2**k) for k in range(2, size.bit_length() - 1))
            raise ValueError(
                f"network.attention_at {side} is the side of no feature map; expected 0, {sides}"
            )
        return self

    @model_validator(mode="after")
    def _some_evidence(self) -> Config:
        score = self.score
        weights = score.residual_weight + score.discrimination_weight
        weights += score.head_weight if self.head.enabled else 0
        weights += score.perceptual_weight if self.features.weights is not None else 0
        if weights == 0:
            raise ValueError(
                "at least one of the score weights must be above 0 (head_weight counts with head.enabled, "
                "perceptual_weight with features.weights)"
            )
        return self

    @model_validator(mode="after")
    def _memory_fits(self) -> Config:
        if self.memory.patches and (self.memory.window > self.tiles.size or self.tiles.size % 2):
            raise ValueError(
                f"memory.window {self.memory.window} must be at most tiles.size {self.tiles.size}, "
                "which must be even"
            )
        return self

    @model_validator(mode="after")
    def _losses_fit_networks(self) -> Config:
        if self.gan.loss == "wgan-gp" and self.network.discriminator_norm == "batch":
            # The penalty is per image; batch norm mixes images (Gulrajani 2017, section 4).
            raise ValueError("gan.loss wgan-gp needs network.discriminator_norm none, layer or group")
        if self.gan.packing > 1 and self.encoder.mode == "joint":
            raise ValueError("gan.packing needs encoder.mode none, izi, izi_f or ziz")
        if self.gan.mode_seeking_weight > 0 and self.encoder.mode == "joint" and self.gan.batch_size < 8:
            # A quarter of the batch is drawn from the prior, and two of them are compared.
            raise ValueError(
                "gan.mode_seeking_weight needs gan.batch_size of 8 at least with encoder.mode joint"
            )
        return self

    @model_validator(mode="after")
    def _condition_is_regarded(self) -> Config:
        """What compares or prepares images without regard to what each was told is refused."""
        condition = self.network.condition
        without = {
            "gan.packing above 1": self.gan.packing > 1,
            "gan.mode_seeking_weight above 0": self.gan.mode_seeking_weight > 0,
            "search.bank above 0": self.search.bank > 0,
        }
        for setting, used in without.items():
            if condition != "none" and used:
                raise ValueError(f"{setting} needs network.condition: none, got {condition}")
        return self

    @model_validator(mode="after")
    def _bank_replaces_no_encoder(self) -> Config:
        if self.search.bank > 0 and self.encoder.mode != "none":
            raise ValueError("search.bank needs encoder.mode: none; an encoder gives a better start")
        return self

    @model_validator(mode="after")
    def _images_hold_a_tile(self) -> Config:
        size, smallest = self.tiles.size, self.tiles.scales[-1]
        if self.images.size is not None and min(self.images.size) < size:
            raise ValueError(f"images.size {self.images.size} is smaller than tiles.size {size}")
        if self.images.size is not None and min(self.images.size) * smallest + 0.5 < size:
            raise ValueError(
                f"images.size {self.images.size} at scale {smallest:g} is smaller than tiles.size {size}; "
                f"take {smallest:g} out of tiles.scales"
            )
        return self

    @model_validator(mode="after")
    def _mixed_sizes_can_be_kept(self) -> Config:
        if self.images.on_mixed_sizes == "keep" and self.calibration.map != "global":
            raise ValueError("images.on_mixed_sizes: keep needs calibration.map: global")
        if self.images.on_mixed_sizes == "keep" and self.images.registration != "none":
            raise ValueError("images.registration needs images of one size; set images.size")
        return self


def _power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0
