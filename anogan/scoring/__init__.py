"""The PyTorch scorer: latent search, evidence maps and the learned head."""

from anogan.scoring.evidence import Evidence
from anogan.scoring.model import Model
from anogan.scoring.scorer import Scorer

__all__ = ["Evidence", "Model", "Scorer"]
