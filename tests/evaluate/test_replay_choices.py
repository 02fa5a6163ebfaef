from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semroute.evaluate.replay import choose, value_within, values

PREDICTED = np.array([[0.5, 0.9], [0.8, 0.8], [0.9, 0.2]], np.float32)
COST = np.array([[1.0, 3.0], [1.0, 3.0], [1.0, 3.0]], np.float32)

_CELLS = arrays.arrays(np.float32, (12, 3), elements=st.floats(0, 1, width=32))


def test_the_result_matches_a_hand_computation() -> None:
    assert choose(PREDICTED, COST, 0.0).tolist() == [0, 0, 0]
    assert choose(PREDICTED, COST, 4.9).tolist() == [0, 0, 0]
    assert choose(PREDICTED, COST, 5.1).tolist() == [1, 0, 0]
    assert choose(PREDICTED, COST, np.inf).tolist() == [1, 0, 0]


def test_of_equal_worth_the_cheaper_is_chosen_whatever_the_order() -> None:
    same = np.full((1, 3), 0.5, np.float32)
    assert choose(same, np.array([[3.0, 1.0, 2.0]], np.float32), np.inf).tolist() == [1]
    assert choose(same, np.array([[2.0, 2.0, 2.0]], np.float32), np.inf).tolist() == [0]


def test_the_values_are_where_queries_change_their_model() -> None:
    predicted = np.array([[0.0, 0.1], [0.0, 0.2], [0.0, 0.5], [0.5, 0.2]], np.float32)
    cost = np.tile(np.array([1.0, 2.0], np.float32), (4, 1))
    grid = values(predicted, cost, points=5)
    np.testing.assert_allclose(grid, [0, 2, 5, 10, np.inf], rtol=1e-5)
    shares = [choose(predicted, cost, value * 1.001).mean() for value in grid[:-1]]
    assert shares == [0.0, 0.25, 0.5, 0.75]


def test_values_are_zero_and_infinity_if_no_choice_ever_changes() -> None:
    assert values(PREDICTED, np.zeros_like(COST)).tolist() == [0.0, np.inf]
    assert values(PREDICTED[:, :1], COST[:, :1]).tolist() == [0.0, np.inf]


@pytest.mark.slow
@given(_CELLS, _CELLS)
def test_quality_and_cost_never_fall_as_value_rises(predicted: np.ndarray, cost: np.ndarray) -> None:
    rows = np.arange(len(predicted))
    before = None
    for value in (0.0, 0.1, 1.0, 10.0, np.inf):
        choice = choose(predicted, cost, value)
        now = predicted[rows, choice], cost[rows, choice]
        if before is not None:
            assert (now[0] >= before[0] - 1e-6).all()
            assert (now[1] >= before[1] - 1e-6).all()
        before = now


@pytest.mark.slow
@given(st.integers(0, 500), st.floats(0.05, 5))
def test_value_within_is_the_highest_value_within_the_budget(seed: int, budget: float) -> None:
    random = np.random.default_rng(seed)
    predicted, cost = random.random((40, 3)).astype(np.float32), random.uniform(0.1, 4, (40, 3)).astype(np.float32)

    def spent(value: float) -> float:
        return float(np.take_along_axis(cost, choose(predicted, cost, value)[:, None], 1).mean(dtype=np.float64))

    found = value_within(predicted, cost, budget)
    if found is None:
        assert spent(0.0) > budget
    else:
        assert spent(found) <= budget
        assert math.isinf(found) or spent(found * 1.001 + 1e-6) > budget
