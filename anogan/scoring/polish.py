"""L-BFGS on z after Adam, for many images at once: each has its own history, step length and line search."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

HISTORY = 8  # Pairs of moves and turns; the usual 5 to 20 differ little.
SUFFICIENT = 1e-4  # Armijo's share of the promised decrease.
CURVATURE = 1e-3  # Least cosine of move and turn: an L1 objective has kinks, where the pair tells nothing.
LONGEST_MOVE = 1.0  # Root mean square per step; the prior's standard deviation.
PATIENCE = 5  # Refused trials before the history is forgotten.

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


def polish(z: Tensor, evaluate: Evaluate, steps: int, first_move: float) -> Tensor:
    """Lowers each image's objective by L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with backtracking.

    Every step evaluates one trial per image: an image whose trial is refused backtracks while the others go
    on. No number of one image enters another's, so neighbours do not matter.

    Args:
        z: (N, d, g, g).
        evaluate: Codes of that shape -> objective (N,) and its gradient, image by image.
        steps: Trials after the evaluation at `z`.
        first_move: Root mean square of the first trial's move, before there is a history.

    Returns:
        (N, d, g, g), with no image's objective above that of `z`.
    """
    value, gradient = evaluate(z)
    state = _Lbfgs(z.flatten(1), value, gradient.flatten(1), first_move)
    for _ in range(steps):
        trial = state.trial()
        value, gradient = evaluate(trial.view_as(z))
        state.take(trial, value, gradient.flatten(1))
    return state.z.view_as(z)


class _Lbfgs:
    """The best code, its gradient and the history; (N, D) each, every row on its own."""

    def __init__(self, z: Tensor, value: Tensor, gradient: Tensor, first_move: float) -> None:
        n, d = z.shape
        self.z, self._value, self._gradient = z, value, gradient
        self._first_move = first_move
        self._moves, self._turns = z.new_zeros(HISTORY, n, d), z.new_zeros(HISTORY, n, d)
        self._rho = z.new_zeros(HISTORY, n, 1)  # 1 / (move . turn); 0 where there is no pair.
        self._scale = self._first_scale()
        self._refused = torch.zeros(n, dtype=torch.long, device=z.device)
        self._length = z.new_ones(n, 1)
        self._aim()

    def trial(self) -> Tensor:
        return self.z + self._length * self._direction

    def take(self, trial: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Goes to the trials that fell enough, shortens the step of the others."""
        promised = (self._length * self._slope)[:, 0]
        # A comparison with what is not a number refuses it.
        accepted = (value <= self._value + SUFFICIENT * promised)[:, None]
        self._remember(trial - self.z, gradient - self._gradient, accepted)
        self._refused = torch.where(accepted[:, 0], 0, self._refused + 1)
        shorter = self._length * _shrink(promised, value - self._value)[:, None]
        self._length = torch.where(accepted, 1.0, shorter)
        self.z = torch.where(accepted, trial, self.z)
        self._value = torch.where(accepted[:, 0], value, self._value)
        self._gradient = torch.where(accepted, gradient, self._gradient)
        self._forget_the_misleading()
        self._aim()

    def _remember(self, move: Tensor, turn: Tensor, accepted: Tensor) -> None:
        product, size = _dot(move, turn), _dot(turn, turn)
        curved = accepted & (product > CURVATURE * (_dot(move, move) * size).sqrt())
        rho = torch.where(curved, 1 / product, 0.0)
        self._moves = torch.where(curved, torch.cat([self._moves[1:], move[None]]), self._moves)
        self._turns = torch.where(curved, torch.cat([self._turns[1:], turn[None]]), self._turns)
        self._rho = torch.where(curved, torch.cat([self._rho[1:], rho[None]]), self._rho)
        self._scale = torch.where(curved, product / size, self._scale)

    def _forget_the_misleading(self) -> None:
        lost = (self._refused >= PATIENCE)[:, None]
        self._rho = torch.where(lost, 0.0, self._rho)
        # Shorter than the first time: steps of that length have been refused by now.
        self._scale = torch.where(lost, 0.1 * self._first_scale(), self._scale)
        self._length = torch.where(lost, 1.0, self._length)
        self._refused = torch.where(lost[:, 0], 0, self._refused)

    def _aim(self) -> None:
        """The direction of the two-loop recursion (algorithm 7.4), or of steepest descent."""
        q, alphas = self._gradient, []
        for move, turn, rho in zip(self._moves.flip(0), self._turns.flip(0), self._rho.flip(0), strict=True):
            alphas.append(rho * _dot(move, q))
            q = q - alphas[-1] * turn
        q = self._scale * q
        for move, turn, rho in zip(self._moves, self._turns, self._rho, strict=True):
            q = q + move * (alphas.pop() - rho * _dot(turn, q))
        steepest = self._scale * self._gradient
        direction = -torch.where(_dot(q, self._gradient) > 0, q, steepest)
        length = direction.square().mean(dim=1, keepdim=True).sqrt()
        self._direction = direction * (LONGEST_MOVE / length.clamp_min(LONGEST_MOVE))
        self._slope = _dot(self._direction, self._gradient)

    def _first_scale(self) -> Tensor:
        size = self._gradient.square().mean(dim=1, keepdim=True).sqrt()
        return self._first_move / size.clamp_min(torch.finfo(size.dtype).tiny)


def _shrink(promised: Tensor, rose: Tensor) -> Tensor:
    """How much of the step to try next, (N,): the minimum of the parabola through what is known."""
    share = -promised / (2 * (rose - promised))
    return torch.where(share.isfinite(), share, 0.1).clamp(0.1, 0.5)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)
