from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.log_report import Bill

SEED = Bill(500_000, 6000.0, 0.75, 5.0, 0.15)


def test_the_bill_of_the_original_example() -> None:
    assert SEED.before == pytest.approx(15_000.00)
    assert SEED.routed == pytest.approx(4_087.50)
    assert SEED.cascaded(0.25) == pytest.approx(4_200.00)
    assert SEED.break_even == pytest.approx(0.97)
    assert SEED.routing_even == pytest.approx((4087.5 - 450) / 15_000)


PRICES = st.floats(0.001, 100)


@pytest.mark.slow
@given(st.integers(1, 10**9), st.floats(1, 1e6), st.floats(0, 1), PRICES, PRICES)
def test_at_the_break_even_a_cascade_costs_what_the_strong_model_costs(
    queries: int, tokens: float, simple: float, strong: float, weak: float
) -> None:
    bill = Bill(queries, tokens, simple, strong, weak)
    if weak < strong:
        assert bill.cascaded(bill.break_even) == pytest.approx(bill.before)
        assert bill.cascaded(bill.break_even * 0.9) <= bill.before
        assert bill.routed <= bill.before * (1 + 1e-9)
    else:
        assert bill.break_even == 0.0
        assert bill.cascaded(0.0) >= bill.before


def test_free_models_have_no_bill() -> None:
    free = Bill(10, 10, 0.5, 0.0, 0.0)
    assert (free.before, free.routed, free.cascaded(1), free.break_even, free.routing_even) == (0, 0, 0, 0, 0)
