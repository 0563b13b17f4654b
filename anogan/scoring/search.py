"""The latent search: for each image, the z whose G(z) comes closest (Schlegl et al. 2017, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from anogan.config import SearchConfig
from anogan.errors import ShapeError
from anogan.gan.condition import given, image_of
from anogan.gan.networks import features
from anogan.scoring.perceptual import Perceptual, perceptual_score
from anogan.scoring.polish import polish
from anogan.scoring.residuals import (
    CHARBONNIER_EPS,
    charbonnier_residual,
    defect_mask,
    masked_image,
    pixel_term,
    residual_score,
)
from anogan.scoring.smooth import FEATURE_STEEPNESS, smooth_abs, softened

__all__ = [
    "ADAM_BETAS",
    "ADAM_EPS",
    "CHARBONNIER_EPS",
    "Objective",
    "SearchResult",
    "charbonnier_residual",
    "discrimination_score",
    "joined",
    "latent_search",
    "residual_score",
    "search_objective",
]

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


@dataclass(frozen=True)
class Objective:
    """Everything that A(x) is made of; all frozen.

    Attributes:
        generator: z (N, d, g, g) -> (N, C, t, t) in [-1, 1], in eval mode.
        stages: D's hidden layers, see `feature_stack`.
        feature_scales: (L,) mean |f_l| on good tiles, so that each layer counts alike.
        perceptual: Pretrained features, or None.
        perceptual_weight: Of their difference, beside A(x).
        condition: K, how many maps of condition tiles carry behind their colours; given with each image to
            D, and with each z to G.
    """

    generator: nn.Module
    stages: nn.ModuleList
    feature_scales: Tensor
    perceptual: Perceptual | None = None
    perceptual_weight: float = 0.0
    condition: int = 0

    def smooth(self) -> Objective:
        """The same values, with the slopes of `softened` networks."""
        stages = nn.ModuleList(softened(stage) for stage in self.stages)
        return replace(self, generator=softened(self.generator), stages=stages)

    def wanted(self, x: Tensor, config: SearchConfig) -> list[Tensor]:
        """Features of x that the objective compares: D's hidden layers, then the pretrained ones."""
        found = features(self.stages, x) if config.lambda_ > 0 else []
        return found if self.perceptual is None else found + self.perceptual(image_of(x, self.condition))


@dataclass(frozen=True)
class SearchResult:
    """The best code of each image.

    Attributes:
        z: (N, d, g, g).
        reconstruction: (N, C, t, t), G(z).
        objective: (N,), A(x) plus the prior penalty, what the search minimised.
        penalty: (N,), the prior penalty alone; never part of a score.
        steps_used: (N,) int, steps after which the image was finished.
    """

    z: Tensor
    reconstruction: Tensor
    objective: Tensor
    penalty: Tensor
    steps_used: Tensor


def joined(results: Sequence[SearchResult]) -> SearchResult:
    """The results of several searches as one."""
    return SearchResult(
        *(torch.cat([getattr(r, field.name) for r in results]) for field in fields(SearchResult))
    )


def discrimination_score(
    wanted: list[Tensor], got: list[Tensor], scales: Tensor, *, smooth: bool = False
) -> Tensor:
    """Mean absolute difference of D's hidden activations, one value per image.

    The feature-matching discrimination loss of Schlegl et al. 2017 (eq. 4), over all hidden layers,
    each divided by its mean activation on good tiles.

    Args:
        wanted: f(x) per layer, (N, C_l, H_l, W_l).
        got: f(G(z)) per layer.
        scales: (L,).
        smooth: Whether the gradient is that of `smooth_abs`.

    Returns:
        (N,), at least 0; higher is more anomalous.
    """
    layers = []
    for a, b, scale in zip(wanted, got, scales, strict=True):
        size = smooth_abs(a - b, FEATURE_STEEPNESS / scale) if smooth else (a - b).abs()
        layers.append(size.float().flatten(1).mean(dim=1) / scale)
    return torch.stack(layers).mean(dim=0)


