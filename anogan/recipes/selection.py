"""Score settings picked without a label: on held-out good images and copies with drawn defects."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import MapStatistics, combine, fit_map_statistics, pool, smooth
from anogan.config import CalibrationConfig, ImagesConfig, ScoreConfig
from anogan.images.registration import Aligner, align_all
from anogan.images.synthetic_defects import draw_defects, two_levels
from anogan.metrics import PixelCurve, auroc_difference_error, image_auroc
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
SURELY = 2.0  # Standard errors.
TOLERANCE = 0.002  # A gain smaller than this is no reason to change the configured settings.
MAX_PIXELS = 2**23  # Of all images together: three kinds of evidence, five times, are 500 MB.
MAX_CURVE_PIXELS = 2**20  # Pixel figures look at a regular subset beyond that.
_FIGURES = ("image_auroc", "pixel_auroc", "aupro")
_STREAM = 11  # Other defects than training draws from the same seed.

MapKind = Literal["per-pixel", "global"]
Pixels = NDArray[Any]
FloatMap = NDArray[np.float32]
Parts = Mapping[str, FloatMap]
OnImage = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """Score settings and how well they tell drawn defects; None where there was nothing to tell.

    Attributes:
        score: Weights, smoothing and pooling.
        map: Whether each pixel has a normal value of its own, `calibration.map`.
        image_auroc: Of good images and damaged copies.
        pixel_auroc: Over all pixels of the damaged copies.
        aupro: Of the damaged copies.
    """

    score: ScoreConfig
    map: MapKind
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None

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
    """How well the head's map tells drawn defects with the memory of false alarms and without it."""

    with_memory: Candidate
    without: Candidate
    n_images: int

    @property
    def helps(self) -> bool:
        """Whether the model should keep it."""
        return self.with_memory.merit >= self.without.merit

    def __str__(self) -> str:
        """Figures of both."""
        figures = ((n, getattr(self.without, n), getattr(self.with_memory, n)) for n in _FIGURES)
        return ", ".join(f"{n} {a:.3f}, with it {b:.3f}" for n, a, b in figures if None not in (a, b))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        figures = {"with": _figures(self.with_memory), "without": _figures(self.without)}
        return {"n_images": self.n_images, "kept": self.helps} | figures


def try_memory(
    scorer: Scorer,
    images: Sequence[Pixels],
    on_image: OnImage = lambda *_: None,
    variants: Sequence[str | None] | None = None,
) -> MemoryTrial | None:
    """Whether the memory of false alarms serves this product, by drawn defects on held-out good images.

    Where details of the design recur it does; on grain and brushed metal windows all look alike, and it hides
    defects. Both are measured on the head's map alone, which is all that a memory changes, and without a
    search: the encoder's code shows where alarms are.

    Args:
        scorer: A trained model; a calibration is not needed.
        images: (H, W, C) held-out good images at network resolution.
        on_image: Told (done, total).
        variants: Of the product on each image, for a model that knows variants.

    Returns:
        None for a model without a memory, or of too few images.
    """
    shown = _shown(scorer, images, variants)
    if scorer.model.memory is None or len(shown.images) < MIN_IMAGES:
        return None
    steps = None if scorer.model.networks.encoder is None else 0
    n, score = len(shown.images), scorer.config.score
    head = _settings(score, score.smoothing_sigma, (0.0, 0.0, 1.0), _pooling_of(score))
    head = head.model_copy(update={"perceptual_weight": 0.0})
    alone = _with_sections(Scorer(scorer.model, steps=steps), score=head)
    with_memory, without = (
        next(_Trial(each, shown, _counted(on_image, index * n, 2 * n)).candidates())
        for index, each in enumerate((alone, Scorer(replace(alone.model, memory=None), steps=steps)))
    )
    return MemoryTrial(with_memory, without, n)


def pick_score_settings(
    scorer: Scorer,
    images: Sequence[Pixels],
    on_image: OnImage = lambda *_: None,
    variants: Sequence[str | None] | None = None,
) -> ScoreSelection:
    """Compares weights, smoothing, pooling and kinds of map on good images and damaged copies of them.

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
        The configured settings, unless others are better by more than two standard errors of the
        difference: of over a hundred settings the best on few images is often a lucky one.
    """
    config, shown = scorer.config, _shown(scorer, images, variants)
    if len(shown.images) < MIN_IMAGES:
        return ScoreSelection(Candidate(config.score, config.calibration.map), (), len(shown.images))
    trial = _Trial(scorer, shown, on_image)
    candidates = tuple(trial.candidates())
    best = max(candidates, key=lambda candidate: candidate.merit)
    configured = candidates[0]
    chosen = best if best.merit - configured.merit > trial.noise(configured, best) else configured
    return ScoreSelection(chosen, candidates, len(shown.images))


def with_score_settings(scorer: Scorer, settings: Candidate) -> Scorer:
    """The same model under other score settings, without a calibration: the old one no longer fits."""
    calibration = scorer.config.calibration.model_copy(update={"map": settings.map})
    return _with_sections(scorer, score=settings.score, calibration=calibration)


def _with_sections(scorer: Scorer, **sections: ScoreConfig | ImagesConfig | CalibrationConfig) -> Scorer:
    return Scorer(replace(scorer.model, config=scorer.config.model_copy(update=sections)), steps=scorer.steps)


