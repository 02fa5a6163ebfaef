"""Reasoning and tool calls in the stream of a cascade."""

from __future__ import annotations

import math
from typing import Any

import pytest

from semroute.testing import Call, answer, fail, reset_after
from semroute.types import Completion, Delta, Request, Tool

SURE, UNSURE = math.log(0.95), math.log(0.5)
CONFIDENT = {"accept": {"confidence": 0.85}}
CALL = Call("get_weather", {"city": "Oslo"})
TOOLS = Request(({"role": "user", "content": "weather?"},), tools=(Tool("get_weather"),))


def read(bench: Any, cascade: Any = CONFIDENT, request: Request | None = None) -> tuple[list[Delta], Completion]:
    *deltas, last = bench.events(cascade, request)
    assert isinstance(last, Completion)
    return deltas, last


def test_the_held_answer_of_a_checked_tier_comes_with_its_reasoning_and_calls(bench: Any) -> None:
    bench.provider.script(answer("I look.", calls=(CALL,), reasoning="hm", logprob=SURE))
    (delta,), last = read(bench, request=TOOLS)
    assert last.tier == 0
    assert (delta.text, delta.reasoning) == ("I look.", "hm")
    assert [(call.id, call.name, call.arguments) for call in delta.tool_calls] == [
        (call.id, call.name, call.arguments) for call in last.tool_calls
    ]


def test_an_answer_of_tool_calls_alone_is_streamed_too(bench: Any) -> None:
    bench.provider.script(answer(calls=(CALL,)))
    (delta,), last = read(bench, request=TOOLS)
    assert last.tool_calls[0].name == delta.tool_calls[0].name == "get_weather"
    assert delta.text == ""


def test_reasoning_of_a_rejected_tier_is_not_given_out(bench: Any) -> None:
    bench.provider.script(
        answer("perhaps", reasoning="small thought", logprob=UNSURE), answer("twelve", reasoning="deep", logprob=SURE)
    )
    deltas, last = read(bench)
    assert (last.tier, "".join(delta.reasoning for delta in deltas)) == (1, "deep")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["breaks off", "is refused"])
def test_a_last_tier_that_only_reasoned_leaves_the_best_answer_before_it(bench: Any, end: str) -> None:
    broken = reset_after(2, answer("never", reasoning="one two three four")) if end == "breaks off" else fail(500)
    bench.provider.script(answer("a", logprob=UNSURE), answer("b", logprob=UNSURE), broken)
    deltas, last = read(bench)
    assert (last.text, last.tier) == ("b", 1)
    assert "".join(delta.text for delta in deltas) == "b"


@pytest.mark.slow
def test_reasoning_does_not_make_a_tier_stream_early(bench: Any) -> None:
    cascade = {**CONFIDENT, "stream_after_tokens": 3}
    bench.provider.script(
        answer("so so so so", reasoning="one two three four", logprob=UNSURE), answer("b", logprob=SURE)
    )
    deltas, last = read(bench, cascade)
    assert (last.text, last.tier) == ("b", 1)
    assert not any("one" in delta.reasoning for delta in deltas)
