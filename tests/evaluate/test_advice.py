from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluate.logged import call, climbed, outcome
from hypothesis import assume, given
from hypothesis import strategies as st

from semroute.evaluate.advice import MIN_QUERIES, advise, break_even, overrides
from semroute.types import LoggedOutcome, Usage

TIERS = ("small", "large")
PRICES = {"small": 0.1, "large": 1.0}


def tiers_of(_: str | None) -> tuple[str, ...]:
    return TIERS


def price_of(name: str, _: Usage) -> float | None:
    return PRICES.get(name)


def log(n: int, escalated: int, **rest: object) -> list[LoggedOutcome]:
    return [climbed(0.1, *([1.0] if place < escalated else []), **rest) for place in range(n)]


def test_a_cascade_that_escalates_rarely_is_kept() -> None:
    (found,) = advise(log(100, 20), tiers_of, price_of)
    assert found.verdict == "cascade"
    assert found.usd == pytest.approx(0.1 + 0.2 * 1.0)
    assert found.tiers[1].usd == pytest.approx(1.0)
    assert found.saved is not None
    assert found.saved.value == pytest.approx(1.0 - 0.3)
    assert found.break_even == pytest.approx(1 - 0.1 / 1.0)
    assert (found.escalation.hits, found.escalation.n) == (20, 100)
    assert (found.tiers[0].accepted.value, found.tiers[1].accepted.value) == (0.8, 1.0)


def test_a_cascade_above_its_break_even_is_advised_against() -> None:
    (found,) = advise(log(300, 294), tiers_of, price_of)
    assert found.escalation.value > (found.break_even or 0)
    assert found.verdict == "straight"
    assert overrides([found]) == {"law": {"models": ["large"], "cascade": False}}


def test_tiers_of_one_model_are_told_apart_by_their_efforts() -> None:
    labels = ("small at low effort", "small at high effort")
    efforts = {labels[0]: ("small", "low"), labels[1]: ("small", "high")}

    def thinking(one: LoggedOutcome) -> LoggedOutcome:
        tiers = (replace(tier, candidate="small", effort=effort) for tier, effort in zip(one.tiers, ("low", "high")))  # noqa: B905
        return replace(one, tiers=tuple(tiers))

    outcomes = [thinking(one) for one in log(300, 294)]
    (found,) = advise(outcomes, lambda _: labels, lambda tier, _: {labels[0]: 0.1, labels[1]: 1.0}[tier])
    assert (found.others, found.queries) == (0, 300)
    assert [tier.name for tier in found.tiers] == list(labels)
    assert overrides([found], efforts) == {
        "law": {
            "models": ["small"],
            "cascade": {"tiers": [{"use": "small", "effort": "high"}], "accept": {"format": False}},
        }
    }


def test_advice_is_unclear_between_the_two() -> None:
    (found,) = advise(log(100, 90), tiers_of, price_of)
    assert found.verdict == "unclear"
    assert overrides([found]) == {}


def test_samples_count_against_the_cascade_and_the_judge_does_not() -> None:
    sample, judged = call("small", 0.3, tier=0, role="sample"), call("judge", 5.0, role="judge")
    (found,) = advise([climbed(0.1, more=(sample, judged)) for _ in range(MIN_QUERIES)], tiers_of, price_of)
    assert found.usd == pytest.approx(0.4)
    assert found.tiers[0].usd == pytest.approx(0.1), "straight there needs no sample"
    assert found.break_even == pytest.approx((1.0 - 0.4) / 1.0)


def test_few_queries_give_no_advice() -> None:
    (found,) = advise(log(MIN_QUERIES - 1, 0), tiers_of, price_of)
    assert found.verdict == "few"


def test_unknown_prices_are_imputed_by_the_mean_or_give_no_advice() -> None:
    (found,) = advise(log(100, 20), tiers_of, lambda *_: None)
    assert found.tiers[1].usd == pytest.approx(1.0)
    (found,) = advise(log(100, 0), tiers_of, lambda *_: None)
    assert (found.tiers[1].usd, found.saved, found.break_even, found.verdict) == (None, None, None, "unclear")


def test_outcomes_of_other_tiers_are_left_out_and_counted() -> None:
    old = climbed(0.1, 1.0, tiers=("tiny", "large"))
    (found,) = advise([*log(40, 4), old, outcome(call("small", 0.1))], tiers_of, price_of)
    assert (found.queries, found.others) == (40, 1)
    assert advise([old], lambda _: (), price_of) == ()


def test_latency_straight_to_a_tier_is_its_own_time_and_that_of_deciding() -> None:
    (found,) = advise(log(40, 40, latency_ms=300.0), tiers_of, price_of)
    assert found.latency.p50 == 300.0
    assert found.tiers[1].latency.p50 == 150.0 + 2.0


def test_failed_cascades_are_not_counted() -> None:
    (found,) = advise([*log(40, 4), climbed(0.1, 1.0, model=None)], tiers_of, price_of)
    assert (found.queries, found.others) == (40, 1)


def test_json_has_no_infinity() -> None:
    (found,) = advise(log(1, 0), tiers_of, price_of)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["saved"]["low"] is None


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.integers(1, 60), st.integers(0, 60))
def test_the_cascade_saves_money_exactly_below_its_break_even(small: float, large: float, n: int, up: int) -> None:
    escalated = np.arange(n) < up
    first, straight = np.full(n, small), np.full(n, large)
    rest = np.where(escalated, large, 0.0)
    limit = break_even(straight, first, rest, escalated)
    assert limit is not None
    rate, saved = escalated.mean(), float((straight - first - rest).mean())
    assume(abs(saved) > 1e-9)
    assert (rate < limit) == (saved > 0)
