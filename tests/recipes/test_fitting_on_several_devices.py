"""A whole `fit` by two processes: stopped, resumed, and compared with one by one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anogan import load
from anogan.bundle import load_bundle
from anogan.recipes import fit
from anogan.recipes.training import Reporter
from tests.tiny import no_pictures, part, tiny_config, write_parts

# Three Adam steps of at most 5e-4 and two of the head, in fp32 sums of another order.
TOLERANCE = 2e-4


@no_pictures()
def test_fit_on_two_devices_resumes_and_writes_the_model_that_one_device_would(tmp_path: Path) -> None:
    good = write_parts(tmp_path / "线 1" / "good", range(16))
    runtime = {"device": "cpu", "precision": "fp32", "threads": 1}
    two = tiny_config(monitor={"interval": 1}, runtime=runtime | {"devices": 2})

    def interrupt(stage: str, done: int, *_: object) -> None:
        if (stage, done) == ("gan", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(good, tmp_path / "two", two, reporter=Reporter(interrupt))
    steps: list[tuple[str, int]] = []
    result = fit(
        good,
        tmp_path / "two",
        two,
        resume=True,
        reporter=Reporter(lambda stage, done, *_: steps.append((stage, done))),
    )
    one = fit(good, tmp_path / "one", tiny_config(monitor={"interval": 1}, runtime=runtime))

    assert steps[:3] == [("gan", 3), ("head", 1), ("head", 2)]
    assert (result.metadata["devices"], one.metadata["devices"]) == (2, 1)
    ours, theirs = (load_bundle(found.path) for found in (result, one))
    for name, tensors in theirs.weights.items():
        for key, wanted in tensors.items():
            np.testing.assert_allclose(ours.weights[name][key], wanted, rtol=1e-3, atol=TOLERANCE)
    logged = ours.metadata["metrics"]
    assert logged == pytest.approx(theirs.metadata["metrics"], rel=0.02, abs=2e-3)
    scores = [
        scorer.score([part(70, defect=True)])[0].score for scorer in (load(str(result.path)), one.scorer)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=0.02)
    assert not (tmp_path / "two.checkpoints").exists()
