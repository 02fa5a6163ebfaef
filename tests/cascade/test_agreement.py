from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from semroute.config import Config
from semroute.testing import answer, fail, refusal
from semroute.types import Completion, Delta

THREE: dict[str, Any] = {"tiers": ["small", "large"], "accept": {"agreement": ["small", "medium"]}}


def test_equal_answers_are_accepted_and_both_calls_are_charged(bench: Any) -> None:
    bench.provider.script(answer("There are 12."), answer("#### 12"))
    completion = bench.ask(THREE)
    assert (completion.text, completion.model, bench.called) == ("There are 12.", "small", ["small", "medium"])
    assert [attempt.model for attempt in completion.attempts] == ["small", "medium"]
    assert completion.total_cost.usd == pytest.approx(sum(attempt.cost.usd for attempt in completion.attempts))
    assert completion.tiers[0].checks[-1].reason == "agreed: medium gave the same number"


@pytest.mark.parametrize(
    ("replies", "called"),
    [
        ([answer("12"), answer("13"), answer("12")], ["small", "medium", "large"]),
        ([answer("it depends on the number of people who came on that day"), answer("12")], ["small", "large"]),
        ([answer("12"), fail(500), answer("12")], ["small", "medium", "large"]),
        ([fail(500), answer("12")], ["small", "large"]),
        ([answer("12"), refusal("I cannot help with that."), answer("12")], ["small", "medium", "large"]),
    ],
    ids=["different", "free text", "the other fails", "the tier fails", "refusal"],
)
def test_without_agreement_the_next_tier_answers(bench: Any, replies: list[Any], called: list[str]) -> None:
    bench.provider.script(*replies)
    completion = bench.ask(THREE)
    assert (completion.model, bench.called) == ("large", called)
    reasons = [tier.reason for tier in completion.tiers]
    assert "disagreed" in reasons[0] or "failed" in reasons[0]
    assert [attempt.model for attempt in completion.attempts] == called


def test_an_answer_that_is_known_is_not_asked_for_again(bench: Any) -> None:
    bench.provider.script(answer("12"), answer("13"), answer("14"))
    completion = bench.ask({"accept": {"agreement": ["small", "medium"]}})
    assert bench.called == ["small", "medium", "large"]
    assert [(tier.candidate, tier.accepted) for tier in completion.tiers] == [
        ("small", False), ("medium", False), ("large", True),
    ]  # fmt: skip
    assert completion.text == "14"


def test_a_tier_of_its_own_agreement_makes_a_majority(bench: Any) -> None:
    tiers = ["small", {"use": "medium", "accept": {"agreement": ["medium", "small", "large"]}}, "large"]
    bench.provider.script(answer("12"), answer("13"), answer("12"))
    completion = bench.ask({"tiers": tiers, "accept": {"agreement": ["small", "medium"]}})
    assert (completion.text, completion.model, bench.called) == ("12", "large", ["small", "medium", "large"])


def test_a_stream_has_nothing_of_a_rejected_answer(bench: Any) -> None:
    bench.provider.script(answer("12"), answer("13"), answer("14"))
    events = bench.events(THREE)
    assert isinstance(events[-1], Completion)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "14"


@pytest.mark.parametrize(
    "cascade",
    [
        {"tiers": ["small", "large"], "accept": {"agreement": ["small"]}},
        {"tiers": ["small", "large"], "accept": {"agreement": ["small", "small"]}},
        {"tiers": ["small", "large"], "accept": {"agreement": ["other", "medium"]}},
        {"tiers": [{"use": "small", "accept": {"agreement": ["large", "medium"]}}, "large"]},
    ],
)
def test_an_agreement_that_compares_nothing_is_refused(cascade: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"cascade": cascade})
