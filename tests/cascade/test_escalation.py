from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from semroute.dispatch import Dispatcher
from semroute.errors import (
    CapabilityError,
    ContentFilterError,
    DeadlineError,
    DispatchError,
    EmptyAnswerError,
    NoDeploymentError,
    RequestError,
    UnavailableError,
)
from semroute.testing import answer, content_filter, fail, hang, refusal
from semroute.types import Completion, Request, Tool

SURE, UNSURE = math.log(0.95), math.log(0.5)
CONFIDENT = {"accept": {"confidence": 0.85}}
JSON = Request(({"role": "user", "content": "a number as JSON"},), json_schema={"type": "integer"})


def verdicts(completion: Completion) -> list[tuple[str, bool]]:
    return [(trial.candidate, trial.accepted) for trial in completion.tiers]


def test_it_stops_at_the_first_answer_that_is_accepted(bench: Any) -> None:
    bench.provider.script(answer("perhaps twelve", logprob=UNSURE), answer("twelve", logprob=SURE))
    completion = bench.ask(CONFIDENT)
    assert (completion.text, completion.model, completion.tier) == ("twelve", "medium", 1)
    assert verdicts(completion) == [("small", False), ("medium", True)]
    assert bench.called == ["small", "medium"]
    rejected, accepted = completion.tiers
    assert rejected.checks[-1].score == pytest.approx(0.5)
    assert rejected.reason == "rejected: confidence 0.500 is below 0.85"
    assert accepted.reason.startswith("accepted: ")


def test_the_charged_total_is_what_the_server_billed(bench: Any) -> None:
    bench.provider.script(
        answer("a", logprob=UNSURE, input_tokens=100, output_tokens=10),
        fail(500),
        answer("c", logprob=UNSURE, input_tokens=300, output_tokens=30),
    )
    completion = bench.ask(CONFIDENT)
    assert completion.tier == 2
    assert [attempt.model for attempt in completion.attempts] == ["small", "medium", "large"]
    assert completion.total_cost is not None
    assert completion.total_cost.usd == pytest.approx((110 * 1.0 + 330 * 100.0) / 1e6)
    billed = bench.provider.stats()
    counted = [attempt.usage for attempt in completion.attempts if attempt.usage is not None]
    assert sum(usage.input_tokens for usage in counted) == billed["input_tokens"] == 400
    assert sum(usage.output_tokens for usage in counted) == billed["output_tokens"] == 40


@pytest.mark.parametrize(
    ("reply", "request_", "because"),
    [
        (answer(""), None, "answered without text"),
        (answer("it is", finish="length"), None, "cut off"),
        (refusal(), None, "refusal"),
        (answer("I'm sorry, but I can't help with that."), None, "refusal"),
        (answer("I don't know."), None, "non-answer"),
        (answer("seven"), JSON, "not JSON"),
        (answer('"seven"'), JSON, "schema"),
        (answer("```python\nprint(7)"), None, "fence"),
    ],
)
def test_a_fault_of_form_escalates(bench: Any, reply: Any, request_: Request | None, because: str) -> None:
    bench.provider.script(reply, answer("7"))
    completion = bench.ask({}, request_)
    assert (completion.text, completion.tier) == ("7", 1)
    assert because in completion.tiers[0].reason


@pytest.mark.slow
def test_a_wrong_language_and_a_missing_pattern_escalate(bench: Any) -> None:
    bench.provider.script(
        answer("Es sind zusammen zwölf Stück, wenn man die beiden letzten auch noch dazu zählt."),
        answer("There are twelve of them altogether, if one counts the last two as well."),
        answer("There are twelve of them altogether.\n#### 12"),
    )
    completion = bench.ask({"accept": {"format": {"language": "en", "pattern": "#### \\d+"}}})
    assert completion.tier == 2
    assert "in de" in completion.tiers[0].reason
    assert "pattern" in completion.tiers[1].reason


