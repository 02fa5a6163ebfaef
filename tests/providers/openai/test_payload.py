from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from semroute.config import Deployment
from semroute.errors import RequestError
from semroute.providers.connection import encode, read_json
from semroute.providers.openai import payload
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

MESSAGES = ({"role": "user", "content": "hi"},)
ADD = Tool("add", "adds", {"type": "object", "properties": {"x": {"type": "number"}}})


def target(provider: str = "vllm") -> CallTarget:
    return CallTarget(Deployment(name="spot", model="small", provider=provider, base_url="http://x/v1"))


def sent(**fields: Any) -> dict[str, Any]:
    return payload(target(), Request(**{"messages": MESSAGES, **fields}))


def test_what_the_request_leaves_open_is_not_sent() -> None:
    assert sent() == {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("provider", "field"),
    [("openai", "max_completion_tokens"), ("azure", "max_completion_tokens"), ("vllm", "max_tokens")],
)
def test_the_limit_has_the_name_that_the_vendor_knows(provider: str, field: str) -> None:
    body = payload(target(provider), Request(MESSAGES, max_tokens=7))
    assert {name: value for name, value in body.items() if "max" in name} == {field: 7}


def test_a_server_without_a_row_gets_the_limits_old_name() -> None:
    where = Deployment(name="spot", model="small", base_url="http://localhost:9/v1")
    assert payload(CallTarget(where), Request(MESSAGES, max_tokens=7))["max_tokens"] == 7
    assert (
        payload(CallTarget(Deployment(name="a", model="m")), Request(MESSAGES, max_tokens=7))["max_completion_tokens"]
        == 7
    )


def test_a_conversation_goes_as_it_is_with_tools_and_images() -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "u"}}]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "3"},
    )
    assert sent(messages=messages)["messages"] == list(messages)


def test_every_field_has_its_name_on_the_wire() -> None:
    body = sent(temperature=0.0, stop=("a", "b"), tools=(ADD, Tool("now")), tool_choice="add", logprobs=True)
    del body["model"], body["messages"]
    assert body == {
        "temperature": 0.0,
        "stop": ["a", "b"],
        "tools": [
            {
                "type": "function",
                "function": {"name": "add", "description": "adds", "parameters": dict(ADD.parameters)},
            },
            {"type": "function", "function": {"name": "now"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "logprobs": True,
    }


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_a_tool_choice_that_names_no_tool_goes_as_a_word(choice: str) -> None:
    assert sent(tools=(ADD,), tool_choice=choice)["tool_choice"] == choice


def test_a_stream_asks_for_its_count_of_tokens() -> None:
    body = payload(target(), Request(MESSAGES), stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"b": {"type": "object", "properties": {}, "additionalProperties": False}},
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "$defs": {"b": {"type": "object"}}}, False),
        ({**CLOSED, "properties": {"a": {"anyOf": [{"type": "object"}, {"type": "null"}]}}}, False),
        ({**CLOSED, "properties": {"a": {"not": {"type": "string"}}}}, False),
        ({**CLOSED, "properties": {"not": {"type": "string"}}, "required": ["not"]}, True),
        ({**CLOSED, "properties": 3}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
    ],
)
def test_a_schema_is_strict_where_openai_would_take_it_so(schema: dict[str, object], strict: bool) -> None:
    body = sent(json_schema=schema)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": strict},
    }


def test_mappings_of_any_kind_are_written() -> None:
    frozen = MappingProxyType({"type": "object", "properties": MappingProxyType({"a": MappingProxyType({})})})
    body = sent(messages=(MappingProxyType(MESSAGES[0]),), json_schema=frozen, tools=(Tool("f", "", frozen),))
    written: Any = read_json(encode(body, target()))
    assert written["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": ()},
        {"messages": ("hi",)},
        {"messages": ({"content": "hi"},)},
        {"messages": ({"role": 3, "content": "hi"},)},
        {"messages": ({"role": "user", "content": 3},)},
        {"tools": ({"name": "add"},)},
        {"tools": (Tool("add", parameters=3),)},  # type: ignore[arg-type]
        {"tool_choice": "add"},
        {"tools": (ADD,), "tool_choice": "sub"},
        {"json_schema": [1]},
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="spot") as caught:
        sent(**fields)
    assert caught.value.deployment == "spot"
