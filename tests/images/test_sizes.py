"""The size that images share."""

from pathlib import Path

import pytest

from anogan.errors import DataError
from anogan.images.sizes import common_size, most_common_size
from tests.images.noise import draw, draw_many


def test_mixed_sizes_name_the_odd_files_and_both_sizes(tmp_path: Path) -> None:
    paths = draw_many(tmp_path, 6)
    assert common_size(paths) == (12, 16)
    paths += [draw(tmp_path / f"odd{i}.png", size=(10, 20)) for i in range(5)]
    with pytest.raises(
        DataError, match=r"5 of 11 .*16x12: odd0\.png \(20x10\), .*odd2\.png \(20x10\); rem"
    ) as caught:
        common_size(paths)
    assert "odd3" not in str(caught.value)
    assert most_common_size(paths) == (12, 16)


def test_of_equally_frequent_sizes_the_larger_is_taken(tmp_path: Path) -> None:
    paths = [draw(tmp_path / "a.png", size=(9, 9)), draw(tmp_path / "b.png", size=(11, 11))]
    assert most_common_size(paths) == most_common_size(paths[::-1]) == (11, 11)
    with pytest.raises(DataError, match="no images"):
        common_size([])
