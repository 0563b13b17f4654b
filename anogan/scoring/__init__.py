"""The PyTorch scorer: latent search, evidence maps and the learned head."""

from anogan.scoring.model import Model
from anogan.scoring.scorer import Evidence, Scorer

__all__ = ["Evidence", "Model", "Scorer"]
