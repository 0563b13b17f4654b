"""Plots carry what they promise: counts, points and captions, read back from what is drawn."""

import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from anogan.errors import DataError, ShapeError
from anogan.report import plots

RNG = np.random.default_rng(0)
GOOD, DEFECT = RNG.normal(2, 0.5, 120), RNG.normal(7, 2, 40)


@pytest.fixture
def figures(monkeypatch):
    """The figures behind the PNGs, so that a test can read what was drawn."""
    kept = []
    original = plots._png

    def keep(figure):
        kept.append(figure)
        return original(figure)

    monkeypatch.setattr(plots, "_png", keep)
    return kept


def _decoded(png):
    assert png.startswith(b"\x89PNG")
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _counts(axes):
    return sum(bar.get_height() for bar in axes.patches)


def test_the_histogram_counts_every_image_even_far_outliers(figures):
    plots.score_histogram([*GOOD, -50.0], [*DEFECT, 1e4], 4.0, 3.0)
    good, defect = figures[0].axes
    assert _counts(good) == len(GOOD) + 1
    assert _counts(defect) == len(DEFECT) + 1
    assert "and above" in defect.get_xlabel()


def test_one_far_outlier_does_not_squeeze_the_histogram(figures):
    plots.score_histogram(GOOD, [*DEFECT, 1e4], 4.0, 3.0)
    assert figures[0].axes[0].get_xlim()[1] < 30


def test_no_bar_of_the_histogram_lies_on_both_sides_of_the_threshold(figures):
    plots.score_histogram([*GOOD, 4.0, 4.0], DEFECT, 4.0, 3.0)
    good, _ = figures[0].axes
    left = sum(bar.get_height() for bar in good.patches if bar.get_x() + bar.get_width() / 2 < 4.0)
    assert left == np.sum(GOOD <= 4.0) + 2  # A score equal to the threshold passes.


def test_the_histogram_without_defects_or_review_band_shows_neither(figures):
    plots.score_histogram(GOOD, [], 4.0, 4.0)
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.texts] == ["reject above 4"]


@pytest.mark.parametrize(("scores", "threshold"), [([1.0], 1.0), ([0.0, 0.0], 0.0), ([-3.0, -2.0], -2.5)])
def test_the_histogram_holds_scores_that_are_equal_or_negative(scores, threshold, figures):
    plots.score_histogram(scores, [], threshold, threshold)
    assert _counts(figures[0].axes[0]) == len(scores)


def test_scores_that_are_not_finite_are_left_out_and_none_left_is_an_error():
    with pytest.raises(DataError, match="no finite score"):
        plots.score_histogram([np.nan], [np.inf], 4.0, 3.0)


def test_labels_of_the_histogram_are_not_clipped(figures):
    plots.score_histogram(GOOD, DEFECT, 1.0, 0.9)
    figure = figures[0]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def test_roc_area_equals_the_share_of_pairs_in_the_right_order_with_ties_as_half():
    good, defect = RNG.integers(0, 6, 50).astype(float), RNG.integers(2, 9, 30).astype(float)
    pairs = np.mean((defect[:, None] > good) + 0.5 * (defect[:, None] == good))
    false_rejects, found = plots.roc_points(good, defect)
    assert np.trapezoid(found, false_rejects) == pytest.approx(pairs)
    assert (false_rejects[0], found[0], false_rejects[-1], found[-1]) == (0, 0, 1, 1)


def test_the_roc_marks_the_calibrated_threshold_on_the_curve(figures):
    plots.roc_curve([1, 2, 3, 4], [3, 4, 5, 6, 7], 3.5)
    (axes,) = figures[0].axes
    ((x,), (y,)) = axes.lines[-1].get_data()
    assert (x, y) == (0.25, 0.8)
    assert (x, y) in set(zip(*axes.lines[1].get_data(), strict=True))


