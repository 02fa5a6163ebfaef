from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.resilience.latency import SortedValues, quantile

TIMES = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=50)


@pytest.mark.slow
@given(TIMES, st.floats(0.0, 1.0))
def test_a_quantile_is_the_one_that_numpy_computes(values: list[float], q: float) -> None:
    assert quantile(sorted(values), q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("q", [-0.01, 1.01, float("nan")])
def test_a_quantile_outside_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantile([1.0], q)


@pytest.mark.slow
@given(TIMES)
def test_values_that_come_and_go_stay_sorted(values: list[float]) -> None:
    kept = SortedValues()
    for value in values:
        kept.add(value)
    assert kept.ordered() == tuple(sorted(values))
    for value in values[::2]:
        kept.remove(value)
    assert kept.ordered() == tuple(sorted(values[1::2]))
    assert len(kept) == len(values[1::2])
