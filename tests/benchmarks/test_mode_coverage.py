from __future__ import annotations

import importlib.util
import statistics
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def bed() -> ModuleType:
    path = Path(__file__).with_name("mode_coverage.py")
    spec = importlib.util.spec_from_file_location("mode_coverage", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mode_coverage"] = module  # Its dataclasses look their own module up.
    spec.loader.exec_module(module)
    return module


def test_judge_of_the_digits_reads_what_was_drawn_and_refuses_noise(bed: ModuleType) -> None:
    rng, digits = np.random.default_rng(0), bed.glyphs()
    wanted = rng.integers(0, 10, (40, 3))
    planes = np.stack([digits[row] for row in wanted]).astype(np.float32)
    modes, good = bed.read_glyphs(torch.from_numpy(planes + rng.normal(0, 10, planes.shape)).float())
    assert modes.tolist() == (wanted @ [100, 10, 1]).tolist()
    assert good.all()
    assert not bed.read_glyphs(torch.randn(40, 3, 32, 32))[1].any()


def test_stacked_digits_come_in_many_modes_and_are_all_good(bed: ModuleType) -> None:
    images = np.stack(bed.stacked_glyphs(300, 0)).transpose(0, 3, 1, 2)
    modes, good = bed.read_glyphs(torch.from_numpy(images).float())
    assert good.float().mean() > 0.99
    assert len(set(modes.tolist())) > 200


@pytest.mark.slow
@pytest.mark.parametrize("remedy", ["packing 4", "unrolled 5"])
def test_remedy_finds_more_modes_of_the_ring_than_plain_gan(bed: ModuleType, remedy: str) -> None:
    def modes(name: str) -> float:
        train = bed.tasks(1000 if name == "unrolled 5" else 2000)["ring"]
        return statistics.median(train(bed.REMEDIES[name], seed).modes for seed in range(3))

    assert modes(remedy) >= modes("plain (non-saturating)") + 2
