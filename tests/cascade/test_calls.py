from __future__ import annotations

import math
from contextlib import aclosing
from typing import Any

import pytest

from semroute.dispatch import Dispatcher
from semroute.errors import BrokenStreamError
from semroute.testing import answer, fail, truncated
from semroute.types import Completion, Delta

SURE, UNSURE = math.log(0.97), math.log(0.5)
CONFIDENT = {"accept": {"confidence": 0.85}}
LONG = " ".join(f"word{number}" for number in range(40))


def texts(events: list[Delta | Completion]) -> list[str]:
    return [event.text for event in events if isinstance(event, Delta)]


def last(events: list[Delta | Completion]) -> Completion:
    assert isinstance(events[-1], Completion)
    return events[-1]


def test_an_accepted_answer_is_given_out_whole_from_the_buffer(bench: Any) -> None:
    bench.provider.script(answer("perhaps", logprob=UNSURE), answer("it is twelve", logprob=SURE))
    events = bench.events(CONFIDENT)
    assert texts(events) == ["it is twelve"]
    assert last(events).tier == 1


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_a_stream_goes_on_at_the_next_tier_where_one_refuses_the_request(bench: Any, status: int) -> None:
    bench.provider.script(fail(status), answer("right"))
    events = bench.events({})
    assert texts(events) == ["right"]
    assert last(events).tier == 1


def test_nothing_of_a_rejected_answer_is_seen(bench: Any) -> None:
    bench.provider.script(answer("", logprob=UNSURE), answer("wrong", logprob=UNSURE), answer("right", logprob=SURE))
    events = bench.events(CONFIDENT)
    assert texts(events) == ["right"]
    assert [trial.accepted for trial in last(events).tiers] == [False, False, True]


def test_the_last_tier_is_streamed_as_it_comes(bench: Any) -> None:
    bench.provider.script(answer(""), answer(""), answer(LONG))
    events = bench.events({})
    assert len(texts(events)) == 40
    assert "".join(texts(events)) == last(events).text == LONG


def test_the_last_tiers_answer_stands_once_it_was_seen(bench: Any) -> None:
    replies = [answer(text, logprob=math.log(p)) for text, p in (("a", 0.5), ("b", 0.8), ("c", 0.6))]
    bench.provider.script(*replies)
    events = bench.events(CONFIDENT)
    assert texts(events) == ["c"]
    assert last(events).tier == 2
    assert not last(events).tiers[2].accepted


def test_a_tier_that_is_clearly_confident_starts_early(bench: Any) -> None:
    bench.provider.script(answer(LONG, logprob=SURE))
    events = bench.events({**CONFIDENT, "stream_after_tokens": 8})
    assert len(texts(events)) == 40
    assert last(events).tier == 0
    assert last(events).tiers[0].accepted


def test_a_tier_that_is_barely_confident_waits_for_the_whole_answer(bench: Any) -> None:
    bench.provider.script(answer(LONG, logprob=math.log(0.9)))
    events = bench.events({**CONFIDENT, "stream_after_tokens": 8})
    assert texts(events) == [LONG]


def test_a_tier_that_starts_early_is_not_left_and_its_late_rejection_is_seen(bench: Any) -> None:
    bench.provider.script(answer(LONG, logprob=SURE, finish="length"))
    events = bench.events({**CONFIDENT, "stream_after_tokens": 8})
    assert bench.called == ["small"]
    assert last(events).tier == 0
    assert not last(events).tiers[0].accepted
    assert "cut off" in last(events).tiers[0].reason


def test_a_confident_refusal_does_not_start_early(bench: Any) -> None:
    bench.provider.script(
        answer("I'm sorry, but I can't help with that. " * 2, logprob=SURE), answer("12", logprob=SURE)
    )
    events = bench.events({**CONFIDENT, "stream_after_tokens": 8})
    assert texts(events) == ["12"]


def test_a_stream_that_breaks_after_its_first_piece_is_an_error_with_every_attempt(bench: Any) -> None:
    bench.provider.script(answer(""), answer(""), truncated(3, answer(LONG)))
    seen: list[str] = []
    config = bench.config({})

    async def read(dispatcher: Dispatcher) -> None:
        async with aclosing(bench.stream(config, dispatcher)) as events:
            async for event in events:
                seen.append(event.text)

    with pytest.raises(BrokenStreamError) as caught:
        bench.run(config, read)
    assert seen
    assert [attempt.model for attempt in caught.value.attempts] == ["small", "medium", "large"]


@pytest.mark.slow
def test_a_reader_who_leaves_ends_the_call(bench: Any) -> None:
    bench.provider.script(answer(LONG, logprob=SURE))
    bench.provider.set_speed(first_token_s=0.0, token_s=0.02)
    config = bench.config({**CONFIDENT, "stream_after_tokens": 4})

    async def leave(dispatcher: Dispatcher) -> int:
        async with aclosing(bench.stream(config, dispatcher)) as events:
            async for _ in events:
                break
        from semroute.dispatch.status import endpoints_of

        return sum(status.in_flight for status in await dispatcher.gates.statuses(endpoints_of(config)))

    assert bench.run(config, leave) == 0
