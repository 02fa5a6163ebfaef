from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.resilience.breaker import RollingCount


@pytest.mark.slow
@given(st.lists(st.floats(0.0, 3.0), max_size=60))
def test_it_counts_what_is_in_the_window_give_or_take_its_oldest_bucket(steps: list[float]) -> None:
    count, now, events = RollingCount(10.0, buckets=10), 0.0, []
    for step in steps:
        now += step
        count.add(now)
        events.append(now)
        total = count.total(now)
        assert total <= sum(at > now - 10.0 for at in events)
        assert total >= sum(at > now - 9.0 for at in events)
    assert count.total(now + 10.0) == 0


def test_a_million_events_take_no_more_memory_than_a_few() -> None:
    count = RollingCount(10.0, buckets=10)
    for number in range(100_000):
        count.add(number / 1000)
    assert len(count._buckets) <= 10
    assert 9000 <= count.total(100.0) <= 10_000


def test_cleared_it_has_counted_nothing() -> None:
    count = RollingCount(10.0)
    count.add(1.0)
    count.clear()
    assert count.total(1.0) == 0
