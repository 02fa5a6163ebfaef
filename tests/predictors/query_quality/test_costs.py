from __future__ import annotations

import numpy as np
import pytest

from semroute.config import Price
from semroute.predictors.query_quality import CallCosts

COSTS = CallCosts(
    models=("small", "told"),
    tasks=("code",),
    price=np.array([[1e-6, np.nan], [2e-6, np.nan]]),
    scale=np.array([1.0, 0.5]),
    tokens=np.array([[100.0, 50.0], [300.0, np.nan]]),
    flat=np.array([[9.0, 0.01], [9.0, 0.02]]),
)


def test_a_call_costs_its_input_and_the_output_that_is_expected_in_the_task() -> None:
    found = COSTS.expected([10, 10, 10], ["code", "", "unheard of"])
    np.testing.assert_allclose(found[:, 0], [10e-6 + 600e-6, 10e-6 + 200e-6, 10e-6 + 200e-6])


def test_a_model_without_price_keeps_its_recorded_costs() -> None:
    np.testing.assert_allclose(COSTS.expected([10, 999], ["code", ""])[:, 1], [0.02, 0.01])


def test_new_prices_replace_the_old_and_the_rest_stays() -> None:
    changed = COSTS.with_prices({"told": Price(input=4, output=8), "nobody": Price(input=1, output=1)})
    found = changed.expected([10])
    np.testing.assert_allclose(found[0], [210e-6, 10 * 0.5 * 4e-6 + 50 * 8e-6])
    assert COSTS.expected([10])[0, 1] == pytest.approx(0.01)


def test_a_price_of_zero_is_a_price() -> None:
    assert COSTS.with_prices({"told": Price(input=0, output=0)}).expected([10])[0, 1] == 0