def test_a_tier_that_fails_is_followed_by_the_next(bench: Any) -> None:
    bench.provider.script(fail(503), answer("twelve"))
    completion = bench.ask({})
    assert (completion.text, completion.tier) == ("twelve", 1)
    assert completion.tiers[0].reason.startswith("failed: ")
    assert completion.tiers[0].completion is None
    assert [attempt.error_kind for attempt in completion.attempts] == ["OverloadedError", None]


def test_where_every_tier_is_rejected_the_best_answer_is_given(bench: Any) -> None:
    replies = [answer(text, logprob=math.log(p)) for text, p in (("a", 0.5), ("b", 0.8), ("c", 0.6))]
    bench.provider.script(*replies)
    completion = bench.ask(CONFIDENT)
    assert (completion.text, completion.tier) == ("b", 1)
    assert verdicts(completion) == [("small", False), ("medium", False), ("large", False)]
    assert len(completion.attempts) == 3


def test_of_equally_good_answers_the_later_tiers_is_given(bench: Any) -> None:
    bench.provider.script(answer("I don't know."), answer("I don't know."), answer("I don't know."))
    assert bench.ask({}).tier == 2


def test_where_every_tier_says_nothing_the_error_says_so_with_every_attempt(bench: Any) -> None:
    bench.provider.always(answer(" "))
    with pytest.raises(EmptyAnswerError) as caught:
        bench.ask({})
    assert {attempt.model for attempt in caught.value.attempts} == {"small", "medium", "large"}


def test_where_every_tier_fails_the_error_has_every_attempt(bench: Any) -> None:
    bench.provider.always(fail(500))
    with pytest.raises(UnavailableError) as caught:
        bench.ask({})
    assert [attempt.model for attempt in caught.value.attempts] == ["small", "medium", "large"]


def test_a_rejected_answer_is_given_where_the_rest_fails(bench: Any) -> None:
    bench.provider.script(answer("perhaps", logprob=UNSURE), fail(500), fail(500))
    completion = bench.ask(CONFIDENT)
    assert (completion.text, completion.tier) == ("perhaps", 0)
    assert len(completion.attempts) == 3


def test_several_answers_are_not_asked_of_a_cascade(bench: Any) -> None:
    with pytest.raises(CapabilityError, match="n=2: a cascade checks and gives one answer"):
        bench.ask({}, Request(JSON.messages, n=2))
    assert bench.called == []


def test_what_no_tier_can_mend_ends_it(bench: Any) -> None:
    bench.provider.script(content_filter())
    with pytest.raises(ContentFilterError):
        bench.ask({})
    assert bench.called == ["small"]


def test_what_one_tier_calls_a_bad_request_is_asked_of_the_next(bench: Any) -> None:
    bench.provider.script(fail(400, "no such parameter"))
    completion = bench.ask({})
    assert completion.tier == 1
    assert bench.called == ["small", "medium"]


def test_a_bad_request_at_every_tier_is_the_error_with_every_attempt(bench: Any) -> None:
    bench.provider.always(fail(400, "no such parameter"))
    with pytest.raises(RequestError) as caught:
        bench.ask(CONFIDENT)
    assert bench.called == ["small", "small", "medium", "medium", "large", "large"]  # with and without logprobs
    assert len(caught.value.attempts) == 6


def test_a_model_that_refuses_logprobs_is_asked_without_and_not_for_them_again(bench: Any) -> None:
    bench.provider.script(fail(400, "logprobs are not supported"), answer("twelve"), answer("thirteen"))
    config = bench.config({"accept": {"confidence": 0.85, "without_logprobs": "accept"}})

    async def twice(dispatcher: Dispatcher) -> list[Completion]:
        from semroute.cascade import Cascade
        from semroute.dispatch import Constraints
        from semroute.router.query import ConstrainedClient

        cascade, asked = Cascade.of(config.cascade), Request(({"role": "user", "content": "how many?"},))
        client = ConstrainedClient(dispatcher, Constraints())
        return [await cascade.run("how many?", asked, client, deadline_s=60) for _ in range(2)]

    first, second = bench.run(config, twice)
    assert (first.text, second.text) == ("twelve", "thirteen")
    assert [len(first.attempts), len(second.attempts)] == [2, 1]
    assert [request.body.get("logprobs") for request in bench.provider.requests] == [True, None, None]


