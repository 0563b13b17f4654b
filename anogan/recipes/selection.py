"""Score settings picked without a label: on held-out good images and copies with drawn defects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from anogan.recipes.score_trial import (
    FIGURES,
    Candidate,
    OnImage,
    ScoreTrial,
    Shown,
    jackknife_error,
    with_sections,
    with_weights,
)
from anogan.scoring import Scorer

SURELY = 2.0  # Standard errors: of hundreds of settings the best on few images is often a lucky one.
TOLERANCE = 0.002  # A gain smaller than this is no reason to change the configured settings.


@dataclass(frozen=True)
class ScoreSelection:
    """What was picked and from what; `candidates` is empty when there were too few images to pick by.

    Attributes:
        chosen: The settings to use.
        candidates: All that were compared, the configured ones first.
        n_images: Good images, each with one to four damaged copies.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    n_images: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the chosen and the configured settings, each with its figures."""
        return {
            "n_images": self.n_images,
            "n_candidates": len(self.candidates),
            "chosen": _described(self.chosen),
            "configured": _described(self.candidates[0] if self.candidates else self.chosen),
        }


@dataclass(frozen=True)
class MemoryTrial:
    """How well the head's map tells drawn defects with the memory of false alarms and without it.

    Attributes:
        with_memory: The settings and their figures with it.
        without: The same without it.
        error: Of the difference of their merits, one standard error.
        n_images: Good images, each with one to four damaged copies.
    """

    with_memory: Candidate
    without: Candidate
    error: float
    n_images: int

    @property
    def helps(self) -> bool:
        """Whether the model should keep it: unless it does better without, by more than chance explains."""
        return self.without.merit - self.with_memory.merit <= max(TOLERANCE, self.error)

    def __str__(self) -> str:
        """Figures of both."""
        figures = ((n, getattr(self.without, n), getattr(self.with_memory, n)) for n in FIGURES)
        return ", ".join(f"{n} {a:.3f}, with it {b:.3f}" for n, a, b in figures if None not in (a, b))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        figures = {"with": _figures(self.with_memory), "without": _figures(self.without)}
        return {"n_images": self.n_images, "kept": self.helps} | figures


def try_memory(scorer: Scorer, shown: Shown, on_image: OnImage = lambda *_: None) -> MemoryTrial | None:
    """Whether the memory of false alarms serves this product, by drawn defects on held-out good images.

    Where details of the design recur it does; on grain and brushed metal windows all look alike, and it hides
    defects. Both are measured on the head's map alone, which is all that a memory changes, and with an
    encoder by its code, without a search: that shows where alarms are.

    Args:
        scorer: A trained model; a calibration is not needed.
        shown: Held-out good images.
        on_image: Told (done, total).

    Returns:
        None for a model without a memory, or of too few images.
    """
    if scorer.model.memory is None or not shown.suffices:
        return None
    steps = None if scorer.model.networks.encoder is None else 0
    n, score = len(shown.images), scorer.config.score
    head = with_weights(score, (0.0, 0.0, 1.0), score.smoothing_sigma)
    head = head.model_copy(update={"perceptual_weight": 0.0})
    remembering = with_sections(Scorer(scorer.model, steps=steps), score=head)
    forgetting = Scorer(replace(remembering.model, memory=None), steps=steps)
    trials = [
        ScoreTrial(remembering, shown, lambda done, _: on_image(done, 2 * n)),
        ScoreTrial(forgetting, shown, lambda done, _: on_image(n + done, 2 * n)),
    ]
    with_memory, without = (trial.configured() for trial in trials)
    error = jackknife_error(trials[0].merits_without(with_memory), trials[1].merits_without(without))
    return MemoryTrial(with_memory, without, error, n)


def pick_score_settings(scorer: Scorer, shown: Shown, on_image: OnImage = lambda *_: None) -> ScoreSelection:
    """Compares weights, smoothing, pooling and kinds of map on good images and damaged copies of them.

    The latent search runs once per image; every setting only puts its findings together in another way.
    Map statistics are fitted on other images than those they are tried on. No real defect is used. A head
    that was trained on drawn defects looks better here than it will on real ones: settings that lean on it
    less win only where the drawn ones show it.

    Args:
        scorer: A trained model; a calibration is not needed.
        shown: Held-out good images.
        on_image: Told (done, total).

    Returns:
        The configured settings, unless others are better by more than two standard errors of the difference.
    """
    config = scorer.config
    if not shown.suffices:
        return ScoreSelection(Candidate(config.score, config.calibration.map), (), len(shown.images))
    trial = ScoreTrial(scorer, shown, on_image)
    configured = trial.configured()
    candidates = (configured, *trial.candidates())
    best = max(candidates, key=lambda candidate: candidate.merit)
    if best.merit - configured.merit > TOLERANCE:
        error = jackknife_error(trial.merits_without(configured), trial.merits_without(best))
        chosen = best if best.merit - configured.merit > SURELY * error else configured
    else:
        chosen = configured
    return ScoreSelection(chosen, candidates, len(shown.images))


def with_score_settings(scorer: Scorer, settings: Candidate) -> Scorer:
    """The same model under other score settings, without a calibration: the old one no longer fits."""
    calibration = scorer.config.calibration.model_copy(update={"map": settings.map})
    return with_sections(scorer, score=settings.score, calibration=calibration)


def _described(candidate: Candidate) -> dict[str, Any]:
    return {
        "score": candidate.score.model_dump(mode="json"),
        "map": candidate.map,
        **(_figures(candidate) if candidate.image_auroc is not None else {}),
    }


def _figures(candidate: Candidate) -> dict[str, float | None]:
    return {name: getattr(candidate, name) for name in FIGURES}
