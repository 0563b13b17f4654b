"""Alarms that training tiles raised too count less; others stay."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anogan.errors import BundleError, ConfigError
from anogan.gan.tiles import TileSource
from anogan.gan.training import GanStage
from anogan.scoring.inverter import Inverter
from anogan.scoring.memory import AROUND, FAINTEST, STRIDE, Memory, learn_memories
from tests.tiny import tiny_config

CPU = torch.device("cpu")
MEMORY = {"patches": 40, "window": 16, "tiles": 480}


def _config(**changes: Any) -> Any:
    return tiny_config(
        **({"images": {"channels": 1}, "memory": MEMORY, "encoder": {"mode": "joint"}} | changes)
    )


class BrightAlarms(nn.Module):
    """Stands for a head that calls everything bright a defect: what is learned of it is known."""

    def forward(self, seen: Tensor) -> Tensor:
        return 8 * F.avg_pool2d(seen[:, :1], 5, 1, 2, count_include_pad=False)


def _board(seed: int, marks: int = 3, *, bar: bool = False) -> np.ndarray[Any, Any]:
    """A dark part with pads at random places and, as a defect, a bar."""
    rng = np.random.default_rng(seed)
    board = np.full((64, 64), 20, np.uint8)
    for _ in range(marks):
        cv2.circle(board, [int(v) for v in rng.integers(8, 56, 2)], 4, 230, -1)
    if bar:
        board[28:35, 14:50] = 230
    return board[..., None]


def _learned(**changes: Any) -> tuple[Memory | None, Any]:
    config = _config(**changes)
    source = TileSource([_board(seed) for seed in range(200, 280)], config, 3)
    held_out = TileSource([_board(seed) for seed in range(50, 70)], config, 1)
    inverter = Inverter(config, GanStage(config, source, held_out, CPU).finish(), torch.ones(3))
    learned = learn_memories(config, [source], held_out, inverter, BrightAlarms())
    assert learned is None or learned.without == ()
    return None if learned is None else learned.whole, config


def _strongest(memory: Memory, board: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The strongest logit of a board without and with the memory."""
    x = torch.from_numpy(board[..., 0].astype(np.float32) / 127.5 - 1)[None, None]
    logits = BrightAlarms()(x)
    return float(logits.max()), float(memory(x, logits).max())


def test_what_training_tiles_show_counts_less_and_what_they_do_not_stays() -> None:
    memory, _ = _learned()
    assert memory is not None
    for seed in range(100, 106):  # Boards that it never saw, with pads at other places.
        before, after = _strongest(memory, _board(seed, marks=1))
        assert after < 0.5 * before
    before, after = _strongest(memory, _board(0, marks=0, bar=True))
    assert after > 0.8 * before


def test_a_memory_without_a_share_does_not_know_what_only_that_share_shows() -> None:
    config = _config()
    shares = [
        [_board(seed) for seed in range(200, 260)],
        [_board(seed, marks=1, bar=True) for seed in range(260, 320)],
    ]
    sources = [TileSource(boards, config, 3) for boards in shares]
    held_out = TileSource([_board(seed) for seed in range(50, 70)], config, 1)
    inverter = Inverter(config, GanStage(config, sources[0], held_out, CPU).finish(), torch.ones(3))
    learned = learn_memories(config, sources, held_out, inverter, BrightAlarms())
    assert learned is not None
    bar = _board(0, marks=0, bar=True)
    before = _strongest(learned.whole, bar)[0]
    assert _strongest(learned.whole, bar)[1] < 0.5 * before
    assert _strongest(learned.without[0], bar)[1] < 0.5 * before
    assert _strongest(learned.without[1], bar)[1] > 0.8 * before


