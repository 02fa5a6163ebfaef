"""Rows a to k: what breaks agents behind a router, in each format.

A check returns nothing where the row holds, and raises :class:`NotHeldError` where it does not; a row that means
nothing in a format has no check.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway_conformance.served import Served
from semroute.testing import Call, answer, context_length, hang

CHAT, RESPONSES, MESSAGES = "chat completions", "responses", "messages"
FORMATS = (CHAT, RESPONSES, MESSAGES)
PATHS = {CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses", MESSAGES: "/v1/messages"}
OVERFLOWS = {CHAT: "context_length_exceeded", RESPONSES: "context_length_exceeded", MESSAGES: "prompt is too long"}
"""Words that each vendor's clients look for when a conversation is too long."""
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
LAW = "You are the assistant of a law firm. Keep to contract law, leases, torts and the statutes of limitation. " * 40
SOUP, CODE = "a recipe for carrot soup, please", "write a Python function that reverses a linked list"


class NotHeldError(AssertionError):
    """Demand of a row that does not hold; the table shows the message."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        letter: its name.
        demand: in a few words.
        checks: by format; in a format without one the row has no meaning.
    """

    letter: str
    demand: str
    checks: Mapping[str, Callable[[Served, str], None]]


def demand(holds: object, why: str) -> None:
    """Raise :class:`NotHeldError` with ``why``, unless it holds."""
    if not holds:
        raise NotHeldError(why)


def body_of(format: str, model: str, text: str, **more: Any) -> dict[str, Any]:
    """Return the body of a question in a format."""
    if format == RESPONSES:
        return {"model": model, "input": [{"role": "user", "content": text}], **more}
    return {"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": text}], **more}


def tools_of(format: str) -> list[dict[str, Any]]:
    """Return the definition of a tool in a format."""
    if format == MESSAGES:
        return [{"name": "read", "description": "Read a file", "input_schema": SCHEMA}]
    function = {"name": "read", "description": "Read a file", "parameters": SCHEMA}
    return [{"type": "function", "function": function} if format == CHAT else {"type": "function", **function}]


def post(served: Served, format: str, body: Mapping[str, Any], **headers: str) -> Any:
    """Return the answer to a body; its status is the check's to look at."""
    versioned = {"anthropic-version": "2023-06-01"} if format == MESSAGES else {}
    return served.http.post(PATHS[format], json=body, headers=versioned | headers)


def good(served: Served, format: str, body: Mapping[str, Any], **headers: str) -> Any:
    """Return the answer to a body, which has to be one."""
    found = post(served, format, body, **headers)
    demand(found.status_code == 200, f"{found.status_code}: {found.text[:160]}")
    return found


def unknown_fields(served: Served, format: str) -> None:
    """Row a."""
    more = {"safeguards": {"z": 1, "a": [1, 2]}, "field_of_tomorrow": "kept"}
    model = {MESSAGES: "large", RESPONSES: "writer"}.get(format, "small")  # each of the same format upstream
    headers = {"anthropic-beta": "beta-of-tomorrow-2030-01-01"} if format == MESSAGES else {}
    found = post(served, format, body_of(format, model, SOUP, **more), **headers)
    # The double may refuse what it does not know, as the vendors do: the request has to come there.
    demand(served.provider.requests, f"refused before it went upstream: {found.text[:160]}")
    sent = served.provider.requests[-1]
    lost = [name for name in more if sent.body.get(name) != more[name]]
    demand(not lost, f"not upstream: {', '.join(lost)}")
    if headers:
        demand(headers["anthropic-beta"] in sent.headers.get("anthropic-beta", ""), "the beta header is lost")
    demand(list(sent.body["safeguards"]) == ["z", "a"], "the order within an object is lost")


def switched_thinking(served: Served, format: str) -> None:
    """Row b."""
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    history: list[Any] = [{"role": "user", "content": SOUP}]
    for model, reasoning in (("large", "Carrots first."), ("small", "Then water."), ("large", "")):
        served.provider.script(answer("Go on.", reasoning=reasoning))
        body = {"model": model, "messages": history, "max_tokens": 4096, **(thinking if model == "large" else {})}
        content = good(served, format, body).json()["content"]
        history += [{"role": "assistant", "content": content}, {"role": "user", "content": "and then?"}]
    blocks = [
        block for message in served.last["messages"] if message["role"] == "assistant" for block in message["content"]
    ]
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    demand(thoughts == ["Carrots first."], f"thinking that came back to its vendor: {thoughts}")