def _raw(scorer: Scorer) -> Scorer:
    """Without smoothing, for images as `load_images` gives them: at their exposure already."""
    config = scorer.config
    score = config.score.model_copy(update={"smoothing_sigma": 0.0})
    images = config.images.model_copy(update={"exposure": "keep"})
    return _with_sections(scorer, score=score, images=images)


@dataclass(frozen=True)
class _Shown:
    """Images in the reference's pose and the variant of the product on each."""

    images: list[Pixels]
    variants: list[str | None]


def _shown(scorer: Scorer, images: Sequence[Pixels], variants: Sequence[str | None] | None) -> _Shown:
    places = _bounded(images)
    named = [None if variants is None else variants[place] for place in places]
    return _Shown(_registered(scorer, [images[place] for place in places]), named)


def _counted(on_image: OnImage, before: int, total: int) -> OnImage:
    return lambda done, _: on_image(before + done, total)


class _Trial:
    """Raw evidence of good images and their damaged copies, and the settings tried on it."""

    def __init__(
        self,
        scorer: Scorer,
        shown: _Shown,
        on_image: OnImage,
    ) -> None:
        self._config = config = scorer.config
        raw, images = _raw(scorer), shown.images
        levels = two_levels(images)
        self._clean: list[Parts] = []
        self._damaged: list[Parts] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._scores: dict[Candidate, tuple[list[float], list[float]]] = {}
        self._copies = min(MAX_COPIES, -(-DAMAGED // len(images)))
        for index, image in enumerate(images):
            rng = np.random.default_rng([config.seed, _STREAM, index])
            drawn = [draw_defects(image, config.defects, rng, levels) for _ in range(self._copies)]
            copies = [image, *(damaged for damaged, _ in drawn)]
            clean, *damaged = raw.evidence(copies, [shown.variants[index]] * len(copies))
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
        configured, kind = self._config.score, self._config.calibration.map
        yield from self._at(
            configured.smoothing_sigma, [kind], [_weights_of(configured)], [_pooling_of(configured)]
        )
        weights = [w for w in WEIGHTS if w[2] == 0 or "head" in self._clean[0]]
        # Parts that are said to lie differently have no normal value of each pixel.
        kinds: list[MapKind] = [kind] if kind == "global" else [kind, "global"]
        for sigma in SIGMAS:
            yield from self._at(sigma, kinds, weights, POOLINGS)

    def _at(
        self,
        sigma: float,
        kinds: Sequence[MapKind],
        weights: Sequence[tuple[float, float, float]],
        poolings: Sequence[tuple[Literal["max", "top"], float]],
    ) -> Iterator[Candidate]:
        clean = [_smoothed(parts, sigma) for parts in self._clean]
        damaged = [_smoothed(parts, sigma) for parts in self._damaged]
        folds = {kind: self._statistics(clean, kind) for kind in kinds}
        for (kind, statistics), weight in itertools.product(folds.items(), weights):
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
                good, bad = self._image_scores(good_maps, score), self._image_scores(bad_maps, score)
                auroc = self._image_auroc(good, bad)
                candidate = Candidate(score, kind, auroc, curve.auroc(), curve.aupro())
                self._scores[candidate] = good, bad
                yield candidate

    def noise(self, one: Candidate, other: Candidate) -> float:
        """By how much the other's merit may be higher by chance, at least `TOLERANCE`."""
        if one.image_auroc is None:
            return TOLERANCE
        good, bad = (np.array(scores) for scores in zip(self._scores[one], self._scores[other], strict=True))
        bad[:, [not mask.any() for mask in self._masks]] = np.nan
        error = auroc_difference_error(good, bad.reshape(2, len(self._clean), -1))
        return max(TOLERANCE, SURELY * error / 2)  # The image's AUROC is half of the merit.

    def _statistics(self, clean: Sequence[Parts], kind: MapKind) -> list[dict[str, MapStatistics]]:
        """Per fold, from the images of the other folds."""
        prior, folds = self._config.calibration.prior_images, min(FOLDS, len(clean))
        others = [[p for i, p in enumerate(clean) if i % folds != fold] for fold in range(folds)]
        return [
            {name: fit_map_statistics((p[name] for p in parts), kind, prior) for name in parts[0]}
            for parts in others
        ]

    def _curve(self, maps: Sequence[FloatMap]) -> PixelCurve:
        curve, s = PixelCurve(), self._stride
        for mask, found in zip(self._masks, maps, strict=True):
            curve.add(mask[::s, ::s], found[::s, ::s])
        return curve

    @staticmethod
    def _image_scores(maps: Sequence[FloatMap], score: ScoreConfig) -> list[float]:
        return [pool(m, score.pooling, score.top_share, score.border) for m in maps]

    def _image_auroc(self, good: Sequence[float], bad: Sequence[float]) -> float | None:
        # A copy on which no try drew a visible defect is a good image.
        visible = [score for score, mask in zip(bad, self._masks, strict=True) if mask.any()]
        return image_auroc([False] * len(good) + [True] * len(visible), [*good, *visible])


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


def _described(candidate: Candidate) -> dict[str, Any]:
    return {
        "score": candidate.score.model_dump(mode="json"),
        "map": candidate.map,
        **(_figures(candidate) if candidate.image_auroc is not None else {}),
    }


def _figures(candidate: Candidate) -> dict[str, float | None]:
    return {name: getattr(candidate, name) for name in _FIGURES}
