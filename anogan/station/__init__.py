"""Scoring with an exported file on a machine that has ONNX Runtime and nothing that trains."""

from anogan.station.scorer import BudgetedInspection, Scorer
from anogan.station.stepwise import StepwiseScorer

__all__ = ["BudgetedInspection", "Scorer", "StepwiseScorer"]
