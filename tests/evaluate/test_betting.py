from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semroute.evaluate.risk import mean_is_below


def test_a_mean_that_is_clearly_below_is_shown_to_be() -> None:
    values = np.random.default_rng(0).random(500)
    assert mean_is_below(values, 0.6, 0.0, 1.0, 0.05)
    assert not mean_is_below(values, 0.5, 0.0, 1.0, 0.05)
    assert not mean_is_below(values, 0.51, 0.0, 1.0, 0.05), "500 rows cannot tell a hundredth"
    assert not mean_is_below(values[:5], 0.6, 0.0, 1.0, 0.05)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_where_the_mean_is_at_the_bound_it_is_wrong_no_more_often_than_the_risk(share: float) -> None:
    random = np.random.default_rng(1)
    wrong = sum(
        mean_is_below((random.random(200) < share).astype(np.float64), share, 0.0, 1.0, 0.1) for _ in range(1000)
    )
    assert wrong <= 100 + 3 * 9.5, "10% of 1,000, and three standard errors"


def test_shares_far_below_are_found_with_few_rows() -> None:
    assert mean_is_below(np.zeros(60), 0.1, 0.0, 1.0, 0.05)
    assert not mean_is_below(np.zeros(10), 0.1, 0.0, 1.0, 0.05)


def test_bounds_outside_of_all_values_need_no_rows() -> None:
    assert mean_is_below(np.ones(0), 1.1, 0.0, 1.0, 0.05)
    assert not mean_is_below(np.zeros(100), 0.0, 0.0, 1.0, 0.05)
    assert not mean_is_below(np.zeros(0), 0.5, 0.0, 1.0, 0.05)


@pytest.mark.slow
@given(
    arrays.arrays(np.float64, st.integers(0, 60), elements=st.floats(-1, 1)),
    st.floats(-0.99, 0.99),
    st.floats(0.01, 0.4),
)
def test_a_lower_bound_is_never_easier_to_show(values: np.ndarray, bound: float, risk: float) -> None:
    if mean_is_below(values, bound, -1.0, 1.0, risk / 2):
        assert mean_is_below(values, bound, -1.0, 1.0, risk)
