from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from semroute.render.plots import new_figure, number_points, without_frame

NAMES = tuple(f"vendor-{place:02}/a-model-with-a-long-name-{'x' * place}" for place in range(12))
COST = np.array([0.034, 0.068, 0.304, 0.304, 8.0, 6.0, 5.0, 0.8, 0.9, 2.0, 0.15, 0.3])
QUALITY = np.array([0.62, 0.677, 0.691, 0.670, 0.83, 0.84, 0.8, 0.72, 0.73, 0.74, 0.68, 0.7])


def drawn(names: tuple[str, ...], cost: np.ndarray, quality: np.ndarray) -> tuple[Any, list[Any], Any]:
    figure = new_figure(14, 6)
    panels = list(figure.subplots(1, 2))
    panels[0].plot(np.sort(cost), np.sort(quality), label="a curve")
    for axes in panels:
        without_frame(axes)
    panels[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.12))
    legend = number_points(figure, panels[0], names, cost, quality, title="models")
    figure.draw_without_rendering()
    return figure, panels, legend


@pytest.mark.slow
def test_the_legend_lists_all_names_from_left_to_right_and_covers_nothing() -> None:
    figure, panels, legend = drawn(NAMES, COST, QUALITY)
    assert [text.get_text() for text in legend.get_texts()] == [NAMES[place] for place in np.lexsort((QUALITY, COST))]
    box = legend.get_window_extent()
    for axes in panels:
        assert not box.overlaps(axes.get_tightbbox())
        assert axes.bbox.width > 0.25 * figure.bbox.width, "the names leave room for the plots"
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
    for one, other in combinations([text.get_window_extent() for text in legend.get_texts()], 2):
        assert not one.overlaps(other)


@pytest.mark.slow
def test_each_point_has_the_number_under_which_the_legend_lists_it() -> None:
    _, panels, _ = drawn(NAMES, COST, QUALITY)
    numerals = {line.get_marker(): line.get_xydata()[0] for line in panels[0].lines if "$" in str(line.get_marker())}
    assert len(numerals) == len(NAMES)
    for number, place in enumerate(np.lexsort((QUALITY, COST)), 1):
        assert numerals[f"${number}$"].tolist() == [COST[place], QUALITY[place]]


@pytest.mark.slow
@pytest.mark.parametrize("names", [(), ("one",), ("$free$", "line\nbreak", "_under")])
def test_few_names_and_odd_ones_are_listed_as_they_are(names: tuple[str, ...]) -> None:
    figure, _, legend = drawn(names, np.arange(len(names), dtype=np.float64), np.full(len(names), 0.5))
    texts = [] if legend is None else legend.get_texts()
    assert [text.get_text() for text in texts] == list(names)
    assert not any(text.get_parse_math() for text in texts)
    figure.draw_without_rendering()
