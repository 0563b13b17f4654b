"""The few functions that put the rooms together, readable top to bottom.

Each loads what it needs when first used (PEP 562): a station times its file without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "EvaluationRun": "anogan.recipes.evaluation",
    "FitResult": "anogan.recipes.fitting",
    "ScoredFile": "anogan.inspection",
    "calibrate_model": "anogan.recipes.calibrate",
    "evaluate": "anogan.recipes.evaluation",
    "fit": "anogan.recipes.fitting",
    "load": "anogan.recipes.models",
    "load_scorer": "anogan.recipes.models",
    "score_files": "anogan.recipes.score",
}
__all__ = [
    "EvaluationRun",
    "FitResult",
    "ScoredFile",
    "calibrate_model",
    "evaluate",
    "fit",
    "load",
    "load_scorer",
    "score_files",
]

if TYPE_CHECKING:
    from anogan.inspection import ScoredFile
    from anogan.recipes.calibrate import calibrate_model
    from anogan.recipes.evaluation import EvaluationRun, evaluate
    from anogan.recipes.fitting import FitResult, fit
    from anogan.recipes.models import load, load_scorer
    from anogan.recipes.score import score_files


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anogan.recipes' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
