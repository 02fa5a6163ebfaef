from __future__ import annotations

import numpy as np

from semroute.config import Price
from semroute.evaluate.replay import Fold, expected_costs
from semroute.outcomes.costs import with_costs
from semroute.outcomes.table import TableBuilder


def test_the_output_is_the_mean_of_the_training_rows_whatever_the_task() -> None:
    builder = TableBuilder()
    for number, (task, tokens) in enumerate([("t", 10), ("t", 30), ("u", 100), ("t", 999), ("v", 999)]):
        numbers = {"quality": 1.0, "input_tokens": 7.0, "output_tokens": float(tokens)}
        builder.add(builder.row(f"q{number}", task), "x", numbers, None)
    costs = with_costs(builder.table(), {"x": Price(input=1.0, output=2.0)})
    found = expected_costs(costs, [Fold(np.array([0, 1, 2]), np.array([3, 4]))])
    assert np.isnan(found[:3]).all()
    # A router does not know the task of a query: (10 + 30 + 100) / 3 tokens for both.
    np.testing.assert_allclose(found[3:, 0] * 1e6, [7 + 2 * 140 / 3] * 2, rtol=1e-5)


def test_expected_cost_without_a_price_is_the_mean_cost() -> None:
    builder = TableBuilder()
    for number in range(3):
        numbers = {"quality": 1.0, "cost_usd": 0.1 * (number + 1), "input_tokens": 7.0}
        builder.add(builder.row(f"q{number}", ""), "x", numbers, None)
    costs = with_costs(builder.table(), {})
    found = expected_costs(costs, [Fold(np.array([0, 1]), np.array([2]))])
    np.testing.assert_allclose(found[2], [0.15], rtol=1e-6)
