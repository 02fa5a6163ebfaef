from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.metrics import Totals
from semroute.evaluate.risk import Promise


def test_the_result_matches_a_hand_computation() -> None:
    found = Totals.of(np.array([1.0, 5.0, 2.0, 4.0]), np.array([7, 3, 7, 7]))
    # Group 7 first, with three rows of four; two groups, so two rows in the mean.
    np.testing.assert_allclose(found.value, [7 / 2, 5 / 2])
    np.testing.assert_allclose(found.size, [3 / 2, 1 / 2])
    np.testing.assert_allclose(found.mean, [7 / 3, 5])
    np.testing.assert_allclose(found.residual, [7 / 2 - 3 * 3 / 2, 5 / 2 - 3 / 2])


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1, 1)), min_size=1, max_size=30))
def test_group_totals_keep_the_mean_and_residuals_sum_to_zero(rows: list[tuple[int, float]]) -> None:
    group, values = np.array([number for number, _ in rows]), np.array([value for _, value in rows])
    found = Totals.of(values, group)
    assert len(found.value) == len(set(group.tolist()))
    assert found.value.mean() == pytest.approx(values.mean(), abs=1e-9)
    assert found.size.mean() == pytest.approx(1)
    assert found.residual.sum() == pytest.approx(0, abs=1e-9)
    alone = Totals.of(values, np.arange(len(values)))
    np.testing.assert_allclose(alone.value, Totals.of(values, None).value)


@pytest.mark.slow
def test_a_promise_on_grouped_queries_is_broken_no_more_often_than_the_risk() -> None:
    """Ten rows a group, all alike, just where the floor is not kept in the long run."""
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    broken = {"groups": 0, "rows": 0}
    for _ in range(400):
        shortfall = np.repeat(np.where(random.random(40) < 0.5, 0.9, -0.86), 10)  # its true mean is 0.02
        broken["groups"] += Promise(0.95).is_kept(shortfall, 1.0, group)
        broken["rows"] += Promise(0.95).is_kept(shortfall, 1.0)
    assert broken["groups"] <= 0.05 * 400
    assert broken["rows"] > 0.15 * 400, "which is what groups are for"


def test_one_frequent_query_does_not_make_a_promise_impossible() -> None:
    group = np.maximum(np.arange(430) - 29, 0)  # one of 30 rows, and 400 others
    assert Promise(0.95, ahead=1000).is_kept(np.full(430, -0.1), 0.9, group)


@pytest.mark.slow
def test_the_prediction_bound_holds_for_grouped_rows() -> None:
    random, kept = np.random.default_rng(1), 0
    for _ in range(400):
        sizes = random.integers(1, 20, 120)
        rows = np.repeat(random.random(120), sizes)
        group = np.repeat(np.arange(120), sizes)
        seen = group < 60
        bound = Promise(0.9, ahead=int((~seen).sum())).upper(rows[seen], group[seen])
        kept += rows[~seen].mean() <= bound
    assert 340 <= kept <= 380, "about 360 of 400"
