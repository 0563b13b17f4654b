"""What calibration asks of images and of the memory."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anogan.bundle import load_bundle, save_bundle
from anogan.calibration import CROSS_FITTED, HELD_OUT, Calibration, calibrate
from anogan.config import Config
from anogan.errors import CalibrationError, ConfigError, DataError
from anogan.inspection import Verdict
from anogan.recipes import calibrate_model, load
from anogan.recipes.calibrate import measure_statistics
from anogan.recipes.export import export_model
from tests.tiny import SIZE, part, write_parts


def test_statistics_are_measured_without_holding_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Any]] = []
    most = 0

    class Map(np.ndarray):  # A plain array cannot be counted.
        pass

    def one_by_one(_: Any, paths: Sequence[Path]) -> Iterator[tuple[Path, None, Any]]:
        nonlocal most
        for index, path in enumerate(paths):
            values = np.full((4, 5), index, np.float32).view(Map)
            seen.append(weakref.ref(values))
            most = max(most, sum(map_() is not None for map_ in seen))
            yield path, None, SimpleNamespace(parts={"head": values})

    monkeypatch.setattr("anogan.recipes.calibrate.gather_evidence", one_by_one)
    scorer = SimpleNamespace(config=Config.model_validate({"calibration": {"prior_images": 0}}))
    found = measure_statistics(scorer, [Path(f"{n}.png") for n in range(9)])  # type: ignore[arg-type]

    assert most <= 2
    assert found["head"].mean == pytest.approx(np.full((4, 5), 4.0))
    assert found["head"].std == pytest.approx(np.full((4, 5), np.std(range(9), ddof=1)), rel=1e-6)


def test_photographs_of_one_part_come_together_for_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbered(_: Any, paths: Sequence[Path]) -> Iterator[tuple[Path, None, Any]]:
        for path in paths:
            yield path, None, SimpleNamespace(parts={"head": np.full((4, 5), float(path.stem))})

    monkeypatch.setattr("anogan.recipes.calibrate.gather_evidence", numbered)
    scorer: Any = SimpleNamespace(config=Config.model_validate({"calibration": {"prior_images": 0}}))
    seen: list[str] = []
    paths = [Path(f"{n}.png") for n in (1, 5, 1, 9, 5, 1)]
    found = measure_statistics(scorer, paths, lambda path, *_: seen.append(Path(path).stem), list("abacba"))

    assert "".join(seen) == "111559"
    assert found["head"].mean == pytest.approx(np.full((4, 5), 5.0))
    assert found["head"].std == pytest.approx(np.full((4, 5), 4.0))


@pytest.fixture
def own_model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def test_another_rate_needs_no_images(own_model: Path) -> None:
    before, last = load(own_model), load_bundle(own_model)
    calibration = calibrate_model(model=own_model, false_reject=0.4)
    after, saved = load(own_model), load_bundle(own_model)

    assert calibration.estimate.requested == 0.4
    assert after.threshold == calibration.threshold < before.threshold
    assert after.score([part(1)])[0].score == before.score([part(1)])[0].score
    assert saved.metadata == last.metadata
    calibrate_model(model=own_model, false_reject=last.calibration["estimate"]["requested"])
    assert load_bundle(own_model).calibration == last.calibration


def test_without_images_or_a_rate_nothing_is_done(own_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"Nothing would change; give .*--data.*--false-reject"):
        calibrate_model(model=own_model)


def test_a_model_that_keeps_no_names_asks_for_images(own_model: Path) -> None:
    bundle = load_bundle(own_model)
    older = {key: value for key, value in bundle.calibration.items() if key not in ("names", "trained")}
    save_bundle(own_model, replace(bundle, calibration=older))

    with pytest.raises(CalibrationError, match="give a folder of good images"):
        calibrate_model(model=own_model, false_reject=0.4)
    fresh = write_parts(own_model.parent / "fresh", range(800, 815))
    assert calibrate_model(fresh, own_model, false_reject=0.4).estimate.n_good == 15


def _cross_fitted(model: Path) -> Calibration:
    """4 of 40 held-out scores lie above all others: no more than a tenth, and more than a thirtieth."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.uniform(0, 1, 160), rng.uniform(0, 0.9, 36), rng.uniform(2, 3, 4)])
    found = calibrate(
        scores,
        false_reject=0.1,
        review_share=0,
        statistics=Calibration.from_arrays(load_bundle(model).calibration_arrays),
        names=[f"{n}.png" for n in range(200)],
        trained=[n < 160 for n in range(200)],
    )
    bundle = load_bundle(model)
    metadata = dict(bundle.metadata) | {"calibrated_on": CROSS_FITTED}
    save_bundle(model, replace(bundle, calibration=found.to_json_dict(), metadata=metadata))
    return found


def test_at_another_rate_training_images_count_only_where_they_may(own_model: Path) -> None:
    first = _cross_fitted(own_model)
    told: list[str] = []
    alone = calibrate_model(model=own_model, false_reject=0.03, event=told.append)

    assert (alone.estimate.n_good, alone.estimate.n_trained) == (40, 0)
    assert load_bundle(own_model).metadata["calibrated_on"] == HELD_OUT
    assert len(told) == 1
    assert told[0].startswith("4 of 40 held-out images score above the threshold that training and held-out")
    again = calibrate_model(model=own_model, false_reject=0.1, event=told.append)
    assert again.to_json_dict() == first.to_json_dict()
    assert load_bundle(own_model).metadata["calibrated_on"] == CROSS_FITTED
    assert len(told) == 1


