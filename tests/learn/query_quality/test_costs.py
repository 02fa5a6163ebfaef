from __future__ import annotations

import numpy as np
import pytest

from semroute.catalog import estimate_query_tokens
from semroute.config import Price
from semroute.evaluate.replay import asked_tokens, call_costs
from semroute.outcomes.costs import Costs, with_costs
from semroute.outcomes.table import TableBuilder
from semroute.text.signals import NO_SIGNALS

SHORT, LONG = "How are you?", "Tell me, please, all that you know about the cats of Rome. " * 4
PRICES = {"x": Price(input=1.0, output=2.0)}


def told(prices: dict[str, Price] = PRICES, **numbers: list[float]) -> Costs:
    """Two queries of each task, what is told of each in ``numbers``."""
    builder = TableBuilder()
    for place, (query, task) in enumerate([(SHORT, "a"), (LONG, "a"), ("Add 1 to 2.", "b"), ("Add 3 to 4.", "b")]):
        own = {name: values[place] for name, values in numbers.items()}
        builder.add(builder.row(query, task), "x", {"quality": 1.0, **own}, None)
    return with_costs(builder.table(), prices, lambda texts: [len(text.split()) for text in texts])


@pytest.mark.parametrize(
    "numbers",
    [
        {"input_tokens": [5.0, 50.0, 9.0, 9.0], "output_tokens": [10.0, 20.0, 100.0, 300.0]},
        {"output_tokens": [10.0, 20.0, 100.0, 300.0]},
        {"cost_usd": [1e-4, 3e-4, 1e-2, 2e-2]},
        {"cost_usd": [1e-4, 3e-4, 1e-2, 2e-2], "input_tokens": [5.0, 50.0, 9.0, 9.0]},
    ],
)
def test_expected_costs_have_the_mean_of_the_actual_ones(numbers: dict[str, list[float]]) -> None:
    costs = told(**numbers)
    asked = asked_tokens(costs.table.queries)
    found = call_costs(costs)
    by_task = found.expected(asked, costs.table.tasks)
    for rows in (slice(0, 2), slice(2, 4)):
        np.testing.assert_allclose(by_task[rows].mean(), costs.table.cost[rows].mean(), rtol=1e-5)
    np.testing.assert_allclose(found.expected(asked).mean(), costs.table.cost.mean(), rtol=1e-5)


def test_recorded_costs_without_tokens_take_precedence_and_follow_price_changes() -> None:
    found = call_costs(told(cost_usd=[1e-2] * 4))
    assert found.expected([20])[0, 0] == pytest.approx(1e-2, rel=0.01)
    doubled = found.with_prices({"x": Price(input=2.0, output=4.0)})
    assert doubled.expected([20])[0, 0] == pytest.approx(2e-2, rel=0.01)


def test_a_longer_query_is_expected_to_cost_more_as_the_router_counts_it() -> None:
    costs = told(input_tokens=[4.0, 50.0, 6.0, 6.0], output_tokens=[10.0] * 4)
    asked = asked_tokens(costs.table.queries)
    assert asked.tolist() == [estimate_query_tokens(query) for query in costs.table.queries]
    found = call_costs(costs)
    assert found.scale[0] == pytest.approx(66 / asked.sum())
    short, long = found.expected(asked[:2])[:, 0]
    assert long - short == pytest.approx((asked[1] - asked[0]) * 66 / asked.sum() * 1e-6)


def test_a_conversation_costs_what_its_tokens_do_and_not_what_its_last_words_would() -> None:
    rows = []
    for signals in (NO_SIGNALS, {"turns": 1, "tool_loop": 9}):
        builder = TableBuilder()
        for number in range(4):
            numbers = {"quality": 1.0, "input_tokens": 1000.0, "output_tokens": 10.0}
            builder.add(builder.row(f"query {number}", "", signals=signals), "x", numbers, None)
        rows.append(call_costs(with_costs(builder.table(), {"x": Price(input=1.0, output=1.0)})))
    plain, conversations = rows
    assert conversations.scale.tolist() == [1.0]
    assert plain.scale[0] > 50
    # The router counts the whole conversation before it decides.
    assert conversations.expected([1000])[0, 0] == pytest.approx(1010e-6)


def test_a_discount_on_input_makes_no_call_cost_less_than_nothing() -> None:
    found = call_costs(told({"x": Price(input=100.0, output=1.0)}, cost_usd=[1e-6] * 4))
    assert (found.expected([1, 10, 100_000]) >= 0).all()


def test_expected_cost_without_a_price_is_the_mean_until_one_is_given() -> None:
    found = call_costs(told({}, cost_usd=[0.1, 0.3, 1.0, 1.0], output_tokens=[10.0] * 4, input_tokens=[10.0] * 4))
    np.testing.assert_allclose(found.expected([5, 999], ["a", "b"])[:, 0], [0.2, 1.0])
    priced = found.with_prices({"x": Price(input=0.0, output=1.0)})
    np.testing.assert_allclose(priced.expected([5])[:, 0], [10e-6])