def search_objective(
    x: Tensor, wanted: list[Tensor], z: Tensor, objective: Objective, config: SearchConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """(1 - lambda) R + lambda D + prior penalty, per image: eq. 5 with the penalty on mean z^2.

    With `search.mask` above 0, R and D compare x outside the best mask, and R pays for the mask.

    Args:
        x: Tiles, (N, C + K, t, t).
        wanted: `objective.wanted(x)`.
        z: Codes, (N, d, g, g).
        objective: Frozen networks.
        config: lambda, prior weight, residual, mask.

    Returns:
        The objective (N,), the penalty (N,) and G(z) (N, C, t, t).
    """
    # float32 even under autocast: the best of several steps differ in the fourth digit.
    tiles, k = x, objective.condition
    x = image_of(tiles, k)
    reconstruction = objective.generator(given(z, tiles, k)).float()
    cost: Tensor | float = 0.0
    if config.mask > 0:
        mask = defect_mask(x, reconstruction, config.mask)
        cost = config.mask * mask.flatten(1).mean(dim=1)
        x = masked_image(x, reconstruction, mask)
        with torch.no_grad():
            wanted = objective.wanted(given(x, tiles, k), config)
    value = (1 - config.lambda_) * (pixel_term(x, reconstruction, config) + cost)
    if config.lambda_ > 0:
        got = features(objective.stages, given(reconstruction, tiles, k))
        own = wanted[: len(got)]
        smooth = config.gradient == "smooth"
        distance = discrimination_score(own, got, objective.feature_scales, smooth=smooth)
        value = value + config.lambda_ * distance
    if objective.perceptual is not None:
        seen = objective.perceptual(reconstruction)
        value = value + objective.perceptual_weight * perceptual_score(wanted[-len(seen) :], seen)
    penalty = config.prior_weight * z.square().flatten(1).mean(dim=1)
    return value + penalty, penalty, reconstruction


def latent_search(
    x: Tensor, starts: Tensor, objective: Objective, config: SearchConfig, steps: int | None = None
) -> SearchResult:
    """Adam on z only, for all images and restarts at once, then L-BFGS; each image keeps its best z.

    Losses are summed, never averaged, over the batch, and moments are kept per image, so that an
    image's result does not depend on its neighbours.

    Args:
        x: Tiles, (N, C + K, t, t), in [-1, 1].
        starts: Starting codes, (R, N, d, g, g), R restarts.
        objective: Frozen networks.
        config: Learning rate, lambda, prior weight, early stop, polish.
        steps: Overrides `config.steps`.

    Raises:
        ShapeError: If starts and x do not belong together.
    """
    if starts.ndim != 5 or starts.shape[1] != x.shape[0]:
        raise ShapeError(f"starts is {tuple(starts.shape)}; expected (R, {x.shape[0]}, d, g, g).")
    restarts, n = starts.shape[:2]
    repeated = x.repeat(restarts, 1, 1, 1)
    with torch.no_grad():
        wanted = objective.wanted(repeated, config)
    state = _Adam(starts.flatten(0, 1).detach().clone(), config)
    steps = config.steps if steps is None else steps
    with torch.enable_grad():
        for step in range(steps):
            z = state.z.detach().requires_grad_(True)
            value, penalty, reconstruction = search_objective(repeated, wanted, z, objective, config)
            (gradient,) = torch.autograd.grad(value.sum(), z)
            state.keep_best(step, value, penalty, reconstruction)
            if not bool(state.active.any()):
                break
            state.descend(step, gradient)
    if bool(state.active.any()):
        with torch.no_grad():
            value, penalty, reconstruction = search_objective(repeated, wanted, state.z, objective, config)
            state.keep_best(steps, value, penalty, reconstruction)
    found = state.best_of_restarts(restarts, n)
    if config.polish_steps == 0:
        return found
    return _polished(found, x, [features[:n] for features in wanted], objective, config)


def _polished(
    found: SearchResult, x: Tensor, wanted: list[Tensor], objective: Objective, config: SearchConfig
) -> SearchResult:
    """Adam's best codes after `config.polish_steps` steps of L-BFGS, where those come lower."""
    # L-BFGS learns curvature from how the gradient turns. At the kinks of |d| it turns by rounding alone, and
    # two batches of the same tile would part.
    smooth = config.model_copy(update={"residual": "charbonnier"}) if config.residual == "l1" else config

    def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            value, _, _ = search_objective(x, wanted, z, objective, smooth)
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient

    with torch.no_grad():
        z = polish(found.z, evaluate, config.polish_steps, config.learning_rate)
        value, penalty, reconstruction = search_objective(x, wanted, z, objective, config)
    better = value < found.objective
    chosen = better.view(-1, 1, 1, 1)
    return SearchResult(
        z=torch.where(chosen, z, found.z),
        reconstruction=torch.where(chosen, reconstruction, found.reconstruction),
        objective=torch.where(better, value, found.objective),
        penalty=torch.where(better, penalty, found.penalty),
        steps_used=found.steps_used + config.polish_steps,
    )


class _Adam:
    """Adam's moments, the best code so far and the early stop, all per image."""

    def __init__(self, z: Tensor, config: SearchConfig) -> None:
        self.z, self._config = z, config
        self._m, self._v = torch.zeros_like(z), torch.zeros_like(z)
        self.active = torch.ones(z.shape[0], dtype=torch.bool, device=z.device)
        self._best: dict[str, Tensor] = {}
        self._reference = torch.full((z.shape[0],), torch.inf, device=z.device)
        self._since = torch.zeros(z.shape[0], dtype=torch.long, device=z.device)

    def keep_best(self, step: int, value: Tensor, penalty: Tensor, reconstruction: Tensor) -> None:
        now = {
            "z": self.z,
            "reconstruction": reconstruction.detach(),
            "objective": value.detach(),
            "penalty": penalty.detach(),
        }
        if not self._best:
            self._best = {name: tensor.clone() for name, tensor in now.items()}
            self._steps_used = torch.zeros_like(self._since)
        else:
            better = self.active & (now["objective"] < self._best["objective"])
            for name, tensor in now.items():
                mask = better.view(-1, *[1] * (tensor.ndim - 1))
                self._best[name] = torch.where(mask, tensor, self._best[name])
            self._steps_used = torch.where(self.active, step, self._steps_used)
        self._stop_the_settled()

    def _stop_the_settled(self) -> None:
        config = self._config
        if config.tolerance == 0:
            return
        # Against the value `patience` steps ago, not the last one: Adam's objective is not monotone.
        fell = self._best["objective"] < self._reference * (1 - config.tolerance)
        self._reference = torch.where(fell, self._best["objective"], self._reference)
        self._since = torch.where(fell, 0, self._since + 1)
        self.active = self.active & (self._since < config.patience)

    def descend(self, step: int, gradient: Tensor) -> None:
        beta1, beta2 = ADAM_BETAS
        self._m = beta1 * self._m + (1 - beta1) * gradient
        self._v = beta2 * self._v + (1 - beta2) * gradient.square()
        correction1, correction2 = 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)
        # eps is folded with the bias correction, as the ONNX graph writes it.
        rate = self._config.learning_rate * correction2**0.5 / correction1
        moved = self.z - rate * self._m / (self._size() + ADAM_EPS * correction2**0.5)
        self.z = torch.where(self.active.view(-1, 1, 1, 1), moved, self.z)

    def _size(self) -> Tensor:
        """What a gradient is divided by: its own root mean square, or the mean of that and its tile's.

        By its own alone, a coordinate whose gradient is rounding takes as long a step as any other.
        """
        own = self._v.sqrt()
        if self._config.gradient == "exact":
            return own
        return (own + self._v.mean(dim=(1, 2, 3), keepdim=True).sqrt()) * 0.5

    def best_of_restarts(self, restarts: int, n: int) -> SearchResult:
        choice = self._best["objective"].view(restarts, n).argmin(dim=0)
        rows = choice * n + torch.arange(n, device=choice.device)
        chosen = {name: tensor[rows] for name, tensor in self._best.items()}
        return SearchResult(steps_used=self._steps_used[rows], **chosen)