def test_fewer_images_than_before_are_told(own_model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    calibrate_model(write_parts(tmp_path / "many", range(800, 812)), own_model, event=told.append)
    told.clear()
    calibrate_model(write_parts(tmp_path / "few", range(820, 830)), own_model, event=told.append)

    assert [sentence.partition(":")[0] for sentence in told] == [
        "10 good images set the threshold now, 12 did before"
    ]


def test_too_few_images_for_the_promise_leave_the_threshold(own_model: Path, tmp_path: Path) -> None:
    calibrate_model(write_parts(tmp_path / "many", range(800, 812)), own_model)
    before = load_bundle(own_model).calibration
    few = write_parts(tmp_path / "few", range(820, 828))
    with pytest.raises(CalibrationError, match=r"stays as it was: 8 good images .* --false-reject 0\.112\.$"):
        calibrate_model(few, own_model)

    assert load_bundle(own_model).calibration == before
    asked = calibrate_model(few, own_model, false_reject=0.112).estimate
    assert (asked.n_good, asked.shortfall) == (8, 0)


@pytest.mark.parametrize("rate", [None, 0.1, 0.01])
def test_few_images_replace_no_more_of_too_few(own_model: Path, tmp_path: Path, rate: float | None) -> None:
    calibrate_model(write_parts(tmp_path / "first", range(800, 824)), own_model, false_reject=0.02)
    fewer, more = (
        write_parts(tmp_path / "fewer", range(830, 838)),
        write_parts(tmp_path / "m", range(840, 865)),
    )
    with pytest.raises(CalibrationError, match=r"stays as it was: 8 good images"):
        calibrate_model(fewer, own_model, false_reject=rate)

    taken = calibrate_model(more, own_model).estimate
    assert (taken.n_good, taken.requested, taken.shortfall) == (25, 0.02, 24)


def test_images_that_set_no_threshold_are_told(own_model: Path, tmp_path: Path) -> None:
    fresh = write_parts(tmp_path / "fresh", range(800, 812))
    write_parts(fresh / "tuesday", range(812, 815))
    told: list[str] = []
    calibrate_model(fresh, own_model, event=told.append)

    assert any("3 images, first" in sentence and "lie elsewhere" in sentence for sentence in told)


@pytest.mark.parametrize("folder", ["test", "test/good", "test/open", "test/good/a"])
def test_no_part_of_test_sets_a_threshold(folder: str, own_model: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "pcb" / "good", range(820, 823))
    for kind in ("good", "open"):
        write_parts(tmp_path / "pcb" / "test" / kind, range(823, 826))
    write_parts(tmp_path / "pcb" / "test" / "good" / "a", range(826, 828))

    with pytest.raises(DataError, match="holds test images; calibrate with others"):
        calibrate_model(tmp_path / "pcb" / folder, own_model)


@pytest.mark.parametrize("use", ["calibrate", "export"])
def test_folders_in_good_set_no_threshold_of_a_model_without_variants(
    use: str, own_model: Path, tmp_path: Path
) -> None:
    for folder in ("day 1", "heatmaps"):
        write_parts(tmp_path / "mixed" / "good" / folder, range(820, 823))

    def from_folders() -> None:
        if use == "calibrate":
            calibrate_model(tmp_path / "mixed", own_model)
        else:
            export_model(tmp_path / "model.onnx", own_model, data=tmp_path / "mixed")

    with pytest.raises(DataError, match=r"no images but the folders day 1, heatmaps; put the images"):
        from_folders()


def test_twenty_good_images_set_limits_which_another_rate_keeps(own_model: Path, tmp_path: Path) -> None:
    fresh = calibrate_model(write_parts(tmp_path / "fresh", range(800, 822)), own_model)
    limits = load_bundle(own_model).calibration["limits"]
    rerated = calibrate_model(model=own_model, false_reject=0.4)

    assert set(limits) == {"residual_score", "discrimination_score", "brightness"}
    assert rerated.limits == fresh.limits == {name: tuple(pair) for name, pair in limits.items()}
    good = load(own_model).score([part(850), part(851)])
    noise = load(own_model).score([np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)])[0]
    assert all(found.in_distribution for found in good)
    assert noise.in_distribution is False
    assert noise.verdict is not Verdict.PASS
    told: list[str] = []
    few = write_parts(tmp_path / "few", range(830, 835))
    assert calibrate_model(few, own_model, event=told.append).limits == {}
    assert told[0].startswith("Fewer than 20 good parts set no limits")


def test_an_image_that_cannot_be_read_is_told_before_any_is_scored(own_model: Path, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "fresh", range(800, 805))
    (folder / "900.png").write_bytes(b"no picture")
    scored: list[str] = []

    with pytest.raises(DataError, match=r"1 of 6 good images cannot be used; the first: .*900\.png"):
        calibrate_model(folder, own_model, on_image=lambda path, *_: scored.append(path))
    assert not scored
