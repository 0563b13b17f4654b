"""Heat where the map says so, nowhere else; every kind of camera image shown."""

import dataclasses

import numpy as np
import pytest

from anogan.errors import ShapeError
from anogan.inspection import Inspection, Verdict
from anogan.report.overlay import (
    DEFECT_COLOUR,
    MIN_PANEL_HEIGHT,
    THRESHOLD_COLOUR,
    VERDICT_COLOURS,
    inspection_panel,
    overlay,
    panel_pictures,
    reduced,
    report_scale,
    to_display,
)

THRESHOLD = 4.0


def _image(height=64, width=48, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, (height, width, channels), dtype=dtype, endpoint=True)


def _map_with_spot(height=64, width=48, value=12.0):
    anomaly_map = np.zeros((height, width), np.float32)
    anomaly_map[20:30, 10:20] = value
    return anomaly_map


def _inspection(image, anomaly_map=None, **changes):
    anomaly_map = np.zeros(image.shape[:2], np.float32) if anomaly_map is None else anomaly_map
    inspection = Inspection(
        score=float(anomaly_map.max()),
        threshold=THRESHOLD,
        verdict=Verdict.PASS,
        residual_score=0.1,
        discrimination_score=0.2,
        anomaly_score=0.11,
        steps_used=20,
        brightness=0.4,
        ms=12.0,
        anomaly_map=anomaly_map,
        reconstruction=image.copy(),
    )
    return dataclasses.replace(inspection, **changes)


def _has_colour(picture, colour):
    return bool((picture == np.array(colour)).all(axis=-1).any())


def test_a_map_below_half_the_threshold_leaves_the_image_as_it_was():
    image = _image()
    calm = np.full(image.shape[:2], 0.49 * THRESHOLD, np.float32)
    assert np.array_equal(overlay(image, calm, threshold=THRESHOLD), image)


def test_heat_and_line_stay_at_the_spot_that_passes_the_threshold():
    image = _image()
    picture = overlay(image, _map_with_spot(), threshold=THRESHOLD)
    changed = (picture != image).any(axis=-1)
    assert changed[20:30, 10:20].all()
    changed[18:32, 8:22] = False  # The spot and the line around it.
    assert not changed.any()


def test_heat_grows_with_the_map_from_half_to_one_and_a_half_times_the_threshold():
    image = np.zeros((1, 5, 1), np.uint8)
    values = np.float32([[0.5, 0.7, 0.9, 0.95, 0.99]]) * THRESHOLD
    brightness = overlay(image, values, threshold=THRESHOLD).sum(axis=-1)[0].astype(int)
    assert brightness[0] == 0
    assert (np.diff(brightness) > 0).all()


def test_the_threshold_is_outlined_without_hiding_the_region():
    image = np.zeros((64, 48, 3), np.uint8)
    picture = overlay(image, _map_with_spot(), threshold=THRESHOLD)
    assert (picture[19, 10:20] == THRESHOLD_COLOUR).all()
    assert not _has_colour(picture[20:30, 10:20], THRESHOLD_COLOUR)


def test_a_value_equal_to_the_threshold_is_not_outlined():
    image = np.zeros((64, 48, 3), np.uint8)
    picture = overlay(image, _map_with_spot(value=THRESHOLD), threshold=THRESHOLD)
    assert not _has_colour(picture, THRESHOLD_COLOUR)


