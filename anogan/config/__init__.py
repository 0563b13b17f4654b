"""Validated settings. Reads nothing that is not handed to it but the YAML file it is asked for."""

from anogan.config.defects import DefectKind, HeadConfig, SyntheticDefectsConfig
from anogan.config.images import AugmentationStep, ImagesConfig, NetworkSize, SplitConfig, TilesConfig
from anogan.config.loading import (
    Override,
    config_from_dict,
    config_of_model,
    config_to_dict,
    known_keys,
    load_config,
)
from anogan.config.networks import EncoderConfig, GanConfig, NetworkConfig, Norm
from anogan.config.runtime import AlarmKind, AlarmPolicy, MonitorConfig, RuntimeConfig
from anogan.config.scoring import (
    FEWEST_TO_COMPARE,
    CalibrationConfig,
    FeaturesConfig,
    ScoreConfig,
    SearchConfig,
)
from anogan.config.shipped import DEFAULT_CONFIG, find_config, shipped_config_names, shipped_configs
from anogan.config.tree import Config

__all__ = [
    "DEFAULT_CONFIG",
    "FEWEST_TO_COMPARE",
    "AlarmKind",
    "AlarmPolicy",
    "AugmentationStep",
    "CalibrationConfig",
    "Config",
    "DefectKind",
    "EncoderConfig",
    "FeaturesConfig",
    "GanConfig",
    "HeadConfig",
    "ImagesConfig",
    "MonitorConfig",
    "NetworkConfig",
    "NetworkSize",
    "Norm",
    "Override",
    "RuntimeConfig",
    "ScoreConfig",
    "SearchConfig",
    "SplitConfig",
    "SyntheticDefectsConfig",
    "TilesConfig",
    "config_from_dict",
    "config_of_model",
    "config_to_dict",
    "find_config",
    "known_keys",
    "load_config",
    "shipped_config_names",
    "shipped_configs",
]
