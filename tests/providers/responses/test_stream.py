"""Streams of Responses as other servers send them, and their errors."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.errors import (
    BrokenStreamError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    EmptyAnswerError,
    MalformedResponseError,
    RateLimitError,
)
from semroute.providers.responses import ResponsesAdapter, StreamedResponse, read_answer
from semroute.providers.streaming import ServerSentEvent
from semroute.providers.target import CallTarget
from semroute.types import Completion, Delta, Request, Tool, Usage

HELLO = Request(({"role": "user", "content": "hello"},), tools=(Tool("add"),))
DONE = {"status": "completed", "model": "gpt-x", "usage": {"input_tokens": 9, "output_tokens": 4}}
TEXT = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}


def target(url: str = "http://x/v1") -> CallTarget:
    return CallTarget(Deployment(name="spot", model="small", format="responses", base_url=url))


def streamed(raw: Any, *events: dict[str, Any], done: bool = False) -> tuple[list[Delta], Completion]:
    """The pieces and the completion of events as they are."""

    async def work() -> list[Delta | Completion]:
        async with (
            raw.serve(raw.events(*events, done=done)) as server,
            httpx.AsyncClient(trust_env=False, verify=False) as client,
            aclosing(ResponsesAdapter().stream(client, target(server.url), HELLO, within_s=10)) as pieces,
        ):
            return [piece async for piece in pieces]

    *pieces, last = asyncio.run(work())
    assert isinstance(last, Completion)
    return [piece for piece in pieces if isinstance(piece, Delta)], last


def end(kind: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": {**DONE, "status": kind, **more}}


def test_a_server_that_streams_only_the_whole_has_answered(raw: Any) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"x": 1}'}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    pieces, found = streamed(raw, end(output=[thought, TEXT, call]), done=True)
    assert (found.text, found.reasoning, found.finish_reason, found.usage) == ("hi", "Hm.", "tool_calls", Usage(9, 4))
    assert ["".join(piece.text for piece in pieces), "".join(piece.reasoning for piece in pieces)] == ["hi", "Hm."]
    assert [(one.id, one.arguments) for piece in pieces for one in piece.tool_calls] == [("c", '{"x": 1}')]


def test_arguments_that_come_with_the_end_of_a_call_are_given_out_once(raw: Any) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "add", "arguments": ""}
    pieces, found = streamed(
        raw,
        {"type": "response.output_item.added", "output_index": 3, "item": call},
        {"type": "response.function_call_arguments.delta", "output_index": 3, "delta": '{"x"'},
        {"type": "response.output_item.done", "output_index": 3, "item": {**call, "arguments": '{"x": 1}'}},
        {"type": "response.output_item.done", "output_index": 4, "item": {**call, "call_id": "d", "arguments": "{}"}},
        end(),
    )
    fragments = [one for piece in pieces for one in piece.tool_calls]
    assert "".join(one.arguments for one in fragments if one.index == 0) == '{"x": 1}'
    assert [(call.id, call.arguments) for call in found.tool_calls] == [("c", '{"x": 1}'), ("d", "{}")]


def test_paragraphs_of_a_summary_stay_apart_and_custom_tools_are_named(raw: Any) -> None:
    thought = {"type": "response.reasoning_summary_text.delta", "output_index": 0}
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": ""}
    _, found = streamed(
        raw,
        {**thought, "summary_index": 0, "delta": "One."},
        {**thought, "summary_index": 1, "delta": "Two"},
        {**thought, "summary_index": 1, "delta": "."},
        {"type": "response.output_item.added", "output_index": 1, "item": call},
        {"type": "response.custom_tool_call_input.delta", "output_index": 1, "delta": "x y"},
        end(),
    )
    assert found.reasoning == "One.\n\nTwo."
    assert [(call.type, call.name, call.arguments) for call in found.tool_calls] == [("custom", "patch", "x y")]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "server_error", "message": "x", "param": None}, BrokenStreamError),
        ({"type": "error", "code": "context_length_exceeded", "message": "x"}, ContextLengthError),
        (end("failed", error={"code": "rate_limit_exceeded", "message": "slow"}), RateLimitError),
        (end("failed", error=None), BrokenStreamError),
        ({"type": "response.output_text.delta", "output_index": "x"}, MalformedResponseError),
        ({"type": "response.function_call_arguments.delta", "output_index": 9, "delta": "{"}, MalformedResponseError),
        ({"type": "response.output_item.added", "item": {"type": "function_call"}}, MalformedResponseError),
        ({"no": "type"}, MalformedResponseError),
        (end(output=[]), EmptyAnswerError),
        (end("incomplete", incomplete_details={"reason": "max_output_tokens"}), EmptyAnswerError),
        (end("incomplete", incomplete_details={"reason": "content_filter"}), ContentFilterError),
    ],
)
def test_an_event_that_is_no_part_of_an_answer_is_the_error_of_its_kind(
    raw: Any, event: dict[str, Any], kind: type[DispatchError]
) -> None:
    with pytest.raises(DispatchError) as caught:
        streamed(raw, event)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"error": {"code": "server_error", "message": "x"}, "status": "failed"}, DispatchError),
        ({"status": "completed"}, MalformedResponseError),
        ({"output": [{"no": "type"}]}, MalformedResponseError),
        ({"output": [{"type": "function_call", "call_id": "c"}]}, MalformedResponseError),
        ({**DONE, "output": []}, EmptyAnswerError),
    ],
)
def test_a_whole_answer_that_is_none_is_an_error(answer: dict[str, Any], kind: type[DispatchError]) -> None:
    with pytest.raises(kind):
        read_answer(answer, target(), HELLO, 1.0)


def test_usage_that_is_no_count_is_none() -> None:
    for usage in (None, {}, {"input_tokens": -1, "output_tokens": 4}, {"input_tokens": "9", "output_tokens": "x"}):
        assert read_answer({**DONE, "output": [TEXT], "usage": usage}, target(), HELLO, 1.0).usage is None


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["output_text", "refusal", "reasoning_summary_text"]),
            st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=5),
        ),
        max_size=6,
    )
)
def test_the_pieces_of_a_stream_are_its_completion(pieces: list[tuple[str, str]]) -> None:
    reader = StreamedResponse(target(), HELLO)
    deltas = [
        reader.feed(ServerSentEvent("", json.dumps({"type": f"response.{kind}.delta", "delta": text})))
        for kind, text in pieces
    ]
    reader.feed(ServerSentEvent("", json.dumps(end())))
    try:
        found = reader.completion(1.0, None)
    except EmptyAnswerError:
        return
    assert found.text == "".join(delta.text for delta in deltas)
    assert (found.reasoning or "") == "".join(delta.reasoning for delta in deltas)
    assert (found.refusal or "") == "".join(text for kind, text in pieces if kind == "refusal")
