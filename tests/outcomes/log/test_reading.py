from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcomes.log.outcome_rows import decision, outcome

from semroute.outcomes.log import OutcomeLog
from semroute.outcomes.log.redaction import storable
from semroute.router.complete import new_id
from semroute.types import Outcome


def test_everything_that_was_recorded_is_given_back(log: OutcomeLog) -> None:
    recorded = outcome(at=1_700_000_000.125)
    log.record(recorded)
    assert log.flush()
    (found,) = log.outcomes()
    assert (found.id, found.at) == (recorded.id, datetime.fromtimestamp(1_700_000_000.125, UTC))
    assert (found.query, found.category, found.strategy) == ("how do I boil an egg?", "cooking", "judge")
    assert (found.score, found.threshold, found.confidence) == (0.8, 0.2, 0.9)
    assert (found.model, found.deployment, found.tier, found.accepted, found.escalated) == (
        "large", "large-1", 1, True, True,
    )  # fmt: skip
    assert (found.latency_ms, found.decide_ms, found.first_token_ms) == (124.0, 4.0, 60.0)
    assert (found.input_tokens, found.output_tokens) == (10, 50)
    assert found.cost_usd == pytest.approx(0.001 + 0.01 + 0.02 + 0.3)
    assert found.cost_estimated
    assert (found.baseline_model, found.baseline_usd) == ("large", 0.25)
    assert (found.metadata, found.candidates) == ({"tenant": "acme"}, ("small", "large"))
    assert found.categories == (("cooking", 0.8, 0.2), ("law", 0.1, 0.3))
    assert found.opinions[0]["strategy"] == "judge"
    assert found.answer is None


def test_every_call_is_kept_with_what_it_was_for_and_how_likely_its_choice_was(log: OutcomeLog) -> None:
    log.record(outcome())
    log.flush()
    (found,) = log.outcomes()
    assert [(call.role, call.tier, call.deployment) for call in found.calls] == [
        ("judge", None, "judge-1"),
        ("answer", 0, "small-1"),
        ("sample", 0, "small-1"),
        ("answer", 1, "large-2"),
        ("answer", 1, "large-1"),
    ]
    small, failed, large = found.calls[1], found.calls[3], found.calls[4]
    assert (small.probability, small.score, small.cached_tokens) == (0.5, {"cost": 1.0, "total": 0.9}, 4)
    assert (failed.error_kind, failed.error, failed.status, failed.retry) == (
        "UnavailableError", "large-2: HTTP 500", 500, True,
    )  # fmt: skip
    assert (large.hedge, large.first_token_ms) == (True, 20.0)
    assert [(check.tier, check.check, check.accepted, check.score) for check in found.checks] == [
        (0, "consistency", False, 0.2),
        (1, "format", True, None),
    ]
    assert [(tier.candidate, tier.model, tier.called, tier.accepted) for tier in found.tiers] == [
        ("small", "small", True, False),
        ("frontier", "large", True, True),
    ]


def test_a_decision_without_an_answer_is_kept(log: OutcomeLog) -> None:
    now = 1_700_000_000.0
    log.record(Outcome(new_id(now), datetime.fromtimestamp(now, UTC), decision(), latency_ms=4.0))
    log.flush()
    (found,) = log.outcomes()
    assert (found.model, found.tier, found.accepted, found.escalated) == (None, None, None, False)
    assert [call.role for call in found.calls] == ["judge"]


@pytest.mark.slow
def test_reading_filters_by_time_and_category_over_all_pages(log: OutcomeLog) -> None:
    start = 1_700_000_000.0
    for number in range(1203):  # more than two pages, several of one moment
        log.record(outcome(f"query {number}", at=start + number // 7))
    assert log.flush()
    found = [one.query for one in log.outcomes()]
    assert sorted(found, key=str) == sorted((f"query {number}" for number in range(1203)), key=str)
    since, until = datetime.fromtimestamp(start + 10, UTC), datetime.fromtimestamp(start + 20, UTC)
    assert len(list(log.outcomes(since, until))) == 70
    assert len(list(log.outcomes(since, until, category="cooking"))) == 70
    assert not list(log.outcomes(category="law"))
    assert [one.query for one in log.newest(2)] == ["query 1201", "query 1202"]


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
def test_any_text_is_stored_as_far_as_databases_allow(log: OutcomeLog, text: str) -> None:
    log.record(outcome(text))
    assert log.flush()
    assert log.counts.dropped == 0
    assert log.newest(1)[0].query == storable(text)


@pytest.mark.slow
@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_storable_text_loses_only_nul_and_lone_surrogates(text: str) -> None:
    kept = storable(text)
    kept.encode()
    assert "\0" not in kept
    if "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert kept == text
