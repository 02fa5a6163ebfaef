from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from semroute.config import Price
from semroute.errors import InputError
from semroute.outcomes.costs import ASSUMED_TOKENS, with_costs
from semroute.outcomes.table import OutcomeTable, TableBuilder

PRICES = {"small": Price(input=1.0, output=2.0), "large": Price(input=10.0, output=30.0)}


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def _table(*cells: tuple[str, str, str, dict[str, float | None], str | None]) -> OutcomeTable:
    builder = TableBuilder(_words)
    for query, task, model, numbers, response in cells:
        builder.add(builder.row(query, task), model, {"quality": 1.0} | numbers, response)
    return builder.table()


def test_recorded_costs_are_kept_and_recorded_tokens_priced() -> None:
    table = _table(
        ("q", "t", "small", {"cost_usd": 0.5, "input_tokens": 9, "output_tokens": 9}, None),
        ("q", "t", "large", {"input_tokens": 100, "output_tokens": 20}, None),
    )
    costs = with_costs(table, PRICES)
    np.testing.assert_allclose(costs.table.cost, [[0.5, (100 * 10 + 20 * 30) / 1e6]], rtol=1e-6)
    assert (costs.told, costs.reckoned, costs.is_estimated) == (1, 1, False)
    np.testing.assert_allclose(costs.price, [[1e-6, 1e-5], [2e-6, 3e-5]])


def test_missing_tokens_are_counted_then_imputed_by_model_and_task() -> None:
    table = _table(
        ("one two three", "t", "small", {}, "a b"),
        ("four", "t", "small", {}, "a b c d"),
        ("five", "t", "small", {}, None),
        ("six", "u", "small", {}, None),
    )
    costs = with_costs(table, PRICES, _words)
    tokens = [(3, 2), (1, 4), (1, 3), (1, 3)]
    np.testing.assert_allclose(costs.table.cost[:, 0] * 1e6, [i * 1 + o * 2 for i, o in tokens], rtol=1e-5)
    assert (costs.told, costs.reckoned, costs.counted, costs.averaged, costs.assumed) == (0, 0, 2, 2, 0)
    assert costs.is_estimated


def test_without_any_response_the_same_length_is_assumed_for_all_models() -> None:
    table = _table(("q", "", "small", {"input_tokens": 5}, None), ("q", "", "large", {"input_tokens": 5}, None))
    costs = with_costs(table, PRICES)
    assert costs.assumed == 2
    assert costs.table.output_tokens.tolist() == [[ASSUMED_TOKENS, ASSUMED_TOKENS]]


def test_missing_cells_get_an_estimated_cost() -> None:
    told = {"input_tokens": 10.0, "output_tokens": 10.0}
    table = _table(("a", "t", "small", told, None), ("a", "t", "large", told, None), ("b", "t", "large", told, None))
    costs = with_costs(table, PRICES, _words)
    assert np.isfinite(costs.table.cost).all()
    assert costs.averaged == 1


def test_free_models_cost_nothing() -> None:
    costs = with_costs(_table(("q", "", "small", {}, "a")), {"small": Price(input=0, output=0)}, _words)
    assert costs.table.cost.tolist() == [[0.0]]


def test_a_model_without_price_needs_recorded_costs_of_every_call() -> None:
    table = _table(("q", "", "odd", {}, "a"), ("q", "", "small", {}, "a"))
    with pytest.raises(InputError, match='no price for "odd", and some outcomes have no cost'):
        with_costs(table, PRICES, _words)
    assert with_costs(_table(("q", "", "odd", {"cost_usd": 0.25}, None)), {}).table.cost.tolist() == [[0.25]]


def test_without_a_tokenizer_uncounted_queries_are_refused() -> None:
    with pytest.raises(InputError, match='no "input_tokens"'):
        with_costs(_table(("q", "", "small", {}, "a")), PRICES)
