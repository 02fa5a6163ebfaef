"""What counts as an answer, in the three wire formats alike, whole and streamed, against the shipped double."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from patience import PATIENCE_S

from semroute.config import Deployment, Timeouts
from semroute.config.deployments import Format
from semroute.dispatch.attempt import classify_error
from semroute.errors import BrokenStreamError, DispatchError, EmptyAnswerError, ProviderTimeoutError
from semroute.providers import ADAPTERS, CallTarget
from semroute.testing import (
    Call,
    FakeProvider,
    Reply,
    answer,
    no_usage,
    refusal,
    reset_after,
    reset_at_end,
    stall_after,
    stall_at_end,
)
from semroute.types import CallResult, Completion, Delta, Request, Tool, Usage

HELLO = Request(({"role": "user", "content": "hello out there"},))
WEATHER = Request(HELLO.messages, tools=(Tool("get_weather"), Tool("get_time"), Tool("get")))
AFTER_A_RESULT = Request(
    (
        *HELLO.messages,
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
    ),
    tools=WEATHER.tools,
)

FORMATS = pytest.mark.parametrize("format", ["openai", "anthropic", "gemini", "responses"])
BOTH = pytest.mark.parametrize("streams", [False, True])


def ask(
    provider: FakeProvider,
    format: Format,
    reply: Reply,
    request: Request = HELLO,
    *,
    streams: bool,
    said: list[Delta] | None = None,
    within_s: float = 10,
    **more: Any,
) -> Completion:
    """The completion; pieces are added to ``said`` as they come."""
    url = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }[format]
    where = CallTarget(
        Deployment(name="spot", model="m", format=format, base_url=url, upstream_model="gemini-x", **more)
    )
    provider.script(reply)

    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            if not streams:
                return await ADAPTERS[format].complete(client, where, request, within_s=within_s)
            last: Completion | None = None
            async with aclosing(ADAPTERS[format].stream(client, where, request, within_s=within_s)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Completion):
                        last = piece
                    elif said is not None:
                        said.append(piece)
            assert last is not None
            return last

    return asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def failed(provider: FakeProvider, format: Format, reply: Reply, request: Request = HELLO, **more: Any) -> Any:
    with pytest.raises(DispatchError) as caught:
        ask(provider, format, reply, request, **more)
    return caught.value


@FORMATS
@BOTH
@pytest.mark.parametrize(
    "reply",
    [answer(""), answer(" \n\t"), answer("\u200b\ufeff"), answer("", reasoning="hm hm"), answer(" ", reasoning="hm")],
)
def test_an_answer_without_a_visible_character_is_an_error_and_nothing_but_reasoning_leaves(
    provider: FakeProvider, format: Format, streams: bool, reply: Reply
) -> None:
    said: list[Delta] = []
    error = failed(provider, format, reply, streams=streams, said=said)
    assert type(error) is EmptyAnswerError
    assert "spot answered without text" in str(error)
    assert not any(delta.is_answer for delta in said)
    assert all(delta.reasoning or delta.reasoning_blocks for delta in said)
    assert (error.status, error.usage, error.is_charged, error.finish_reason) == (200, Usage(1, 1), True, "stop")
    policy = classify_error(error)
    assert (policy.result, policy.elsewhere) == (CallResult.NEUTRAL, True)


@FORMATS
@BOTH
def test_an_empty_answer_that_counts_no_token_is_the_places_failure(
    provider: FakeProvider, format: Format, streams: bool
) -> None:
    error = failed(provider, format, answer("", output_tokens=0), streams=streams)
    assert type(error) is EmptyAnswerError
    if (format, streams) != ("anthropic", True):  # Anthropic begins every stream with a count of 1
        assert classify_error(error).result is CallResult.FAILURE


@FORMATS
@BOTH
def test_a_limit_that_reasoning_used_up_is_named_and_not_tried_again_there(
    provider: FakeProvider, format: Format, streams: bool
) -> None:
    reply = answer("", reasoning="hm hm", finish="length", output_tokens=5, reasoning_tokens=5)
    error = failed(provider, format, reply, Request(HELLO.messages, max_tokens=5), streams=streams)
    assert type(error) is EmptyAnswerError
    assert "max_tokens of 5 was used up before it wrote any (5 tokens of reasoning); raise max_tokens" in str(error)
    policy = classify_error(error)
    assert (policy.result, policy.elsewhere, policy.again) == (CallResult.NEUTRAL, True, False)


@FORMATS
@BOTH
def test_tool_calls_alone_are_an_answer(provider: FakeProvider, format: Format, streams: bool) -> None:
    for text in ("", " \n"):
        found = ask(provider, format, answer(text, calls=(Call("get_time"),)), WEATHER, streams=streams)
        assert [call.name for call in found.tool_calls] == ["get_time"]
        assert found.finish_reason == "tool_calls"


@FORMATS
@BOTH
def test_after_the_result_of_a_tool_the_model_may_have_nothing_to_add(
    provider: FakeProvider, format: Format, streams: bool
) -> None:
    assert ask(provider, format, answer(""), AFTER_A_RESULT, streams=streams).text == ""


@pytest.mark.parametrize("format", ["openai", "anthropic"])
@BOTH
def test_a_refusal_is_an_answer(provider: FakeProvider, format: Format, streams: bool) -> None:
    assert ask(provider, format, refusal("I will not"), streams=streams).finish_reason == "refusal"


@FORMATS
def test_white_space_before_the_first_word_comes_with_it(provider: FakeProvider, format: Format) -> None:
    said: list[Delta] = []
    found = ask(provider, format, answer("\n\n  hello you"), streams=True, said=said)
    assert found.text == "\n\n  hello you" == "".join(delta.text for delta in said)
    assert said[0].text.strip() == "hello"


# An answer that is whole, whatever becomes of its connection.


@pytest.mark.slow
@FORMATS
@pytest.mark.parametrize("fault", [stall_at_end, reset_at_end])
def test_an_answer_that_is_whole_is_one_though_its_connection_is_reset_or_stalls(
    provider: FakeProvider, format: Format, fault: Any
) -> None:
    said: list[Delta] = []
    reply = fault(answer("hello you", output_tokens=2))
    limits = {"timeouts": Timeouts(idle_s=600), "timeout_s": 600, "within_s": 600}  # none of which ends it
    found = ask(provider, format, reply, streams=True, said=said, **limits)
    assert (found.text, found.finish_reason) == ("hello you", "stop")
    assert "".join(delta.text for delta in said) == "hello you"
    assert found.usage == (None if format == "openai" else Usage(1, 2))


@pytest.mark.slow
@FORMATS
@pytest.mark.parametrize("fault", [stall_after, reset_after])
def test_an_answer_that_is_not_whole_stays_a_failure(provider: FakeProvider, format: Format, fault: Any) -> None:
    error = failed(provider, format, fault(1), streams=True, timeouts=Timeouts(idle_s=0.1))
    assert type(error) in (BrokenStreamError, ProviderTimeoutError)


EVENTS: dict[Format, list[dict[str, Any]]] = {
    "openai": [
        {"choices": [{"index": 0, "delta": {"content": "hi"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 4}},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
    "gemini": [
        {
            "candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4},
        },
    ],
    "anthropic": [
        {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
    ],
    "responses": [
        {"type": "response.output_text.delta", "delta": "hi"},
        {
            "type": "response.completed",
            "response": {"status": "completed", "usage": {"input_tokens": 9, "output_tokens": 4}},
        },
    ],
}
ZERO: dict[Format, dict[str, Any]] = {
    "openai": {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
    "gemini": {"candidates": [{"index": 0}], "usageMetadata": {"promptTokenCount": 0}},
    "anthropic": {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 0}},
    "responses": {"type": "response.completed", "response": {"usage": {"input_tokens": 0, "output_tokens": 0}}},
}


def streamed(raw: Any, format: Format, *events: dict[str, Any]) -> tuple[Completion, str]:
    """The completion of events as they are, and the text that was given out."""

    async def work() -> list[Delta | Completion]:
        script = raw.events(*events, done=False)
        async with raw.serve(script) as server, httpx.AsyncClient(trust_env=False, verify=False) as client:
            where = CallTarget(Deployment(name="spot", model="m", format=format, base_url=server.url))
            return [piece async for piece in ADAPTERS[format].stream(client, where, HELLO, within_s=10)]

    *pieces, last = asyncio.run(work())
    assert isinstance(last, Completion)
    return last, "".join(piece.text for piece in pieces)


@FORMATS
def test_an_error_after_the_end_takes_nothing_back(format: Format, raw: Any) -> None:
    late = {"type": "error", "error": {"type": "api_error", "message": "late"}}
    assert streamed(raw, format, *EVENTS[format], late)[0].text == "hi"


@FORMATS
def test_a_last_count_of_zero_takes_nothing_back(format: Format, raw: Any) -> None:
    assert streamed(raw, format, *EVENTS[format], ZERO[format])[0].usage == Usage(9, 4)


@pytest.mark.parametrize("format", ["openai", "gemini"])
def test_text_after_a_finish_reason_is_part_of_the_answer(format: Format, raw: Any) -> None:
    found, said = streamed(raw, format, *EVENTS[format], *EVENTS[format])
    assert found.text == said == "hihi"


def test_a_reason_that_is_none_is_no_end(raw: Any) -> None:
    begun = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "FINISH_REASON_UNSPECIFIED"}]}
    with pytest.raises(BrokenStreamError):
        streamed(raw, "gemini", begun)


# Clocks.


@pytest.mark.slow
@FORMATS
def test_pieces_without_a_token_and_pings_do_not_meet_first_token_s(provider: FakeProvider, format: Format) -> None:
    limits = Timeouts(first_token_s=0.2, idle_s=30)
    error = failed(provider, format, stall_after(0, keepalive_s=0.02), streams=True, timeouts=limits, timeout_s=20)
    assert type(error) is ProviderTimeoutError
    assert "no first token within 0.2 s (timeouts.first_token_s)" in str(error)


@pytest.mark.slow
@FORMATS
@pytest.mark.parametrize("limits", [Timeouts(idle_s=0.1), Timeouts(idle_s=30, keepalive_s=0.2)])
def test_signs_of_life_do_not_hold_a_stalled_stream_for_ever(
    provider: FakeProvider, format: Format, limits: Timeouts
) -> None:
    error = failed(provider, format, stall_after(1, keepalive_s=0.02), streams=True, timeouts=limits, timeout_s=20)
    assert type(error) is ProviderTimeoutError
    assert "nothing but signs of life for" in str(error)
    assert "(timeouts.keepalive_s)" in str(error)


@pytest.mark.slow
@FORMATS
def test_reasoning_is_a_sign_that_the_answer_comes(provider: FakeProvider, format: Format) -> None:
    limits = Timeouts(first_token_s=5, idle_s=0.2)
    error = failed(
        provider, format, stall_after(1, answer("hello", reasoning="hm")), streams=True, timeouts=limits, timeout_s=20
    )
    assert "silent for 0.2 s (timeouts.idle_s)" in str(error)


# Counts.


@FORMATS
@BOTH
@pytest.mark.parametrize(("sent", "written"), [(1, 10**12), (10**12, 1), (1, -5)])
def test_a_count_that_cannot_be_is_not_believed(
    provider: FakeProvider, format: Format, streams: bool, sent: int, written: int
) -> None:
    reply = answer("hello", input_tokens=sent, output_tokens=written)
    assert ask(provider, format, reply, streams=streams).usage is None


@FORMATS
@BOTH
def test_an_answer_that_counts_no_token_was_not_counted(provider: FakeProvider, format: Format, streams: bool) -> None:
    reply = answer("hello", input_tokens=0, output_tokens=0)
    found = ask(provider, format, reply, streams=streams)
    # Anthropic begins every stream with a count of 1.
    assert found.usage in ((None, Usage(0, 1)) if (format, streams) == ("anthropic", True) else (None,))
    assert ask(provider, format, no_usage(answer("hello")), streams=streams).usage is None


# Tool calls.


@BOTH
def test_calls_without_ids_or_numbers_are_told_apart_and_their_names_put_together(
    provider: FakeProvider, streams: bool
) -> None:
    wanted = (Call("get_weather", {"city": "Oslo"}), Call("get_weather", {"city": "Rome"}), Call("get_time"))
    found = ask(provider, "openai", answer(calls=wanted, loose=True), WEATHER, streams=streams)
    assert [(call.name, call.arguments) for call in found.tool_calls] == [(call.name, call.text) for call in wanted]
    assert len({call.id for call in found.tool_calls}) == 3
    again = ask(provider, "openai", answer(calls=wanted, loose=True), AFTER_A_RESULT, streams=streams)
    assert not {call.id for call in found.tool_calls} & {call.id for call in again.tool_calls}
