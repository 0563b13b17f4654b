"""One model of two products: each part is right as its own variant and wrong as the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anogan.errors import ConfigError, DataError, ExportError
from anogan.images.decode import read_image, write_image
from anogan.inspection import Verdict
from anogan.recipes import FitResult, evaluate, fit, load_scorer, score_files
from anogan.recipes.benchmark import measure_torch
from anogan.recipes.calibrate import calibrate_model
from anogan.recipes.export import export_model
from anogan.recipes.generating import generate
from anogan.recipes.score_trial import shown
from anogan.recipes.selection import pick_score_settings
from anogan.station import Scorer as StationScorer
from anogan.station.timing import Job, measure_station
from tests.cli.conftest import run_cli
from tests.tiny import no_pictures, tiny_config

BRIGHT, DARK = "bright 板", "dark"
SETTINGS: dict[str, Any] = {
    "images": {"channels": 1},
    "gan": {"steps": 120, "batch_size": 16, "generator_learning_rate": 2e-3, "ema_decay": 0.95},
    "encoder": {"mode": "none"},
    "head": {"enabled": False},
    "search": {"steps": 20, "learning_rate": 0.1},
    "calibration": {"false_reject": 0.1, "map": "global"},
    "network": {"latent_dim": 2, "latent_grid": 1, "width": 8, "condition": "variant"},
}


def plate(seed: int, variant: str) -> NDArray[Any]:
    """A grey plate with a square in its middle, bright or dark."""
    rng = np.random.default_rng(seed)
    image = 0.5 + rng.uniform(-0.05, 0.05) + 0.01 * rng.standard_normal((32, 32))
    image[8:24, 8:24] += 0.3 if variant == BRIGHT else -0.3
    return (image[..., None].clip(0, 1) * 255).astype(np.uint8)


def write_plates(folder: Path, variant: str, seeds: range) -> None:
    folder.mkdir(parents=True)
    for seed in seeds:
        write_image(folder / f"{seed}.png", plate(seed, variant))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plates")
    for index, variant in enumerate((BRIGHT, DARK)):
        write_plates(root / "good" / variant, variant, range(1000 * index, 1000 * index + 30))
        write_plates(root / "test" / "good" / variant, variant, range(1000 * index + 100, 1000 * index + 105))
    write_plates(root / "test" / "swapped" / DARK, BRIGHT, range(200, 205))
    return root


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    with no_pictures():
        return fit(data, tmp_path_factory.mktemp("model") / "model", tiny_config(**SETTINGS))


def test_a_part_is_good_as_its_own_variant_and_rejected_as_the_other(fitted: FitResult) -> None:
    scorer = load_scorer(fitted.path)
    for own, other in ((BRIGHT, DARK), (DARK, BRIGHT)):
        parts = [plate(seed, own) for seed in range(300, 310)]
        as_own = [found.score for found in scorer.score(parts, variant=own)]
        as_other = scorer.score(parts, variant=other)
        assert max(as_own) + 5 < min(found.score for found in as_other)
        assert np.median(as_own) < scorer.threshold
        assert {found.verdict for found in as_other} == {Verdict.REJECT}


def test_score_does_not_depend_on_other_variants_in_the_batch(fitted: FitResult) -> None:
    scorer = fitted.scorer
    parts = [plate(seed, variant) for seed, variant in ((1, BRIGHT), (2, DARK), (3, BRIGHT))]
    together = scorer.evidence(parts, [BRIGHT, DARK, DARK])
    for image, variant, found in zip(parts, [BRIGHT, DARK, DARK], together, strict=True):
        (alone,) = scorer.evidence([image], [variant])
        assert alone.residual_score == pytest.approx(found.residual_score, rel=1e-5)


def test_an_unknown_or_missing_variant_is_named_with_the_known_ones(fitted: FitResult) -> None:
    image = plate(0, DARK)
    known = f"one of {BRIGHT}, {DARK}, but"
    with pytest.raises(ConfigError, match=f"{known} got 'green'"):
        fitted.scorer.score([image], variant="green")
    with pytest.raises(ConfigError, match=f"{known} no variant was given"):
        fitted.scorer.score([image])


def test_files_take_the_variant_of_their_folder_and_others_are_told(
    fitted: FitResult, data: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "loose.png", plate(7, DARK))
    paths = [data / "good" / BRIGHT / "3.png", tmp_path / "loose.png", data / "good" / DARK / "1003.png"]
    first, loose, last = score_files(fitted.scorer, paths)
    for file, variant in ((first, BRIGHT), (last, DARK)):
        image = read_image(file.path, channels=1, bit_depth=8)
        (alone,) = fitted.scorer.score([image], variant=variant)
        assert file.inspection is not None
        assert file.inspection.score == pytest.approx(alone.score, rel=1e-4, abs=1e-4)
    assert loose.inspection is None
    assert loose.error is not None
    assert str(paths[1]) in loose.error
    assert f"one of {BRIGHT}, {DARK}" in loose.error
    (named,) = score_files(fitted.scorer, [paths[1]], DARK)
    assert named.inspection is not None


def test_each_variant_is_in_every_part_of_the_split(fitted: FitResult) -> None:
    counts = fitted.metadata["data"]
    assert [counts[f"n_{part}"] for part in ("train", "early_stop", "calibrate")] == [30, 6, 24]
    assert fitted.scorer.config.network.variants == (BRIGHT, DARK)


def test_evaluation_and_calibration_read_the_folders_of_variants(
    fitted: FitResult, data: Path, tmp_path: Path
) -> None:
    run = evaluate(data, fitted.path)
    assert not run.errors
    assert run.evaluation.per_kind["swapped"]["image_auroc"] == 1.0
    write_plates(tmp_path / "good" / DARK, DARK, range(5000, 5012))
    model = shutil.copytree(fitted.path, tmp_path / "model")
    told: list[str] = []
    calibrate_model(tmp_path, model, false_reject=0.1, event=told.append)
    assert any(sentence.startswith(f"No image shows {BRIGHT}, which this model knows") for sentence in told)
    assert load_scorer(model).threshold != fitted.scorer.threshold


def test_score_settings_are_picked_under_the_variants(fitted: FitResult) -> None:
    variants = [BRIGHT, DARK] * 3
    images = [plate(400 + index, variant) for index, variant in enumerate(variants)]
    picked = pick_score_settings(fitted.scorer, shown(fitted.scorer, images, variants))
    assert picked.n_images == 6
    # Each image agrees with its variant, so a drawn defect is what differs.
    assert picked.candidates[0].image_auroc is not None


def test_generated_tiles_show_the_variant_that_is_asked_for(fitted: FitResult, tmp_path: Path) -> None:
    middle = {}
    for variant in (BRIGHT, DARK):
        files = generate(fitted.path, tmp_path / variant, 3, variant=variant)
        tiles = np.stack([read_image(file, channels=1, bit_depth=8) for file in files]).astype(float)
        middle[variant] = tiles[:, 12:20, 12:20].mean(axis=(1, 2, 3))
    assert middle[BRIGHT].min() > middle[DARK].max() + 50
    with pytest.raises(ConfigError, match=f"one of {BRIGHT}, {DARK}, but got 'green'"):
        generate(fitted.path, tmp_path / "green", 1, variant="green")


def test_the_command_line_takes_the_variant(fitted: FitResult, tmp_path: Path) -> None:
    write_image(tmp_path / "part.png", plate(8, DARK))
    common = ("score", tmp_path / "part.png", "--model", fitted.path, "--json")
    as_other = run_cli(*common, "--variant", BRIGHT)
    assert as_other.code == 1
    assert json.loads(as_other.stdout)["verdict"] == "reject"
    unknown = run_cli(*common, "--variant", "green")
    assert unknown.code == 2
    assert f"one of {BRIGHT}, {DARK}, but got 'green'" in " ".join(unknown.stderr.split())
    assert (
        run_cli("generate", "--model", fitted.path, "--out", tmp_path, "--variant", DARK, "--n", 1).code == 0
    )


def test_the_exported_file_is_told_the_variant_and_decides_alike(fitted: FitResult, tmp_path: Path) -> None:
    exported = export_model(tmp_path / "scorer.onnx", fitted.path)
    station = StationScorer(exported.path)
    assert station.variants == (BRIGHT, DARK)
    parts = [plate(500, BRIGHT), plate(501, DARK)]
    for variant in (BRIGHT, DARK):
        wanted = fitted.scorer.score(parts, variant=variant)
        for own, found in zip(wanted, station.score(parts, variant=variant), strict=True):
            assert found.verdict == own.verdict
            assert found.score == pytest.approx(own.score, rel=0.02)
    with pytest.raises(ConfigError, match=f"one of {BRIGHT}, {DARK}, but no variant was given"):
        station.score(parts)
    write_plates(tmp_path / DARK, DARK, range(9, 10))
    (file,) = station.score_files([tmp_path / DARK / "9.png"])
    assert file.inspection is not None
    assert file.inspection.verdict != Verdict.REJECT
    as_other = run_cli("score", file.path, "--model", exported.path, "--variant", BRIGHT, "--json")
    assert (as_other.code, json.loads(as_other.stdout)["verdict"]) == (1, "reject")
    np.save(tmp_path / "images.npy", np.stack(parts))
    measured = [
        measure(Job(runtime, "cpu", path, 1, tmp_path / "images.npy", 0.0, 1))
        for runtime, path, measure in (
            ("pytorch", fitted.path, measure_torch),
            ("onnx", exported.path, measure_station),
        )
    ]
    np.testing.assert_allclose(measured[0].scores, measured[1].scores, rtol=0.02)
    with pytest.raises(ExportError, match="leave out --precision"):
        export_model(tmp_path / "half.onnx", fitted.path, precision="fp16")


def test_data_and_settings_must_agree_on_variants(data: Path, tmp_path: Path) -> None:
    plain = tiny_config(**(SETTINGS | {"network": {"latent_grid": 1}}))
    with pytest.raises(DataError, match=rf"folders {BRIGHT}, {DARK}; .*network\.condition: variant"):
        fit(data, tmp_path / "a", plain)
    write_plates(tmp_path / "loose" / "good", DARK, range(6))
    with pytest.raises(DataError, match=r"lie in no folders of variants; put them into good/<variant>/"):
        fit(tmp_path / "loose", tmp_path / "b", tiny_config(**SETTINGS))
    other = tiny_config(**(SETTINGS | {"network": SETTINGS["network"] | {"variants": ["x", DARK]}}))
    with pytest.raises(ConfigError, match=rf"names x, {DARK}, and .* holds {BRIGHT}, {DARK}"):
        fit(data, tmp_path / "c", other)
    with pytest.raises(ConfigError, match="no variants; leave it out"):
        tiny_scorer_without_variants().score([plate(0, DARK)], variant=DARK)


def tiny_scorer_without_variants() -> Any:
    import torch

    from anogan.calibration import calibrate
    from anogan.gan.networks import build_networks, feature_stack
    from anogan.scoring import Model, Scorer

    config = tiny_config(images={"channels": 1})
    networks = build_networks(config).eval_frozen()
    scales = torch.ones(len(feature_stack(networks.discriminator)))
    unset = calibrate([0.0], false_reject=0.4, review_share=0, statistics={})
    return Scorer(Model(config, networks, scales, None, (32, 32)), unset)
