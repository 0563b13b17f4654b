"""The detector keeps scikit-learn's conventions for outlier detectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError

from anogan import AnoganDetector
from anogan.errors import ShapeError
from tests.tiny import part, tiny_config


@pytest.fixture(scope="module")
def fitted() -> AnoganDetector:
    return AnoganDetector(tiny_config()).fit([part(seed) for seed in range(24)])


def test_prediction_is_the_sign_of_the_decision_and_the_decision_is_score_minus_offset(
    fitted: AnoganDetector,
) -> None:
    images = [part(seed) for seed in range(100, 106)]
    scores, decisions = fitted.score_samples(images), fitted.decision_function(images)

    np.testing.assert_allclose(decisions, scores - fitted.offset_)
    assert fitted.predict(images).tolist() == [1 if decision >= 0 else -1 for decision in decisions]
    assert scores.shape == (6,)


def test_higher_is_more_normal_here(fitted: AnoganDetector) -> None:
    image = part(100)
    inspection = fitted.scorer_.score([image])[0]

    assert fitted.score_samples([image])[0] == -inspection.score
    assert fitted.offset_ == -inspection.threshold


def test_clone_keeps_the_settings_and_forgets_the_training(fitted: AnoganDetector) -> None:
    copy = clone(fitted)

    assert is_outlier_detector(copy)
    assert copy.get_params()["config"] == fitted.config
    with pytest.raises(NotFittedError):
        copy.predict([part(0)])


def test_fit_refuses_what_is_no_image() -> None:
    with pytest.raises(ShapeError, match="Image 0"):
        AnoganDetector(tiny_config()).fit([np.zeros((8, 8))])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (part(1), "put a single image into a list"),
        ("test/good", "'test/good' is a path"),
        (["test/good/1.png"], "'test/good/1.png' is a path"),
        ([Path("1.png")], "'1.png' is a path"),
    ],
    ids=["one image", "folder", "files", "paths"],
)
def test_prediction_explains_what_it_takes(given: Any, words: str, fitted: AnoganDetector) -> None:
    with pytest.raises(ShapeError, match=words):
        fitted.predict(given)


def test_no_images_are_told_as_such() -> None:
    with pytest.raises(ShapeError, match="There are no images to train on"):
        AnoganDetector(tiny_config()).fit([])
