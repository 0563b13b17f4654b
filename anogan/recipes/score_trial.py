"""Score settings tried on held-out good images and copies of them with drawn defects."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anogan.calibration import MapStatistics, combine, fit_map_statistics, pool, smooth
from anogan.config import CalibrationConfig, ImagesConfig, ScoreConfig
from anogan.images.registration import Pixels, align_all
from anogan.images.spread import evenly_spread
from anogan.images.synthetic_defects import draw_defects, two_levels
from anogan.metrics import PixelCurve, image_auroc
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
MIN_PARTS = 4
GROUPS = 10  # Of images that leave together, at most; see `ScoreTrial.merits_without`.
DAMAGED = 48  # At least so many damaged copies, as long as no image has more than `MAX_COPIES`.
MAX_COPIES = 4
MAX_PIXELS = 2**23  # Of all images together: three kinds of evidence, five times, are 500 MB.
MAX_CURVE_PIXELS = 2**20  # Pixel figures look at a regular subset beyond that.
_STREAM = 11  # Other defects than training draws from the same seed.

MapKind = Literal["per-pixel", "global"]
FloatMap = NDArray[np.float32]
Parts = Mapping[str, FloatMap]
OnImage = Callable[[int, int], None]
FIGURES = ("image_auroc", "pixel_auroc", "aupro")


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
class Shown:
    """What a trial looks at.

    Attributes:
        images: (H, W, C) good images, in the reference's pose.
        variants: Of the product on each.
        groups: The number of each image's group; photographs of one part are in one.
        seen: (H, W) of each: which pixels come from the photograph and not from registration; nothing is
            to be found, and nothing counts, elsewhere.
    """

    images: list[Pixels]
    variants: list[str | None]
    groups: NDArray[np.int64]
    seen: list[NDArray[np.bool_]]

    @property
    def suffices(self) -> bool:
        """Whether there are enough parts to compare anything by."""
        return len(np.unique(self.groups)) >= MIN_PARTS


def shown(
    scorer: Scorer,
    images: Sequence[Pixels],
    variants: Sequence[str | None] | None = None,
    parts: Sequence[str] | None = None,
) -> Shown:
    """As many images, evenly spread over all, as fit into memory with their evidence.

    Args:
        scorer: Whose reference they are laid on.
        images: (H, W, C) held-out good images at network resolution.
        variants: Of the product on each image, for a model that knows variants.
        parts: What part each shows (`split.group`); by default each its own.
    """
    places = _bounded(images)
    names = [str(place) if parts is None else parts[place] for place in places]
    numbers = {name: number % GROUPS for number, name in enumerate(dict.fromkeys(names))}
    laid, seen = _registered(scorer, [images[place] for place in places])
    return Shown(
        laid,
        [None if variants is None else variants[place] for place in places],
        np.array([numbers[name] for name in names], np.int64),
        seen,
    )


@dataclass(frozen=True)
class _Maps:
    """Anomaly maps of the good images and of their damaged copies."""

    good: list[FloatMap]
    damaged: list[FloatMap]


class ScoreTrial:
    """Raw evidence of good images and their damaged copies, and the settings tried on it."""

    def __init__(self, scorer: Scorer, shown: Shown, on_image: OnImage) -> None:
        """Searches every image and its copies once; `on_image` is told (done, total)."""
        self._config = config = scorer.config
        raw, images = _raw(scorer), shown.images
        levels = two_levels(images)
        self._groups, self._folds = shown.groups, min(FOLDS, len(np.unique(shown.groups)))
        self._seen = shown.seen
        self._clean: list[Parts] = []
        self._damaged: list[Parts] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._copies = min(MAX_COPIES, -(-DAMAGED // len(images)))
        for index, image in enumerate(images):
            rng = np.random.default_rng([config.seed, _STREAM, index])
            drawn = [draw_defects(image, config.defects, rng, levels) for _ in range(self._copies)]
            copies = [image, *(damaged for damaged, _ in drawn)]
            clean, *damaged = raw.evidence(copies, [shown.variants[index]] * len(copies))
            self._clean.append(clean.parts)
            self._damaged += [evidence.parts for evidence in damaged]
            self._masks += [mask & shown.seen[index] for _, mask in drawn]
            on_image(index + 1, len(images))

    @cached_property
    def _stride(self) -> int:
        pixels = sum(mask.size for mask in self._masks)
        return max(1, int(np.ceil((pixels / MAX_CURVE_PIXELS) ** 0.5)))

    def configured(self) -> Candidate:
        """The settings of the config with their figures."""
        score, kind = self._config.score, self._config.calibration.map
        return next(self._at(score.smoothing_sigma, [kind], [_weights_of(score)], [_pooling_of(score)]))

    def candidates(self) -> Iterator[Candidate]:
        """Every setting of the grid with its figures."""
        kind = self._config.calibration.map
        weights = [w for w in WEIGHTS if w[2] == 0 or "head" in self._clean[0]]
        # Parts that are said to lie differently have no normal value of each pixel, those that are laid in
        # place have. Drawn defects do not show it: fresh sample boards were told with an accuracy of 0.58
        # under one value for all pixels, which drawn defects had preferred, and of 0.99 without.
        is_settled = kind == "global" or self._config.images.registration != "none"
        kinds: list[MapKind] = [kind] if is_settled else [kind, "global"]
        for sigma in SIGMAS:
            yield from self._at(sigma, kinds, weights, POOLINGS)

    def _at(
        self,
        sigma: float,
        kinds: Sequence[MapKind],
        weights: Sequence[tuple[float, float, float]],
        poolings: Sequence[tuple[Literal["max", "top"], float]],
    ) -> Iterator[Candidate]:
        clean, damaged = self._smoothed(sigma)
        folds = {kind: self._statistics(clean, kind) for kind in kinds}
        for (kind, statistics), weight in itertools.product(folds.items(), weights):
            base = with_weights(self._config.score, weight, sigma)
            maps = self._maps(clean, damaged, statistics, base)
            place = self._place(maps.damaged, range(len(self._masks)))
            for pooling, share in poolings:
                score = base.model_copy(update={"pooling": pooling, "top_share": share})
                good, bad = _pooled(maps.good, score), _pooled(maps.damaged, score)
                yield Candidate(score, kind, self._auroc(good, bad), *place)

    def merits_without(self, candidate: Candidate) -> NDArray[np.float64]:
        """The merit without each group of images and their copies; NaN where nothing is left to tell.

        Copies of one image, and photographs of one part, are no images of their own: they leave together.
        """
        clean, damaged = self._smoothed(candidate.score.smoothing_sigma)
        maps = self._maps(clean, damaged, self._statistics(clean, candidate.map), candidate.score)
        good, bad = _pooled(maps.good, candidate.score), _pooled(maps.damaged, candidate.score)
        merits = []
        for group in np.unique(self._groups):
            kept = np.flatnonzero(self._groups != group)
            copies = (kept[:, None] * self._copies + np.arange(self._copies)).ravel()
            auroc = self._auroc([good[i] for i in kept], [bad[i] for i in copies], copies.tolist())
            left = Candidate(candidate.score, candidate.map, auroc, *self._place(maps.damaged, copies))
            merits.append(np.nan if auroc is None else left.merit)
        return np.array(merits)

    def _smoothed(self, sigma: float) -> tuple[list[Parts], list[Parts]]:
        def smoothed(found: Sequence[Parts]) -> list[Parts]:
            return [{name: smooth(values, sigma) for name, values in parts.items()} for parts in found]

        return smoothed(self._clean), smoothed(self._damaged)

    def _statistics(self, clean: Sequence[Parts], kind: MapKind) -> list[dict[str, MapStatistics]]:
        """Per fold, from the images of the other folds."""
        prior, own = self._config.calibration.prior_images, self._groups % self._folds
        others = [
            [parts for parts, its in zip(clean, own, strict=True) if its != fold]
            for fold in range(self._folds)
        ]
        return [
            {name: fit_map_statistics((p[name] for p in parts), kind, prior) for name in parts[0]}
            for parts in others
        ]

    def _maps(
        self,
        clean: Sequence[Parts],
        damaged: Sequence[Parts],
        statistics: Sequence[dict[str, MapStatistics]],
        score: ScoreConfig,
    ) -> _Maps:
        own = self._groups % self._folds

        def looked_at(parts: Parts, image: int) -> FloatMap:
            found = combine(parts, statistics[own[image]], score_weights(score))
            return np.where(self._seen[image], found, np.float32(0))

        return _Maps(
            [looked_at(parts, image) for image, parts in enumerate(clean)],
            [looked_at(parts, copy // self._copies) for copy, parts in enumerate(damaged)],
        )

    def _place(self, maps: Sequence[FloatMap], copies: Collection[int]) -> tuple[float | None, float | None]:
        """Pixel AUROC and AUPRO of some of the damaged copies."""
        curve, s = PixelCurve(), self._stride
        for index in copies:
            curve.add(self._masks[index][::s, ::s], maps[index][::s, ::s])
        return curve.auroc(), curve.aupro()

    def _auroc(
        self, good: Sequence[float], bad: Sequence[float], copies: Sequence[int] | None = None
    ) -> float | None:
        # A copy on which no try drew a visible defect is a good image.
        own = range(len(bad)) if copies is None else copies
        visible = [score for score, index in zip(bad, own, strict=True) if self._masks[index].any()]
        return image_auroc([False] * len(good) + [True] * len(visible), [*good, *visible])


def jackknife_error(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far the difference of two merits is off by chance: one standard deviation, from groups left out.

    Efron & Stein 1981, eq. 1.2.

    Args:
        one: (G,), the merit of some settings without each group of images.
        other: (G,), that of others.

    Returns:
        At least 0; infinite where a group holds all that there is to tell.
    """
    difference = other - one
    if not np.isfinite(difference).all():
        return float("inf")
    n = difference.size
    return float(np.sqrt((n - 1) / n * np.square(difference - difference.mean()).sum()))


