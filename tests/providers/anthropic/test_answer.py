from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    DispatchError,
    EmptyAnswerError,
    MalformedResponseError,
    OverloadedError,
    RateLimitError,
    RequestError,
)
from semroute.providers.anthropic import AnthropicAnswer
from semroute.providers.streaming import ServerSentEvent
from semroute.providers.target import CallTarget
from semroute.types import Completion, ReasoningBlock, Request, ToolCall, Usage

TARGET = CallTarget(
    Deployment(name="spot", model="large", format="anthropic", upstream_model="claude-test"), key="sk-1234"
)


HELLO = Request(({"role": "user", "content": "hello"},))
AFTER_A_RESULT = Request((*HELLO.messages, {"role": "tool", "tool_call_id": "t", "content": "rain"}))


def message(*content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 7}
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-2026",
        "content": list(content),
    }
    return {**whole, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage, **changes}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def read(answer: dict[str, Any]) -> Completion:
    found = AnthropicAnswer(TARGET, HELLO)
    found.read(answer)
    return found.completion(12.5)


def event(kind: str, **data: Any) -> ServerSentEvent:
    return ServerSentEvent(kind, json.dumps({"type": kind, **data}))


def delta(index: int, kind: str, **data: Any) -> ServerSentEvent:
    return event("content_block_delta", index=index, delta={"type": kind, **data})


def start(index: int, **block: Any) -> ServerSentEvent:
    return event("content_block_start", index=index, content_block=block)


BEGUN = event("message_start", message=message(stop_reason=None, usage={"input_tokens": 10, "output_tokens": 1}))
SAID = [start(0, type="text", text=""), delta(0, "text_delta", text="Hel"), delta(0, "text_delta", text="lo")]
ENDED = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7})
STOPPED = event("message_stop")


def feed(*events: ServerSentEvent) -> tuple[list[str], AnthropicAnswer]:
    answer = AnthropicAnswer(TARGET, HELLO)
    return [answer.feed(item).text for item in events], answer


def test_a_whole_message_becomes_a_completion() -> None:
    found = read(message(text("Hel"), text("lo")))
    assert found == Completion(
        text="Hello",
        model="large",
        deployment="spot",
        upstream_model="claude-test-2026",
        finish_reason="stop",
        usage=Usage(10, 7),
        latency_ms=12.5,
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
        ("pause_turn", "other"),
        ("something_new", "other"),
        (None, "other"),
    ],
)
def test_stop_reasons_are_told_in_our_words(theirs: str | None, ours: str) -> None:
    assert read(message(text("x"), stop_reason=theirs)).finish_reason == ours


def test_input_includes_what_the_cache_read_and_wrote_and_output_includes_thinking() -> None:
    counted = {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
        "service_tier": "standard",
    }
    usage = read(message(text("x"), usage=counted)).usage
    assert usage == Usage(130, 50, cached_tokens=100, cache_write_tokens=20, reasoning_tokens=30)


@pytest.mark.parametrize(
    "counted", [None, 3, {}, {"input_tokens": 1}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": True}]
)
def test_an_answer_is_not_lost_because_its_count_is(counted: object) -> None:
    found = read(message(text("x"), usage=counted))
    assert (found.text, found.usage) == ("x", None)


def test_calls_keep_their_ids_and_thinking_its_signature() -> None:
    found = read(
        message(
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            text("I look."),
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Tromsø"}},
            {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            {"type": "something_new", "content": [{"deep": 1}]},
            stop_reason="tool_use",
        )
    )
    assert found.text == "I look."
    assert (found.reasoning, found.reasoning_blocks) == ("hm", (ReasoningBlock("hm", "s"),))
    assert found.tool_calls == (
        ToolCall("toolu_1", "weather", '{"city": "Tromsø"}'),
        ToolCall("toolu_2", "now", "{}"),
    )
    assert found.finish_reason == "tool_calls"


def test_the_words_of_a_refusal_are_told_apart_from_the_text() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    found = read(message(stop_reason="refusal", stop_details=details))
    assert (found.text, found.refusal, found.finish_reason) == ("", "Not this.", "refusal")


@pytest.mark.parametrize("reason", ["max_tokens", "stop_sequence", "end_turn", "pause_turn"])
def test_an_answer_cut_before_its_first_word_is_no_answer(reason: str) -> None:
    with pytest.raises(EmptyAnswerError):
        read(message(stop_reason=reason))


def test_after_the_result_of_a_tool_the_model_may_have_nothing_to_add() -> None:
    found = AnthropicAnswer(TARGET, AFTER_A_RESULT)
    found.read(message())
    assert found.completion(1.0).text == ""


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"content": "x"},
        {"content": [3]},
        message(),
        message({"type": "thinking", "thinking": "hm"}),
        message({"type": "tool_use", "id": "t", "input": {}}, stop_reason="tool_use"),
    ],
)
def test_a_200_that_is_no_answer_is_malformed(answer: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponseError, match="spot answered") as caught:
        read(answer)
    assert caught.value.status == 200


