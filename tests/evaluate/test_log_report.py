from __future__ import annotations

import json
import math

import pytest
from evaluate.logged import call, climbed, outcome
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.log_report import notes, report, warnings

BASELINE = {"baseline_model": "large", "baseline_usd": 1.0}


def test_the_bill_is_the_sum_of_all_calls_and_is_held_against_the_strongest_model() -> None:
    made = report([
        climbed(0.1, **BASELINE),
        climbed(0.1, 1.0, hours=24, **BASELINE, more=(call("judge", 0.05, role="judge"),)),
    ])  # fmt: skip
    assert made.saving.usd == pytest.approx(1.25)
    assert made.saving.baseline_usd == pytest.approx(2.0)
    assert made.saving.share is not None
    assert made.saving.share.value == pytest.approx(0.375)
    # Worked by hand: r = .625, the differences c - r b are -.525 and .525, their variance (n - 1) is .55125, the error
    # of the share sqrt(2 * .55125) / 2 = .525.
    assert made.saving.share.high - made.saving.share.value == pytest.approx(1.96 * 0.525)
    assert made.saving.days == 1.0
    assert made.saving.monthly_usd == pytest.approx(1.25 * 30.44)
    assert {group.name: group.spent.usd for group in made.models} == pytest.approx(
        {"large": 1.0, "small": 0.2, "judge": 0.05}
    )
    assert [(group.name, group.spent.calls) for group in made.purposes] == [
        ("answers", 2), ("rejected answers", 1), ("judge", 1),
    ]  # fmt: skip
    assert sum(group.share for group in made.purposes) == pytest.approx(1.0)


def test_calls_are_summed_by_effort_for_the_models_that_were_asked_for_one() -> None:
    made = report([
        outcome(call("large", 0.5, effort="high", output_tokens=900), call("large", 0.1, effort="low")),
        outcome(call("large", 0.3, effort="high", output_tokens=700), call("small", 0.1)),
        outcome(call("large", 0.2)),
    ])  # fmt: skip
    assert [(one.name, one.spent.calls, one.spent.output_tokens, one.share) for one in made.efforts] == [
        ("large at high effort", 2, 1600, pytest.approx(0.8 / 1.2)),
        ("large without an effort", 1, 10, pytest.approx(0.2 / 1.2)),
        ("large at low effort", 1, 10, pytest.approx(0.1 / 1.2)),
    ]
    assert report([outcome(call("small", 0.1))]).efforts == ()


def test_failed_calls_and_samples_have_separate_purposes() -> None:
    failed = call("small", None, tier=0, error_kind="UnavailableError")
    sample = call("small", 0.1, tier=0, role="sample")
    made = report([climbed(0.1, more=(failed, sample))])
    assert {group.name: group.spent.calls for group in made.purposes} == {
        "answers": 1, "failed calls": 1, "samples": 1,
    }  # fmt: skip


def test_calls_of_unanswered_queries_are_summed_apart() -> None:
    left = outcome(call("small", 0.25), call("large", 0.5, error_kind="Abandoned"), model=None, error_kind="Cancelled")
    hedged = outcome(call("small", 0.1), call("large", 0.2, error_kind="Abandoned", hedge=True), **BASELINE)
    made = report([left, hedged, outcome(model=None)])
    assert {group.name: (group.spent.calls, group.spent.usd) for group in made.purposes} == {
        "answers": (1, 0.1), "calls given up": (3, pytest.approx(0.95)),
    }  # fmt: skip
    assert (made.unanswered, made.unanswered_usd) == (1, 0.75)
    assert made.saving.usd == pytest.approx(0.3)
    told = made.to_dict()
    assert (told["unanswered"], told["unanswered_usd"]) == (1, 0.75)


def test_outcomes_of_unknown_cost_are_in_neither_bill_and_are_noted() -> None:
    made = report([outcome(call("small", None), **BASELINE), outcome(call("small", 0.5), **BASELINE)])
    assert (made.saving.compared, made.saving.answered) == (1, 2)
    assert (made.saving.usd, made.saving.baseline_usd) == (0.5, 1.0)
    assert made.unpriced_calls == 1
    assert any("1 answers are not compared" in words for words in notes(made))
    assert any("1 calls have no known price" in words for words in warnings(made))


def test_a_median_that_hides_slow_escalations_is_warned_of() -> None:
    plain = [climbed(0.1, latency_ms=100.0) for _ in range(95)]
    made = report([*plain, *(climbed(0.1, 1.0, latency_ms=900.0) for _ in range(5))])
    of = made.latency
    assert (of.total.p50, of.not_escalated.p99, of.escalated.p50) == (100.0, 100.0, 900.0)
    assert of.total.p99 == pytest.approx(900.0)
    assert of.hides
    assert any("9.0 times as slow" in words for words in warnings(made))
    assert not report(plain).latency.hides


def test_escalation_counts_only_queries_that_went_up_a_cascade() -> None:
    made = report([climbed(0.1), climbed(0.1, 1.0), outcome(call("small", 0.1), category=None)])
    assert (made.escalation.hits, made.escalation.n) == (1, 2)
    by_name = {group.name: group for group in made.categories}
    assert by_name["law"].escalation is not None
    assert by_name["law"].escalation.value == 0.5
    assert by_name[""].escalation is None
    assert made.checks["confidence"].value == pytest.approx(2 / 3)


def test_failed_queries_are_counted_by_kind_and_are_in_no_time_of_answers() -> None:
    made = report([outcome(model=None, error_kind="UnavailableError", latency_ms=5e4), climbed(0.1)])
    assert made.errors == {"UnavailableError": 1}
    assert made.latency.total.n == 1
    assert made.queries == 2


def test_feedback_is_shown_by_the_model_that_answered() -> None:
    made = report([climbed(0.1, feedback=1.0), climbed(0.1, feedback=0.0), climbed(0.1, 1.0, feedback=1.0)])
    by_name = {group.name: group for group in made.models}
    assert by_name["small"].feedback is not None
    assert (by_name["small"].feedback.value, by_name["small"].judged) == (0.5, 2)
    assert by_name["large"].judged == 1


def test_a_log_of_one_moment_promises_no_month() -> None:
    made = report([climbed(0.1, **BASELINE)])
    assert made.saving.monthly_usd is None
    assert made.saving.is_short
    assert made.saving.share is not None
    assert math.isnan(made.saving.share.low)


def test_an_empty_log_is_reported_as_such() -> None:
    made = report([])
    assert (made.queries, made.first, made.saving.share) == (0, None, None)
    assert json.loads(json.dumps(made.to_dict(), allow_nan=False))["escalation"]["value"] is None


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.sampled_from(["law", "code", None])), max_size=30))
def test_every_breakdown_adds_up_to_the_bill(rows: list[tuple[float, bool, str | None]]) -> None:
    made = report(
        climbed(usd, *([1.0] if more else []), hours=place, category=category, **BASELINE)
        for place, (usd, more, category) in enumerate(rows)
    )
    total = sum(usd + more for usd, more, _ in rows)
    for groups in (made.models, made.categories, made.purposes):
        assert sum(group.spent.usd for group in groups) == pytest.approx(total)
    assert sum(group.queries or 0 for group in made.categories) == len(rows)
    assert made.latency.escalated.n + made.latency.not_escalated.n == made.latency.total.n == len(rows)
    json.dumps(made.to_dict(), allow_nan=False)
