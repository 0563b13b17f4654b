"""anogan: the AnoGAN that a production line can trust.

Importing this package imports neither torch nor OpenCV; the names below load what they need when
first used (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Config": "anogan.config",
    "load_config": "anogan.config",
    "AnoganError": "anogan.errors",
    "Inspection": "anogan.inspection",
    "Verdict": "anogan.inspection",
    "Scorer": "anogan.scoring",
    "AnoganDetector": "anogan.recipes.estimator",
    "fit": "anogan.recipes",
    "evaluate": "anogan.recipes",
    "load": "anogan.recipes",
}
__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from anogan.config import Config as Config
    from anogan.config import load_config as load_config
    from anogan.errors import AnoganError as AnoganError
    from anogan.inspection import Inspection as Inspection
    from anogan.inspection import Verdict as Verdict
    from anogan.recipes import evaluate as evaluate
    from anogan.recipes import fit as fit
    from anogan.recipes import load as load
    from anogan.recipes.estimator import AnoganDetector as AnoganDetector
    from anogan.scoring import Scorer as Scorer


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anogan' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
