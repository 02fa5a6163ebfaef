"""Requests in the words of OpenAI's Responses."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from semroute.catalog import fits, needs_of
from semroute.config import Config, Deployment
from semroute.errors import CapabilityError, RequestError
from semroute.providers.responses import payload
from semroute.providers.sealed import SealedItems
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

USER = {"role": "user", "content": "hi"}
ADD = Tool("add", "adds", {"type": "object", "properties": {"x": {"type": "number"}}})
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8=", "detail": "low"}}
FILE = {"type": "file", "file": {"file_id": "f"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{ }"}}
CUSTOM = {"id": "c2", "type": "custom", "custom": {"name": "patch", "input": "x"}}
PATCH = Tool("patch", definition={"type": "custom", "custom": {"name": "patch", "format": {
    "type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}}}})  # fmt: skip


def place(**more: Any) -> Deployment:
    row = {"name": "spot", "model": "small", "provider": "openai", "format": "responses", **more}
    return Deployment.model_validate(row)


def sent(*messages: Any, stream: bool = False, place: Deployment = place(), **fields: Any) -> dict[str, Any]:  # noqa: B008
    return payload(CallTarget(place), Request(messages or (USER,), **fields), SealedItems(), stream=stream)


def test_what_the_request_leaves_open_is_not_sent_and_nothing_is_stored() -> None:
    bare = {"model": "small", "input": [USER], "store": False, "include": ["reasoning.encrypted_content"]}
    assert sent() == bare
    assert sent(stream=True) == {**bare, "stream": True}


def test_a_conversation_becomes_items_in_its_order() -> None:
    items = sent(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [PICTURE, {"type": "text", "text": "?"}, FILE]},
        {"role": "assistant", "content": "Hm.", "phase": "commentary", "tool_calls": [CALL, CUSTOM],
         "reasoning_content": "secret", "thinking_blocks": [{"type": "thinking"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "done"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    )["input"]  # fmt: skip
    assert items == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": PICTURE["image_url"]["url"], "detail": "low"},  # type: ignore[index]
                {"type": "input_text", "text": "?"},
                {"type": "input_file", "file_id": "f"},
            ],
        },
        {"role": "assistant", "content": "Hm.", "phase": "commentary"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{ }"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "x"},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "done"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 50}, {"max_output_tokens": 50}),
        ({"max_tokens": 3}, {"max_output_tokens": 16}),
        ({"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        ({"user": "u", "service_tier": "flex"}, {"user": "u", "service_tier": "flex"}),
        ({"presence_penalty": 0.0}, {"presence_penalty": None}),
        (
            {"tools": (ADD,), "parallel_tool_calls": False},
            {
                "tools": [
                    {
                        "type": "function",
                        "name": "add",
                        "description": "adds",
                        "parameters": ADD.parameters,
                        "strict": False,
                    }
                ],
                "parallel_tool_calls": False,
            },
        ),
        ({"tools": (ADD,), "tool_choice": "add"}, {"tool_choice": {"type": "function", "name": "add"}}),
        ({"tools": (ADD,), "tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tools": (PATCH,), "tool_choice": {"type": "custom", "custom": {"name": "patch"}}},
            {
                "tools": [
                    {
                        "type": "custom",
                        "name": "patch",
                        "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"},
                    }
                ],
                "tool_choice": {"type": "custom", "name": "patch"},
            },
        ),
        (
            {"tools": (Tool("web_search", definition={"type": "web_search"}),)},
            {"tools": [{"type": "web_search"}]},
        ),
        (
            {"json_schema": SCHEMA},
            {"text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}},
        ),
        (
            {"extra": {"response_format": {"type": "json_object"}, "metadata": {"k": "v"}, "store": False}},
            {"text": {"format": {"type": "json_object"}}, "metadata": {"k": "v"}, "store": False},
        ),
        (
            {"logprobs": True, "extra": {"top_logprobs": 2}},
            {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"], "top_logprobs": 2},
        ),
    ],
)
def test_a_parameter_goes_out_in_the_words_of_the_format(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sent(**fields)
    assert {key: found.get(key) for key in expected} == expected
    assert not found.keys() - ResponseCreateParamsNonStreaming.__annotations__.keys()
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python(found)
    assert fits(place(), Config(), needs_of(Request((USER,), **fields))) == ()


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"stop": ("END",)}, "stop"),
        ({"seed": 7}, "seed"),
        ({"n": 2}, "n"),
        ({"top_k": 4}, "top_k"),
        ({"thinking_budget": 2048}, "thinking_budget"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"extra": {"store": True}}, "store"),
        ({"extra": {"logit_bias": {}}}, "logit_bias"),
    ],
)
def test_what_the_format_has_no_word_for_speaks_against_the_deployment_unless_it_may_be_left_out(
    fields: dict[str, Any], what: str
) -> None:
    request = Request((USER,), **fields)
    assert f"does not carry {what}" in "; ".join(fits(place(), Config(), needs_of(request)))
    with pytest.raises(CapabilityError, match=what):
        sent(**fields)
    assert sent(**fields, droppable=frozenset({what})) == sent()


def test_a_deployment_that_carries_more_gets_it_under_its_own_name() -> None:
    assert sent(place=place(carries=["top_k"]), top_k=4)["top_k"] == 4


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        ({"role": "user", "content": "hi", "name": "ann"}, CapabilityError, "message 0 has 'name'"),
        ({"role": "function", "content": "hi"}, CapabilityError, "the role 'function'"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, CapabilityError, "a part of type 'input_audio'"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "odd"}]}, CapabilityError, "not a tool"),
        ({"role": "assistant", "content": [{"type": "image_url"}]}, CapabilityError, "a part of type 'image_url'"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}, RequestError, "without id, name"),
        ({"role": "user", "content": 7}, RequestError, "neither text nor a list"),
        ({"role": "user", "content": [{"type": "text"}]}, RequestError, "without text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, RequestError, "without an address"),
        ({"role": "tool", "content": "3"}, RequestError, "no tool_call_id"),
        ({"content": "hi"}, RequestError, "not a mapping with a role"),
    ],
)
def test_a_message_that_no_item_can_say_is_an_error_that_names_it(
    message: Any, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        sent(message)


def test_a_choice_without_its_tool_is_an_error() -> None:
    with pytest.raises(RequestError, match="nor the name of one of the tools"):
        sent(tools=(ADD,), tool_choice="subtract")
    with pytest.raises(RequestError, match="there is no message"):
        payload(CallTarget(place()), Request(()), SealedItems())
