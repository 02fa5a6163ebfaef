"""What the metrics of curves have in common."""

from __future__ import annotations

import numpy as np

from semroute.types.vectors import Doubles


def ratio(part: Doubles | float, whole: Doubles | float) -> Doubles:
    """``part / whole`` with NaN where ``whole`` is not above 0; the two are broadcast."""
    above, below = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.asarray(np.divide(above, below, out=np.full(shape, np.nan), where=below > 0))


def trapezoid(x: Doubles, y: Doubles) -> Doubles:
    """Area under the straight lines through ``(..., k)`` points, x ascending along the last axis."""
    return np.asarray((np.diff(x, axis=-1) * (y[..., 1:] + y[..., :-1])).sum(axis=-1) / 2)


def first_reaching(x: Doubles, y: Doubles, level: float) -> Doubles:
    """The smallest x at which the straight lines through ``(..., k)`` points reach ``level``; NaN where they do not.

    x ascends along the last axis; y need not. Where the first point is at or above ``level``, its x.
    """
    reached = y >= level
    first = reached.argmax(axis=-1)[..., None]
    before = np.maximum(first - 1, 0)
    x0, x1, y0, y1 = (
        np.take_along_axis(values, place, axis=-1)[..., 0] for values in (x, y) for place in (before, first)
    )
    rise = y1 - y0
    part = np.divide(level - y0, rise, out=np.zeros_like(rise), where=rise > 0)
    return np.where(reached.any(axis=-1), x0 + part * (x1 - x0), np.nan)
