"""Principal components of small patches, and the nearest good patch in their space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from anogan.config import Config
from anogan.images.resize import to_network
from anogan.images.tiling import TileGrid
from anogan.scoring.baselines.scorer import FloatMap, Pixels

PATCH = 16  # Pixels; half of the smallest tile.
COMPONENTS = 32
MAX_PATCHES = 20_000  # 16 x 16 x 3 float32 each: 61 MB at most, however many images there are.
NEIGHBOUR_OVERLAP, PCA_OVERLAP = 12, 8
QUERY_ROWS = 4096  # Distances to 20 000 patches for so many queries at once are 330 MB.


@dataclass(frozen=True)
class PatchPca:
    """What the principal components of good patches cannot express."""

    pca: PCA

    def anomaly_map(self, x: FloatMap) -> FloatMap:
        """|x - its projection| over overlapping patches, mean over channels, (h, w)."""
        grid = _grid(x, PCA_OVERLAP)
        patches = grid.cut(x)
        flat = patches.reshape(len(patches), -1)
        again = self.pca.inverse_transform(self.pca.transform(flat)).reshape(patches.shape)
        residual = np.abs(patches - again).mean(axis=1, keepdims=True)
        return np.asarray(grid.stitch(residual)[0])


@dataclass(frozen=True)
class PatchNeighbours:
    """How far each patch is from the nearest good one, wherever in the image that was seen."""

    pca: PCA
    bank: NearestNeighbors

    def anomaly_map(self, x: FloatMap) -> FloatMap:
        """Euclidean distance in PCA space, each pixel the mean of its patches', (h, w)."""
        grid = _grid(x, NEIGHBOUR_OVERLAP)
        patches = grid.cut(x)
        codes = self.pca.transform(patches.reshape(len(patches), -1))
        rows = range(0, len(codes), QUERY_ROWS)
        nearest = [self.bank.kneighbors(codes[row : row + QUERY_ROWS])[0][:, 0] for row in rows]
        distance = np.concatenate(nearest).astype(np.float32)
        tiles = np.broadcast_to(distance[:, None, None, None], (len(codes), 1, PATCH, PATCH))
        return np.asarray(grid.stitch(tiles)[0])


def fit_patch_pca(images: Sequence[Pixels], config: Config) -> PatchPca:
    """Principal components of a bounded sample of good patches."""
    return PatchPca(_fit_pca(sample_patches(images, config), config.seed))


def fit_patch_neighbours(images: Sequence[Pixels], config: Config) -> PatchNeighbours:
    """A bounded sample of good patches, kept by their principal components."""
    patches = sample_patches(images, config)
    pca = _fit_pca(patches, config.seed)
    # Brute force: in 32 dimensions no tree is faster.
    bank = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(pca.transform(patches))
    return PatchNeighbours(pca, bank)


def sample_patches(images: Sequence[Pixels], config: Config, n: int = MAX_PATCHES) -> NDArray[np.float32]:
    """At most n patches at random places, the same number from each image, (n, C * 16 * 16) in [-1, 1].

    There are never more than places in the images, so that small sets give few.
    """
    rng = np.random.default_rng(config.seed)
    places = sum((i.shape[0] - PATCH + 1) * (i.shape[1] - PATCH + 1) for i in images)
    share = max(1, min(n, places) // len(images))
    return np.concatenate([_random_patches(image, share, config, rng) for image in images])[:n]


def _random_patches(image: Pixels, n: int, config: Config, rng: np.random.Generator) -> NDArray[np.float32]:
    x = to_network(image, config.images.bit_depth)
    tops = rng.integers(x.shape[1] - PATCH + 1, size=n)
    lefts = rng.integers(x.shape[2] - PATCH + 1, size=n)
    cut = [x[:, y : y + PATCH, z : z + PATCH].ravel() for y, z in zip(tops, lefts, strict=True)]
    return np.stack(cut)


def _fit_pca(patches: NDArray[np.float32], seed: int) -> PCA:
    return PCA(min(COMPONENTS, *patches.shape), random_state=seed).fit(patches)


def _grid(x: FloatMap, overlap: int) -> TileGrid:
    return TileGrid((x.shape[1], x.shape[2]), PATCH, overlap)
