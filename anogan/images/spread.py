"""Some of many, evenly spread over all: neighbours in a list are often of one lot."""

from __future__ import annotations

import numpy as np


def evenly_spread(n: int, most: int) -> list[int]:
    """At most `most` places in a list of n, evenly spaced, first and last among them."""
    if n < 1 or most < 1:
        return []
    return [int(place) for place in np.linspace(0, n - 1, min(most, n)).round()]
