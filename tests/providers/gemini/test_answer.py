from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.config import Deployment
from semroute.errors import (
    BrokenStreamError,
    ContentFilterError,
    DispatchError,
    EmptyAnswerError,
    MalformedResponseError,
    OverloadedError,
    RateLimitError,
)
from semroute.providers.gemini import GeminiAnswer
from semroute.providers.streaming import ServerSentEvent
from semroute.providers.target import CallTarget
from semroute.types import Completion, Request, TokenLogprob, ToolCall, Usage

TARGET = CallTarget(
    Deployment(name="spot", model="large", format="gemini", upstream_model="gemini-test"), key="AIza1234"
)
COUNTED = {"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17}


HELLO = Request(({"role": "user", "content": "hello"},))
AFTER_A_RESULT = Request((*HELLO.messages, {"role": "tool", "tool_call_id": "t", "content": "rain"}))


def chunk(*parts: dict[str, Any], reason: str | None = None, usage: Any = None, **candidate: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"index": 0, **candidate}
    if parts:
        found["content"] = {"role": "model", "parts": list(parts)}
    if reason is not None:
        found["finishReason"] = reason
    return {"candidates": [found], "modelVersion": "gemini-test-001", **({"usageMetadata": usage} if usage else {})}


def read(answer: dict[str, Any], request: Request = HELLO) -> Completion:
    found = GeminiAnswer(TARGET, request)
    found.add(answer)
    return found.completion(12.5)


def streamed(*chunks: dict[str, Any]) -> tuple[list[str], GeminiAnswer]:
    answer = GeminiAnswer(TARGET, HELLO, is_streamed=True)
    return [answer.feed(ServerSentEvent(None, json.dumps(item))).text for item in chunks], answer


def test_a_whole_answer_becomes_a_completion() -> None:
    found = read(chunk({"text": "Hel"}, {"text": "hm", "thought": True}, {"text": "lo"}, reason="STOP", usage=COUNTED))
    assert found == Completion(
        text="Hello",
        model="large",
        deployment="spot",
        upstream_model="gemini-test-001",
        finish_reason="stop",
        usage=Usage(10, 7),
        latency_ms=12.5,
        reasoning="hm",
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "other"),
        ("OTHER", "other"),
        ("SOMETHING_NEW", "other"),
        (None, "other"),
    ],
)
def test_finish_reasons_are_told_in_our_words(theirs: str | None, ours: str) -> None:
    assert read(chunk({"text": "x"}, reason=theirs)).finish_reason == ours


def test_output_includes_thoughts_and_input_what_tools_gave_and_the_cache_held() -> None:
    counted = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 80,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "trafficType": "ON_DEMAND",
    }
    usage = read(chunk({"text": "x"}, reason="STOP", usage=counted)).usage
    assert usage == Usage(105, 50, cached_tokens=80, reasoning_tokens=30)


@pytest.mark.parametrize("counted", [3, {"candidatesTokenCount": 1}, {"promptTokenCount": -1}])
def test_an_answer_is_not_lost_because_its_count_is(counted: object) -> None:
    found = read(chunk({"text": "x"}, reason="STOP", usage=counted))
    assert (found.text, found.usage) == ("x", None)


def test_calls_keep_their_ids_and_signatures() -> None:
    call = {"functionCall": {"id": "fc1", "name": "weather", "args": {"city": "Tromsø"}}, "thoughtSignature": "c2ln"}
    found = read(chunk({"text": "I look."}, call, reason="STOP"))
    assert found.tool_calls == (ToolCall("fc1", "weather", '{"city": "Tromsø"}', "c2ln"),)
    assert (found.text, found.finish_reason) == ("I look.", "tool_calls")


def test_ids_are_made_where_there_are_none_and_are_the_same_each_time() -> None:
    twice = chunk({"functionCall": {"name": "now"}}, {"functionCall": {"name": "now"}}, reason="STOP")
    first, second = read(twice).tool_calls
    assert first.arguments == second.arguments == "{}"
    assert first.id != second.id
    assert read(twice).tool_calls == (first, second)
    _, answer = streamed(twice)
    assert answer.completion(1.0).tool_calls == (first, second)
    # Another turn of the conversation has other ids, or results could not be told apart.
    assert {call.id for call in read(twice, AFTER_A_RESULT).tool_calls}.isdisjoint({first.id, second.id})


def test_logprobs_are_of_the_tokens_that_were_chosen_and_zero_may_be_left_out() -> None:
    result = {"chosenCandidates": [{"token": "Hel", "logProbability": -0.5, "tokenId": 3}, {"token": "lo"}]}
    found = read(chunk({"text": "Hello"}, reason="STOP", logprobsResult=result))
    assert found.logprobs == (TokenLogprob("Hel", -0.5), TokenLogprob("lo", 0.0))


def test_a_stream_says_the_same_as_the_whole_answer() -> None:
    result = {"chosenCandidates": [{"token": "lo", "logProbability": -0.25}]}
    pieces, answer = streamed(
        chunk({"text": "hm", "thought": True}, usage={"promptTokenCount": 10}),
        chunk({"text": "Hel"}, usage={"promptTokenCount": 10, "candidatesTokenCount": 1}),
        chunk({"text": "lo"}, logprobsResult=result),
        chunk({"functionCall": {"id": "fc1", "name": "now"}}),
        chunk({"text": ""}, reason="STOP"),
        {"usageMetadata": COUNTED},
    )
    assert pieces == ["", "Hel", "lo", "", "", ""]
    found = answer.completion(12.5, 3.0)
    assert (found.text, found.finish_reason, found.first_token_ms) == ("Hello", "tool_calls", 3.0)
    assert found.usage == Usage(10, 7)
    assert found.logprobs == (TokenLogprob("lo", -0.25),)
    assert found.tool_calls == (ToolCall("fc1", "now", "{}"),)


