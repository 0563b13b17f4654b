"""Pretrained features: from a file only, part of the model, one more kind of evidence."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from anogan.bundle import Bundle, load_bundle, save_bundle
from anogan.calibration import MapStatistics, calibrate
from anogan.config import Config, FeaturesConfig
from anogan.errors import ConfigError
from anogan.recipes import fit
from anogan.recipes.models import load_scorer
from anogan.scoring import Model, Scorer
from anogan.scoring.inverter import Inverter
from anogan.scoring.perceptual import Perceptual, load_perceptual, perceptual_map
from tests.export.conftest import build_model, random_images, small_config
from tests.tiny import no_pictures, part, tiny_config, write_parts

SIZE = (40, 56)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 state dict, as torchvision names it, in a folder with a space and Chinese characters."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("预训练 weights") / "resnet18.safetensors"
    save_file(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def perceptual_model(weights: Path, **features: Any) -> Model:
    config = small_config(features={"weights": str(weights)} | features, search={"steps": 2})
    return replace(build_model(config, SIZE), perceptual=load_perceptual(config.features))


def scorer_of(model: Model) -> Scorer:
    statistics = {
        name: MapStatistics(np.full((1, 1), 0.3, np.float32), np.full((1, 1), 0.2, np.float32))
        for name in ("residual", "discrimination", "head", "perceptual")
    }
    return Scorer(
        model, calibrate(list(range(99)), false_reject=0.01, review_share=0.1, statistics=statistics)
    )


def test_features_are_those_of_the_file(weights: Path, offline: None) -> None:
    features = load_perceptual(FeaturesConfig(weights=str(weights)))
    assert features is not None
    torch.manual_seed(2)
    net = torchvision.models.resnet18(weights=None).eval()
    x = torch.rand(2, 3, 64, 64)
    normalised = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        wanted = net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(normalised))))))
        found = features(x * 2 - 1)
    assert [tuple(stage.shape) for stage in found] == [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4)]
    torch.testing.assert_close(found[1], torch.nn.functional.normalize(wanted, dim=1), rtol=1e-4, atol=1e-5)


def test_no_file_means_no_features() -> None:
    assert load_perceptual(FeaturesConfig()) is None


def test_map_is_zero_for_a_perfect_reconstruction_and_high_at_the_defect(weights: Path) -> None:
    features = load_perceptual(FeaturesConfig(weights=str(weights)))
    assert features is not None
    x = torch.rand(1, 3, 64, 64) * 0.2
    bad = x.clone()
    bad[:, :, 8:20, 40:52] = 1.0
    with torch.no_grad():
        same = perceptual_map(features(x), features(x), (64, 64))
        found = perceptual_map(features(bad), features(x), (64, 64))
    assert not same.any()
    assert found.shape == (1, 1, 64, 64)
    assert found[0, 0, 8:20, 40:52].mean() > 3 * found[0, 0, 40:, :24].mean()
    assert 0 <= found.min() <= found.max() <= 4


def test_grey_images_are_seen_as_colour_images_without_colour(weights: Path) -> None:
    features = load_perceptual(FeaturesConfig(weights=str(weights)))
    assert features is not None
    grey = torch.rand(1, 1, 32, 32)
    for a, b in zip(features(grey), features(grey.repeat(1, 3, 1, 1)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_perceptual_evidence_counts_by_its_weight(weights: Path) -> None:
    model = perceptual_model(weights)
    image = random_images(1, SIZE)
    (evidence,) = scorer_of(model).evidence(image)
    assert set(evidence.parts) == {"residual", "discrimination", "head", "perceptual"}
    (counted,) = scorer_of(model).score(image)
    without = model.config.model_copy(
        update={"score": model.config.score.model_copy(update={"perceptual_weight": 0.0})}
    )
    (ignored,) = scorer_of(replace(model, config=without)).score(image)
    assert abs(counted.score - ignored.score) > 1e-3


def test_score_with_features_does_not_depend_on_the_batch(weights: Path) -> None:
    scorer = scorer_of(perceptual_model(weights, search_weight=0.5))
    images = random_images(2, SIZE)
    together = [found.score for found in scorer.score(images)]
    alone = [scorer.score([image])[0].score for image in images]
    np.testing.assert_allclose(alone, together, rtol=1e-4)


def test_search_term_brings_the_features_closer(weights: Path) -> None:
    distances = []
    for weight in (0.0, 50.0):
        config: Config = small_config(
            features={"weights": str(weights), "search_weight": weight},
            search={"steps": 8, "learning_rate": 0.1},
        )
        model = build_model(config, (32, 32))
        features = load_perceptual(config.features)
        assert features is not None
        inverter = Inverter(config, model.networks, model.feature_scales, features)
        x = torch.from_numpy(np.stack(random_images(2, (32, 32)))).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            got = features(inverter.search(x).reconstruction)
            distances.append(float(perceptual_map(features(x), got, (32, 32)).mean()))
    assert distances[1] < 0.98 * distances[0]


def test_a_saved_model_scores_alike_without_the_weights_file(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "features.safetensors"
    copy.write_bytes(weights.read_bytes())
    scorer = scorer_of(perceptual_model(copy))
    calibration = scorer.calibration
    assert calibration is not None
    save_bundle(
        tmp_path / "model",
        Bundle(
            config=scorer.config,
            weights=scorer.model.to_arrays(),
            calibration=calibration.to_json_dict(),
            calibration_arrays=calibration.to_arrays(),
            metadata={"image_size": list(SIZE)},
        ),
    )
    copy.unlink()
    image = random_images(1, SIZE)
    again = load_scorer(tmp_path / "model").score(image)[0].score
    assert again == pytest.approx(scorer.score(image)[0].score, rel=1e-6)
    assert "perceptual" in load_bundle(tmp_path / "model").weights


def test_weights_without_batch_norm_counters_are_taken(weights: Path, tmp_path: Path) -> None:
    without = {key: value for key, value in load_file(weights).items() if "num_batches" not in key}
    save_file(without, tmp_path / "w.safetensors")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    features = [
        load_perceptual(small_config(features={"weights": str(path)}).features)
        for path in (weights, tmp_path / "w.safetensors")
    ]
    assert features[0] is not None
    assert features[1] is not None
    for a, b in zip(features[0](x), features[1](x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "cannot be read"),
        ("pickle", "not a safetensors file"),
        ("other backbone", "does not fit features.backbone resnet50"),
    ],
)
def test_unfit_weights_are_refused_in_one_sentence(
    kind: str, words: str, weights: Path, tmp_path: Path
) -> None:
    path, backbone = weights, "resnet18"
    if kind == "missing":
        path = tmp_path / "none.safetensors"
    elif kind == "pickle":
        path = tmp_path / "weights.pth"
        torch.save({"conv1.weight": torch.zeros(1)}, path)
    else:
        backbone = "resnet50"
    with pytest.raises(ConfigError, match=words) as refusal:
        load_perceptual(FeaturesConfig(weights=str(path), backbone=backbone))  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


def test_features_are_frozen() -> None:
    features = Perceptual("resnet18")
    assert not features.training
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_a_fit_takes_the_weights_into_its_model_and_needs_the_file_no_more(
    weights: Path, tmp_path: Path, offline: None
) -> None:
    file = Path(shutil.copy(weights, tmp_path / "own.safetensors"))
    good = write_parts(tmp_path / "good", range(16))
    config = tiny_config(
        features={"weights": str(file), "search_weight": 0.1},
        score={"perceptual_weight": 1.0},
        head={"enabled": False},
    )
    with no_pictures():
        result = fit(good, tmp_path / "model", config)
    fitted = result.scorer.score([part(3)])[0]
    file.unlink()
    loaded = load_scorer(result.path)
    (evidence,) = loaded.evidence([part(3)])

    assert loaded.score([part(3)])[0].score == fitted.score
    assert float(evidence.parts["perceptual"].max()) > 0
