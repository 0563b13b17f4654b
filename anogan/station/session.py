"""ONNX Runtime sessions: execution providers by name, threads, bound inputs and outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import BundleError, ConfigError

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# TensorRT builds an engine for minutes and OpenVINO rounds otherwise, so they are taken by name only.
AUTOMATIC = ("cuda", "cpu")
_DEVICES = {PROVIDERS["cuda"]: "cuda", PROVIDERS["tensorrt"]: "cuda"}  # Where values can stay; else "cpu".
# Thresholds belong to scores in float32; TF32, which CUDA takes by itself, keeps ten bits of a number.
_OPTIONS = {PROVIDERS["cuda"]: {"use_tf32": "0"}}
_INSTALL = {
    "tensorrt": "install onnxruntime-gpu and TensorRT",
    "cuda": "install anogan[gpu] and an NVIDIA driver",
    "openvino": "install onnxruntime-openvino",
}


class Session:
    """One loaded ONNX model on one execution provider; `run` may be called from several threads."""

    def __init__(
        self, model: bytes, where: str, providers: Sequence[str] | None, threads: int | None
    ) -> None:
        """Loads a model.

        Args:
            model: A serialised ONNX model.
            where: Its name in error messages.
            providers: Names from `PROVIDERS` in order of preference, the first is required; None takes
                CUDA where it works, else the CPU.
            threads: CPU threads of one call, at most one per core; None is every core.

        Raises:
            ConfigError: ONNX Runtime or the wanted provider is missing, or there are to be no threads.
            BundleError: ONNX Runtime cannot load the model.
        """
        runtime = _runtime()
        wanted = _providers(runtime, providers)
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # Optional inputs with defaults are meant, not worth a warning each.
        if threads is not None and threads < 1:
            raise ConfigError(f"threads is {threads}; expected 1 or more, or None for every core.")
        # More than there are cores wait for each other: a thousand took minutes for an image.
        options.intra_op_num_threads = 0 if threads is None else min(threads, os.cpu_count() or threads)
        try:
            self._session = runtime.InferenceSession(
                model, options, providers=[(name, _OPTIONS.get(name, {})) for name in wanted]
            )
        except Exception as error:  # ONNX Runtime's own errors share no base class.
            raise BundleError(
                f"{where} cannot be loaded by ONNX Runtime {runtime.__version__} "
                f"({_first_line(error)}); export the model anew, or update onnxruntime."
            ) from error
        # A provider that is listed may still fail to start, and ONNX Runtime then falls back silently.
        self.provider: str = self._session.get_providers()[0]
        if providers and self.provider != wanted[0]:
            raise ConfigError(
                f"Provider {providers[0]} is installed but did not start here, so {self.provider} would be "
                f"used; {_INSTALL.get(providers[0], 'check its driver')}, or ask for cpu."
            )
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def metadata(self) -> dict[str, str]:
        """The model's `metadata_props`."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Output name -> array.

        Raises:
            BundleError: ONNX Runtime failed; its own words are in the message.
        """
        try:
            if self.provider == PROVIDERS["cpu"]:
                values = self._session.run(self._outputs, dict(inputs))
            else:
                values = self.run_bound(inputs)
        except Exception as error:  # ONNX Runtime's own errors share no base class.
            raise self._failure(error) from error
        return dict(zip(self._outputs, values, strict=True))

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs, optional ones included."""
        return [value.name for value in self._session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs."""
        return list(self._outputs)

    def start(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Output name -> `OrtValue` that stays on the device.

        Args:
            inputs: Arrays, or values that `start` gave.

        Raises:
            BundleError: ONNX Runtime failed.
        """
        binding = self._bound_inputs(inputs)
        for name in self._outputs:
            binding.bind_output(name, _DEVICES.get(self.provider, "cpu"))
        self._run_binding(binding)
        return dict(zip(self._outputs, binding.get_outputs(), strict=True))

    def between(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Callable[[], None]:
        """What runs the model from these values into those, which are there already: nothing is allocated."""
        binding = self._bound_inputs(inputs)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return lambda: self._run_binding(binding)

    def _bound_inputs(self, inputs: Mapping[str, Any]) -> Any:
        binding = self._session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
            else:
                binding.bind_ortvalue_input(name, value)
        return binding

    def _run_binding(self, binding: Any) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's own errors share no base class.
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> BundleError:
        return BundleError(
            f"ONNX Runtime failed while scoring on {self.provider} ({_first_line(error)}); give fewer or "
            "smaller images at once, or another provider."
        )

    def run_bound(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs in order, through bindings: one copy in and one out, nothing between the nodes."""
        binding = self._bound_inputs(inputs)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX Runtime is not installed; install anogan[station] (CPU) or anogan[gpu]."
        ) from error
    return onnxruntime


def _providers(runtime: Any, names: Sequence[str] | None) -> list[str]:
    available = set(runtime.get_available_providers())
    if names is None:
        if PROVIDERS["cuda"] in available and hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()  # Finds the CUDA libraries that pip installed.
        return [PROVIDERS[name] for name in AUTOMATIC if PROVIDERS[name] in available]
    if isinstance(names, str):
        raise ConfigError(f"providers is {names!r}; give a list, such as [{names!r}].")
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown:
        raise ConfigError(f"Unknown provider {unknown[0]!r}; expected one of {', '.join(PROVIDERS)}.")
    missing = [name for name in names if PROVIDERS[name] not in available]
    if missing:
        here = ", ".join(name for name, full in PROVIDERS.items() if full in available)
        raise ConfigError(
            f"Provider {missing[0]} is not in this ONNX Runtime, which has {here}; "
            f"{_INSTALL.get(missing[0], 'install onnxruntime')}, or ask for cpu."
        )
    if "cuda" in names and hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()
    return [PROVIDERS[name] for name in names]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