def test_what_is_not_compared_changes_nothing() -> None:
    memory, _ = _learned()
    assert memory is not None
    x = torch.from_numpy(np.stack([_board(seed, bar=seed % 2 > 0)[..., 0] for seed in range(100, 104)]))
    x = x[:, None].float() / 127.5 - 1
    logits = BrightAlarms()(x)
    near = -F.max_pool2d(-memory.squared_distance(x), 2 * AROUND + 1, 1, AROUND)
    believed = F.interpolate(1 - torch.exp(-near / (2 * memory.reach**2)), scale_factor=STRIDE)
    wanted = torch.where(logits > 0, logits * believed, logits)
    assert (wanted < logits).any()
    torch.testing.assert_close(memory(x, logits), wanted, atol=1e-4, rtol=1e-4)


def test_logits_never_rise_and_those_that_are_no_alarm_stay() -> None:
    memory, _ = _learned()
    assert memory is not None
    x, logits = torch.rand(2, 1, 32, 32) * 2 - 1, 6 * torch.randn(2, 1, 32, 32)
    weakened = memory(x, logits)
    assert (weakened <= logits).all()
    below = logits <= memory.alarm
    assert torch.equal(weakened[below], logits[below])
    assert (weakened >= logits.clamp_max(memory.alarm)).all()


def test_the_distance_is_that_of_the_nearest_patch_in_the_windows_around() -> None:
    memory, config = _learned()
    assert memory is not None
    x = torch.rand(1, 1, 32, 32) * 2 - 1
    side = config.memory.window
    aside = side // 2 - STRIDE // 2
    windows = F.pad(x, [aside] * 4, mode="reflect").unfold(2, side, STRIDE).unfold(3, side, STRIDE)
    codes = torch.einsum("nchwyx,dcyx->nhwd", windows.double(), memory.kernels.double())
    codes = codes + memory.offsets.double()
    wanted = torch.cdist(codes.reshape(1, -1, codes.shape[-1]), memory.patches[None].double())
    wanted = wanted.amin(-1).square().reshape(1, 1, 16, 16)
    assert memory.squared_distance(x).double() == pytest.approx(wanted, abs=1e-4)

    logits = memory.alarm + torch.ones(1, 1, 32, 32)
    y, x_ = 9, 5  # In strides.
    near = wanted[0, 0, y - AROUND : y + AROUND + 1, x_ - AROUND : x_ + AROUND + 1].min()
    believed = 1 - torch.exp(-near / (2 * memory.reach.double() ** 2))
    got = memory(x, logits)[0, 0, STRIDE * y + 1, STRIDE * x_] - memory.alarm
    assert float(got) == pytest.approx(float(believed), abs=1e-3)


def test_the_same_seed_learns_the_same_and_no_more_patches_than_asked() -> None:
    (first, _), (again, _) = _learned(), _learned()
    assert first is not None
    assert again is not None
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert len(first.patches) == MEMORY["patches"]
    assert float(first.reach) > 0


def test_windows_that_would_not_fit_the_machine_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"memory": MEMORY | {"patches": 5000}}
    (everything, _) = _learned(**settings)
    monkeypatch.setattr("anogan.scoring.memory._MOST_BYTES", 100 * MEMORY["window"] ** 2 * 4)
    (part, _) = _learned(**settings)
    assert everything is not None
    assert part is not None
    assert 100 <= len(part.patches) <= 100 + 16 * 12 < len(everything.patches)


def test_from_a_few_alarms_there_is_no_memory() -> None:
    assert _learned(memory=MEMORY | {"tiles": 2})[0] is None


def test_arrays_of_another_window_or_too_few_are_refused() -> None:
    memory, config = _learned()
    assert memory is not None
    arrays = {name: value.numpy() for name, value in memory.state_dict().items()}
    Memory.from_arrays(config, arrays)
    with pytest.raises(BundleError, match="memory"):
        Memory.from_arrays(_config(memory=MEMORY | {"window": 24}), arrays)
    with pytest.raises(BundleError, match="memory"):
        Memory.from_arrays(config, {name: arrays[name] for name in ("kernels", "patches")})


