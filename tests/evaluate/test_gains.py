from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.curves import cost_save, pareto_distance, perf_gain

COST, QUALITY = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.62, 0.66])


def test_the_gain_is_that_of_the_best_point() -> None:
    assert perf_gain(QUALITY, 0.6) == pytest.approx(0.1)
    assert np.isnan(perf_gain(QUALITY, 0.0))


def test_cost_save_uses_the_cheapest_point_of_equal_quality() -> None:
    assert cost_save(COST, QUALITY, 8.0, 0.6) == pytest.approx(0.75)
    assert cost_save(COST, QUALITY, 8.0, 0.5) == pytest.approx(0.875)
    assert cost_save(COST, QUALITY, 1.0, 0.66) == pytest.approx(-3.0)
    assert np.isnan(cost_save(COST, QUALITY, 8.0, 0.7))
    assert np.isnan(cost_save(COST, QUALITY, 0.0, 0.6))


def test_resamples_are_one_call() -> None:
    costs, qualities = np.stack([COST, COST]), np.stack([QUALITY, QUALITY + 0.1])
    np.testing.assert_allclose(perf_gain(qualities, np.array([0.6, 0.6])), [0.1, 0.76 / 0.6 - 1])
    np.testing.assert_allclose(cost_save(costs, qualities, np.array([8.0, 8.0]), np.array([0.6, 0.6])), [0.75, 0.875])


def test_the_distance_from_the_frontier_by_hand() -> None:
    # Scaled by 3 and by 0.5, (4, 0.6) is at (1, 0.2) from (1, 0.5) and at (0, 0.8) from (4, 1).
    all_cost, all_quality = np.array([1.0, 4.0, 4.0]), np.array([0.5, 0.6, 1.0])
    assert pareto_distance(np.array([4.0]), np.array([0.6]), all_cost, all_quality) == pytest.approx(0.8)
    assert pareto_distance(all_cost[[0, 2]], all_quality[[0, 2]], all_cost, all_quality) == 0.0


def test_points_that_are_all_the_same_are_the_frontier() -> None:
    same = np.ones(2)
    assert pareto_distance(same, same, same, same) == 0.0