def test_a_model_that_is_known_to_have_none_is_not_asked_for_logprobs(bench: Any) -> None:
    bench.capabilities = ()
    bench.provider.script(answer("twelve"), answer("twelve."))
    completion = bench.ask(CONFIDENT)
    assert (completion.text, completion.tier) == ("twelve", 0)
    assert completion.tiers[0].checks[-1].check == "consistency"
    assert not any(request.body.get("logprobs") for request in bench.provider.requests)


def test_a_second_sample_is_charged_and_belongs_to_its_tier(bench: Any) -> None:
    bench.capabilities = ()
    bench.provider.script(answer("twelve"), answer("eleven"), answer("thirteen"), answer("thirteen"))
    completion = bench.ask(CONFIDENT)
    assert (completion.text, completion.tier) == ("thirteen", 1)
    assert bench.called == ["small", "small", "medium", "medium"]
    assert [len(trial.attempts) for trial in completion.tiers] == [2, 2]
    assert bench.provider.requests[1].body["temperature"] == 0.7
    assert len(completion.attempts) == 4


def test_after_the_last_tier_nothing_more_is_asked(bench: Any) -> None:
    bench.capabilities = ()
    bench.provider.script(answer(""), answer(""), answer("twelve"))
    assert bench.ask({"accept": {"consistency": 0.7}}).tier == 2
    assert bench.called == ["small", "medium", "large"]


def test_a_tier_that_cannot_do_what_is_asked_is_left_out(bench: Any) -> None:
    config = bench.config({})
    models = {**{name: spec.model_dump() for name, spec in config.models.items()}, "small": {"capabilities": []}}
    request = Request(({"role": "user", "content": "time?"},), tools=(Tool("clock"),))
    bench.provider.script(answer("noon"))
    completion = bench.ask({}, request, sections={"models": models})
    assert bench.called == ["medium"]
    assert "tools" in completion.tiers[0].reason
    assert completion.tiers[0].attempts == ()


def test_a_tier_whose_breaker_is_open_is_left_out(bench: Any) -> None:
    bench.provider.script(*[fail(500)] * 5)
    config = bench.config({})

    async def after_failures(dispatcher: Dispatcher) -> Completion:
        for _ in range(5):
            with pytest.raises(DispatchError):
                await dispatcher.complete(Request(({"role": "user", "content": "x"},)), ["small"])
        answer: Completion = await bench.answer(config, dispatcher)
        return answer

    completion = bench.run(config, after_failures)
    assert completion.tier == 1
    assert completion.tiers[0].reason.startswith("left out: small-1: ")


def test_a_tier_above_the_querys_budget_is_left_out(bench: Any) -> None:
    bench.provider.script(answer("perhaps", logprob=UNSURE))
    request = Request(({"role": "user", "content": "how many?"},), max_tokens=1000)
    completion = bench.ask({**CONFIDENT, "max_usd": 0.002}, request)
    assert (completion.text, bench.called) == ("perhaps", ["small"])
    assert "above cascade.max_usd of 0.002" in completion.tiers[1].reason


def test_a_budget_that_no_tier_keeps_is_said(bench: Any) -> None:
    with pytest.raises(NoDeploymentError, match="no tier of the cascade was called"):
        bench.ask({"max_usd": 0.0}, Request(({"role": "user", "content": "how many?"},), max_tokens=1000))
    assert bench.called == []


@pytest.mark.slow
def test_a_deadline_that_ends_in_the_last_tier_gives_the_first_tiers_answer(bench: Any) -> None:
    bench.provider.script(answer("perhaps", logprob=UNSURE), hang(), hang())
    completion = bench.ask(CONFIDENT, deadline_s=1.5)  # the others hang for ever
    assert (completion.text, completion.tier) == ("perhaps", 0)
    assert "deadline passed" in completion.tiers[2].reason
    assert len(completion.attempts) == 3


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_tier_that_hangs_leaves_time_for_the_tiers_above(bench: Any, streaming: bool) -> None:
    bench.provider.script(hang(), hang())
    last = bench.events({}, deadline_s=3.0)[-1] if streaming else bench.ask({}, deadline_s=3.0)
    assert (last.text, last.tier) == ("how many are there?", 2)
    assert [trial.accepted for trial in last.tiers] == [False, False, True]


