"""Answers of a vendor of the client's own format, which come back as they were given."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
from server.conftest import Served
from server.test_native_bodies import CASCADE, PATHS, other

from semroute.testing import Call, answer, reset_after
from semroute.testing.replies import Reply

ASKED: dict[str, Any] = {"model": "small", "max_tokens": 50, "messages": [{"role": "user", "content": "recipe?"}]}
FOUND = {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "E"}
CITED = {"type": "web_search_result_location", "url": "https://a.example", "encrypted_index": "x", "cited_text": "s"}
SEARCH: list[dict[str, Any]] = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "soup"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{**FOUND, "page_age": None}]},
]
OF_ANTHROPIC: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "model": "claude-x",
    "container": {"id": "c_1"},
    "content": [*SEARCH, {"citations": [CITED], "type": "text", "text": "Soup."}],
    "stop_reason": "stop_sequence",
    "stop_sequence": "###",
    "usage": {"input_tokens": 5, "output_tokens": 2, "server_tool_use": {"web_search_requests": 1}},
}
OF_OPENAI: dict[str, Any] = {
    "id": "chatcmpl-1",
    "system_fingerprint": "fp_1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x",
    "choices": [
        {
            "index": 0,
            "logprobs": {
                "content": [
                    {"token": "Soup", "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": "So", "logprob": -3}]}
                ],
                "refusal": None,
            },
            "message": {
                "role": "assistant",
                "content": "Soup.",
                "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}],
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.25},
    "service_tier": "flex",
}
WHOLE = {"anthropic": OF_ANTHROPIC, "openai": OF_OPENAI}


def whole(body: dict[str, Any]) -> Reply:
    return Reply(body=json.dumps(body).encode())


def streamed(*events: dict[str, Any], end: str = "") -> Reply:
    lines = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" if "type" in one else f"data: {json.dumps(one)}\n\n"
             for one in events]  # fmt: skip
    return Reply(body="".join([*lines, end]).encode(), headers={"content-type": "text/event-stream"})


def ask(served: Served, format: str, **changes: Any) -> httpx.Response:
    answered = httpx.post(served.url + PATHS[format], json={**ASKED, **changes}, timeout=30)
    assert answered.status_code == 200, answered.text
    return answered


def events_of(answered: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answered.text.splitlines() if line.startswith("data: ")]
    found = [json.loads(line) for line in lines if line != "[DONE]"]
    return [event for event in found if event.get("type") != "ping"]


def logged(served: Served) -> Any:
    log: Any = served.router._log
    assert log.flush()
    (one,) = log.outcomes()
    return one


@pytest.mark.slow
@pytest.mark.parametrize("format", ["anthropic", "openai"])
def test_a_whole_answer_keeps_every_field_and_its_order(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(whole(WHOLE[format]))
    answered = ask(served, format)
    body = answered.json()
    assert body["id"].endswith(answered.headers["x-semroute-outcome-id"])
    assert body["model"] == "small"
    named = {"id": WHOLE[format]["id"], "model": WHOLE[format]["model"]}
    assert json.dumps({**body, **named}) == json.dumps(WHOLE[format])
    call = logged(served).calls[0]
    assert (call.input_tokens, call.output_tokens) == (5, 2)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["anthropic", "openai"])
def test_an_answer_of_another_format_is_written_anew(serve: Callable[..., Served], format: str) -> None:
    served = serve(other(format))
    served.provider.always(whole(WHOLE[other(format)]))
    body = ask(served, format).json()
    assert not {"container", "system_fingerprint", "service_tier"} & set(body)
    assert "Soup." in json.dumps(body)


@pytest.mark.slow
def test_an_answer_of_the_vendors_own_tools_alone_is_no_failure(serve: Callable[..., Served]) -> None:
    served = serve("anthropic")
    paused = {**OF_ANTHROPIC, "content": SEARCH, "stop_reason": "pause_turn", "stop_sequence": None}
    served.provider.always(whole(paused))
    assert ask(served, "anthropic").json()["stop_reason"] == "pause_turn"
    assert len(served.provider.requests) == 1


def of_anthropic_in_events() -> list[dict[str, Any]]:
    start = {**OF_ANTHROPIC, "content": [], "stop_reason": None, "stop_sequence": None}
    query, found = SEARCH
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {**query, "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": found},
        {"type": "content_block_stop", "index": 1},
        {"content_block": {"type": "text", "text": "", "citations": []}, "type": "content_block_start", "index": 2},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Soup."}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "citations_delta", "citation": CITED}},
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "###", "container": {"id": "c_1"}},
            "usage": {"output_tokens": 2, "server_tool_use": {"web_search_requests": 1}},
        },
        {"type": "message_stop"},
    ]


@pytest.mark.slow
def test_a_stream_of_anthropics_keeps_every_event(serve: Callable[..., Served]) -> None:
    served = serve("anthropic")
    given = of_anthropic_in_events()
    served.provider.always(streamed(*given))
    answered = ask(served, "anthropic", stream=True)
    came = events_of(answered)
    assert (came[0]["message"].pop("model"), came[0]["message"].pop("id")[:4]) == ("small", "msg_")
    for name in ("id", "model"):
        del given[0]["message"][name]
    assert json.dumps(came[1:]) == json.dumps(given[1:])
    assert came[0] == given[0]
    call = logged(served).calls[0]
    assert (call.input_tokens, call.output_tokens) == (5, 2)
    with (
        anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0) as client,
        client.messages.stream(**ASKED) as stream,
    ):
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["server_tool_use", "web_search_tool_result", "text"]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "###")


@pytest.mark.slow
@pytest.mark.parametrize("counted", [False, True])
def test_a_stream_of_openais_keeps_every_chunk_and_has_the_counts_only_if_wanted(
    serve: Callable[..., Served], counted: bool
) -> None:
    served = serve("openai")
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", "usage": None, "x": {"b": 1}}
    (choice,) = OF_OPENAI["choices"]
    deltas = [
        ({"role": "assistant", "content": "", "annotations": choice["message"]["annotations"]}, None, None),
        ({"content": "Soup."}, None, choice["logprobs"]),
        ({}, "stop", None),
    ]
    chunks: list[dict[str, Any]] = [
        {**frame, "choices": [{"delta": delta, "index": 0, "finish_reason": finish, "logprobs": logprobs}]}
        for delta, finish, logprobs in deltas
    ]
    served.provider.always(
        streamed(*chunks, {**frame, "choices": [], "usage": OF_OPENAI["usage"]}, end="data: [DONE]\n\n")
    )
    options = {"stream_options": {"include_usage": True}} if counted else {}
    answered = ask(served, "openai", stream=True, **options)
    assert answered.text.endswith("data: [DONE]\n\n")
    came = events_of(answered)
    assert len({chunk["id"] for chunk in came}) == 1
    wanted = [*chunks, {**frame, "choices": [], "usage": OF_OPENAI["usage"]}] if counted else chunks
    for chunk in wanted:
        if not counted:
            del chunk["usage"]
    shown = [{**chunk, "id": came[0]["id"], "model": "small"} for chunk in wanted]
    assert json.dumps(came) == json.dumps(shown)
    assert logged(served).calls[0].output_tokens == 2


def check_blocks(events: list[dict[str, Any]]) -> list[str]:
    """Return the types of the blocks, after checking that one is open at a time and that they are counted on."""
    kinds, is_open = [], False
    for event in events:
        if event["type"] == "content_block_start":
            assert (is_open, event["index"]) == (False, len(kinds))
            kinds.append(event["content_block"]["type"])
            is_open = True
        elif event["type"].startswith("content_block"):
            assert (is_open, event["index"]) == (True, len(kinds) - 1)
            is_open = event["type"] != "content_block_stop"
    assert not is_open
    names = [event["type"] for event in events if event["type"].startswith("message")]
    assert names == ["message_start", "message_delta", "message_stop"]
    return kinds


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [("anthropic",) * 2, ("anthropic", "openai"), ("openai", "anthropic")])
def test_a_deployment_that_takes_over_while_another_thinks_goes_on_in_the_same_message(
    serve: Callable[..., Served], first: str, second: str
) -> None:
    served = serve({"small": first, "large": second}, retries={"attempts": 2, "same_place": 0})
    thinking = answer("Rain.", reasoning="Paris is far away, and it rains there most of the time.")
    served.provider.script(reset_after(3, thinking), answer("Rain.", reasoning="Hm."))
    events = events_of(ask(served, "anthropic", model="both", stream=True))
    assert check_blocks(events) == ["thinking", "thinking", "text"] if first == second else check_blocks(events)
    texts = [event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"]
    assert "".join(texts) == "Rain."


@pytest.mark.slow
def test_calls_without_ids_are_put_right(serve: Callable[..., Served]) -> None:
    served = serve("openai")
    served.provider.always(answer("Look.", calls=[Call("weather", {"city": "Paris"})], loose=True))
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        asked: dict[str, Any] = {**ASKED, "tools": [tool]}
        (called,) = client.chat.completions.create(**asked).choices[0].message.tool_calls
        with client.chat.completions.stream(**asked) as stream:
            (again,) = stream.get_final_completion().choices[0].message.tool_calls
    for call in (called, again):
        assert call.id
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})


@pytest.mark.slow
def test_a_cascade_streams_one_answer_where_its_first_is_rejected_and_where_it_is_accepted(
    serve: Callable[..., Served],
) -> None:
    served = serve("openai", cascade=CASCADE, categories={"cooking": {"models": ["small", "large"]}})
    served.provider.script(
        answer("Perhaps.", logprob=-5.0), answer("Boil them.", logprob=-0.01), answer("Peel them.", logprob=-0.01)
    )
    soup = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "recipe for carrot soup"}]}
    for expected in ("Boil them.", "Peel them."):
        answered = ask(served, "openai", **soup)
        choices = [choice for chunk in events_of(answered) for choice in chunk["choices"]]
        assert "".join(choice["delta"].get("content") or "" for choice in choices) == expected
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
        assert answered.text.endswith("data: [DONE]\n\n")