def test_ground_truth_has_its_own_colour_around_the_defect():
    image = np.zeros((64, 48, 3), np.uint8)
    mask = np.zeros((64, 48), bool)
    mask[40:44, 30:34] = True
    picture = overlay(image, np.zeros((64, 48), np.float32), threshold=THRESHOLD, mask=mask)
    assert (picture[39, 30:34] == DEFECT_COLOUR).all()
    assert (picture[mask] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pixel_that_could_not_be_scored_is_painted_as_the_hottest(bad):
    image = np.zeros((64, 48, 3), np.uint8)
    broken, hottest = _map_with_spot(value=bad), _map_with_spot(value=1e6)
    expected = overlay(image, hottest, threshold=THRESHOLD)
    assert np.array_equal(overlay(image, broken, threshold=THRESHOLD), expected)


@pytest.mark.parametrize("threshold", [0.0, -2.0])
def test_a_threshold_of_zero_or_less_still_separates(threshold):
    image = np.zeros((64, 48, 3), np.uint8)
    anomaly_map = np.full((64, 48), threshold - 3.0, np.float32)
    anomaly_map[20:30, 10:20] = threshold + 3.0
    picture = overlay(image, anomaly_map, threshold=threshold)
    assert picture[25, 15].any()
    assert not picture[50, 40].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_of_8_and_16_bit_become_8_bit_rgb(dtype, channels):
    picture = to_display(_image(channels=channels, dtype=dtype))
    assert picture.shape == (64, 48, 3)
    assert picture.dtype == np.uint8
    assert picture.max() > 250
    if channels == 1:
        assert (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_camera_with_few_bits_in_a_16_bit_file_is_not_shown_black(bits):
    ramp = np.linspace(0, 2**bits - 1, 100).astype(np.uint16).reshape(10, 10, 1)
    assert to_display(ramp).max() == 255


def test_the_display_copy_does_not_touch_the_image():
    image = _image()
    kept = image.copy()
    to_display(image)[:] = 0
    overlay(image, _map_with_spot(), threshold=THRESHOLD)
    assert np.array_equal(image, kept)


def test_image_and_reconstruction_of_16_bit_share_one_scale():
    image = np.full((64, 48, 1), 4095, np.uint16)
    darker = np.full((64, 48, 1), 1023, np.uint16)
    shown, reconstruction, _ = panel_pictures(_inspection(image, reconstruction=darker), image)
    assert shown.max() == 255
    assert reconstruction.max() == round(255 * 1023 / 4095)


@pytest.mark.parametrize("size", [(16, 16), (300, 60), (40, 400), (600, 500)])
def test_the_panel_is_tall_enough_to_read_and_names_the_verdict_in_its_colour(size):
    image = np.zeros((*size, 1), np.uint8)
    panel = inspection_panel(_inspection(image, verdict=Verdict.REJECT), image)
    assert panel.shape[0] >= max(MIN_PANEL_HEIGHT, size[0])
    assert panel.dtype == np.uint8
    assert _has_colour(panel, VERDICT_COLOURS[Verdict.REJECT])
    assert not _has_colour(panel, VERDICT_COLOURS[Verdict.PASS])


def test_the_panel_of_an_image_without_a_score_says_so():
    image = np.zeros((300, 300, 1), np.uint8)
    unscored = inspection_panel(_inspection(image, score=float("nan"), verdict=Verdict.REVIEW), image)
    scored = inspection_panel(_inspection(image, score=5.0, verdict=Verdict.REVIEW), image)
    assert unscored.shape == scored.shape
    assert not np.array_equal(unscored, scored)


def test_a_defect_of_one_pixel_survives_when_a_large_picture_is_reduced():
    image = np.zeros((700, 900, 3), np.uint8)
    for y, x in [(0, 0), (333, 457), (699, 899)]:
        anomaly_map = np.zeros((700, 900), np.float32)
        anomaly_map[y, x] = 50.0
        heatmap = panel_pictures(_inspection(image, anomaly_map), image, scale=0.13)[2]
        assert _has_colour(heatmap, THRESHOLD_COLOUR)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
    ids=["no channel axis", "four channels", "float"],
)
def test_an_image_of_another_kind_is_refused_with_what_to_do(image):
    with pytest.raises(ShapeError, match="expected"):
        overlay(image, np.zeros((8, 8), np.float32), threshold=THRESHOLD)


def test_a_map_or_mask_of_another_size_is_refused_by_name():
    image = _image()
    with pytest.raises(ShapeError, match=r"anomaly_map has shape \(32, 32\).*64 x 48"):
        overlay(image, np.zeros((32, 32), np.float32), threshold=THRESHOLD)
    calm = np.zeros((64, 48), np.float32)
    with pytest.raises(ShapeError, match="mask has shape"):
        overlay(image, calm, threshold=THRESHOLD, mask=np.zeros((64, 47), bool))


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint8, 1), (np.uint16, 3)])
def test_a_reduced_inspection_is_drawn_as_the_whole_one(dtype, channels):
    image = _image(900, 1100, channels, dtype)
    whole = _inspection(image, _map_with_spot(900, 1100))
    small = reduced(whole)
    assert small.anomaly_map.size + small.reconstruction[..., 0].size < 0.2 * 2 * image[..., 0].size
    mask = np.zeros((900, 1100), bool)
    mask[400:500, 300:320] = True
    scale = report_scale((900, 1100))
    for ours, theirs in zip(
        panel_pictures(small, image, mask, scale=scale),
        panel_pictures(whole, image, mask, scale=scale),
        strict=True,
    ):
        np.testing.assert_allclose(ours.astype(int), theirs.astype(int), atol=0 if dtype == np.uint8 else 1)


def test_an_inspection_that_a_report_shows_whole_stays_as_it_is():
    inspection = _inspection(_image())
    assert reduced(inspection) is inspection
