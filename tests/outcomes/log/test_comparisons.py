"""Comparisons of a trial in the log: a budget that nobody exceeds, and that outlives the outcomes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from semroute.outcomes.log import OutcomeLog
from semroute.types import LoggedComparison


def comparison(number: int, usd: float, policy: str = "0123456789ab") -> LoggedComparison:
    now = datetime.fromtimestamp(1_700_000_000 + number, UTC)
    return LoggedComparison(f"{number:032x}", now, policy, "f" * 32, "small", "tiny", "judge", usd)


def test_a_comparison_is_reserved_and_settled(log: OutcomeLog) -> None:
    first = comparison(1, 0.5)
    assert log.reserve_comparison(first, 1.0)
    assert log.comparisons(first.policy) == [first]
    ended = replace(first, result="won", cost_usd=0.25, trying="other")
    log.settle_comparison(ended)
    assert log.comparisons(first.policy) == [ended]
    assert log.comparisons("another") == []
    assert log.comparisons(first.policy, since=datetime.fromtimestamp(1_700_000_002, UTC)) == []


def test_the_budget_is_that_of_one_trial_and_what_was_not_spent_is_free_again(log: OutcomeLog) -> None:
    assert log.reserve_comparison(comparison(1, 0.6), 1.0)
    assert not log.reserve_comparison(comparison(2, 0.6), 1.0)
    assert log.reserve_comparison(comparison(3, 0.6, policy="else"), 1.0)
    log.settle_comparison(replace(comparison(1, 0.6), cost_usd=0.1))
    assert log.reserve_comparison(comparison(4, 0.6), 1.0)
    assert log.prune(0) == 0
    assert not log.reserve_comparison(comparison(5, 0.6), 1.0), "pruning outcomes gives no money back"


@pytest.mark.slow
def test_callers_at_once_do_not_exceed_the_budget(log: OutcomeLog) -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda number: log.reserve_comparison(comparison(number, 0.25), 1.0), range(24)))
    assert sum(taken) == 4
