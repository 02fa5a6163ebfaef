"""Bodies of Responses at deployments that speak them, what comes back, and what others sealed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import openai
import pytest
from server.conftest import Served

from semroute.testing import answer, fail, invalid_encrypted_content, reset_after
from semroute.testing.replies import Reply

pytestmark = pytest.mark.slow

# Keys in no natural order, with fields, items and tools that this package does not know.
BODY = """{"store": false, "safeguards": {"z": 1, "a": [true, null, 1.5]}, "model": "small", "include": ["x.y"],
 "tools": [{"type": "web_search", "filters": {"b": 1, "a": 2}}, {"type": "mcp", "server_label": "m"},
  {"vector_store_ids": ["v"], "type": "file_search"}, {"type": "code_interpreter", "container": "c"},
  {"type": "image_generation"}, {"defer_loading": true, "type": "function", "name": "f", "parameters": {}}],
 "input": [{"content": [{"type": "input_file", "file_id": "file_1"}, {"text": "recipe? é", "type": "input_text"}],
  "role": "user"}, {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
  {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA", "id": "rs_1"},
  {"type": "message", "role": "assistant", "phase": "commentary", "content": [{"type": "output_text", "text": "Hm."}]},
  {"arguments": "{ }", "type": "function_call", "call_id": "call/1", "name": "f", "id": "fc_1"},
  {"output": "r", "type": "function_call_output", "call_id": "call/1"}],
 "reasoning": {"summary": "auto", "effort": "low", "unheard_of": 1}, "metadata": {"k": "v"}, "temperature": 1.0}"""
FOUND = {"type": "url_citation", "start_index": 0, "end_index": 5, "url": "https://a.example", "title": "A"}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
THOUGHT = {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA-small"}
TEXT = {"type": "output_text", "text": "Soup.", "annotations": [FOUND], "logprobs": [], "unheard_of": 1}
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [TEXT]
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "unheard_of": {"b": 1},
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "model": "gpt-x",
    "output": [THOUGHT, SEARCH, MESSAGE],
    "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7, "cost": 0.25},
}
SEALED = {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "gAAAA-unknown"}
COMPACTED = {"type": "compaction", "id": "cmp_9", "encrypted_content": "gAAAA-compacted"}


def whole(body: Mapping[str, Any] = RESPONSE) -> Reply:
    return Reply(body=json.dumps(body).encode())


def post(served: Served, body: str | Mapping[str, Any], **headers: str) -> httpx.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return httpx.post(f"{served.url}/v1/responses", content=text.encode(), headers=headers, timeout=30)


def good(served: Served, body: str | Mapping[str, Any], **headers: str) -> httpx.Response:
    answered = post(served, body, **headers)
    assert answered.status_code == 200, answered.text
    return answered


def sent(served: Served) -> list[dict[str, Any]]:
    return [json.loads(request.content) for request in served.provider.requests]


def events_of(answered: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answered.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines]


def items_of(body: Mapping[str, Any]) -> list[str]:
    return [item.get("encrypted_content") or item.get("type", "message") for item in body["input"]]


# The body.


def test_a_body_arrives_as_the_client_wrote_it_with_another_model(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    served.provider.always(whole())
    headers = {"openai-beta": "three=v1", "authorization": "Bearer client-secret", "x-forwarded-for": "10.0.0.1"}
    good(served, BODY, **headers)
    (request,) = served.provider.requests
    assert request.path == "/v1/responses"
    assert request.content.decode() == json.dumps(json.loads(BODY), ensure_ascii=False)
    assert request.headers["openai-beta"] == "three=v1"
    assert "client-secret" not in str(request.headers)


def test_nothing_is_stored_unless_the_client_asks_for_it(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    served.provider.always(whole())
    body = {"input": "hi", "include": ["file_search_call.results"], "model": "small"}
    for more in ({}, {"store": True}, {"store": False}):
        good(served, body | more)
    added = {"include": ["file_search_call.results", "reasoning.encrypted_content"], "store": False}
    assert sent(served) == [{**body, **added}, {**body, "store": True}, {**body, "store": False}]


def test_nothing_of_it_arrives_at_a_deployment_of_another_format(serve: Callable[..., Served]) -> None:
    served = serve({"small": "openai", "large": "responses"}, fallback={"models": ["small", "large"]})
    served.provider.always(whole())
    answered = good(served, BODY.replace('"small"', '"both"'))
    assert answered.headers["x-semroute-deployment"] == "large-1"
    assert [request.path for request in served.provider.requests] == ["/v1/responses"]
    assert post(served, BODY).status_code == 400
    assert len(served.provider.requests) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]}, "tools[0].type (file_search)"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type (code_interpreter)"),
        ({"tools": [{"type": "mcp", "server_label": "m"}]}, "tools[0].type (mcp)"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice (web_search)"),
        ({"input": [{"role": "user", "content": "hi"}, SEALED | {"type": "mcp_call"}]}, "input[1].type (mcp_call)"),
        ({"truncation": "auto"}, "truncation"),
    ],
)
def test_what_only_responses_have_is_a_reason_against_the_other_formats(
    serve: Callable[..., Served], change: dict[str, Any], named: str
) -> None:
    served = serve({"small": "openai", "large": "responses"})
    served.provider.always(whole())
    body = {"model": "small", "input": "hi", **change}
    refused = post(served, body)
    assert refused.status_code == 400
    assert f"small-1: openai does not carry {named}" in refused.json()["error"]["message"]
    assert not served.provider.requests
    good(served, {**body, "model": "large"})


def test_a_plain_body_fails_over_between_the_formats(serve: Callable[..., Served]) -> None:
    served = serve({"small": "responses", "large": "openai"}, retries={"attempts": 2})
    served.provider.always(lambda request: fail(503) if request.path == "/v1/responses" else answer("Rain."))
    answered = good(served, {"model": "both", "input": "hi", "tools": [{"type": "web_search"}]})
    assert answered.headers["x-semroute-deployment"] == "large-1"
    assert answered.json()["output"][0]["content"][0]["text"] == "Rain."
    assert "tools" not in sent(served)[-1]


def test_what_names_something_stored_is_refused_here_too(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    refused = post(served, {"model": "small", "input": "hi", "previous_response_id": "resp_1"})
    assert refused.status_code == 400
    assert "previous_response_id: this gateway keeps no responses" in refused.json()["error"]["message"]
    assert not served.provider.requests


def test_a_cascade_asks_for_log_probabilities_and_a_tiers_effort(serve: Callable[..., Served]) -> None:
    tiers = [{"use": "small", "effort": "low"}, "large"]
    served = serve(
        {"small": "responses", "large": "responses"},
        cascade={"tiers": tiers, "accept": {"confidence": 0.5}},
        categories={"cooking": {"models": ["small", "large"]}},
    )
    served.provider.script(answer("Perhaps.", logprob=-5.0), answer("Boil them.", logprob=-0.01))
    answered = good(served, {"model": "auto", "input": "recipe for carrot soup", "store": False})
    assert answered.json()["output"][-1]["content"][0]["text"] == "Boil them."
    cheap, dear = sent(served)
    assert "message.output_text.logprobs" in cheap["include"]
    assert (cheap["reasoning"], dear.get("reasoning")) == ({"effort": "low"}, None)


# The answer.


def test_a_whole_answer_keeps_every_field_and_its_order(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    served.provider.always(whole())
    answered = good(served, BODY)
    body = answered.json()
    assert (body["id"], body["model"]) == (f"resp_{answered.headers['x-semroute-outcome-id']}", "small")
    assert json.dumps({**body, "id": "resp_1", "model": "gpt-x"}) == json.dumps(RESPONSE)


def test_an_answer_of_the_vendors_own_tools_alone_is_no_failure(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    asks = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "n", "arguments": "{}", "server_label": "m"}
    served.provider.always(whole({**RESPONSE, "output": [asks]}))
    assert good(served, BODY).json()["output"] == [asks]
    assert len(served.provider.requests) == 1


def streamed() -> list[dict[str, Any]]:
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "msg_1", "output_index": 2, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**THOUGHT, "encrypted_content": None}},
        {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
        {"type": "response.output_item.added", "output_index": 1, "item": {**SEARCH, "status": "in_progress"}},
        {"type": "response.web_search_call.searching", "output_index": 1, "item_id": "ws_1", "unheard_of": {"b": 1}},
        {"type": "response.output_item.done", "output_index": 1, "item": SEARCH},
        {"type": "response.output_item.added", "output_index": 2, "item": {**MESSAGE, "content": []}},
        {"type": "response.content_part.added", **where, "part": {**TEXT, "text": "", "annotations": []}},
        {"type": "response.output_text.delta", **where, "delta": "Soup.", "logprobs": [], "obfuscation": "xyz"},
        {"type": "response.output_text.annotation.added", **where, "annotation_index": 0, "annotation": FOUND},
        {"type": "response.output_text.done", **where, "text": "Soup.", "logprobs": []},
        {"type": "response.content_part.done", **where, "part": TEXT},
        {"type": "response.output_item.done", "output_index": 2, "item": MESSAGE},
        {"type": "response.completed", "response": RESPONSE},
    ]
    return [{"sequence_number": number, **event} for number, event in enumerate(events)]


def sse(events: list[dict[str, Any]]) -> Reply:
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return Reply(body="".join(lines).encode(), headers={"content-type": "text/event-stream"})


def test_a_stream_keeps_every_event(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    served.provider.always(sse(streamed()))
    came = events_of(good(served, json.dumps({**json.loads(BODY), "stream": True})))
    given = streamed()
    ids = {event["response"].pop("id") for event in came if "response" in event}
    assert len(ids) == 1
    for event in given:
        if "response" in event:
            event["response"] = {name: value for name, value in event["response"].items() if name != "id"}
            event["response"]["model"] = "small"
    assert came == given
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        last: Any = list(client.responses.create(model="small", input="soup", stream=True))[-1]
    assert last.response.output[-1].content[0].annotations[0].url == "https://a.example"
    log: Any = served.router._log
    assert log.flush()
    assert [(one.calls[0].input_tokens, one.calls[0].output_tokens) for one in log.outcomes()] == [(5, 2)] * 2


@pytest.mark.parametrize(("first", "second"), [("responses",) * 2, ("responses", "openai"), ("openai", "responses")])
def test_a_deployment_that_takes_over_while_another_thinks_goes_on_in_the_same_response(
    serve: Callable[..., Served], first: str, second: str
) -> None:
    served = serve({"small": first, "large": second}, retries={"attempts": 2, "same_place": 0})
    thinking = answer("Rain.", reasoning="Paris is far away, and it rains there most of the time.")
    served.provider.script(reset_after(3, thinking), answer("Rain.", reasoning="Hm."))
    events = events_of(good(served, {"model": "both", "input": "weather?", "stream": True}))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert [kinds.count(kind) for kind in ("response.created", "response.in_progress", "response.completed")] == [1] * 3
    opened = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    closed = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert opened == sorted(closed) == list(range(len(opened)))
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == "Rain."
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning"] * (len(opened) - 1) + ["message"]


# Sealed items.


def asked(*items: Mapping[str, Any], model: str = "small", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": [*items, {"role": "user", "content": "and then?"}], "store": False, **more}


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_stays_with_the_deployment_that_sealed_it(serve: Callable[..., Served], stream: bool) -> None:
    served = serve({"small": "responses", "large": "responses"})
    served.provider.always(answer("Go on.", reasoning="Carrots."))
    wants = {"include": ["reasoning.encrypted_content"], "stream": stream}
    history: list[Any] = []
    for model in ("small", "large", "small"):
        answered = good(served, asked(*history, model=model, **wants))
        body = events_of(answered)[-1]["response"] if stream else answered.json()
        history += body["output"]
    seals = [item["encrypted_content"] for item in history if item["type"] == "reasoning"]
    assert len(set(seals)) == 3
    bodies = sent(served)
    assert [items_of(body) for body in bodies[1:]] == [
        ["message", "message"],
        [seals[0], "message", "message", "message"],
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_opened_is_stripped_once_and_remembered(serve: Callable[..., Served], stream: bool) -> None:
    served = serve("responses")
    served.provider.script(invalid_encrypted_content())
    body = asked(COMPACTED, SEALED, {"role": "user", "content": "hi"}, stream=stream)
    good(served, body)
    good(served, body)
    unsealed = ["message", "message"]
    assert [items_of(one) for one in sent(served)] == [["gAAAA-compacted", "gAAAA-unknown", *unsealed]] + [unsealed] * 2


def test_a_second_refusal_is_the_clients_and_other_errors_strip_nothing(serve: Callable[..., Served]) -> None:
    served = serve("responses", retries={"attempts": 1})
    served.provider.script(invalid_encrypted_content(), invalid_encrypted_content())
    assert post(served, asked(SEALED)).status_code == 400
    assert len(served.provider.requests) == 2
    served.provider.script(fail(400, "something else"))
    assert post(served, asked(COMPACTED)).status_code == 400
    assert [items_of(body) for body in sent(served)[2:]] == [["gAAAA-compacted", "message"]]


def test_reasoning_that_is_not_sealed_is_sent_only_to_a_server_that_stored_it(serve: Callable[..., Served]) -> None:
    served = serve("responses")
    served.provider.always(whole())
    plain = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    for store in (False, True):
        good(served, asked(plain) | {"store": store})
    assert [len(body["input"]) for body in sent(served)] == [1, 2]


def test_a_conversation_with_a_model_of_another_format_in_between_goes_on(serve: Callable[..., Served]) -> None:
    served = serve({"small": "responses", "large": "openai"})
    served.provider.always(answer("Go on.", reasoning="Carrots."))
    history: list[Any] = []
    for model in ("small", "large", "small"):
        body = asked(*history, model=model, include=["reasoning.encrypted_content"])
        history += good(served, body).json()["output"]
    last = sent(served)[-1]
    assert [item["type"] for item in last["input"] if "type" in item] == ["reasoning", "message", "message"]
