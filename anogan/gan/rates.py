"""How learning rates fall over a stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import optim


def decay_factor(step: int, total: int, decay_share: float) -> float:
    """1, then a straight line towards 0 over the last `decay_share` of the steps."""
    left = (total - step) / max(1.0, decay_share * total)
    return min(1.0, left) if decay_share > 0 else 1.0


def scale_learning_rates(optimisers: Iterable[optim.Optimizer], factor: float) -> None:
    """Sets each rate to `factor` times the one the optimiser was made (or restored) with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = factor * group.setdefault("base_lr", group["lr"])
