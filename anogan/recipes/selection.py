"""Score settings picked without a label: on held-out good images and copies with drawn defects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import MapStatistics, combine, fit_map_statistics, pool, smooth
from anogan.config import ImagesConfig, ScoreConfig
from anogan.images.registration import Aligner, align_all
from anogan.images.synthetic_defects import draw_defects, two_levels
from anogan.metrics import PixelCurve, auroc_standard_error, image_auroc
from anogan.scoring import Scorer
from anogan.scoring.evidence import score_weights

WEIGHTS = (  # residual, discrimination, head
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 0.3, 0.0),
    (1.0, 1.0, 0.0),
    (0.3, 0.0, 1.0),
    (1.0, 0.0, 1.0),
    (0.3, 0.3, 1.0),
    (1.0, 1.0, 1.0),
)
SIGMAS = (0.5, 1.0, 1.5, 2.5, 4.0)
POOLINGS: tuple[tuple[Literal["max", "top"], float], ...] = (("max", 0.001), ("top", 0.0005), ("top", 0.005))
FOLDS = 4
MIN_IMAGES = 4
DAMAGED = 48  # At least so many damaged copies, as long as no image has more than `MAX_COPIES`.
MAX_COPIES = 4
TOLERANCE = 0.002  # A gain smaller than this is no reason to change the configured settings.
MAX_PIXELS = 2**23  # Of all images together: three kinds of evidence, five times, are 500 MB.
MAX_CURVE_PIXELS = 2**20  # Pixel figures look at a regular subset beyond that.
_STREAM = 11  # Other defects than training draws from the same seed.

Pixels = NDArray[Any]
FloatMap = NDArray[np.float32]
Parts = Mapping[str, FloatMap]


@dataclass(frozen=True)
class Candidate:
    """Score settings and how well they tell drawn defects; None where there was nothing to tell."""

    score: ScoreConfig
    image_auroc: float | None
    pixel_auroc: float | None
    aupro: float | None

    @property
    def merit(self) -> float:
        """Half for finding the image, half for showing the place."""
        place = ((self.pixel_auroc or 0.0) + (self.aupro or 0.0)) / 2
        return ((self.image_auroc or 0.0) + place) / 2


@dataclass(frozen=True)
class ScoreSelection:
    """What was picked and from what; `candidates` is empty when there were too few images to pick by.

    Attributes:
        chosen: The settings to use.
        candidates: All that were compared, the configured ones first.
        n_images: Good images, each with one to four damaged copies.
    """

    chosen: ScoreConfig
    candidates: tuple[Candidate, ...]
    n_images: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the chosen and the configured settings, each with its figures."""
        rows = {c.score: c for c in self.candidates}
        configured = self.candidates[0].score if self.candidates else self.chosen
        return {
            "n_images": self.n_images,
            "n_candidates": len(self.candidates),
            "chosen": _described(self.chosen, rows.get(self.chosen)),
            "configured": _described(configured, rows.get(configured)),
        }


def pick_score_settings(
    scorer: Scorer,
    images: Sequence[Pixels],
    on_image: Callable[[int, int], None] = lambda *_: None,
    variants: Sequence[str | None] | None = None,
) -> ScoreSelection:
    """Compares weights, smoothing and pooling on good images and damaged copies of them.

    The latent search runs once per image; every setting only puts its findings together in another way.
    Map statistics are fitted on other images than those they are tried on. No real defect is used. A head
    that was trained on drawn defects looks better here than it will on real ones: settings that lean on it
    less win only where the drawn ones show it.

    Args:
        scorer: A trained model; a calibration is not needed.
        images: (H, W, C) held-out good images at network resolution.
        on_image: Told (done, total).
        variants: Of the product on each image, for a model that knows variants.

    Returns:
        The configured settings, unless others are better by more than one standard error (the rule of Breiman
        et al. 1984): of over a hundred settings the best on few images is mostly a lucky one.
    """
    places = _bounded(images)
    named = [None if variants is None else variants[place] for place in places]
    images = _registered(scorer, [images[place] for place in places])
    if len(images) < MIN_IMAGES:
        return ScoreSelection(scorer.config.score, (), len(images))
    trial = _Trial(scorer, images, on_image, named)
    candidates = tuple(trial.candidates())
    best = max(candidates, key=lambda candidate: candidate.merit)
    configured = candidates[0]
    chosen = configured if configured.merit >= best.merit - trial.noise(configured) else best
    return ScoreSelection(chosen.score, candidates, len(images))


