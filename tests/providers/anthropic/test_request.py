from __future__ import annotations

from typing import Any

import pytest

from semroute.config import Deployment
from semroute.errors import CapabilityError, RequestError
from semroute.providers.anthropic import DEFAULT_MAX_TOKENS, NO_TEXT, closed, payload
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

TARGET = CallTarget(Deployment(name="spot", model="large", format="anthropic", upstream_model="claude-test"))
HELLO = {"role": "user", "content": "hello"}
WEATHER = Tool("weather", "Tells the weather.", {"properties": {"city": {"type": "string"}}, "required": ["city"]})


def body(*messages: Any, **options: Any) -> dict[str, Any]:
    return payload(TARGET, Request(messages or (HELLO,), **options))


def test_a_plain_request_says_no_more_than_the_api_asks_for() -> None:
    assert body() == {
        "model": "claude-test",
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }


def test_every_option_has_its_place() -> None:
    request = Request((HELLO,), max_tokens=5, temperature=0.0, stop=("END",))
    whole = payload(TARGET, request, stream=True)
    assert whole["max_tokens"] == 5
    assert whole["temperature"] == 0.0
    assert whole["stop_sequences"] == ["END"]
    assert whole["stream"] is True


def texts(whole: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(message["role"], [block["text"] for block in message["content"]]) for message in whole["messages"]]


@pytest.mark.parametrize("blank", [" ", "\n\t", "\u00a0"])
def test_white_space_alone_is_left_out_like_an_empty_text(blank: str) -> None:
    parts = [{"type": "text", "text": blank}, {"type": "text", "text": "so?"}]
    asked = {"role": "assistant", "content": blank, "tool_calls": [call("t1", "Oslo")]}
    whole = body(
        {"role": "system", "content": blank},
        {"role": "user", "content": parts},
        asked,
        {"role": "tool", "tool_call_id": "t1", "content": blank},
    )
    assert "system" not in whole
    first, second, third = whole["messages"]
    assert first["content"] == [{"type": "text", "text": "so?"}]
    assert [block["type"] for block in second["content"]] == ["tool_use"]
    assert third["content"] == [{"type": "tool_result", "tool_use_id": "t1", "content": []}]


def test_a_turn_of_white_space_leaves_a_conversation_that_the_api_takes() -> None:
    hi, blank, there = {"role": "assistant", "content": "hi"}, {"role": "user", "content": " "}, HELLO
    assert texts(body(there, hi, blank, hi, there)) == [
        ("user", ["hello"]),
        ("assistant", ["hi", "hi"]),
        ("user", ["hello"]),
    ]
    assert texts(body(blank, hi, there))[0] == ("user", [NO_TEXT])
    # The model is to answer, and not to go on with its own "hi".
    assert texts(body(there, hi, blank))[-1] == ("user", [NO_TEXT])
    with pytest.raises(CapabilityError, match="no message has any text that can be seen"):
        body(blank)


def test_an_answer_to_go_on_with_does_not_end_in_white_space() -> None:
    assert texts(body(HELLO, {"role": "assistant", "content": "It is: \n"}))[-1] == ("assistant", ["It is:"])
    assert texts(body(HELLO, {"role": "assistant", "content": " "})) == [("user", ["hello"])]


def test_a_conversation_with_calls_becomes_blocks() -> None:
    whole = body(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}, image("https://example.org/a.png")]},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("toolu_1", "Oslo"), call("functions.weather:1")],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "functions.weather:1", "content": ""},
        {"role": "user", "content": [image("data:image/png;base64,aGVsbG8=")]},
    )
    assert whole["system"] == [{"type": "text", "text": "Be brief."}]
    assert whole["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Where?"},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
                # Another provider's id, in the letters that Anthropic takes.
                {"type": "tool_use", "id": "functions_weather_1", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "functions_weather_1", "content": []},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
            ],
        },
    ]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def call(id: str, city: str | None = None) -> dict[str, Any]:
    arguments = "" if city is None else f'{{"city": "{city}"}}'
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def test_tools_have_a_schema_of_an_object_whatever_was_given() -> None:
    assert body(tools=(WEATHER, Tool("now")))["tools"] == [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
        {"name": "now", "input_schema": {"type": "object"}},
    ]


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_the_choice_of_tools_is_translated(choice: str, wire: dict[str, str]) -> None:
    assert body(tools=(WEATHER,), tool_choice=choice)["tool_choice"] == wire


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_choice_that_nothing_hangs_on_is_left_out(choice: str) -> None:
    assert "tool_choice" not in body(tool_choice=choice)


@pytest.mark.parametrize(("tools", "choice"), [((), "required"), ((), "weather"), ((WEATHER,), "other")])
def test_a_call_of_a_tool_that_is_not_there_cannot_be_demanded(tools: tuple[Tool, ...], choice: str) -> None:
    with pytest.raises(RequestError, match="spot: tool_choice"):
        body(tools=tools, tool_choice=choice)


def test_a_schema_goes_as_the_format_of_the_output_with_its_objects_closed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert body(json_schema=schema)["output_config"] == {
        "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}
    }
    assert "additionalProperties" not in schema


def test_closing_reaches_every_object_and_changes_nothing_else() -> None:
    leaf = {"type": "object", "properties": {}}
    shut = {**leaf, "additionalProperties": False}
    # A property may be called like a keyword, and an enumeration may list objects.
    schema = {
        "$defs": {"n": leaf},
        "anyOf": [leaf, {"type": "array", "items": leaf}, {"type": ["object", "null"]}],
        "properties": {"items": leaf, "enum": leaf, "flag": True},
        "enum": [{"type": "object"}],
        "const": {"type": "object"},
    }
    assert closed(schema) == {
        "$defs": {"n": shut},
        "anyOf": [shut, {"type": "array", "items": shut}, {"type": ["object", "null"], "additionalProperties": False}],
        "properties": {"items": shut, "enum": shut, "flag": True},
        "enum": [{"type": "object"}],
        "const": {"type": "object"},
    }
    assert closed({"type": "object", "additionalProperties": True})["additionalProperties"] is True


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 1.5}, "temperature of 1.5, at most 1"),
        ({"stop": ("\n\n",)}, "white space"),
    ],
)
def test_what_anthropic_cannot_carry_is_said_before_any_call(options: dict[str, Any], what: str) -> None:
    with pytest.raises(CapabilityError, match=what) as caught:
        body(**options)
    assert caught.value.deployment == "spot"
