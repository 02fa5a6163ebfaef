from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.curves import aiq, hull, pareto, quality_at

COST = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
QUALITY = np.array([0.2, 0.6, 0.5, 0.8, 0.7])

_POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


def test_the_frontier_by_hand() -> None:
    assert pareto(COST, QUALITY).tolist() == [0, 1, 3]


def test_pareto_keeps_the_first_of_equal_points_and_the_best_of_equally_cheap_ones() -> None:
    cost, quality = np.array([2.0, 1.0, 1.0, 2.0]), np.array([0.5, 0.1, 0.5, 0.5])
    assert pareto(cost, quality).tolist() == [2]


def test_the_hull_by_hand() -> None:
    corners, heights = hull(COST, QUALITY)
    assert corners.tolist() == [1.0, 2.0, 4.0]
    assert heights.tolist() == [0.2, 0.6, 0.8]
    # (2, 0.3) lies below the line from (1, 0.2) to (3, 0.6), and (4, 0.5) is dearer and worse.
    corners, heights = hull(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.2, 0.3, 0.6, 0.5]))
    assert corners.tolist() == [1.0, 3.0]


def test_quality_at_a_budget_is_interpolated_on_the_hull() -> None:
    corners, heights = hull(COST, QUALITY)
    np.testing.assert_allclose(quality_at(corners, heights, np.array([0.5, 1.5, 3.0, 9.0])), [np.nan, 0.4, 0.7, 0.8])


def test_aiq_by_hand() -> None:
    # 0.4 over [1, 2], 0.7 over [2, 4] and 0.8 over [4, 5].
    assert aiq(COST, QUALITY, 1.0, 5.0) == pytest.approx((0.4 + 2 * 0.7 + 0.8) / 4)


def test_quality_below_the_cheapest_point_is_nan() -> None:
    assert aiq(np.array([2.0]), np.array([0.6]), 1.0, 5.0) == pytest.approx(0.6 * 3 / 4)
    assert aiq(np.array([2.0]), np.array([0.6]), 0.5, 2.0) == 0.0


def test_without_a_range_of_costs_there_is_no_aiq() -> None:
    assert np.isnan(aiq(COST, QUALITY, 3.0, 3.0))


def test_free_models_have_a_hull() -> None:
    corners, heights = hull(np.zeros(3), np.array([0.1, 0.7, 0.3]))
    assert (corners.tolist(), heights.tolist()) == ([0.0], [0.7])
    assert aiq(np.zeros(3), np.array([0.1, 0.7, 0.3]), 0.0, 1.0) == pytest.approx(0.7)


@pytest.mark.slow
@given(_POINTS)
def test_a_hull_rises_is_concave_and_lies_above_every_point(points: list[tuple[int, int]]) -> None:
    cost, quality = (np.array(column, np.float64) for column in zip(*points, strict=True))
    corners, heights = hull(cost, quality)
    assert (np.diff(corners) > 0).all()
    assert (np.diff(heights) > 0).all()
    slopes = np.diff(heights) / np.diff(corners)
    assert (np.diff(slopes) < 0).all()
    assert corners[0] == cost.min()
    assert heights[-1] == quality.max()
    assert (quality_at(corners, heights, cost) >= quality - 1e-9).all()


@pytest.mark.slow
@given(_POINTS, _POINTS)
def test_more_policies_never_lower_the_area(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    cost, quality = (np.array(column, np.float64) for column in zip(*some, strict=True))
    both_cost, both_quality = (np.array(column, np.float64) for column in zip(*some, *others, strict=True))
    assert aiq(both_cost, both_quality, 0.0, 7.0) >= aiq(cost, quality, 0.0, 7.0) - 1e-9
