"""Which device and precision to use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from anogan.config import RuntimeConfig
from anogan.errors import ConfigError


def pick_device(runtime: RuntimeConfig) -> torch.device:
    """The device that the config names; `auto` takes cuda, then mps, then cpu.

    Raises:
        ConfigError: The named device is not on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if runtime.device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[runtime.device]:
        raise ConfigError(
            f"runtime.device is {runtime.device}, but torch {torch.__version__} finds none on this machine; "
            "use auto or cpu."
        )
    return torch.device(runtime.device)


def set_threads(runtime: RuntimeConfig) -> None:
    """Sets torch's CPU threads when the config asks for a number."""
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)


def training_precision(runtime: RuntimeConfig, device: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it natively, else fp32."""
    if runtime.precision != "auto":
        return torch.bfloat16 if runtime.precision == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """The mixed-precision context for a training step."""
    if precision is torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)