def test_without_a_head_there_is_nothing_to_remember() -> None:
    assert _config().remembers
    assert not _config(head={"enabled": False}).remembers
    assert not _config(memory={"patches": 0}).remembers


def test_settings_that_do_not_fit_one_another_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tiles\.size"):
        _config(memory=MEMORY | {"window": 40})
    with pytest.raises(ConfigError, match="multiple of 8"):
        _config(memory=MEMORY | {"window": 20})


PATTERN = MEMORY | {"compare": "pattern"}


def test_a_pattern_is_known_under_another_light_and_pixels_are_not() -> None:
    by_pattern, _ = _learned(memory=PATTERN)
    by_pixels, _ = _learned()
    assert by_pattern is not None
    assert by_pixels is not None
    x = torch.from_numpy(_board(100, marks=2)[..., 0].astype(np.float32) / 127.5 - 1)[None, None]
    darker = 0.6 * x - 0.3
    here = x.amin() < F.max_pool2d(x, 9, STRIDE, 4)  # Blank windows have no pattern.

    assert torch.allclose(
        by_pattern.squared_distance(darker)[here], by_pattern.squared_distance(x)[here], atol=0.02
    )
    assert not torch.allclose(
        by_pixels.squared_distance(darker)[here], by_pixels.squared_distance(x)[here], atol=0.02
    )


@pytest.mark.parametrize(("distinct", "is_learned"), [(1, False), (40, True)])
def test_copies_of_a_photograph_make_no_memory_of_patterns(distinct: int, is_learned: bool) -> None:
    config = _config(memory=PATTERN)
    rng = np.random.default_rng(2)
    whole = [rng.integers(10, 30, (32, 32, 1), np.uint8) for _ in range(80)]  # Each is one tile.
    for image in whole:
        cv2.circle(image, [int(v) for v in rng.integers(6, 26, 2)], 4, 230, -1)
    known = (whole[:distinct] * 40)[:40]
    source, held_out = TileSource(known, config, 3), TileSource(whole[40:], config, 1)
    inverter = Inverter(config, GanStage(config, source, held_out, CPU).finish(), torch.ones(3))
    memories = learn_memories(config, [source], held_out, inverter, BrightAlarms())
    assert (memories is not None) == is_learned


def test_the_pattern_is_the_window_less_its_mean_by_its_deviation() -> None:
    memory, config = _learned(memory=PATTERN)
    assert memory is not None
    x = torch.rand(1, 1, 32, 32) * 2 - 1
    side = config.memory.window
    windows = F.pad(x, [side // 2 - STRIDE // 2] * 4, mode="reflect").unfold(2, side, STRIDE)
    windows = windows.unfold(3, side, STRIDE).double()
    weight = memory.average[0].double()
    centred = windows - (windows * weight).sum(dim=(-1, -2), keepdim=True)
    patterns = centred / ((centred**2 * weight).sum(dim=(-1, -2), keepdim=True) + FAINTEST**2).sqrt()
    codes = torch.einsum("nchwyx,dcyx->nhwd", patterns, memory.kernels.double()) + memory.offsets.double()
    wanted = torch.cdist(codes.reshape(1, -1, codes.shape[-1]), memory.patches[None].double())

    assert memory.squared_distance(x).double() == pytest.approx(
        wanted.amin(-1).square().reshape(1, 1, 16, 16), abs=1e-3
    )


def test_marks_from_the_configured_logit_on_are_weakened_down_to_it() -> None:
    memory, _ = _learned(memory=MEMORY | {"alarm": -4.0})
    assert memory is not None
    x = torch.from_numpy(_board(100, marks=1)[..., 0].astype(np.float32) / 127.5 - 1)[None, None]
    logits = BrightAlarms()(x)
    after = memory(x, logits)

    assert float(after.max()) < 0 < float(logits.max())
    assert (after >= logits.clamp_max(-4)).all()
    assert torch.equal(after[logits <= -4], logits[logits <= -4])