def test_the_first_token_is_the_first_of_text_or_of_a_call() -> None:
    _, answer = streamed(chunk({"text": "hm", "thought": True}), chunk({"text": ""}))
    assert not answer.has_content
    answer.add(chunk({"functionCall": {"name": "now"}}))
    assert answer.has_content


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "the prompt (PROHIBITED_CONTENT)"),
        ({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "AIza1234"}}, "the prompt (SAFETY: [key])"),
        (chunk(reason="SAFETY", finishMessage="too rude"), "the answer (SAFETY: too rude)"),
        (chunk({"text": ""}, reason="RECITATION"), "the answer (RECITATION)"),
    ],
)
def test_a_filter_that_leaves_no_text_is_an_error_with_the_tokens_it_took(answer: dict[str, Any], words: str) -> None:
    counted = {**answer, "usageMetadata": {"promptTokenCount": 10}}
    for read_it in (read, lambda body: streamed(body)[1].completion(1.0)):
        with pytest.raises(ContentFilterError) as caught:
            read_it(counted)
        assert words in str(caught.value)
        assert (caught.value.usage, caught.value.status) == (Usage(10, 0), 200)


def test_an_answer_cut_before_its_first_word_is_no_answer() -> None:
    with pytest.raises(EmptyAnswerError) as caught:
        read(chunk(reason="MAX_TOKENS", usage={"promptTokenCount": 10, "thoughtsTokenCount": 5}))
    assert (caught.value.finish_reason, caught.value.usage) == ("length", Usage(10, 5, reasoning_tokens=5))
    with pytest.raises(EmptyAnswerError):
        read(chunk({"text": ""}, reason="STOP"))


def test_after_the_result_of_a_tool_the_model_may_have_nothing_to_add() -> None:
    assert read(chunk(reason="STOP"), AFTER_A_RESULT).text == ""


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"candidates": []},
        {"candidates": [3]},
        {"candidates": "x"},
        chunk(reason="STOP"),
        chunk({"text": "hm", "thought": True}, reason="STOP"),
        chunk(reason="MALFORMED_FUNCTION_CALL", finishMessage="print(1"),
        chunk({"functionCall": {"args": {}}}, reason="STOP"),
    ],
)
def test_a_200_that_is_no_answer_is_malformed(answer: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponseError, match="spot answered") as caught:
        read(answer)
    assert caught.value.status == 200


def test_a_stream_without_a_finish_reason_is_broken_and_tells_what_was_counted() -> None:
    _, answer = streamed(chunk({"text": "Hel"}, usage={"promptTokenCount": 10, "candidatesTokenCount": 1}))
    with pytest.raises(BrokenStreamError, match="no finishReason") as caught:
        answer.completion(1.0)
    assert caught.value.usage == Usage(10, 1)
    with pytest.raises(BrokenStreamError):
        GeminiAnswer(TARGET, HELLO, is_streamed=True).completion(1.0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 503, "status": "UNAVAILABLE"}, OverloadedError),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, RateLimitError),
        ({"code": 500, "status": "INTERNAL"}, BrokenStreamError),
    ],
)
def test_an_error_in_a_stream_is_the_error_that_it_names(error: dict[str, Any], kind: type[DispatchError]) -> None:
    _, answer = streamed(chunk({"text": "Hel"}))
    with pytest.raises(DispatchError, match="oh dear") as caught:
        answer.feed(ServerSentEvent(None, json.dumps({"error": {**error, "message": "oh dear"}})))
    assert type(caught.value) is kind


@pytest.mark.parametrize("data", ["{", "[]", "3", '{"candidates": [{"index": "x"}]}'])
def test_an_event_that_cannot_be_read_is_malformed(data: str) -> None:
    with pytest.raises(MalformedResponseError, match="not an answer"):
        GeminiAnswer(TARGET, HELLO, is_streamed=True).feed(ServerSentEvent(None, data))


NAMES = [
    "candidates",
    "content",
    "parts",
    "text",
    "functionCall",
    "name",
    "args",
    "id",
    "finishReason",
    "index",
    "usageMetadata",
    "promptFeedback",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.floats()
    | st.sampled_from(["STOP", "SAFETY"])
    | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries(
    {}, optional={"text": st.text(max_size=2), "functionCall": JSON, "thought": st.booleans()}
)
CHUNKS = st.builds(
    lambda parts, reason, more: {**more, **chunk(*parts, reason=reason)},
    st.lists(PARTS, max_size=3),
    st.sampled_from([None, "STOP", "SAFETY", "MAX_TOKENS", "OTHER"]),
    st.dictionaries(st.sampled_from(NAMES), JSON),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(CHUNKS | JSON, max_size=4))
def test_whatever_a_server_streams_ends_in_an_answer_or_an_error_of_ours(chunks: list[Any]) -> None:
    try:
        pieces, answer = streamed(*chunks)
        found = answer.completion(1.0)
    except DispatchError:
        return
    assert found.text == "".join(pieces)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(CHUNKS | st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_a_server_answers_is_an_answer_or_an_error_of_ours(whole: dict[str, Any]) -> None:
    try:
        found = read(whole)
    except DispatchError:
        return
    assert found.finish_reason is not None