@pytest.mark.slow
def test_a_tier_above_which_nothing_can_be_called_gets_all_the_time(bench: Any) -> None:
    bench.provider.script(hang(1.6))
    prices = {"small": 0.1, "medium": 1e9, "large": 1e9}
    places = [
        {"name": name, "model": name, "base_url": bench.provider.base_url, "upstream_model": name,
         "price": {"input": price, "output": price}, "api_key_env": [] if name == "small" else ["NOT_SET"]}
        for name, price in prices.items()
    ]  # fmt: skip
    completion = bench.ask({}, deadline_s=2.4, sections={"deployments": places})
    assert completion.tier == 0


@pytest.mark.slow
def test_a_deadline_that_ends_before_any_answer_is_an_error(bench: Any) -> None:
    bench.provider.always(hang())
    with pytest.raises(DispatchError) as caught:
        bench.ask({}, deadline_s=0.3)
    assert isinstance(caught.value, DeadlineError | TimeoutError) or "time" in str(caught.value)
    assert caught.value.attempts


def test_it_goes_on_only_where_the_gain_is_worth_the_price(bench: Any) -> None:
    tiers = ["small", {"use": "large", "quality": 0.9}]
    request = Request(({"role": "user", "content": "how many?"},), max_tokens=1000)
    rules = {**CONFIDENT, "tiers": tiers}
    bench.provider.script(answer("perhaps", logprob=UNSURE))
    # 0.4 of quality more at 0.1 USD per +1.0 is worth 0.04 USD; the longest answer of the large model costs about 0.1.
    completion = bench.ask({**rules, "value_per_quality": 0.1}, request)
    assert (completion.text, bench.called) == ("perhaps", ["small"])
    assert "0.40 of quality more is worth 0.04" in completion.tiers[1].reason
    bench.provider.script(answer("perhaps", logprob=UNSURE), answer("twelve", logprob=SURE))
    assert bench.ask({**rules, "value_per_quality": 1.0}, request).text == "twelve"


def test_a_tier_may_have_its_own_acceptance(bench: Any) -> None:
    tiers = ["small", {"use": "medium", "accept": {"confidence": 0.4}}, "large"]
    bench.provider.script(answer("a", logprob=UNSURE), answer("b", logprob=UNSURE))
    assert bench.ask({**CONFIDENT, "tiers": tiers}).text == "b"


def test_a_tier_may_be_a_group(bench: Any) -> None:
    bench.provider.script(answer("", logprob=SURE), answer("twelve", logprob=SURE))
    completion = bench.ask({"tiers": ["small", "frontier"]}, sections={"groups": {"frontier": ["medium", "large"]}})
    assert completion.model in ("medium", "large")
    assert completion.tiers[1].candidate == "frontier"


def test_a_call_of_a_tool_is_accepted(bench: Any) -> None:
    from semroute.testing import Call

    bench.provider.script(answer(calls=[Call("clock")]))
    completion = bench.ask(CONFIDENT, Request(({"role": "user", "content": "time?"},), tools=(Tool("clock"),)))
    assert (completion.tier, len(completion.tool_calls)) == (0, 1)


def test_a_query_that_is_cancelled_leaves_no_call_behind(bench: Any) -> None:
    bench.provider.script(answer("perhaps", logprob=UNSURE), hang())
    config = bench.config(CONFIDENT)

    async def cancelled(dispatcher: Dispatcher) -> int:
        task = asyncio.create_task(bench.answer(config, dispatcher))
        while len(bench.provider.requests) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        from semroute.dispatch.status import endpoints_of

        return sum(status.in_flight for status in await dispatcher.gates.statuses(endpoints_of(config)))

    assert bench.run(config, cancelled) == 0
    assert bench.called == ["small", "medium"]
