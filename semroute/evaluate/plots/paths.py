"""Lines as they are seen: by their way, whatever the points are that they were drawn through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Line = NDArray[np.float64]
"""``(k, 2)`` places that straight lines lead through."""

_SAMPLES = 400
_SEEN = 2e-3
"""Of a picture's width or height: what lies closer together looks the same."""


def along(path: Line, samples: int = _SAMPLES) -> Line:
    """``(samples, 2)`` places at equal distances along a path, from its first to its last."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    steps = np.linspace(0, way[-1], samples)
    return np.column_stack([np.interp(steps, way, path[:, 0]), np.interp(steps, way, path[:, 1])])


def look_the_same(one: Line, other: Line) -> bool:
    """Whether one path hides the other, when both are drawn over the range of the two."""
    both = np.concatenate([one, other])
    low, high = both.min(axis=0), both.max(axis=0)
    scale = np.where(high > low, high - low, 1.0)
    return bool(np.abs(along((one - low) / scale) - along((other - low) / scale)).max() < _SEEN)