def test_a_stream_says_the_same_as_the_whole_message() -> None:
    pieces, answer = feed(
        BEGUN,
        event("ping"),
        start(0, type="thinking", thinking=""),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "signature_delta", signature="s"),
        event("content_block_stop", index=0),
        start(1, type="text", text=""),
        delta(1, "text_delta", text="Hel"),
        delta(1, "text_delta", text="lo"),
        delta(1, "citations_delta", citation={}),
        start(2, type="tool_use", id="toolu_1", name="weather", input={}),
        delta(2, "input_json_delta", partial_json=""),
        delta(2, "input_json_delta", partial_json='{"city": "Os'),
        delta(2, "input_json_delta", partial_json='lo"}'),
        event("something_new", index=7, delta={"type": "odd"}),
        event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 42}),
        STOPPED,
    )
    assert [piece for piece in pieces if piece] == ["Hel", "lo"]
    found = answer.completion(12.5, 3.0)
    assert found.text == "Hello"
    assert found.tool_calls == (ToolCall("toolu_1", "weather", '{"city": "Oslo"}'),)
    assert found.usage == Usage(10, 42)
    assert (found.finish_reason, found.first_token_ms, found.upstream_model) == ("tool_calls", 3.0, "claude-test-2026")


def test_the_first_token_is_the_first_of_text_or_of_a_call() -> None:
    _, answer = feed(BEGUN, start(0, type="text", text=""), delta(0, "text_delta", text=""))
    assert not answer.has_content
    answer.feed(start(1, type="tool_use", id="t", name="f", input={}))
    assert answer.has_content


def test_the_input_of_a_call_that_comes_whole_is_taken_as_it_is() -> None:
    _, answer = feed(BEGUN, start(0, type="tool_use", id="t", name="f", input={"a": 1}), ENDED, STOPPED)
    assert answer.completion(1.0).tool_calls == (ToolCall("t", "f", '{"a": 1}'),)


def test_the_latest_counts_of_a_stream_win_and_a_zero_takes_nothing_back() -> None:
    gateway = event("message_start", message=message(usage={"input_tokens": 0, "output_tokens": 0}))
    _, late = feed(gateway, event("message_delta", delta={}, usage={"input_tokens": 9, "output_tokens": 4}))
    assert late.usage == Usage(9, 4)
    _, early = feed(BEGUN, event("message_delta", delta={}, usage={"input_tokens": 0, "output_tokens": 4}))
    assert early.usage == Usage(10, 4)


@pytest.mark.parametrize("events", [[BEGUN], [BEGUN, *SAID]])
def test_a_stream_that_ends_early_is_broken_and_tells_what_was_counted(events: list[ServerSentEvent]) -> None:
    _, answer = feed(*events)
    with pytest.raises(BrokenStreamError, match="no message_stop") as caught:
        answer.completion(1.0)
    assert caught.value.usage == Usage(10, 1)


def test_a_stop_reason_with_its_counts_is_the_end_though_message_stop_never_comes() -> None:
    _, answer = feed(BEGUN, *SAID, ENDED)
    assert answer.is_whole
    assert not answer.is_done
    assert answer.completion(1.0).usage == Usage(10, 7)


def test_an_end_without_a_beginning_is_malformed() -> None:
    _, answer = feed(STOPPED)
    with pytest.raises(MalformedResponseError):
        answer.completion(1.0)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", OverloadedError),
        ("rate_limit_error", RateLimitError),
        ("invalid_request_error", RequestError),
        ("authentication_error", AuthenticationError),
        ("api_error", BrokenStreamError),
        ("something_new", BrokenStreamError),
    ],
)
def test_an_error_event_in_a_200_is_the_error_that_it_names(kind: str, error: type[DispatchError]) -> None:
    _, answer = feed(BEGUN, *SAID)
    with pytest.raises(DispatchError, match="as sk is said: ") as caught:
        answer.feed(event("error", error={"type": kind, "message": "as sk is said: sk-1234"}))
    assert type(caught.value) is error
    assert "sk-1234" not in str(caught.value)


@pytest.mark.parametrize("data", ["{", "[]", "3", "{}", '{"type": "content_block_delta", "index": "x", "delta": {}}'])
def test_an_event_that_cannot_be_read_is_malformed(data: str) -> None:
    answer = AnthropicAnswer(TARGET, HELLO)
    with pytest.raises(MalformedResponseError, match="streamed something that is not an event"):
        answer.feed(ServerSentEvent("content_block_delta", data))


NAMES = [
    "type",
    "message",
    "content",
    "text",
    "id",
    "name",
    "input",
    "usage",
    "input_tokens",
    "output_tokens",
    "stop_reason",
    "delta",
    "index",
    "error",
]
KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "message_delta",
    "message_stop",
    "text",
    "tool_use",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.sampled_from(KINDS) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=8,
)
EVENTS = st.builds(
    lambda kind, data: {**data, "type": kind}, st.sampled_from(KINDS), st.dictionaries(st.sampled_from(NAMES), JSON)
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS | JSON, max_size=6))
def test_whatever_a_server_streams_ends_in_an_answer_or_an_error_of_ours(events: list[Any]) -> None:
    answer = AnthropicAnswer(TARGET, HELLO)
    texts: list[str] = []
    try:
        texts += [answer.feed(ServerSentEvent(None, json.dumps(data))).text for data in events]
        found = answer.completion(1.0)
    except DispatchError:
        return
    assert found.text == "".join(texts)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_a_server_answers_is_an_answer_or_an_error_of_ours(whole: dict[str, Any]) -> None:
    try:
        found = read(whole)
    except DispatchError:
        return
    assert found.finish_reason is not None
