"""Starting codes for models without an encoder: a fixed bank, screened for each tile."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CHUNK = 32  # Codes generated at once.


class Bank:
    """Codes from the prior and what G makes of them, computed once."""

    def __init__(self, generator: nn.Module, codes: Tensor) -> None:
        """Generates all pictures: `codes` is (B, d, g, g)."""
        self._codes = codes
        with torch.no_grad():
            pictures = [generator(chunk).float().flatten(1) for chunk in codes.split(_CHUNK)]
        self._pictures = torch.cat(pictures)

    @torch.no_grad()
    def best(self, x: Tensor, n: int) -> Tensor:
        """The n codes whose pictures differ least from each tile, best first.

        By the residual score alone: D's features agreed on the best code for three tiles of four, cost
        as much again and led to the same objective.

        Args:
            x: (N, C, t, t) in [-1, 1].
            n: At most the size of the bank.

        Returns:
            (n, N, d, g, g).
        """
        distances = torch.cdist(x.float().flatten(1), self._pictures, p=1)
        # Stable, so that equally good codes come in the order of the bank whatever the batch.
        order = distances.sort(dim=1, stable=True).indices[:, :n]
        return self._codes[order].transpose(0, 1)
