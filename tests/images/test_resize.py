"""One arithmetic for resizing and normalising, the same as torch's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anogan.errors import ShapeError
from anogan.images.resize import from_network, lost_below, resize, resize_weights, to_network


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((40, 60), (16, 16)),
        ((40, 60), (17, 90)),
        ((23, 31), (64, 50)),
        ((100, 9), (7, 9)),
        ((33, 47), (32, 48)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_agrees_with_torch_antialiased_bilinear(
    before: tuple[int, int], after: tuple[int, int], channels: int
) -> None:
    image = noise(*before, channels)
    tensor = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(
        tensor, size=after, mode="bilinear", antialias=True, align_corners=False
    )
    result = resize(image, after)
    assert result.shape == (*after, channels)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected[0].permute(1, 2, 0).numpy(), atol=255e-4)


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = noise(20, 30, 3)
    np.testing.assert_array_equal(resize(image, (20, 30)), image)
    np.testing.assert_array_equal(resize_weights(30, 30), np.eye(30))


@settings(max_examples=50, deadline=None)
@given(n_in=st.integers(1, 80), n_out=st.integers(1, 80))
def test_a_flat_image_stays_flat_at_any_size(n_in: int, n_out: int) -> None:
    weights = resize_weights(n_in, n_out)
    assert weights.shape == (n_out, n_in)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_every_pixel_value_survives_the_network_range_and_back(bit_depth: int, dtype: type) -> None:
    values = np.arange(2**bit_depth).astype(dtype).reshape(16, -1, 1)
    array = to_network(values, bit_depth)
    assert array.dtype == np.float32
    assert (array.min(), array.max()) == (-1, 1)
    np.testing.assert_array_equal(from_network(array, bit_depth), values)


def test_the_network_takes_channels_first() -> None:
    image = noise(10, 20, 3)
    np.testing.assert_allclose(to_network(image, 8)[2, 4, 5], image[4, 5, 2] / 255 * 2 - 1, rtol=1e-5)


def test_values_outside_the_range_are_clipped_not_wrapped() -> None:
    assert from_network(np.array([[[-1.5, 1.5]]]), 8).ravel().tolist() == [0, 255]


def test_an_array_without_a_channel_axis_is_refused() -> None:
    for function in (lambda x: resize(x, (4, 4)), lambda x: to_network(x, 8), lambda x: from_network(x, 8)):
        with pytest.raises(ShapeError, match=r"\(10, 10\)"):
            function(np.zeros((10, 10)))
    with pytest.raises(ShapeError, match="at least 1"):
        resize(np.zeros((10, 10, 1)), (0, 4))


@pytest.mark.parametrize(
    ("size", "resized", "pixels"),
    [
        ((768, 512), (256, 256), 6),
        ((257, 600), (256, 256), 5),
        ((512, 512), (256, 256), None),
        ((64, 64), (256, 256), None),
    ],
)
def test_defects_are_lost_where_photographs_are_more_than_twice_as_large(
    size: tuple[int, int], resized: tuple[int, int], pixels: int | None
) -> None:
    assert lost_below(size, resized) == pixels
