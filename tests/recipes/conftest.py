"""The parts that fits are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import no_pictures, write_parts


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """Fits draw none: the command's tests look at them."""
    with no_pictures():
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sixteen good parts."""
    return write_parts(tmp_path_factory.mktemp("线 1") / "good", range(16))
