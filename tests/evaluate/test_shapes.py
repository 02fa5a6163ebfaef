from __future__ import annotations

import numpy as np

from semroute.evaluate.metrics import first_reaching, ratio, trapezoid


def test_a_ratio_with_zero_denominator_is_nan() -> None:
    np.testing.assert_array_equal(ratio(np.array([1.0, 1.0, 0.0]), np.array([2.0, 0.0, -1.0])), [0.5, np.nan, np.nan])
    assert ratio(np.ones((2, 3)), 4.0).shape == (2, 3)


def test_the_area_of_a_triangle_and_a_rectangle() -> None:
    x, y = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]]), np.array([[0.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    assert trapezoid(x, y).tolist() == [1.0, 6.0]


def test_a_level_is_reached_between_points_and_the_first_time_counts() -> None:
    x, y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.8, 0.2, 1.0])
    assert first_reaching(x, y, 0.4) == 0.5
    assert first_reaching(x, y, 0.9) == 2.875
    assert first_reaching(x, y, 0.0) == 0.0
    assert np.isnan(first_reaching(x, y, 1.1))


def test_a_level_below_the_first_point_is_reached_there() -> None:
    assert first_reaching(np.array([[1.0, 2.0]]), np.array([[0.5, 0.6]]), 0.2).tolist() == [1.0]
