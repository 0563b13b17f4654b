"""Training of the residual head on synthetic defects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F

from anogan.config import Config
from anogan.gan import ranks
from anogan.gan.alarms import Points
from anogan.gan.batch_norm import BATCHES, FIRST_BATCH, fix_batch_norm, recalibrate_batch_norm
from anogan.gan.device import autocast, training_precision
from anogan.gan.ema import BestState, Ema
from anogan.gan.keeping import HEAD_LOSS, best_head_look
from anogan.gan.rates import decay_factor, scale_learning_rates
from anogan.gan.shared_layers import share_layers
from anogan.gan.tiles import TileSource
from anogan.scoring.head_network import build_head
from anogan.scoring.inverter import Inverter
from anogan.scoring.maps import window_mean

DICE_SMOOTHING = 1.0
SPOT = 5  # Side of the average, pixels.
SPOT_PIXELS = 20  # So many averages make a tile's strongest spot.
FIXED_SHARE = 1 / 3  # Of the steps, the last ones: with the batch-norm statistics that scoring uses.


class HeadStage:
    """Teaches the head to mark synthetic defects, given what the frozen AnoGAN makes of the image.

    The head sees only `head_input` of the very search that scoring runs. No real defect is used (DRAEM,
    Zavrtanik et al. 2021, arXiv:2108.07610, section 3.2).
    """

    name = "head"

    def __init__(
        self,
        config: Config,
        source: TileSource,
        held_out: TileSource,
        inverter: Inverter,
        device: torch.device,
    ) -> None:
        """Builds the head from `config.seed`."""
        torch.manual_seed(config.seed + 1)
        self.config, self.total_steps = config, config.head.steps
        self._source, self._held_out, self._inverter, self._device = source, held_out, inverter, device
        self._precision = training_precision(config.runtime, device)
        head = build_head(config)
        share_layers(head)
        self._format = _memory_format(config, device)
        self.head = head.to(device).to(memory_format=self._format)
        decay = config.head.ema_decay
        self._ema = Ema(self.head, decay) if decay > 0 else None
        self._best = BestState({"head": self.head})
        rate = config.head.learning_rate
        self._optimiser = optim.AdamW(self.head.parameters(), rate, weight_decay=1e-4, foreach=True)
        self._fixed_from = fixed_from(config)

    def modules(self) -> Mapping[str, nn.Module]:
        """The head alone, as it is, averaged and at its best: everything below it is frozen."""
        averaged = {} if self._ema is None else {"head_ema": self._ema.network}
        return {"head": self.head, "best": self._best} | averaged

    def optimisers(self) -> Mapping[str, optim.Optimizer]:
        """One AdamW."""
        return {"head": self._optimiser}

    def step(self, step: int) -> dict[str, float]:
        """One batch of damaged tiles."""
        self._set_rate(step)
        self._set_mode(step)
        x, mask = self._evidence(self._source, step, self.config.head.batch_size)
        with autocast(self._device, self._precision):
            logits = self.head(x.contiguous(memory_format=self._format)).float()
        loss = segmentation_loss(logits, mask)
        if self.config.head.image_weight > 0:
            loss = loss + self.config.head.image_weight * image_loss(logits, mask)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(self.head)
        self._optimiser.step()
        self._average(step)
        return {"head_loss": float(ranks.mean(loss.detach()))}

    def _average(self, step: int) -> None:
        """From the fixed statistics on: before, batch norm is another at every step, and fits no average."""
        if self._ema is None or step < self._fixed_from:
            return
        if step == self._fixed_from:
            self._ema.network.load_state_dict(self.head.state_dict())
        else:
            self._ema.update(self.head, step - self._fixed_from)

    def _set_rate(self, step: int) -> None:
        # One cycle down to 0: the last steps average the noise of the drawn defects away.
        warm = min(1.0, (step + 1) / 50)
        scale_learning_rates([self._optimiser], warm * decay_factor(step, self.total_steps, 1.0))

    def _set_mode(self, step: int) -> None:
        """At last with fixed statistics, as detectors learn (He et al. 2016, arXiv:1512.03385, appendix A).

        Batch norm over few tiles sees them beside each other, as scoring never does: on photographs of uneven
        light the loss of a head that learned on four at a time rises by a quarter when each is taken alone.
        """
        if step == self._fixed_from:
            n = min(BATCHES, max(1, self.total_steps // 20))  # A short training stays short.
            draws = range(FIRST_BATCH, FIRST_BATCH + n)
            with ranks.alone(), autocast(self._device, self._precision):  # Each repeats it, all get the same.
                recalibrate_batch_norm(
                    self.head,
                    (self._evidence(self._source, draw, self.config.head.batch_size)[0] for draw in draws),
                )
        if step < self._fixed_from:
            self.head.train()
        else:
            fix_batch_norm(self.head)

    def _evidence(self, source: TileSource, step: int, n: int) -> tuple[Tensor, Tensor]:
        batch = source.damaged_batch(step, n)
        x = ranks.own(batch.damaged).to(self._device)
        # Half precision searches nearly as well as full and takes half the time of training.
        with autocast(self._device, self._precision):
            seen = self._inverter.head_input(x, self._search_steps(step))
        return seen, ranks.own(batch.mask).to(self._device)

    def _search_steps(self, step: int) -> int | None:
        """A head that met every length of search also serves a station that cuts it short.

        Without an encoder a short search is far from the image, and only the full one is used.
        """
        if self._inverter.networks.encoder is None:
            return None
        longest = self.config.search.steps
        draw = int(np.random.default_rng([self.config.seed, step]).integers(2 * longest + 1))
        return max(0, draw - longest)  # Half of them none: they cost least, and differ least from the rest.

    @torch.no_grad()
    def look(self, step: int) -> dict[str, float]:
        """Loss and pixel AUROC on damaged held-out tiles."""
        from sklearn.metrics import roc_auc_score

        x, mask = self._evidence(self._held_out, 0, 32)
        logits = self._at(step).eval()(x).float()
        figures = {HEAD_LOSS: float(segmentation_loss(logits, mask))}
        marked = mask.flatten().cpu().numpy() > 0.5
        # Of weights that are not finite the loss says enough: the loop repairs them.
        if 0 < marked.sum() < marked.size and bool(logits.isfinite().all()):
            auroc = roc_auc_score(marked, logits.flatten().cpu().numpy())
            figures["head_held_out_pixel_auroc"] = float(auroc)
        return figures

    def keep(self, points: Points) -> None:
        """Copies the head if the last look was the best since its statistics were fixed."""
        best = best_head_look(points, self._fixed_from)
        if best is not None and best == points[HEAD_LOSS][-1][0]:
            self._best.take({"head": self._at(best)})

    def _at(self, step: int) -> nn.Module:
        """The head that scoring would get after so many steps."""
        return self.head if self._ema is None or step <= self._fixed_from else self._ema.network

    def ends_early(self, points: Points) -> bool:
        """No: every step is done."""
        return False

    def finish(self) -> nn.Sequential:
        """The head with the weights that were kept, frozen, in eval mode."""
        best = self._best.networks()
        kept = self._at(self.total_steps) if best is None else best["head"]
        self.head.load_state_dict(kept.state_dict())
        self.head.eval().requires_grad_(False)
        return self.head


def fixed_from(config: Config) -> int:
    """The step from which the head's batch norm has the statistics that scoring uses."""
    return config.head.steps - int(config.head.steps * FIXED_SHARE)


