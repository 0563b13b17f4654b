"""Exported files of tiny models, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from anogan.export import export_scorer
from anogan.scoring import Scorer
from tests.export.conftest import build_model, build_torch_scorer, random_images, small_config

SIZE = (40, 56)


@pytest.fixture(scope="session")
def torch_scorer() -> Scorer:
    """The PyTorch scorer that `scorer_file` was exported from; four random images get all verdicts."""
    model = build_model(small_config(), SIZE)
    scores = sorted(found.score for found in build_torch_scorer(model).score(random_images(4, SIZE)))
    # Below the highest score; reviewed is what lies less than a tenth below that.
    return build_torch_scorer(model, threshold=(scores[-2] + scores[-1]) / 2)


@pytest.fixture(scope="session")
def scorer_file(torch_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for 40 x 56 colour images of 8 bits, with thresholds for 3, 1 and 0 steps."""
    # Spaces and Chinese characters, as in a plant's folders.
    path = tmp_path_factory.mktemp("station") / "Prüfung 电路板" / "scorer 1.onnx"
    images = random_images(4, SIZE)
    export_scorer(torch_scorer, path, images=images[:1], cut_steps=[0, 1], good_images=images)
    return path


@pytest.fixture(scope="session")
def any_size_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for 16-bit grey images of any size."""
    config = small_config(images={"on_mixed_sizes": "keep", "channels": 1, "bit_depth": 16})
    path = tmp_path_factory.mktemp("any") / "scorer.onnx"
    scorer = build_torch_scorer(build_model(config))
    export_scorer(scorer, path, images=random_images(1, (33, 47), channels=1, bit_depth=16))
    return path
