"""Requests in OpenAI's shapes: whole bodies, tools, tool choices and response formats, from dicts and SDK objects."""

from __future__ import annotations

import asyncio
import json
from types import MappingProxyType
from typing import Any

import httpx
import openai
import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from semroute.catalog import fits, needs_of
from semroute.config import Config, Deployment
from semroute.dispatch.validation import valid_request
from semroute.errors import CapabilityError, InputError
from semroute.providers import ADAPTERS, CallTarget
from semroute.providers.anthropic import payload as anthropic_payload
from semroute.providers.gemini import payload as gemini_payload
from semroute.providers.openai import payload as openai_payload
from semroute.testing import Call, FakeProvider, answer
from semroute.types import Completion, Request, Tool

USER = {"role": "user", "content": "weather in Oslo?"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "By city.", "parameters": SCHEMA}}
CUSTOM = {"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}
PAYLOADS: dict[str, Any] = {"openai": openai_payload, "anthropic": anthropic_payload, "gemini": gemini_payload}
OTHERS = pytest.mark.parametrize("format", ["anthropic", "gemini"])


OWN_SERVER = Deployment(name="s", model="m", base_url="http://localhost:9/v1")


def place(format: str = "openai", **more: Any) -> Deployment:
    provider = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}[format]
    return Deployment.model_validate({"name": "spot", "model": "m", "provider": provider, **more})


def wire(request: Request, format: str = "openai", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = PAYLOADS[format](CallTarget(place(format, **more)), valid_request(request))
    return found


def reasons(request: Request, format: str, **more: Any) -> str:
    where = place(format, **more)
    return "; ".join(fits(where, Config.model_validate({"deployments": [where]}), needs_of(valid_request(request))))


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": fields}


def body(**more: Any) -> dict[str, Any]:
    return {"messages": [USER], **more}


EVERYTHING: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Be brief."}, USER],
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 7,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "n": 2,
    "stop": ["END"],
    "max_completion_tokens": 100,
    "tools": [
        WEATHER,
        {"type": "function", "function": {"name": "now", "strict": True, "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "off", "strict": False}},
        CUSTOM,
    ],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WEATHER]}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "city", "description": "A city.", "schema": SCHEMA, "strict": False},
    },
    "logprobs": True,
    "top_logprobs": 3,
    "reasoning_effort": "low",
    "verbosity": "low",
    "service_tier": "flex",
    "user": "u1",
    "metadata": {"tenant": "a"},
    "store": True,
    "logit_bias": {"50256": -100},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "web_search_options": {},
    "modalities": ["text"],
}


def test_a_whole_body_reaches_the_wire_as_it_came() -> None:
    assert wire(Request.from_openai(EVERYTHING), upstream_model="gpt-5") == {**EVERYTHING, "model": "gpt-5"}


@pytest.mark.parametrize("name", sorted(EVERYTHING.keys() - {"messages"}))
def test_every_parameter_alone_reaches_the_wire(name: str) -> None:
    with_tools = {"tools": EVERYTHING["tools"]} if name in ("tool_choice", "parallel_tool_calls") else {}
    given_body = body(**with_tools, **{name: EVERYTHING[name]})
    assert wire(Request.from_openai(given_body), upstream_model="m") == {**given_body, "model": "m"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ({"tools": [WEATHER], "tool_choice": "required"}, {"tools": [WEATHER], "tool_choice": "required"}),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"model": "gpt-5", "stream": True, "stream_options": {"include_usage": True}}, {}),
        ({"temperature": None, "tools": None, "stop": None, "logprobs": None, "logit_bias": None, "n": 1}, {}),
        ({"some_vendors_own": {"a": [1]}}, None),
    ],
)
def test_spellings_of_one_meaning_are_sent_in_one(given: dict[str, Any], sent: dict[str, Any] | None) -> None:
    request = Request.from_openai(body(**given))
    if sent is None:  # OpenAI's own API knows its parameters; other servers of the format have more
        assert "some_vendors_own" in reasons(request, "openai")
        assert "some_vendors_own" in openai_payload(CallTarget(OWN_SERVER), request)
    else:
        assert wire(request, upstream_model="m") == {"model": "m", "messages": [USER], **sent}


@OTHERS
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"tools": [WEATHER, CUSTOM]}, "does not carry custom_tools"),
        ({"tools": [WEATHER], "tool_choice": EVERYTHING["tool_choice"]}, "does not carry allowed_tools"),
        ({"response_format": {"type": "json_object"}}, "does not carry response_format"),
        ({"logit_bias": {"1": 1}}, "does not carry logit_bias"),
        ({"metadata": {"tenant": "a"}}, "does not carry metadata"),
        ({"verbosity": "low"}, "does not carry verbosity"),
    ],
)
def test_what_a_format_cannot_say_is_a_reason_against_it_unless_it_may_be_left_out(
    format: str, given: dict[str, Any], reason: str
) -> None:
    request = Request.from_openai(body(**given))
    assert reason in reasons(request, format)
    with pytest.raises(CapabilityError, match=reason):
        wire(request, format)
    name = reason.rpartition(" ")[2]
    dropped = Request.from_openai(body(**given), droppable=[name])
    assert reasons(dropped, format) == ""
    assert name not in json.dumps(wire(dropped, format))