def _memory_format(config: Config, device: torch.device) -> torch.memory_format:
    """channels_last, the faster one, where its kernels are right.

    oneDNN's bf16 weight gradients of dilated convolutions whose output channels are no multiple of 16 are not
    finite in that format (torch 2.15.0, CPU with AVX512-BF16; contiguous they are right).
    """
    unsafe = device.type == "cpu" and config.head.network == "dilated" and 2 * config.head.width % 16 != 0
    return torch.contiguous_format if unsafe else torch.channels_last


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy plus dice loss (Milletari et al. 2016, arXiv:1606.04797), over the batch.

    Dice keeps small defects from drowning among good pixels; cross entropy keeps logits calibrated on
    tiles that have none.
    """
    entropy = F.binary_cross_entropy_with_logits(
        logits, mask, pos_weight=torch.tensor(5.0, device=mask.device)
    )
    probability = logits.sigmoid()
    overlap = 2 * ranks.total((probability * mask).sum()) + DICE_SMOOTHING
    marked = ranks.total(probability.sum() + mask.sum())
    return entropy + 1 - overlap / (marked + DICE_SMOOTHING)


def image_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of each tile's strongest spot among good pixels, and among defective ones.

    An image's score is the maximum of its map: one spot on a good board rejects it, and a mean over pixels
    hardly notices one (hard examples, as in Shrivastava et al. 2016, arXiv:1604.03540).

    Args:
        logits: (N, 1, t, t).
        mask: (N, 1, t, t) in {0, 1}.
    """
    defective = mask > 0.5
    averaged = window_mean(logits, SPOT, SPOT)
    good = _mean_where(F.softplus(_strongest(averaged, ~defective)), ~defective)
    return good + _mean_where(F.softplus(-_strongest(averaged, defective)), defective)


def _strongest(x: Tensor, where: Tensor) -> Tensor:
    """Mean of the greatest values of each tile among the pixels `where`, (N,); 0 where there are none."""
    pixels = where.flatten(1)
    values, places = x.flatten(1).masked_fill(~pixels, -torch.inf).topk(SPOT_PIXELS, dim=1)
    there = pixels.gather(1, places)
    return values.where(there, 0).sum(dim=1) / there.sum(dim=1).clamp_min(1)


def _mean_where(losses: Tensor, where: Tensor) -> Tensor:
    """Mean over the tiles of all ranks that have such pixels.

    The mean of the ranks' gradients is the gradient of the global mean.
    """
    tiles = where.flatten(1).any(dim=1)
    return (losses * tiles).sum() / ranks.mean(tiles.sum().float()).clamp_min(1 / ranks.count())
