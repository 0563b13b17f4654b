"""What is wrong with an installation."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from typing import Any, Literal

_REPORTED = (
    "anogan",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "torch",
    "torchvision",
    "albumentations",
    "albumentationsx",
    "scikit-learn",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
)
_IMPORTED = {"torch": "torch", "torchvision": "torchvision", "cv2": "opencv-python-headless"}


@dataclass(frozen=True)
class Fault:
    """One fault of the installation; `severity` as in the findings about images."""

    kind: str
    severity: Literal["error", "warning", "note"]
    message: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON types."""
        return asdict(self)


def installed_versions() -> dict[str, str]:
    """Version of each package that matters here, by the name it is installed under; Python's first."""
    found = {str(d.metadata["Name"]).lower().replace("_", "-"): d.version for d in distributions()}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python} | {name: found[name] for name in _REPORTED if name in found}


def usable_devices() -> list[str]:
    """What `--device` may name on this machine, with the GPUs' names; empty without a working torch."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception:  # A broken installation raises anything, and `examine_installation` tells it.
        return []
    gpus = [f"cuda ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def examine_installation(
    versions: Mapping[str, str], load: Callable[[str], object] = importlib.import_module
) -> list[Fault]:
    """Packages that break one another, and packages that do not import.

    Args:
        versions: As `installed_versions` gives them.
        load: Imports a module by name.
    """
    return [*_conflicts(versions), *_broken_imports(versions, load), *_missing(versions)]


def _conflicts(versions: Mapping[str, str]) -> list[Fault]:
    faults = []
    opencv = [name for name in versions if name.startswith("opencv-")]
    if len(opencv) > 1:
        faults.append(
            Fault(
                "opencv-conflict",
                "error",
                f"{' and '.join(opencv)} overwrite each other's files; run `pip uninstall -y "
                f"{' '.join(opencv)}` and `pip install opencv-python-headless`.",
            )
        )
    if "onnxruntime" in versions and "onnxruntime-gpu" in versions:
        faults.append(
            Fault(
                "onnxruntime-conflict",
                "error",
                "onnxruntime and onnxruntime-gpu overwrite each other's files; run `pip uninstall -y "
                "onnxruntime onnxruntime-gpu` and install the one that is meant.",
            )
        )
    if "albumentationsx" in versions:
        both = "albumentations" in versions
        faults.append(
            Fault(
                "albumentations-conflict",
                "error" if both else "warning",
                f"albumentationsx is installed{' beside albumentations' if both else ''}: it has the same "
                "import name and the AGPL licence; run `pip uninstall -y albumentationsx albumentations` and "
                "`pip install albumentations`.",
            )
        )
    return faults


def _broken_imports(versions: Mapping[str, str], load: Callable[[str], object]) -> list[Fault]:
    faults = []
    for module, package in _IMPORTED.items():
        if module != "cv2" and package not in versions:
            continue
        try:
            load(module)
        except Exception as error:  # Damaged binary packages raise anything.
            reason = " ".join(str(error).split())
            faults.append(
                Fault(
                    f"{module}-broken",
                    "error",
                    f"{module} does not import ({type(error).__name__}: {reason}); {_advice(module)}.",
                )
            )
    return faults


def _advice(module: str) -> str:
    if module == "torchvision":
        return "install the torchvision that belongs to this torch, both from the same index"
    return f"install it again: `pip install --force-reinstall {_IMPORTED[module]}`"


def _missing(versions: Mapping[str, str]) -> list[Fault]:
    absent = [name for name in ("torch", "torchvision", "albumentations") if name not in versions]
    if not absent:
        return []
    return [
        Fault(
            "no-training",
            "note",
            f"{', '.join(absent)} not installed, so this machine cannot train; for that, "
            '`pip install "anogan[train]"`.',
        )
    ]
