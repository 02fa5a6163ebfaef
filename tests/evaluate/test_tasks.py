from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.comparison_results import MIN_QUERIES, needed, task_figures


def test_the_result_matches_a_hand_computation() -> None:
    policy = [np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0])]
    single = [np.array([1.0, 1.0, 0.0, 0.5]), np.array([5.0, 5.0, 5.0, 5.0])]
    one, other = task_figures(["b", "b", "b", "a"], policy, single)
    assert (one.task, one.n, one.quality, one.best_quality) == ("b", 3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (one.cost, one.best_cost) == (pytest.approx(2.0), pytest.approx(5.0))
    # The differences 0, -1 and 1 have the standard deviation 1.
    assert one.error == pytest.approx(1 / np.sqrt(3))
    assert (other.task, other.n) == ("a", 1)
    assert np.isnan(other.error)


def test_duplicates_do_not_narrow_a_tasks_error() -> None:
    policy = [np.array([1.0, 0.0, 1.0]), np.ones(3)]
    single = [np.array([1.0, 1.0, 0.0]), np.ones(3)]
    (once,) = task_figures(["a"] * 3, policy, single)
    many = [[np.repeat(cells, 4) for cells in of] for of in (policy, single)]
    (alike,) = task_figures(["a"] * 12, *many, np.repeat(np.arange(3), 4))
    assert alike.error == pytest.approx(once.error)


def test_sample_size_grows_with_the_deviation() -> None:
    small, large = needed(np.tile([0.1, -0.1], 50), 0.01), needed(np.tile([0.5, -0.5], 50), 0.01)
    assert small.deviation == pytest.approx(0.1, abs=1e-3)
    assert large.for_interval == pytest.approx(25 * small.for_interval, rel=0.02)
    assert large.to_detect is not None
    assert large.to_detect > large.for_interval


def test_sample_size_is_unknown_for_few_queries_or_no_spread() -> None:
    random = np.random.default_rng(0)
    few = needed(random.normal(0, 1, MIN_QUERIES - 1), 0.01)
    assert (few.for_interval, few.to_detect) == (None, None)
    assert few.deviation > 0
    tied = needed(np.zeros(500), 0.01)
    assert (tied.for_interval, tied.to_detect, tied.deviation) == (None, None, 0)
    assert needed(random.normal(0, 1, MIN_QUERIES), 0.01).for_interval is not None
    repeated = needed(random.normal(0, 1, 5).repeat(100), 0.01, np.arange(5).repeat(100))
    assert repeated.for_interval is None, "five queries, a hundred times each, are five"
