"""The detector in scikit-learn's terms, for pipelines and comparisons made of its outlier detectors."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from anogan.config import Config
from anogan.errors import ShapeError
from anogan.images.decode import write_image
from anogan.recipes.fitting import fit

Images = Sequence[NDArray[np.generic]] | str | Path


class AnoganDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """An outlier detector over images, with scikit-learn's signs.

    Here alone higher means *more normal*, as in `IsolationForest`: `score_samples` is minus the anomaly
    score, `decision_function` is at least 0 for what passes, `predict` gives 1 for inliers and -1 for
    outliers. The threshold stays the conformal one of `config.calibration`.

    Args:
        config: Every setting, or as `anogan.fit` takes it; None for what suits the images.
        out: Where the model folder goes; None keeps it in memory only.
    """

    def __init__(self, config: Config | Path | str | None = None, out: str | Path | None = None) -> None:
        self.config = config
        self.out = out

    def fit(self, X: Images, y: object = None) -> AnoganDetector:  # noqa: N803
        """Trains on good images: a folder, or (H, W, C) uint8 or uint16 arrays; y is not used.

        Raises:
            ShapeError: X is neither.
            AnoganError: See `anogan.fit`.
        """
        with tempfile.TemporaryDirectory() as work:
            data = Path(X) if isinstance(X, str | Path) else _as_folder(X, Path(work) / "good")
            result = fit(data, Path(work) / "model" if self.out is None else self.out, self.config)
        self.scorer_ = result.scorer
        self.offset_ = -float(result.scorer.threshold)
        return self

    def score_samples(self, X: Sequence[NDArray[np.generic]]) -> NDArray[np.float64]:  # noqa: N803
        """Minus the anomaly score, (n,); higher is more normal."""
        check_is_fitted(self)
        _refuse_paths(X)
        images = X if isinstance(X, np.ndarray) else list(X)
        return np.array([-inspection.score for inspection in self.scorer_.score(images)])

    def decision_function(self, X: Sequence[NDArray[np.generic]]) -> NDArray[np.float64]:  # noqa: N803
        """`score_samples` minus `offset_`, (n,); below 0 is rejected."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:  # noqa: N803
        """1 for what is not rejected, -1 for outliers, (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def __sklearn_tags__(self) -> Any:
        """Images, not rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _refuse_paths(images: object) -> None:
    some = images if isinstance(images, list | tuple) else [images]
    if path := next((one for one in some if isinstance(one, str | Path)), None):
        raise ShapeError(
            f"Images are expected as (H, W, C) arrays, and {str(path)!r} is a path; a file goes to "
            "`scorer_.score_file`."
        )


def _as_folder(images: Sequence[NDArray[np.generic]], folder: Path) -> Path:
    """Files of the arrays: the split, the hashes and the refusal of leaks work on files."""
    if not len(images):
        raise ShapeError("There are no images to train on; give (H, W, C) arrays of good parts.")
    folder.mkdir()
    for index, image in enumerate(images):
        array = np.asarray(image)
        if array.ndim != 3 or array.dtype not in (np.uint8, np.uint16):
            raise ShapeError(
                f"Image {index} is {array.dtype} of shape {array.shape}; expected (H, W, C) uint8 or uint16."
            )
        write_image(folder / f"{index:06d}.png", array)
    return folder
