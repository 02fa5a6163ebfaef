from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.comparison_results import LEAST, needed, task_figures


def test_by_hand() -> None:
    policy = [np.array([1.0, 0.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0])]
    single = [np.array([1.0, 1.0, 0.0, 0.5]), np.array([5.0, 5.0, 5.0, 5.0])]
    one, other = task_figures(["b", "b", "b", "a"], policy, single)
    assert (one.task, one.n, one.quality, one.best_quality) == ("b", 3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (one.cost, one.best_cost) == (pytest.approx(2.0), pytest.approx(5.0))
    # The differences 0, -1 and 1 have the standard deviation 1.
    assert one.error == pytest.approx(1 / np.sqrt(3))
    assert (other.task, other.n) == ("a", 1)
    assert np.isnan(other.error)


def test_queries_that_say_the_same_make_no_task_surer() -> None:
    policy = [np.array([1.0, 0.0, 1.0]), np.ones(3)]
    single = [np.array([1.0, 1.0, 0.0]), np.ones(3)]
    (once,) = task_figures(["a"] * 3, policy, single)
    many = [[np.repeat(cells, 4) for cells in of] for of in (policy, single)]
    (alike,) = task_figures(["a"] * 12, *many, np.repeat(np.arange(3), 4))
    assert alike.error == pytest.approx(once.error)


def test_what_is_needed_grows_with_the_deviation() -> None:
    small, large = needed(np.tile([0.1, -0.1], 50), 0.01), needed(np.tile([0.5, -0.5], 50), 0.01)
    assert small.deviation == pytest.approx(0.1, abs=1e-3)
    assert large.for_interval == pytest.approx(25 * small.for_interval, rel=0.02)
    assert large.to_detect is not None
    assert large.to_detect > large.for_interval


def test_of_few_queries_or_of_none_that_differ_nothing_can_be_told() -> None:
    random = np.random.default_rng(0)
    few = needed(random.normal(0, 1, LEAST - 1), 0.01)
    assert (few.for_interval, few.to_detect) == (None, None)
    assert few.deviation > 0
    tied = needed(np.zeros(500), 0.01)
    assert (tied.for_interval, tied.to_detect, tied.deviation) == (None, None, 0)
    assert needed(random.normal(0, 1, LEAST), 0.01).for_interval is not None
    repeated = needed(random.normal(0, 1, 5).repeat(100), 0.01, np.arange(5).repeat(100))
    assert repeated.for_interval is None, "five queries, a hundred times each, are five"
