from __future__ import annotations

from typing import Any

import pytest

from semroute.config import Deployment
from semroute.errors import CapabilityError, RequestError
from semroute.providers.gemini import UNSIGNED, payload
from semroute.providers.target import CallTarget
from semroute.types import Request, Tool

HELLO = {"role": "user", "content": "hello"}
WEATHER = Tool("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def body(*messages: Any, upstream: str = "gemini-2.5-flash", **options: Any) -> dict[str, Any]:
    deployment = Deployment(name="spot", model="large", format="gemini", upstream_model=upstream)
    return payload(CallTarget(deployment), Request(messages or (HELLO,), **options))


def call(id: str, city: str | None = None, signature: str | None = None) -> dict[str, Any]:
    arguments = "" if city is None else f'{{"city": "{city}"}}'
    found = {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return found if signature is None else {**found, "extra_content": {"google": {"thought_signature": signature}}}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": "I look.", "tool_calls": list(calls)}


def test_a_plain_request_has_contents_alone() -> None:
    assert body() == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


def test_every_option_has_its_place() -> None:
    schema = {"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}
    whole = body(max_tokens=5, temperature=0.0, stop=("END",), json_schema=schema, logprobs=True)
    assert whole["generationConfig"] == {
        "maxOutputTokens": 5,
        "temperature": 0.0,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
        "responseLogprobs": True,
    }


def test_a_conversation_with_calls_becomes_contents() -> None:
    whole = body(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where?"},
        calling(call("c1", "Oslo"), call("c2")),
        {"role": "tool", "tool_call_id": "c2", "content": '{"sky": "blue"}'},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "user", "content": "And now?"},
    )
    assert whole["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert whole["contents"] == [
        {"role": "user", "parts": [{"text": "Where?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "I look."},
                {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Oslo"}}},
                {"functionCall": {"id": "c2", "name": "weather", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c2", "name": "weather", "response": {"sky": "blue"}}},
                {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "rain"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "And now?"}]},
    ]


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("data:image/webp;base64,aGVsbG8=", {"inlineData": {"mimeType": "image/webp", "data": "aGVsbG8="}}),
        (
            "https://a.org/b.JPG?c=d.png",
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a.org/b.JPG?c=d.png"}},
        ),
        ("gs://bucket/b", {"fileData": {"fileUri": "gs://bucket/b"}}),
    ],
)
def test_images_go_inline_or_by_address(url: str, part: dict[str, Any]) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    assert body({"role": "user", "content": content})["contents"] == [{"role": "user", "parts": [part]}]


def test_an_image_in_a_result_cannot_be_carried() -> None:
    content = [{"type": "image_url", "image_url": {"url": "https://a.org/b.png"}}]
    with pytest.raises(CapabilityError, match="spot: a tool message holds an image"):
        body(HELLO, calling(call("c1")), {"role": "tool", "tool_call_id": "c1", "content": content})


def signatures(upstream: str, *calls: dict[str, Any]) -> list[Any]:
    parts = body(HELLO, calling(*calls), upstream=upstream)["contents"][1]["parts"]
    return [part.get("thoughtSignature") for part in parts if "functionCall" in part]


@pytest.mark.parametrize("upstream", ["gemini-3-pro-preview", "gemini-3.5-flash", "gemini-flash-latest"])
def test_unsigned_calls_of_a_turn_are_marked_for_models_that_ask_for_signatures(upstream: str) -> None:
    assert signatures(upstream, call("c1"), call("c2")) == [UNSIGNED, None]


def test_a_signature_goes_back_as_it_came() -> None:
    assert signatures("gemini-3-pro-preview", call("c1", signature="c2ln"), call("c2")) == ["c2ln", None]
    assert signatures("gemini-2.5-flash", call("c1", signature="c2ln")) == ["c2ln"]


@pytest.mark.parametrize("upstream", ["gemini-2.5-flash", "gemini-2.0-flash-001", "mine"])
def test_older_models_get_no_mark(upstream: str) -> None:
    assert signatures(upstream, call("c1")) == [None]


def test_tools_are_declared_with_their_json_schema() -> None:
    assert body(tools=(WEATHER, Tool("now")))["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Tells the weather.",
                    "parametersJsonSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
                {"name": "now"},
            ]
        }
    ]


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("weather", {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_the_choice_of_tools_is_translated(choice: str, wire: dict[str, Any]) -> None:
    assert body(tools=(WEATHER,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": wire}


def test_a_call_of_a_tool_that_is_not_there_cannot_be_demanded() -> None:
    with pytest.raises(RequestError, match="spot: tool_choice 'other'"):
        body(tools=(WEATHER,), tool_choice="other")