def test_strict_of_a_tool_is_sent_where_the_format_has_it_and_else_a_reason() -> None:
    request = Request.from_openai(body(tools=[{"type": "function", "function": {"name": "now", "strict": True}}]))
    assert wire(request)["tools"][0]["function"] == {"name": "now", "strict": True}
    assert wire(request, "anthropic")["tools"][0] == {
        "name": "now", "input_schema": {"type": "object"}, "strict": True
    }  # fmt: skip
    assert "google does not carry strict of a tool" in reasons(request, "gemini")
    assert "strict" not in json.dumps(
        wire(Request.from_openai(body(tools=EVERYTHING["tools"][:2]), droppable=["strict"]), "gemini")
    )


def test_a_tool_of_the_vendors_own_goes_where_the_deployment_carries_it() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    request = Request(({**USER},), tools=(search,))  # type: ignore[arg-type]
    assert wire(request, "anthropic", carries=["custom_tools"])["tools"] == [search]
    assert "custom_tools" in reasons(request, "anthropic")


@OTHERS
def test_the_description_of_a_response_format_is_that_of_its_schema(format: str) -> None:
    request = Request.from_openai(body(response_format=EVERYTHING["response_format"]))
    sent = wire(request, format)
    schema = (
        sent["output_config"]["format"]["schema"]
        if format == "anthropic"
        else sent["generationConfig"]["responseJsonSchema"]
    )
    assert schema["description"] == "A city."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "messages: is missing; it is a list of chat messages"),
        ({"messages": "hi"}, "messages: is str, not a list of chat messages"),
        (body(functions=[]), "functions: is deprecated: give tools"),
        (body(function_call="auto"), "function_call: is deprecated: give tool_choice"),
        (body(max_completion_tokens="5"), "max_completion_tokens: is '5', not a whole number above 0"),
        (body(max_tokens=5, max_completion_tokens=6), "max_completion_tokens: differs from max_tokens"),
        (body(tools={"a": 1}), "tools: is dict, not a list of tools"),
        (body(tools=[WEATHER, {"type": "function"}]), "tools[1].name: is missing"),
        (body(tools=[function(name=3)]), "tools[0].function.name: is int"),
        (body(tools=[function(name="f", parameters=[])]), "tools[0].function.parameters: is list"),
        (body(tools=[{"type": 3}]), "tools[0].type: is int"),
        (body(tool_choice=["auto"]), "tool_choice: is list, not a mapping"),
        (body(tool_choice={"type": "function", "function": {}}), "tool_choice.function.name: is missing"),
        (body(response_format="json"), "response_format: is a mapping with a type"),
        (body(response_format={"type": "json_schema"}), "response_format.json_schema: is missing"),
        (
            body(response_format={"type": "json_schema", "json_schema": {"name": "a"}}),
            "response_format.json_schema.schema: is missing",
        ),
        (body(stop=3), "stop: is int, not a list of texts"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_used_is_refused_with_the_path(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Request.from_openai(given)
    assert message in str(caught.value)


@pytest.mark.parametrize("given", [[], "hi", None])
def test_a_body_that_is_no_mapping_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="a body of Chat Completions is a mapping"):
        Request.from_openai(given)


def test_metadata_of_the_caller_is_kept_from_the_model() -> None:
    request = Request.from_openai(body(metadata={"a": "b"}), metadata={"tenant": "x"})
    assert (request.metadata, request.extra) == ({"tenant": "x"}, {"metadata": {"a": "b"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(0, 1) | st.sampled_from(["auto", "function", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "function", "name", "json_schema", "schema"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from([*EVERYTHING, "model", "functions", "max_tokens"]), JSON, max_size=5))
def test_whatever_a_client_sends_is_a_request_or_an_error_of_ours(given: dict[str, Any]) -> None:
    try:
        request = Request.from_openai(MappingProxyType({"messages": [USER], **given}))
        valid = valid_request(request)
    except InputError:
        return
    # Nothing is lost: each parameter that is set is in the request, or is one that the caller of the router decides.
    ignored = {"model"}
    for name in given.keys() - ignored:
        if given[name] is None or name in ("messages", "max_tokens", "max_completion_tokens"):
            continue
        own = {"response_format": "json_schema"}.get(name, name)
        is_text = given[name] == {"type": "text"}
        assert name in valid.extra or getattr(valid, own, None) is not None or is_text, name


# SDK objects.


class City(BaseModel):
    """A city."""

    name: str
    people: int | None


class Visit(BaseModel):
    cities: list[City]


def test_a_pydantic_model_class_is_a_schema_that_openai_enforces() -> None:
    for request in (Request((USER,), json_schema=Visit), Request.from_openai(body(response_format=Visit))):  # type: ignore[arg-type]
        sent = wire(request)["response_format"]["json_schema"]
        assert (sent["name"], sent["strict"]) == ("Visit", True)
        assert Visit.model_validate({"cities": [{"name": "Oslo", "people": None}]})
        assert sent["schema"]["$defs"]["City"]["additionalProperties"] is False


def test_a_response_format_as_the_schema_is_the_schema_with_its_options() -> None:
    request = valid_request(Request((USER,), json_schema=EVERYTHING["response_format"]))
    assert request.json_schema == SCHEMA
    assert request.json_schema_options == {"name": "city", "description": "A city.", "strict": False}


@pytest.mark.parametrize(
    "tool",
    [
        WEATHER,
        Tool("weather", "By city.", SCHEMA),
        {"type": "function", "name": "weather", "description": "By city.", "parameters": SCHEMA},
        {"name": "weather", "description": "By city.", "input_schema": SCHEMA},
        MappingProxyType(WEATHER),
    ],
)
def test_a_tool_is_taken_in_every_usual_shape(tool: Any) -> None:
    for tools in ([tool], (tool,)):
        assert wire(Request([USER], tools=tools))["tools"] == [WEATHER]  # type: ignore[arg-type]


def test_the_sdks_helper_makes_a_tool() -> None:
    tool = openai.pydantic_function_tool(City)
    assert wire(Request((USER,), tools=(tool,)))["tools"][0]["function"]["strict"] is True  # type: ignore[arg-type]


def test_a_tool_whose_name_is_a_mode_can_be_demanded() -> None:
    choice = {"type": "function", "function": {"name": "none"}}
    request = Request((USER,), tools=(Tool("none"),), tool_choice=choice)
    assert wire(request)["tool_choice"] == choice
    assert wire(request, "anthropic")["tool_choice"] == {"type": "tool", "name": "none"}


CALLED = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": None, "refusal": None, "annotations": [], "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    }}],
}  # fmt: skip


