from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.resilience import RetryBudget


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(budget: RetryBudget, asked: int) -> int:
    return sum(budget.take() for _ in range(asked))


def test_retries_are_a_share_of_the_requests_and_a_few_are_free() -> None:
    budget = RetryBudget(0.2, Clock(), least=5)
    for _ in range(100):
        budget.request()
    assert taken(budget, 100) == 25


def test_with_little_traffic_a_few_retries_are_free_in_each_window() -> None:
    clock = Clock()
    budget = RetryBudget(0.2, clock, least=3, window_s=10.0)
    assert taken(budget, 10) == 3
    clock.now += 9.0
    assert taken(budget, 10) == 0
    clock.now += 1.0
    assert taken(budget, 10) == 3


def test_requests_of_long_ago_allow_nothing() -> None:
    clock = Clock()
    budget = RetryBudget(0.5, clock, least=0, window_s=10.0)
    for _ in range(100):
        budget.request()
    clock.now += 10.0
    assert taken(budget, 10) == 0


def test_a_hard_cap_has_nothing_free() -> None:
    budget = RetryBudget(0.02, Clock(), least=0)
    for _ in range(49):
        budget.request()
    assert not budget.take()
    budget.request()
    assert budget.take()
    assert not budget.take()


def test_a_share_is_not_lost_to_rounding() -> None:
    budget = RetryBudget(0.29, Clock(), least=0)
    for _ in range(100):
        budget.request()
    assert taken(budget, 100) == 29


def test_a_share_of_nothing_without_a_minimum_allows_nothing() -> None:
    budget = RetryBudget(0.0, Clock(), least=0)
    budget.request()
    assert not budget.take()


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0.0, 4.0), st.booleans()), max_size=200), st.floats(0.0, 1.0))
def test_a_hard_cap_holds_over_the_whole_time_and_not_only_in_a_window(
    steps: list[tuple[float, bool]], share: float
) -> None:
    clock = Clock()
    budget, requests, extra = RetryBudget(share, clock, least=0, window_s=10.0), 0, 0
    for seconds, is_request in steps:
        clock.now += seconds
        if is_request:
            budget.request()
            requests += 1
        extra += budget.take()
        assert extra <= share * requests + 1e-6
