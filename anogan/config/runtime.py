"""What a training is watched for, and the machine that it runs on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from anogan.config.section import Section

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
    "head-at-chance",
]


class MonitorConfig(Section):
    """How often training is looked at."""

    interval: int = Field(100, ge=1, description="Steps between log lines and health checks.")
    checkpoint_interval: int = Field(
        500, ge=1, description="Steps between states that `--resume` goes on from."
    )
    alarms: dict[AlarmKind, AlarmPolicy] = Field(
        default_factory=dict, description="What an alarm does, where not its default (docs/training.md)."
    )

    @field_validator("alarms", mode="before")
    @classmethod
    def _off_as_yaml_reads_it(cls, alarms: Any) -> Any:
        """YAML 1.1 takes an `off` without quotes for false."""
        if not isinstance(alarms, dict):
            return alarms
        return {kind: "off" if policy is False else policy for kind, policy in alarms.items()}

    @model_validator(mode="after")
    def _non_finite_is_repaired(self) -> MonitorConfig:
        if self.alarms.get("non-finite", "restore") not in ("restore", "stop"):
            raise ValueError("alarms.non-finite must be restore or stop; nothing can be learned from it")
        return self


class RuntimeConfig(Section):
    """The machine."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to compute; auto: cuda, else mps, else cpu."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where it is faster.")
    threads: int | None = Field(None, ge=1, description="CPU threads per process; null is every core.")
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="Devices that `fit` trains on at once, one process each; auto takes every GPU that the "
        "batch sizes can be shared out to. With device cpu: that many processes.",
    )
