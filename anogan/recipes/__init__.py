"""The few functions that put the rooms together, readable top to bottom."""

from anogan.inspection import ScoredFile
from anogan.recipes.calibrate import calibrate_model
from anogan.recipes.evaluation import EvaluationRun, evaluate
from anogan.recipes.fitting import FitResult, fit
from anogan.recipes.models import load, load_scorer
from anogan.recipes.score import score_files

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