def with_sections(scorer: Scorer, **sections: ScoreConfig | ImagesConfig | CalibrationConfig) -> Scorer:
    """The same model under other settings, without a calibration."""
    return Scorer(replace(scorer.model, config=scorer.config.model_copy(update=sections)), steps=scorer.steps)


def with_weights(base: ScoreConfig, weights: tuple[float, float, float], sigma: float) -> ScoreConfig:
    """The settings with other weights of residual, discrimination and head, and another smoothing."""
    names = ("residual_weight", "discrimination_weight", "head_weight")
    return base.model_copy(update={**dict(zip(names, weights, strict=True)), "smoothing_sigma": sigma})


def _raw(scorer: Scorer) -> Scorer:
    """Without smoothing, for images as `load_images` gives them: at their exposure already."""
    config = scorer.config
    score = config.score.model_copy(update={"smoothing_sigma": 0.0})
    images = config.images.model_copy(update={"exposure": "keep"})
    return with_sections(scorer, score=score, images=images)


def _bounded(images: Sequence[Pixels]) -> list[int]:
    """Places of as many images, evenly spread over them, as fit into memory with all their evidence."""
    largest = max((image.shape[0] * image.shape[1] for image in images), default=1)
    return evenly_spread(len(images), max(MIN_PARTS, MAX_PIXELS // largest))


def _registered(scorer: Scorer, images: list[Pixels]) -> tuple[list[Pixels], list[NDArray[np.bool_]]]:
    """Laid in the reference's pose, so that masks drawn on them fit the maps, and what is seen of each."""
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    if (aligner := scorer.model.aligner) is None:
        return images, [np.ones(size, np.bool_) for size in sizes]
    laid, alignments = align_all(images, aligner)
    return laid, [alignment.seen(size) for alignment, size in zip(alignments, sizes, strict=True)]


def _pooled(maps: Sequence[FloatMap], score: ScoreConfig) -> list[float]:
    return [pool(found, score.pooling, score.top_share, score.border) for found in maps]


def _weights_of(score: ScoreConfig) -> tuple[float, float, float]:
    return score.residual_weight, score.discrimination_weight, score.head_weight


def _pooling_of(score: ScoreConfig) -> tuple[Literal["max", "top"], float]:
    return score.pooling, score.top_share
