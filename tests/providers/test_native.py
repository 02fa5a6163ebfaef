"""What changes in a body that a client sent in the deployment's own format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.catalog import parameters_of, unsaid
from semroute.config import Deployment
from semroute.dispatch.validation import valid_request
from semroute.errors import CapabilityError, InputError
from semroute.providers import anthropic, openai, responses
from semroute.providers.sealed import SealedItems
from semroute.providers.target import CallTarget
from semroute.types import NativeBody, Request

MESSAGES: Any = [{"role": "user", "content": "hi"}]
PAYLOADS = {"openai": openai.payload, "anthropic": anthropic.payload}
HINTS = frozenset({"cache_control", "user", "metadata"})


def target(**keys: Any) -> CallTarget:
    place = {"name": "d", "model": "m", "upstream_model": "up", **keys}
    return CallTarget(Deployment.model_validate(place), None, None)


def asked(body: dict[str, Any], format: str = "openai", **fields: Any) -> Request:
    if format == "openai":
        request = replace(Request.from_openai(body, droppable=HINTS), **fields)
    else:
        request = Request(tuple(body["messages"]), droppable=HINTS, **fields)
    return replace(request, native=NativeBody(format, body))


SERVERS: list[dict[str, Any]] = [
    {"provider": "openai"},
    {"provider": "mistral"},
    {"format": "openai", "base_url": "http://127.0.0.1:1/v1"},
]


@pytest.mark.parametrize(
    ("server", "limit", "seed"),
    [
        (SERVERS[0], "max_completion_tokens", "seed"),
        (SERVERS[1], "max_tokens", "random_seed"),
        (SERVERS[2], "max_tokens", "seed"),
    ],
)
@pytest.mark.parametrize("given_limit", ["max_tokens", "max_completion_tokens"])
def test_names_that_a_vendor_has_otherwise_are_replaced_in_place(
    server: dict[str, Any], limit: str, seed: str, given_limit: str
) -> None:
    body = {"seed": 1, "x": {}, given_limit: 5, "model": "auto", "messages": MESSAGES}
    sent = openai.payload(target(**server), asked(body))
    assert list(sent.items()) == [(seed, 1), ("x", {}), (limit, 5), ("model", "up"), ("messages", MESSAGES)]
    assert list(body) == ["seed", "x", given_limit, "model", "messages"]


def test_fields_of_an_answer_that_a_vendor_refuses_are_left_out_and_its_own_stay() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": 1}
    said = {"role": "assistant", "content": "", "tool_calls": [call], "annotations": [], "reasoning_content": "Hm."}
    body = {"messages": [*MESSAGES, said, {"role": "tool", "tool_call_id": "c", "content": "r"}]}
    shown: dict[str, Any] = {}
    for name, server in zip(("openai", "mistral", "own"), SERVERS, strict=True):
        messages: Any = openai.payload(target(**server), asked(body))["messages"]
        shown[name] = set(messages[1])
        assert not {"index", "extra_content"} & set(messages[1]["tool_calls"][0])
    assert shown["openai"] == shown["own"] == {"role", "content", "tool_calls", "annotations"}
    assert shown["mistral"] == {"role", "content", "tool_calls"}
    kept: Any = openai.payload(target(**SERVERS[2], message_fields=["reasoning_content"]), asked(body))["messages"]
    assert kept[1]["reasoning_content"] == "Hm."


@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_cache_markers_are_left_out_where_the_deployment_lacks_them(format: str) -> None:
    marker = {"type": "ephemeral"}
    schema = {"type": "object", "properties": {"cache_control": {"type": "string"}}}
    part = {"type": "text", "text": "hi", "cache_control": marker}
    body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 1, "model": "x"}
    keys: dict[str, Any] = {"format": format, "base_url": "http://127.0.0.1:1", "name": "d", "model": "m"}
    tool = {"name": "f", "input_schema": schema, "cache_control": marker} if format == "anthropic" else None
    request = asked(body | ({"tools": [tool]} if tool else {}), format)
    sent = PAYLOADS[format](target(**keys, lacks=["cache_control"]), request)
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    if tool:
        assert sent["tools"] == [{"name": "f", "input_schema": schema}]
    whole = PAYLOADS[format](target(**keys, carries=["cache_control"]), request)
    assert whole["messages"] == body["messages"]


def test_what_a_deployment_lacks_stays_a_reason_against_it() -> None:
    request = asked({"messages": MESSAGES, "seed": 1})
    lacking = target(**SERVERS[2], lacks=["seed"])
    assert unsaid(lacking.deployment, parameters_of(request)) == ("openai does not carry seed",)
    with pytest.raises(CapabilityError, match="seed"):
        openai.payload(lacking, request)


@pytest.mark.parametrize("name", ["thinking_config", "safetySettings", "mcp_servers"])
def test_parameters_of_another_vendor_stay_a_reason_against_openais(name: str) -> None:
    reasons = unsaid(target(provider="openai").deployment, parameters_of(asked({"messages": MESSAGES, name: 1})))
    assert bool(reasons) == (name != "thinking_config")


def test_a_limit_is_added_where_the_api_demands_one() -> None:
    sent = anthropic.payload(target(provider="anthropic"), asked({"messages": MESSAGES}, "anthropic"))
    assert sent == {"messages": MESSAGES, "model": "up", "max_tokens": 8192}


def test_a_sample_has_its_own_temperature_and_none_while_the_model_thinks() -> None:
    body: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 1, "temperature": 0.1}
    place = target(provider="anthropic")
    assert anthropic.payload(place, asked(body, "anthropic", temperature=0.7))["temperature"] == 0.7
    thinking = {"thinking": {"type": "adaptive"}}
    with pytest.raises(CapabilityError, match="temperature"):
        anthropic.payload(place, asked(body | thinking, "anthropic", temperature=0.7))


def test_what_a_client_sent_is_not_shown_and_must_be_a_body() -> None:
    request = asked({"messages": MESSAGES, "x": "secret"})
    assert "secret" not in repr(request.native)
    assert "native" not in repr(request)
    assert valid_request(request).native is request.native
    with pytest.raises(InputError, match="native: is str, not a NativeBody"):
        valid_request(replace(request, native="{}"))  # type: ignore[arg-type]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.text(min_size=1, max_size=8).map(lambda name: f"x_{name}"), VALUES, max_size=6)


@pytest.mark.slow
@given(before=FIELDS, after=FIELDS, stream=st.booleans())
def test_unknown_fields_of_responses_survive_in_their_order(
    before: dict[str, Any], after: dict[str, Any], stream: bool
) -> None:
    items = [*MESSAGES, {"type": "of_tomorrow", **before}]
    body = {**before, "model": "auto", "stream": stream, "store": True, "input": items, **after}
    text = json.dumps(body)
    request = replace(Request(tuple(MESSAGES)), native=NativeBody("responses", body))
    place = target(format="responses", base_url="http://127.0.0.1:1")
    sent = responses.payload(place, request, SealedItems(), stream=stream)
    assert json.dumps({**sent, "model": "auto"}) == text == json.dumps(body)


@pytest.mark.slow
@given(before=FIELDS, after=FIELDS, format=st.sampled_from(["openai", "anthropic"]), stream=st.booleans())
def test_unknown_fields_survive_in_their_order(
    before: dict[str, Any], after: dict[str, Any], format: str, stream: bool
) -> None:
    body = {**before, "model": "auto", "stream": stream, "max_tokens": 1, "messages": MESSAGES, **after}
    text = json.dumps(body)
    sent = PAYLOADS[format](target(format=format, base_url="http://127.0.0.1:1"), asked(body, format), stream=stream)
    options = sent.pop("stream_options", None)
    assert (options is not None) == (stream and format == "openai")
    assert json.dumps({**sent, "model": "auto"}) == text == json.dumps(body)