def test_a_roc_of_one_kind_alone_is_refused():
    with pytest.raises(DataError, match="good and defective"):
        plots.roc_curve(GOOD, [], 4.0)


def test_curves_are_grouped_by_prefix_or_last_word(figures):
    names = ["loss/generator", "loss/discriminator", "inversion_error", "diversity"]
    plots.training_curves({name: [(0, 1.0), (10, 0.5)] for name in names})
    drawn = {axes.get_title(loc="left") for axes in figures[0].axes if axes.get_visible()}
    assert drawn == {"loss", "error", "diversity"}
    assert [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()] == [
        "generator",
        "discriminator",
    ]


def test_a_value_that_is_not_finite_leaves_a_gap_and_the_rest_is_drawn(figures):
    plots.training_curves({"loss": [(0, 1.0), (1, np.nan), (2, np.inf), (3, 2.0)]})
    drawn = figures[0].axes[0].lines[-1].get_ydata()
    assert np.array_equal(np.isnan(drawn), [False, True, True, False])


def test_the_running_mean_of_a_constant_is_that_constant_up_to_both_ends():
    values = np.full(100, 3.0)
    values[40] = np.nan
    mean = plots._running_mean(values, 7)
    assert np.allclose(mean[np.isfinite(mean)], 3.0)
    assert np.isnan(mean[40])


def test_a_wide_range_of_positive_values_gets_a_logarithmic_scale(figures):
    plots.training_curves({"norm/a": [(0, 1e-3), (1, 10.0)], "loss/a": [(0, -1.0), (1, 500.0)]})
    scales = {axes.get_title(loc="left"): axes.get_yscale() for axes in figures[0].axes}
    assert scales == {"norm": "log", "loss": "linear"}


def test_an_empty_history_is_an_error_in_words():
    with pytest.raises(DataError, match="history is empty"):
        plots.training_curves({"loss": []})


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_shows_each_pixel_unchanged_in_reading_order(channels):
    images = RNG.integers(0, 255, (5, 32, 24, channels), dtype=np.uint8)
    sheet = _decoded(plots.image_grid(images, 3))
    factor = 4  # 24 pixels become 96.
    for i, image in enumerate(images):
        top = 4 + i // 3 * (32 * factor + 4)
        left = 4 + i % 3 * (24 * factor + 4)
        cell = sheet[top : top + 32 * factor : factor, left : left + 24 * factor : factor]
        assert np.array_equal(cell, np.broadcast_to(image, (32, 24, 3)))


def test_captions_of_any_characters_are_drawn_without_a_warning():
    images = np.zeros((3, 32, 32, 1), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = _decoded(plots.image_grid(images, 3))
        captioned = _decoded(plots.image_grid(images, 3, ["$a_{", "短路 50 %", "a very long name " * 9]))
    assert captioned.shape[0] == plain.shape[0] + 20
    below = np.array_split(captioned[-22:], 3, axis=1)
    assert all(strip.min() < 100 for strip in below)  # Ink below each image.


@pytest.mark.parametrize(
    ("images", "columns", "captions"),
    [
        (np.zeros((2, 8, 8), np.uint8), 2, None),
        (np.zeros((0, 8, 8, 3), np.uint8), 2, None),
        (np.zeros((2, 8, 8, 3), np.float32), 2, None),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, None),
        (np.zeros((2, 8, 8, 3), np.uint8), 2, ["one"]),
    ],
    ids=["no channels", "no image", "float", "no column", "caption missing"],
)
def test_a_grid_that_cannot_be_drawn_is_refused(images, columns, captions):
    with pytest.raises(ShapeError, match="grid got"):
        plots.image_grid(images, columns, captions)


def test_plots_never_load_pyplot_and_their_import_loads_no_matplotlib():
    code = (
        "import sys; from anogan.report import plots; assert 'matplotlib' not in sys.modules;"
        "plots.score_histogram([1, 2], [3], 2.5, 2); plots.roc_curve([1, 2], [3], 2.5);"
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
