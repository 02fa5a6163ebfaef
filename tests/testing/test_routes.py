from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.testing import anthropic, gemini, openai
from semroute.testing.answers import RefusedError, respond_chat
from semroute.testing.handler import Wire, find
from semroute.testing.http import HttpRequest
from semroute.testing.replies import pieces

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
BODIES: dict[str, tuple[Wire, str, dict[str, Any]]] = {
    "openai": (
        openai,
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "x"},
                        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    ],
                },
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "y"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
            "stop": ["z"],
            "logprobs": True,
            "top_logprobs": 2,
            "max_tokens": 5,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "anthropic": (
        anthropic,
        "/v1/messages",
        {
            "model": "m",
            "max_tokens": 5,
            "system": [{"type": "text", "text": "x"}],
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"text": "x"}]}]},
            ],
            "tools": [{"name": "f", "input_schema": SCHEMA}],
            "tool_choice": {"type": "tool", "name": "f"},
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            "stop_sequences": ["z"],
            "stream": True,
        },
    ),
    "gemini": (
        gemini,
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "x"}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            ],
            "systemInstruction": {"parts": [{"text": "x"}]},
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": SCHEMA}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseSchema": SCHEMA,
                "stopSequences": ["z"],
                "responseLogprobs": True,
                "logprobs": 2,
            },
        },
    ),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 30) | st.floats(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text", "name"]), inner),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inner for place in places(item, (*path, name)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = new
    return changed


def assert_shown(wire: Wire, refused: RefusedError) -> None:
    status, _, body = wire.error(refused.failure)
    assert status == 400
    assert json.loads(json.dumps(body))["error"]["message"]


@pytest.mark.parametrize("name", BODIES)
def test_the_bodies_that_are_varied_below_are_right_themselves(name: str) -> None:
    wire, target, body = BODIES[name]
    ask = wire.read(HttpRequest("POST", target, {"anthropic-version": "x"}, b"", True), body, 1)
    assert ask.call == ("f", SCHEMA)
    assert ask.schema == SCHEMA
    assert ask.stream


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=200)
@given(data=st.data())
def test_whatever_the_body_it_is_answered_or_refused(name: str, data: st.DataObject) -> None:
    wire, target, body = BODIES[name]
    drop = data.draw(st.sampled_from([None, *(key for key in body if key not in ("model", "messages", "contents"))]))
    body = {key: value for key, value in body.items() if key != drop}
    body = replaced(body, data.draw(st.sampled_from(places(body))), data.draw(JSON))
    request = HttpRequest("POST", target, {"anthropic-version": "x"}, b"", True)
    try:
        ask = wire.read(request, body, 1)
        answer = respond_chat(ask)
    except RefusedError as refused:
        assert_shown(wire, refused)
        return
    assert json.loads(json.dumps(wire.whole(ask, answer)))
    assert b"".join(event.data for event in wire.events(ask, answer))


@pytest.mark.slow
@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert len(pieces(text)) >= len(text.split())


@pytest.mark.parametrize(
    ("method", "target", "headers", "wire", "operation"),
    [
        ("POST", "/v1/chat/completions", {}, openai, "chat"),
        ("POST", "/openai/v1/chat/completions", {}, openai, "chat"),
        ("POST", "/openai/deployments/d/chat/completions?api-version=1", {}, openai, "chat"),
        ("POST", "/v1/messages", {}, anthropic, "chat"),
        ("POST", "/v1beta/models/m:generateContent?key=k", {}, gemini, "chat"),
        ("POST", "/v1/models/m:streamGenerateContent", {}, gemini, "chat"),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/m:generateContent", {}, gemini, "chat"),
        ("GET", "/v1/models", {}, openai, "models"),
        ("GET", "/v1/models", {"anthropic-version": "x"}, anthropic, "models"),
        ("GET", "/v1/models", {"x-goog-api-key": "x"}, gemini, "models"),
        ("GET", "/v1beta/models", {}, gemini, "models"),
        ("GET", "/v1/chat/completions", {}, openai, "unknown"),
        ("POST", "/v1beta/models/m:countTokens", {}, gemini, "unknown"),
        ("POST", "/v1/messages/count_tokens", {"anthropic-version": "x"}, anthropic, "unknown"),
    ],
)
def test_a_path_belongs_to_a_format(
    method: str, target: str, headers: dict[str, str], wire: Wire, operation: str
) -> None:
    route = find(HttpRequest(method, target, headers, b"", True))
    assert (route.wire, route.operation) == (wire, operation)
