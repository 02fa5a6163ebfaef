from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from semroute.render.plots import Box, label_points, new_figure

NAMES = ("gemma-2-9b-it", "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1")
COST, QUALITY = np.array([0.034, 0.068, 0.304, 0.304]), np.array([0.62, 0.677, 0.691, 0.670])


def _boxes(figure: object, axes: object) -> list[Box]:
    figure.draw_without_rendering()  # type: ignore[attr-defined]
    return [Box(*text.get_window_extent().extents) for text in axes.texts]  # type: ignore[attr-defined]


def test_labels_cover_no_label_point_or_curve() -> None:
    figure = new_figure(9, 6)
    axes = figure.subplots()
    curve = np.column_stack([np.linspace(0.034, 0.29, 3000), np.linspace(0.62, 0.75, 3000) ** 0.9])
    axes.plot(*curve.T)
    axes.plot(COST, QUALITY, "o")
    axes.set_ylim(0.2, 0.9)
    label_points(figure, axes, NAMES, COST, QUALITY)
    boxes = _boxes(figure, axes)
    assert [text.get_text() for text in axes.texts] == list(NAMES)
    for one, other in combinations(boxes, 2):
        assert not one.meets(other)
    spots = axes.transData.transform(np.column_stack([COST, QUALITY]))
    for box in boxes:
        assert box.holds(spots) == 0
        assert box.holds(axes.transData.transform(curve)) == 0
        left, bottom, right, top = axes.bbox.extents
        assert left <= box.left <= box.right <= right
        assert bottom <= box.bottom <= box.top <= top


@pytest.mark.parametrize("names", [(), ("one",), ("$free$", "line\nbreak")])
def test_few_and_unusual_names_are_drawn(names: tuple[str, ...]) -> None:
    figure = new_figure(4, 3)
    axes = figure.subplots()
    label_points(figure, axes, names, np.zeros(len(names)), np.full(len(names), 0.5))
    assert len(_boxes(figure, axes)) == len(names)