def with_score_settings(scorer: Scorer, score: ScoreConfig) -> Scorer:
    """The same model under other score settings, without a calibration: the old one no longer fits."""
    return _with_sections(scorer, score=score)


def _with_sections(scorer: Scorer, **sections: ScoreConfig | ImagesConfig) -> Scorer:
    return Scorer(replace(scorer.model, config=scorer.config.model_copy(update=sections)))


def _raw(scorer: Scorer) -> Scorer:
    """Without smoothing, for images as `load_images` gives them: at their exposure already."""
    config = scorer.config
    score = config.score.model_copy(update={"smoothing_sigma": 0.0})
    images = config.images.model_copy(update={"exposure": "keep"})
    return _with_sections(scorer, score=score, images=images)


class _Trial:
    """Raw evidence of good images and their damaged copies, and the settings tried on it."""

    def __init__(
        self,
        scorer: Scorer,
        images: Sequence[Pixels],
        on_image: Callable[[int, int], None],
        variants: Sequence[str | None],
    ) -> None:
        self._config = config = scorer.config
        raw = _raw(scorer)
        levels = two_levels(images)
        self._clean: list[Parts] = []
        self._damaged: list[Parts] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._copies = min(MAX_COPIES, -(-DAMAGED // len(images)))
        for index, image in enumerate(images):
            rng = np.random.default_rng([config.seed, _STREAM, index])
            drawn = [draw_defects(image, config.defects, rng, levels) for _ in range(self._copies)]
            shown = [image, *(damaged for damaged, _ in drawn)]
            clean, *damaged = raw.evidence(shown, [variants[index]] * len(shown))
            self._clean.append(clean.parts)
            self._damaged += [evidence.parts for evidence in damaged]
            self._masks += [mask for _, mask in drawn]
            on_image(index + 1, len(images))

    @cached_property
    def _stride(self) -> int:
        pixels = sum(mask.size for mask in self._masks)
        return max(1, int(np.ceil((pixels / MAX_CURVE_PIXELS) ** 0.5)))

    def candidates(self) -> Iterator[Candidate]:
        """Every setting of the grid with its figures, the configured one first."""
        configured = self._config.score
        yield from self._at(configured.smoothing_sigma, [_weights_of(configured)], [_pooling_of(configured)])
        weights = [w for w in WEIGHTS if w[2] == 0 or "head" in self._clean[0]]
        for sigma in SIGMAS:
            yield from self._at(sigma, weights, POOLINGS)

    def _at(
        self,
        sigma: float,
        weights: Sequence[tuple[float, float, float]],
        poolings: Sequence[tuple[Literal["max", "top"], float]],
    ) -> Iterator[Candidate]:
        clean = [_smoothed(parts, sigma) for parts in self._clean]
        damaged = [_smoothed(parts, sigma) for parts in self._damaged]
        statistics = self._statistics(clean)
        for weight in weights:
            base = _settings(self._config.score, sigma, weight, ("max", 0.001))
            good_maps, bad_maps = (
                [
                    combine(parts, statistics[index // copies % len(statistics)], score_weights(base))
                    for index, parts in enumerate(found)
                ]
                for found, copies in ((clean, 1), (damaged, self._copies))
            )
            curve = self._curve(bad_maps)
            for pooling in poolings:
                score = _settings(self._config.score, sigma, weight, pooling)
                auroc = self._image_auroc(good_maps, bad_maps, score)
                yield Candidate(score, auroc, curve.auroc(), curve.aupro())

    def noise(self, candidate: Candidate) -> float:
        """By how much another setting's merit may be higher by chance, at least `TOLERANCE`."""
        damaged = sum(bool(mask.any()) for mask in self._masks)
        if candidate.image_auroc is None or damaged == 0:
            return TOLERANCE
        # Copies of one image are no independent images: it counts once.
        error = auroc_standard_error(candidate.image_auroc, len(self._clean), min(damaged, len(self._clean)))
        return max(TOLERANCE, error / 2)  # The image's AUROC is half of the merit.

    def _statistics(self, clean: Sequence[Parts]) -> list[dict[str, MapStatistics]]:
        """Per fold, from the images of the other folds."""
        config, folds = self._config.calibration, min(FOLDS, len(clean))
        others = [[p for i, p in enumerate(clean) if i % folds != fold] for fold in range(folds)]
        return [
            {
                name: fit_map_statistics((p[name] for p in parts), config.map, config.prior_images)
                for name in parts[0]
            }
            for parts in others
        ]

    def _curve(self, maps: Sequence[FloatMap]) -> PixelCurve:
        curve, s = PixelCurve(), self._stride
        for mask, found in zip(self._masks, maps, strict=True):
            curve.add(mask[::s, ::s], found[::s, ::s])
        return curve

    def _image_auroc(
        self, good: Sequence[FloatMap], bad: Sequence[FloatMap], score: ScoreConfig
    ) -> float | None:
        # A copy on which no try drew a visible defect is a good image.
        visible = [found for found, mask in zip(bad, self._masks, strict=True) if mask.any()]
        values = [pool(m, score.pooling, score.top_share, score.border) for m in [*good, *visible]]
        return image_auroc([False] * len(good) + [True] * len(visible), values)


def _bounded(images: Sequence[Pixels]) -> list[int]:
    """Places of as many images, evenly spread over them, as fit into memory with all their evidence."""
    largest = max((image.shape[0] * image.shape[1] for image in images), default=1)
    n = min(len(images), max(MIN_IMAGES, MAX_PIXELS // largest))
    return [int(index) for index in np.linspace(0, len(images) - 1, n).round()] if images else []


def _registered(scorer: Scorer, images: list[Pixels]) -> list[Pixels]:
    """Laid in the reference's pose, so that masks drawn on them fit the maps."""
    reference, motion = scorer.model.reference, scorer.config.images.registration
    if reference is None or motion == "none":
        return images
    return align_all(images, Aligner(reference, motion))[0]


def _smoothed(parts: Parts, sigma: float) -> Parts:
    return {name: smooth(values, sigma) for name, values in parts.items()}


def _weights_of(score: ScoreConfig) -> tuple[float, float, float]:
    return score.residual_weight, score.discrimination_weight, score.head_weight


def _pooling_of(score: ScoreConfig) -> tuple[Literal["max", "top"], float]:
    return score.pooling, score.top_share


def _settings(
    base: ScoreConfig,
    sigma: float,
    weights: tuple[float, float, float],
    pooling: tuple[Literal["max", "top"], float],
) -> ScoreConfig:
    residual, discrimination, head = weights
    return base.model_copy(
        update={
            "smoothing_sigma": sigma,
            "residual_weight": residual,
            "discrimination_weight": discrimination,
            "head_weight": head,
            "pooling": pooling[0],
            "top_share": pooling[1],
        }
    )


def _described(score: ScoreConfig, found: Candidate | None) -> dict[str, Any]:
    figures = {} if found is None else {k: getattr(found, k) for k in ("image_auroc", "pixel_auroc", "aupro")}
    return {"score": score.model_dump(mode="json"), **figures}