@pytest.mark.parametrize("format", ["openai", "anthropic", "gemini"])
def test_the_message_of_openais_sdk_is_appended_as_it_is(format: str) -> None:
    message = ChatCompletion.model_validate(CALLED).choices[0].message
    result = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    request = Request.from_openai({"messages": [USER, message, result], "tools": [WEATHER]})
    assert "c1" in json.dumps(wire(request, format))


@pytest.mark.slow
def test_a_whole_loop_of_a_body_runs_against_every_format() -> None:
    with FakeProvider() as provider:
        urls = {"openai": provider.base_url, "anthropic": provider.anthropic_url, "gemini": provider.gemini_url}

        async def ask(format: Any, messages: list[Any]) -> Completion:
            where = CallTarget(
                Deployment(name="s", model="m", format=format, base_url=urls[format], upstream_model="gemini-x")
            )
            request = valid_request(Request.from_openai({"messages": messages, "tools": [WEATHER]}))
            async with httpx.AsyncClient(trust_env=False) as client:
                return await ADAPTERS[where.deployment.format].complete(client, where, request, within_s=10)

        for format in urls:
            provider.script(answer("I look.", calls=(Call("weather", {"city": "Oslo"}),)), answer("It rains."))
            messages: list[Any] = [USER]
            first = asyncio.run(ask(format, messages))
            messages += [first.message, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}]
            assert asyncio.run(ask(format, messages)).text == "It rains."


def test_anthropics_messages_and_results_go_to_every_format() -> None:
    message = AnthropicMessage.model_validate(
        {
            "id": "msg", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
            "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        }
    )  # fmt: skip
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "no"}], "is_error": True}
    request = Request([USER, message, {"role": "user", "content": [result, image]}], tools=[WEATHER])  # type: ignore[arg-type]
    sent = wire(request)["messages"]
    assert sent[1]["content"] == [{"type": "text", "text": "I look."}]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "no"}]}
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    assert sent[3] == {"role": "user", "content": [shown]}
    back = wire(request, "anthropic")["messages"]
    assert back[1]["content"][-1] == {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}
    assert back[2]["content"] == [result, image]
    google = wire(request, "gemini")["contents"]
    assert google[2]["parts"][0]["functionResponse"]["response"] == {"error": "no"}
    assert google[3]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}]


def test_a_block_in_no_known_shape_is_left_for_the_wire_format_to_refuse() -> None:
    odd = {"role": "assistant", "content": [{"type": "tool_use", "name": 3}]}
    assert valid_request([USER, odd]).messages[1]["content"] == [{"type": "tool_use", "name": 3}]
    with pytest.raises(CapabilityError, match="a part of type 'tool_use'"):
        wire(Request((USER, odd)), "anthropic")
