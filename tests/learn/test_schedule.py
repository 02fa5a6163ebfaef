from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.learn.category_head import warmed_up


def test_the_learning_rate_warms_up_over_a_tenth_and_decays_linearly() -> None:
    assert [round(warmed_up(step, 20), 3) for step in (0, 1, 2, 11, 19)] == [0.5, 1.0, 1.0, 0.5, 0.056]


@pytest.mark.slow
@given(st.integers(1, 500))
def test_every_step_learns_and_none_more_than_the_peak(steps: int) -> None:
    assert all(0 < warmed_up(step, steps) <= 1 for step in range(steps))
