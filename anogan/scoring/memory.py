"""Alarms that good parts raise too: what the head marked on training tiles, and how like them a new alarm is.

A head that learned on drawn defects calls a lone pad a spot of foreign copper, on every board that has one.
Nothing tells it otherwise but the boards themselves: each alarm on a training tile is known to be false, and
patches like it are remembered. The search for the nearest patch follows SPADE and PatchCore (Cohen &
Hoshen 2020, arXiv:2005.02357; Roth et al. 2022, arXiv:2106.08265), over pixels in the place of pretrained
features, and only where an alarm is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.calibration import gaussian_kernel
from anogan.config import Config
from anogan.errors import BundleError
from anogan.gan.condition import condition_dim, image_of
from anogan.gan.tiles import TileSource
from anogan.scoring.inverter import Inverter

STRIDE = 2  # Pixels from one compared window to the next.
GROUP = 256  # Remembered patches compared at once: bounds the memory of a tile of many pixels.
AROUND = 3  # Strides: an alarm is as well known as the best known window so near to it.
_SPOT = 5  # Side of the average by which alarms are ranked, pixels.
_PER_TILE = 12  # Strongest alarms of a tile of 128 x 128 pixels that are looked at.
_COMPONENTS = 32
_BLUR = 1.5  # Pixels: a window that lies half a stride aside is still the same.
_REACH_SHARE = 0.75
_FEWEST = 20  # Alarms: from fewer, on training or on held-out tiles, nothing is learned.
_BATCH = 16
_FEW_CENTRES = 2048  # For more, k-means++ would seed for minutes.
_WINDOWS = 1024  # Held-out ones compared at once.
FAINTEST = 0.02  # Of a network's [-1, 1]: a window of less deviation is blank, not a pattern.
_MOST_BYTES = 2**28  # Of windows; learning takes some five times as much.

Arrays = Mapping[str, NDArray[Any]]
_NAMES = ("kernels", "offsets", "patches", "reach")


def margin(side: int) -> int:
    """Pixels that a tile is mirrored by at each edge, so that a window lies around each stride."""
    return side // 2 - STRIDE // 2


class Memory(nn.Module):
    """Weakens logits where the image looks like a remembered false alarm.

    A logit a + l, l above 0, becomes a + l (1 - exp(-d^2 / (2 reach^2))), a being the config's `alarm` and d
    the distance of the window around it to the nearest remembered patch; others stay.
    """

    kernels: Tensor
    offsets: Tensor
    patches: Tensor
    reach: Tensor
    average: Tensor

    def __init__(
        self,
        kernels: Tensor,
        offsets: Tensor,
        patches: Tensor,
        reach: Tensor,
        *,
        alarm: float = 0.0,
        pattern: bool = False,
    ) -> None:
        """Holds what was learned.

        Args:
            kernels: (D, C, w, w): blur, Gaussian window and principal components of patches in one.
            offsets: (D,): what the kernels make of the mean patch, negative.
            patches: (P, D), remembered.
            reach: (), above 0: the distance that three of four alarms on held-out good tiles lie within.
            alarm: The logit that others are weakened down to.
            pattern: What the kernels make of a window is divided by its deviation.
        """
        super().__init__()
        self.alarm, self.pattern = alarm, pattern
        average = torch.from_numpy(_average(kernels.shape[-1], kernels.shape[1]))
        self.register_buffer("average", average.to(kernels.device), persistent=False)
        for name, value in zip(_NAMES, (kernels, offsets, patches, reach), strict=True):
            self.register_buffer(name, value)

    @classmethod
    def from_arrays(cls, config: Config, arrays: Arrays) -> Memory:
        """The memory whose `state_dict` gave the arrays.

        Raises:
            BundleError: They are not those of a memory, or of another window than the config says.
        """
        window, channels = config.memory.window, config.images.channels
        try:
            tensors = [torch.from_numpy(np.array(arrays[name], np.float32)) for name in _NAMES]
            kernels, offsets, patches, reach = tensors
            n = len(kernels)
            fits = kernels.shape == (n, channels, window, window) and offsets.shape == (n,)
            fits = fits and patches.shape == (len(patches), n) and reach.shape == ()
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits:
            raise BundleError("The weights of the memory do not fit its config; fit the model again.")
        settings = config.memory
        return cls(*tensors, alarm=settings.alarm, pattern=settings.compare == "pattern")

    def forward(self, image: Tensor, logits: Tensor) -> Tensor:
        """The head's logits (N, 1, t, t), weakened where the image (N, C, t, t) looks like a false alarm."""
        alarmed = (logits > self.alarm).flatten(1).any(dim=1)  # Most tiles have nothing to be compared.
        weakened = logits.clone()
        if alarmed.any():
            weakened[alarmed] = self._weakened(image[alarmed], logits[alarmed])
        return weakened

    def _weakened(self, image: Tensor, logits: Tensor) -> Tensor:
        alarms = F.max_pool2d((logits > self.alarm).float(), STRIDE)
        compared = _around(alarms) > 0  # A hundredth of a tile is alarms; nothing else will be weakened.
        near = -_around(-self.squared_distance(image, compared))
        believed = 1 - torch.exp(-near / (2 * self.reach.square()))
        believed = F.interpolate(believed, scale_factor=STRIDE, mode="nearest")
        return logits.clamp_max(self.alarm) + (logits - self.alarm).relu() * believed

    def multiply_adds(self, side: int) -> int:
        """For one tile of t x t pixels, were each window compared."""
        return (side // STRIDE) ** 2 * (self.kernels.numel() + self.patches.numel())

    def squared_distance(self, image: Tensor, compared: Tensor | None = None) -> Tensor:
        """Of each second pixel's window to the nearest patch, (N, C, t, t) -> (N, 1, t / 2, t / 2).

        Args:
            image: Tiles.
            compared: (N, 1, t / 2, t / 2), where; 0 elsewhere. Everywhere by default.
        """
        padded = F.pad(image, [margin(self.kernels.shape[-1])] * 4, mode="reflect")
        if compared is None:
            return self.nearest(padded)
        codes = self._codes(padded)
        distance = torch.zeros(compared.shape, dtype=codes.dtype, device=codes.device)
        distance[compared] = self._nearest(codes[compared[:, 0]])
        return distance

    def nearest(self, image: Tensor) -> Tensor:
        """The same of windows that lie within (N, C, H, W)."""
        codes = self._codes(image)
        return self._nearest(codes.flatten(0, 2)).reshape(codes.shape[0], 1, *codes.shape[1:3])

    def _codes(self, image: Tensor) -> Tensor:
        """What is compared of the windows that lie within (N, C, H, W), (N, h, w, D)."""
        found = F.conv2d(image, self.kernels, None if self.pattern else self.offsets, STRIDE)
        if self.pattern:
            found = found / self._deviation(image) + self.offsets[:, None, None]
        return found.permute(0, 2, 3, 1)

    def _nearest(self, codes: Tensor) -> Tensor:
        """The squared distance of each of (R, D) to the nearest patch, (R,)."""
        # |f - p|^2 = |f|^2 - (2 f p - |p|^2); along the last axis the greatest is found in half the time.
        closest = torch.full((len(codes),), -torch.inf, dtype=codes.dtype, device=codes.device)
        for group in self.patches.split(GROUP):
            products = torch.addmm(-group.square().sum(dim=1), codes, 2 * group.T)
            closest = torch.maximum(closest, products.amax(dim=1))
        return (codes.square().sum(dim=1) - closest).clamp_min(0)

    def _deviation(self, image: Tensor) -> Tensor:
        """Of each second pixel's window, (N, 1, h, w)."""
        mean = F.conv2d(image, self.average, None, STRIDE)
        variance = F.conv2d(image.square(), self.average, None, STRIDE) - mean.square()
        return (variance.clamp_min(0) + FAINTEST**2).sqrt()


@dataclass(frozen=True)
class Memories:
    """What was learned from several shares of the training images.

    Attributes:
        whole: Of all shares: the model's.
        without: Of all but one share, for each; none with a single share, or with too few alarms for this.
    """

    whole: Memory
    without: tuple[Memory, ...]


def learn_memories(
    config: Config,
    sources: Sequence[TileSource],
    held_out: TileSource,
    inverter: Inverter,
    head: nn.Module,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Memories | None:
    """Looks for false alarms on good tiles and remembers them.

    An image that is part of a memory has no false alarm left by it. What leaves one share out says of that
    share's images what the whole says of new ones (cross-fitting, Chernozhukov et al. 2018,
    arXiv:1608.00060).

    Args:
        config: `memory`, and the seed.
        sources: The training images, one share each, cut into tiles as scoring cuts them: what a board shows
            it shows again on the next, at the same turn and size.
        held_out: Good images that no network learned from: how far their alarms lie from the known ones.
        inverter: The frozen AnoGAN.
        head: The finished head.
        progress: Told how many of how many tiles were looked at.

    Returns:
        None where good tiles hardly raise alarms: then there is nothing to remember.
    """
    window, most = config.memory.window, config.memory.tiles
    counts = [min(source.n_scored, max(1, most // len(sources))) for source in sources]
    n_held_out = min(held_out.n_scored, max(1, most // 4))
    total = sum(counts) + n_held_out
    alarms = _Alarms(config, inverter, head, lambda done: progress(done, total))
    known = [
        alarms.of(source, n, window, _MOST_BYTES // len(sources))
        for source, n in zip(sources, counts, strict=True)
    ]
    unseen = alarms.of(held_out, n_held_out, window + 2 * STRIDE * AROUND)
    whole = _remembered(config, np.concatenate(known), unseen)
    without = tuple(
        _remembered(config, np.concatenate(known[:share] + known[share + 1 :]), unseen)
        for share in range(len(known) if len(known) > 1 else 0)
    )
    parted = tuple(memory for memory in without if memory is not None)
    return None if whole is None else Memories(whole, parted if len(parted) == len(without) else ())


def _remembered(config: Config, known: NDArray[np.float32], unseen: NDArray[np.float32]) -> Memory | None:
    """The memory of windows of alarms; None of too few."""
    pattern = config.memory.compare == "pattern"
    if pattern:  # A copy of a photograph says nothing new.
        known, unseen = _patterns(np.unique(known, axis=0)), np.unique(unseen, axis=0)
    if min(len(known), len(unseen)) < _FEWEST:
        return None
    weight = _window_weight(config.memory.window)
    mean, components = _principal_components(_blurred(known) * weight, config.seed)
    kernels = _blurred(components.reshape(-1, *known.shape[1:]) * weight)
    if pattern:
        average = _average(config.memory.window, known.shape[1])
        kernels = kernels - kernels.sum(axis=(1, 2, 3), keepdims=True) * average
    offsets = -components @ mean
    codes = np.einsum("acyx,dcyx->ad", known, kernels, optimize=True) + offsets
    arrays = {
        "kernels": kernels,
        "offsets": offsets,
        "patches": _at_most(codes, config.memory.patches, config.seed),
        "reach": np.array(1.0),
    }
    memory = Memory.from_arrays(config, arrays)
    memory.reach.fill_(_reach(memory, unseen))
    return memory


class _Alarms:
    """Finds the strongest spots of good tiles."""

    def __init__(
        self, config: Config, inverter: Inverter, head: nn.Module, progress: Callable[[int], None]
    ) -> None:
        self._config, self._inverter, self._head, self._progress = config, inverter, head, progress
        self._device = inverter.fixed_starts.device
        self._seen = 0

    def of(self, source: TileSource, n: int, side: int, most: int = _MOST_BYTES) -> NDArray[np.float32]:
        """The windows around the alarms of the first n tiles, (A, C, side, side), some `most` bytes."""
        found: list[NDArray[np.float32]] = []
        for start in range(0, n, _BATCH):
            # Tiles come in no order: the first ones say as much as all, only less surely.
            if sum(windows.nbytes for windows in found) < most:
                batch = source.scored_batch(start, min(_BATCH, n - start)).to(self._device)
                found.append(self._of_batch(batch, side))
            self._seen += min(_BATCH, n - start)
            self._progress(self._seen)
        return np.concatenate(found)

    @torch.no_grad()
    def _of_batch(self, tiles: Tensor, side: int) -> NDArray[np.float32]:
        image = image_of(tiles, condition_dim(self._config))
        cells = F.max_pool2d(F.avg_pool2d(self._logits(tiles), _SPOT, 1, _SPOT // 2), STRIDE)
        apart = self._config.memory.window // 4 + 1
        alone = cells.where(cells == F.max_pool2d(cells, apart, 1, apart // 2), -torch.inf)
        many = max(_PER_TILE, _PER_TILE * cells[0].numel() * STRIDE**2 // 128**2)
        logits, places = alone.flatten(1).topk(many, dim=1)
        padded = F.pad(image, [margin(side)] * 4, mode="reflect").cpu().numpy()
        windows = np.empty((0, image.shape[1], side, side), np.float32)
        numbers, ranks = np.nonzero(logits.cpu().numpy() > self._config.memory.alarm)
        found = places.cpu().numpy()[numbers, ranks]
        ys, xs = STRIDE * (found // cells.shape[-1]), STRIDE * (found % cells.shape[-1])
        cut = [padded[n, :, y : y + side, x : x + side] for n, y, x in zip(numbers, ys, xs, strict=True)]
        return np.stack(cut) if cut else windows

    def _logits(self, tiles: Tensor) -> Tensor:
        # The encoder's code alone shows where alarms are, in a fifth of the time.
        steps = None if self._inverter.networks.encoder is None else 0
        logits: Tensor = self._head(self._inverter.head_input(tiles, steps))
        return logits


def _around(cells: Tensor) -> Tensor:
    """The greatest within `AROUND`."""
    return F.max_pool2d(cells, 2 * AROUND + 1, 1, AROUND)


def _window_weight(window: int) -> NDArray[np.float32]:
    """(w, w), root of a Gaussian of sigma w / 4: squared differences are weighted by the Gaussian itself."""
    along = np.arange(window) - (window - 1) / 2
    weight = np.exp(-(along**2) / (4 * (window / 4) ** 2))
    both = np.outer(weight, weight)
    return np.asarray(both / np.sqrt((both**2).sum()), np.float32)


def _average(window: int, channels: int) -> NDArray[np.float32]:
    """(1, C, w, w): makes the weighted mean of a window."""
    weight = np.square(_window_weight(window)) / channels
    return np.repeat(weight[None, None], channels, axis=1)


def _patterns(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Windows (A, C, w, w) less their weighted mean, divided by their deviation."""
    average = _average(x.shape[-1], x.shape[1])
    centred = x - (x * average).sum(axis=(1, 2, 3), keepdims=True)
    variance = (np.square(centred) * average).sum(axis=(1, 2, 3), keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(FAINTEST**2)), np.float32)


def _blurred(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C, w, w), as if all were 0 beyond: so a window or what it is multiplied with may be blurred."""
    kernel = torch.from_numpy(gaussian_kernel(_BLUR))
    flat = torch.from_numpy(np.ascontiguousarray(x)).flatten(0, 1)[:, None]
    half = len(kernel) // 2
    flat = F.conv2d(flat, kernel.reshape(1, 1, 1, -1), padding=(0, half))
    flat = F.conv2d(flat, kernel.reshape(1, 1, -1, 1), padding=(half, 0))
    return flat.numpy().reshape(x.shape)


def _principal_components(x: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], ...]:
    """Mean (C w w,) and components (D, C w w) of (N, C, w, w)."""
    from sklearn.decomposition import PCA

    flat = x.reshape(len(x), -1)
    found = PCA(min(_COMPONENTS, *flat.shape), svd_solver="randomized", random_state=seed).fit(flat)
    return found.mean_.astype(np.float32), found.components_.astype(np.float32)


def _at_most(codes: NDArray[np.float32], n: int, seed: int) -> NDArray[np.float32]:
    """(A, D) itself, or n centres of more.

    A centre lies between alarms and knows each of them less well: room for all is better.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(codes) <= n:
        return codes
    init = "k-means++" if n <= _FEW_CENTRES else "random"
    centres = MiniBatchKMeans(n, init=init, batch_size=4096, max_iter=20, n_init=1, random_state=seed)
    return np.asarray(centres.fit(codes).cluster_centers_, np.float32)


@torch.no_grad()
def _reach(memory: Memory, windows: NDArray[np.float32]) -> float:
    """The distance that most alarms on held-out good tiles lie within."""
    parts = torch.from_numpy(windows).split(_WINDOWS)
    near = torch.cat([memory.nearest(part).flatten(1).amin(dim=1) for part in parts]).sqrt()
    return max(1e-3, float(near.quantile(_REACH_SHARE)))
