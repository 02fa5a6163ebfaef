from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from semroute.evaluate.risk import Promise, last_kept


def test_the_bound_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    # t(0.95, 3) = 2.35336, s = 1.29099
    assert Promise(0.95).upper(values) == pytest.approx(2.5 + 2.35336 * 1.29099 / 2, abs=1e-4)
    ahead = 2.5 + 2.35336 * 1.29099 * math.sqrt(1 / 4 + 1 / 2)
    assert Promise(0.95, ahead=2).upper(values) == pytest.approx(ahead, abs=1e-4)
    assert Promise().upper(values[:1]) == math.inf


@pytest.mark.slow
def test_the_mean_of_the_next_rows_stays_below_the_bound_as_often_as_promised() -> None:
    random, kept = np.random.default_rng(0), 0
    for _ in range(500):
        rows = (random.random(400) < 0.3).astype(np.float64)
        kept += rows[200:].mean() <= Promise(0.9, ahead=200).upper(rows[:200])
    assert 430 <= kept <= 475, "about 450 of 500"


def test_more_rows_ahead_are_less_uncertain() -> None:
    values = np.random.default_rng(0).random(100)
    bounds = [Promise(0.95, ahead=ahead).upper(values) for ahead in (10, 100, 1000, None)]
    assert bounds == sorted(bounds, reverse=True)


def test_that_none_of_a_few_rows_falls_short_is_no_proof() -> None:
    for count in (0, 1, 3, 50):
        assert not Promise().is_kept(np.full(count, -0.01), 0.99)
    assert Promise().is_kept(np.full(500, -0.05), 0.95)


def test_few_rows_without_a_bad_one_are_not_enough_where_bad_ones_are_possible() -> None:
    shortfall = np.full(30, -0.05)
    shortfall[0] = 0.1
    assert Promise(0.95, ahead=1000).upper(shortfall) < 0, "Student's bound alone would be satisfied"
    assert not Promise(0.95, ahead=1000).is_kept(shortfall, 0.95)


def test_a_promise_over_few_queries_is_harder_than_one_for_the_long_run() -> None:
    random = np.random.default_rng(3)
    shortfall = random.normal(-0.03, 0.3, 2000).clip(-1, 1)
    assert Promise(0.95).is_kept(shortfall, 1.0)
    assert not Promise(0.95, ahead=100).is_kept(shortfall, 1.0)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975, 0.99, 0.995, 0.999])
@pytest.mark.parametrize("count", [30, 120, 1000])
def test_the_most_skewed_shortfall_is_missed_no_more_often_than_permitted(confidence: float, count: int) -> None:
    """Rows of two values: the probability of every number of bad ones is known, so that nothing is drawn."""
    bad = np.arange(count + 1)
    rows = [np.repeat([1.0, 0.0], [one, count - one]) for one in bad.tolist()]
    bounds = np.array([Promise(confidence).upper(one, worst=1.0) for one in rows])
    for share in np.concatenate([np.linspace(0.001, 0.05, 25), np.linspace(0.06, 0.95, 20)]):
        wrong = binom.pmf(bad, count, share)[bounds < share].sum()
        assert wrong <= 1 - confidence, (share, wrong)


@pytest.mark.slow
@given(st.lists(st.booleans(), max_size=20))
def test_the_last_before_the_first_failure_is_taken_and_nothing_after_it_is_tested(passes: list[bool]) -> None:
    asked: list[int] = []

    def tests() -> object:
        for number, is_kept in enumerate(passes):
            asked.append(number)
            yield number, is_kept

    found = last_kept(tests())  # type: ignore[arg-type]
    first = passes.index(False) if False in passes else len(passes)
    assert found == (first - 1 if first else None)
    assert len(asked) == min(first + 1, len(passes))
