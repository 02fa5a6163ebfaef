from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from semroute.cascade import Cascade
from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.router.query import ConstrainedClient
from semroute.testing import answer, content_filter, fail, refusal
from semroute.types import Completion, Delta, Request

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


FOUR: dict[str, Any] = {"tiers": ["small", "large"], "accept": {"agreement": ["small", "medium"], "format": False}}


def test_a_content_filter_of_the_other_model_is_no_disagreement(bench: Any) -> None:
    bench.provider.script(answer("12"), content_filter(), answer("13"))
    completion = bench.ask(FOUR)
    assert (completion.text, bench.called) == ("12", ["small", "medium"])
    check = completion.tiers[0].checks[-1]
    assert (check.accepted, check.skipped) == (True, True)
    assert "content filter" in check.reason


def test_with_a_filtered_opinion_the_others_decide(bench: Any) -> None:
    three = {"tiers": ["small", "medium", "large"], "accept": {"agreement": ["small", "medium", "large"]}}
    bench.provider.script(answer("12"), content_filter(), answer("12"))
    completion = bench.ask(three)
    assert (completion.text, bench.called) == ("12", ["small", "medium", "large"])
    assert completion.tiers[0].checks[-1].reason == "agreed: large gave the same number"
    bench.provider.script(answer("12"), content_filter(), answer("13"))
    assert bench.ask({**three, "tiers": ["small", "large"]}).text == "13"


def test_a_narrowed_group_that_was_asked_is_not_paid_twice(bench: Any) -> None:
    cascade = {"tiers": ["small", "both", "large"], "accept": {"agreement": ["small", "both"], "format": False}}
    config = bench.config(cascade, groups={"both": ["medium", "large"]})
    bench.provider.script(answer("12"), answer("13"), answer("14"))

    def kept(names: Any, allowed: Any) -> tuple[str, ...]:
        models = [model for name in names for model in (("medium", "large") if name == "both" else (name,))]
        return tuple(dict.fromkeys(model for model in models if model in allowed))

    async def ask(dispatcher: Any) -> Completion:
        narrowed = Cascade.of(config.cascade).within(["small", "medium", "large"], kept)
        request = Request(({"role": "user", "content": "how many are there?"},))
        client = ConstrainedClient(dispatcher, Constraints())
        return await narrowed.run("how many are there?", request, client, deadline_s=60.0)

    completion = bench.run(config, ask)
    assert bench.called == ["small", "medium", "large"], "medium was asked for its opinion, and is a tier of its own"
    assert completion.text == "14"


class Meeting:
    """A client whose calls of the cheap models wait for each other."""

    def __init__(self, dispatcher: Any, calls: int) -> None:
        self._client, self._barrier = ConstrainedClient(dispatcher, Constraints()), asyncio.Barrier(calls)

    async def estimate(self, request: Request, candidates: Any) -> Any:
        return await self._client.estimate(request, candidates)

    async def complete(self, request: Request, candidates: Any, **more: Any) -> Completion:
        if candidates[0] != "large":
            await self._barrier.wait()
        return await self._client.complete(request, candidates, **more)


@pytest.mark.parametrize(
    ("replies", "called"),
    [
        ([answer("12"), answer("12")], ["medium", "small"]),
        ([answer("12"), answer("13"), answer("14")], ["large", "medium", "small"]),
        ([fail(500), fail(500), answer("14")], ["large", "medium", "small"]),
    ],
    ids=["agreed", "disagreed", "both fail"],
)
def test_at_once_neither_waits_for_the_other_and_every_call_is_charged(
    bench: Any, replies: list[Any], called: list[str]
) -> None:
    config = bench.config({**FOUR, "accept": {**FOUR["accept"], "agreement_at_once": True}})
    bench.provider.script(*replies)

    async def ask(dispatcher: Any) -> Completion:
        client, request = Meeting(dispatcher, 2), Request(({"role": "user", "content": "how many are there?"},))
        return await Cascade.of(config.cascade).run("how many are there?", request, client, deadline_s=60.0)

    completion = bench.run(config, ask)
    assert sorted(bench.called) == called
    assert sorted(attempt.model for attempt in completion.attempts) == called
    assert completion.text == ("12" if len(called) == 2 else "14")


def test_with_a_budget_each_call_is_counted_before_it_is_made(bench: Any) -> None:
    cascade = {**FOUR, "max_usd": 1.0, "accept": {**FOUR["accept"], "agreement_at_once": True}}
    bench.provider.script(answer("it depends on who came that day and on those who stayed away"), answer("14"))
    assert bench.ask(cascade).text == "14"
    assert bench.called == ["small", "large"]
