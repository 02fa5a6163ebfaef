"""Names beside points, where they cover neither one another nor the curves if there is any such place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from semroute.evaluate.plots.paths import along
from semroute.types.vectors import Doubles

SIZE = 7.5
"""Points of type."""

_DISTANCES = (5.0, 16.0, 30.0)
"""Points from the spot to its name; from the second on a thin line leads there."""
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_COVERS, _OUTSIDE, _CROSSES = 1000.0, 10_000.0, 10.0
_SPOT = 5.0


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def holds(self, points: Doubles) -> int:
        """How many of ``(k, 2)`` points lie within."""
        inside = (points > (self.left, self.bottom)) & (points < (self.right, self.top))
        return int(inside.all(axis=1).sum())


def label_points(figure: Any, axes: Any, names: Sequence[str], x: Doubles, y: Doubles) -> None:
    """Write a name beside each point.

    Call it when all else is drawn. Each name in turn takes the place of :data:`_SIDES` and :data:`_DISTANCES` that
    covers the fewest names and spots, then the least of the curves; of equal places the nearer.

    Args:
        figure: of matplotlib.
        axes: of the figure, with curves and points.
        names: ``m`` of them.
        x: ``(m,)`` of the points, in the data's units.
        y: the same, upwards.
    """
    figure.draw_without_rendering()  # the layout is made here, and pixels mean nothing before
    spots = axes.transData.transform(np.column_stack([x, y]))
    pixels = figure.dpi / 72
    frame = Box(*axes.bbox.extents)
    curves = _curves(axes)
    around = _SPOT * pixels
    taken = [Box(across - around, up - around, across + around, up + around) for across, up in spots]
    for name, spot in zip(names, spots, strict=True):
        width, height = _measured(figure, name)
        places = [
            (side, distance, _box(spot, side, distance * pixels, width, height))
            for distance in _DISTANCES
            for side in _SIDES
        ]
        costs = [_cost(box, frame, taken, curves) + 2 * distance for _, distance, box in places]
        side, distance, box = places[int(np.argmin(costs))]
        taken.append(box)
        _write(axes, name, spot, side, distance, pixels)


def _curves(axes: Any) -> Doubles:
    """``(k, 2)`` pixels along all lines that are drawn, close to one another."""
    found = [np.zeros((0, 2))]
    for line in axes.lines:
        path = line.get_transform().transform(np.column_stack(line.get_data()).astype(np.float64))
        if len(path) > 1 and line.get_linestyle() != "None":
            found.append(along(path))
    return np.concatenate(found)


def _measured(figure: Any, name: str) -> tuple[float, float]:
    """Width and height of a name, in pixels."""
    text = figure.text(0, 0, name, fontsize=SIZE)
    extent = text.get_window_extent()
    text.remove()
    return float(extent.width), float(extent.height)


def _box(spot: Doubles, side: tuple[int, int], distance: float, width: float, height: float) -> Box:
    across, up = side
    left = spot[0] + across * distance + (across - 1) * width / 2
    bottom = spot[1] + up * distance + (up - 1) * height / 2
    return Box(left, bottom, left + width, bottom + height)


def _cost(box: Box, frame: Box, taken: Sequence[Box], curves: Doubles) -> float:
    is_inside = box.left >= frame.left and box.right <= frame.right and box.bottom >= frame.bottom
    is_inside = is_inside and box.top <= frame.top
    return _COVERS * sum(map(box.meets, taken)) + _CROSSES * box.holds(curves) + (0.0 if is_inside else _OUTSIDE)


def _write(axes: Any, name: str, spot: Doubles, side: tuple[int, int], distance: float, pixels: float) -> None:
    far = distance > _DISTANCES[0]
    axes.annotate(
        name,
        axes.transData.inverted().transform(spot),
        xytext=(side[0] * distance, side[1] * distance),
        textcoords="offset points",
        ha=("right", "center", "left")[side[0] + 1],
        va=("top", "center", "bottom")[side[1] + 1],
        fontsize=SIZE,
        color="#333333",
        arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6} if far else None,
        zorder=5,
        in_layout=False,
    )