def sealed_reasoning(served: Served, format: str) -> None:
    """Row c: the double opens what it sealed, and refuses all else."""
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk"}
    history: list[Any] = [{"role": "user", "content": SOUP}, foreign]
    include = ["reasoning.encrypted_content"]
    for model, reasoning in (("writer", "Carrots first."), ("small", "Then water."), ("writer", "")):
        before = len(served.provider.requests)
        served.provider.always(answer("Go on.", reasoning=reasoning))
        body = {"model": model, "input": history, "include": include, "store": False}
        output = good(served, format, body).json()["output"]
        sealed = [item["encrypted_content"] for item in served.last.get("input", ()) if "encrypted_content" in item]
        history += [*output, {"role": "user", "content": "and then?"}]
    calls = len(served.provider.requests) - before
    demand(calls == 1, f"what cannot be opened was sent again: {calls} calls")
    own = [item["encrypted_content"] for item in history[2:] if item.get("encrypted_content")]
    demand(sealed == own, f"sealed items that came back to their deployment: {len(sealed)} of {len(own)}")


def events_of(served: Served, format: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a streamed answer."""
    found = good(served, format, {**body, "stream": True})
    for line in found.text.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def interleaved_stream(served: Served, format: str) -> None:
    """Row d."""
    calls = [Call("read", {"path": path}) for path in ("a.py", "b.py")]
    served.provider.script(answer("Let me look.", calls=calls))
    events = list(events_of(served, format, body_of(format, "small", CODE, tools=tools_of(format))))
    if format == CHAT:
        fragments = [
            one for event in events for choice in event["choices"] for one in choice["delta"].get("tool_calls", [])
        ]
        demand({one["index"] for one in fragments} == {0, 1}, "indexes of parallel calls")
        finishes = [choice["finish_reason"] for event in events for choice in event["choices"]]
        demand(finishes[-1] == "tool_calls", f"finish_reason {finishes[-1]}")
        return
    is_messages = format == MESSAGES
    begins, ends, index = (
        ("content_block_start", "content_block_stop", "index")
        if is_messages
        else ("response.output_item.added", "response.output_item.done", "output_index")
    )
    edges = [(event["type"], event[index]) for event in events if event["type"] in (begins, ends)]
    if not is_messages:
        # Items of Responses may be open together.
        edges.sort(key=lambda edge: edge[1])
    demand(edges == [(kind, place) for place in range(3) for kind in (begins, ends)], f"blocks: {edges}")
    if is_messages:
        demand(events[0]["message"]["usage"]["input_tokens"] > 0, "usage of message_start is 0")
        reasons = [event["delta"].get("stop_reason") for event in events if event["type"] == "message_delta"]
        demand(reasons == ["tool_use"], f"stop_reason {reasons}")


def counted_tokens(served: Served, format: str) -> None:
    """Row e."""
    before = len(served.provider.requests)
    for _ in range(20):
        found = served.http.post("/v1/messages/count_tokens", json=body_of(format, "auto", SOUP))
        demand(found.status_code == 200 and found.json()["input_tokens"] > 0, f"{found.status_code}: {found.text[:80]}")
    demand(len(served.provider.requests) == before, "a model was called")
    good(served, format, body_of(format, "auto", SOUP))


def overflow(served: Served, format: str) -> None:
    """Row f."""
    served.provider.script(context_length(), answer("It fits."))
    good(served, format, body_of(format, "both", SOUP))
    served.provider.script(context_length(), context_length())
    found = post(served, format, body_of(format, "both", SOUP))
    demand(found.status_code == 400, f"status {found.status_code}")
    demand(OVERFLOWS[format] in found.text, f"no {OVERFLOWS[format]!r} in {found.text[:120]}")


def tool_result_owner(served: Served, format: str) -> None:
    """Row g: the result is about cooking, and a new sentence comes with it."""
    served.provider.script(answer(calls=[Call("read", {"path": "a.py"})]))
    asked = body_of(format, "auto", CODE, tools=tools_of(format))
    first = good(served, format, asked)
    owner, body = first.headers["x-semroute-model"], first.json()
    note = {"role": "user", "content": SOUP}
    if format == CHAT:
        message = body["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "carrots, water, salt"}
        asked["messages"] += [{**message, "content": message["content"] or ""}, result, note]
    elif format == RESPONSES:
        call = next(item for item in body["output"] if item["type"] == "function_call")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "carrots, water, salt"}
        asked["input"] += [call, result, note]
    else:
        call = next(block for block in body["content"] if block["type"] == "tool_use")
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": "carrots, water, salt"}
        blocks = [result, {"type": "text", "text": SOUP}]
        asked["messages"] += [{"role": "assistant", "content": body["content"]}, {"role": "user", "content": blocks}]
    then = good(served, format, asked).headers["x-semroute-model"]
    demand(then == owner, f"the call is {owner}'s, its result went to {then}")


def housekeeping(served: Served, format: str) -> None:
    """Row h."""
    system = "Generate a concise, sentence-case title (3-7 words) for this coding session."
    found = good(served, format, _with_system(format, body_of(format, "auto", CODE), system))
    model = found.headers["x-semroute-model"]
    demand(model in ("small", "translator"), f"a title of a talk about code is written by {model}")


def _with_system(format: str, body: dict[str, Any], system: str) -> dict[str, Any]:
    if format == MESSAGES:
        return {**body, "system": system}
    if format == RESPONSES:
        return {**body, "instructions": system}
    return {**body, "messages": [{"role": "system", "content": system}, *body["messages"]]}


def probes(served: Served, format: str) -> None:
    """Row i."""
    demand(served.http.head("/").status_code == 200, "HEAD / fails")
    parts = urlsplit(served.url)
    upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    upgrade += "sec-websocket-key: c2VtIHJvdXRlIQ==\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall(f"GET {PATHS[format]} HTTP/1.1\r\nhost: {parts.netloc}\r\n{upgrade}\r\n".encode())
        try:
            status = connection.recv(100).decode("latin-1").split(" ")[1]
        except (TimeoutError, IndexError):
            status = "none within 5 s"
    demand(status.startswith("4"), f"answer to an upgrade: {status}")


def harness_aside(served: Served, format: str) -> None:
    """Row j."""
    bare = good(served, format, body_of(format, "auto", CODE)).headers["x-semroute-category"]
    demand(bare, "the ask has no category of its own")
    envelope = f"<system-reminder>{LAW}</system-reminder>\n{CODE}"
    wrapped = good(served, format, _with_system(format, body_of(format, "auto", envelope), LAW))
    found = wrapped.headers["x-semroute-category"]
    demand(found == bare, f"category {bare or 'none'} alone, {found or 'none'} in the harness")


def kept_alive(served: Served, format: str) -> None:
    """Row k: a second of silence, with a sign of life every 0.2 s."""
    served.provider.script(hang(1.0, answer("At last.")))
    found = good(served, format, body_of(format, "small", SOUP, stream=True))
    demand(": ping" in found.text or "event: ping" in found.text, "a second of silence without a sign of life")
    demand("last" in found.text, "the answer is lost")


def _in_all(check: Callable[[Served, str], None]) -> Mapping[str, Callable[[Served, str], None]]:
    return dict.fromkeys(FORMATS, check)


ROWS = (
    Row("a", "unknown fields, betas and order survive", _in_all(unknown_fields)),
    Row("b", "thinking after a switch of model and back", {MESSAGES: switched_thinking}),
    Row("c", "sealed reasoning of another deployment is no error", {RESPONSES: sealed_reasoning}),
    Row("d", "text and parallel tools, streamed in order", _in_all(interleaved_stream)),
    Row("e", "count_tokens estimates, and calls no model", {MESSAGES: counted_tokens}),
    Row("f", "overflow: first another deployment, then the client's words", _in_all(overflow)),
    Row("g", "a tool's result goes to the model that called it", _in_all(tool_result_owner)),
    Row("h", "titles are housekeeping: the cheapest model", _in_all(housekeeping)),
    Row("i", "WebSocket upgrades are refused at once; HEAD /", _in_all(probes)),
    Row("j", "the ask is routed, not the harness", _in_all(harness_aside)),
    Row("k", "silence is bridged", _in_all(kept_alive)),
)
