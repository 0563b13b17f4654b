"""Which device and precision to use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

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


class _Threads:
    """What `set_threads` set last, if anything, and what there was before."""

    ours: int | None = None
    before = 1


def set_threads(runtime: RuntimeConfig) -> None:
    """Sets torch's CPU threads, of this whole process, to those asked for.

    Without a number they are what they were before another model asked for one.
    """
    if (now := torch.get_num_threads()) != _Threads.ours:
        _Threads.before = now
    _Threads.ours = runtime.threads
    torch.set_num_threads(runtime.threads or _Threads.before)


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


class _Precision:
    """torch's process-wide precision of float32 on CUDA, while somebody needs all of it."""

    lock = threading.Lock()
    users = 0
    before: tuple[str, str] = ("none", "none")


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Without TF32, which CUDA's convolutions take by themselves and which keeps ten bits of each number.

    Scores, and thresholds with them, would differ from those of the CPU and of the exported file in the third
    digit. The setting belongs to the whole process; the last of several users at once gives it back.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn  # Its `conv` is not in the stubs.
    convolution, product = cudnn.conv, torch.backends.cuda.matmul
    with _Precision.lock:
        if _Precision.users == 0:
            _Precision.before = (convolution.fp32_precision, product.fp32_precision)
            convolution.fp32_precision = product.fp32_precision = "ieee"
        _Precision.users += 1
    try:
        yield
    finally:
        with _Precision.lock:
            _Precision.users -= 1
            if _Precision.users == 0:
                convolution.fp32_precision, product.fp32_precision = _Precision.before
