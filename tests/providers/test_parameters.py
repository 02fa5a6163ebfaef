"""What a request says of how it is answered, in the three wire formats: sent, or a reason, and never left out."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import types as genai
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from semroute.catalog import fits, needs_of
from semroute.config import Config, Deployment
from semroute.config.deployments import Format
from semroute.errors import CapabilityError, RequestError
from semroute.providers import ADAPTERS, CallTarget
from semroute.providers.anthropic import payload as anthropic_payload
from semroute.providers.gemini import payload as gemini_payload
from semroute.providers.openai import payload as openai_payload
from semroute.testing import FakeProvider, answer
from semroute.types import Completion, Request, Tool

USER = {"role": "user", "content": "hello"}
MARKER = {"type": "ephemeral"}
PAYLOADS: dict[str, Any] = {"openai": openai_payload, "anthropic": anthropic_payload, "gemini": gemini_payload}
FORMATS = pytest.mark.parametrize("format", ["openai", "anthropic", "gemini"])


def asked(**fields: Any) -> Request:
    return Request((USER,), **fields)


def place(format: str, **more: Any) -> Deployment:
    provider = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}[format]
    return Deployment.model_validate({"name": "spot", "model": "m", "provider": provider, **more})


def body(format: str, request: Request, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = PAYLOADS[format](CallTarget(place(format, **more)), request, stream=stream)
    return found


def is_taken_by_its_sdk(format: str, sent: dict[str, Any]) -> None:
    """Raise where the vendor's own types do not know a field or a value."""
    if format == "gemini":
        config = dict(sent.get("generationConfig", {}))
        genai.GenerateContentConfig.model_validate({**config, "serviceTier": sent.get("serviceTier")})
        return
    kinds = {"openai": CompletionCreateParamsNonStreaming, "anthropic": MessageCreateParamsNonStreaming}
    kind: Any = kinds[format]
    # Anthropic's version 2026-10-21 has dropped the sampling parameters; the version that is spoken here has them.
    sampling = {"temperature", "top_p", "top_k"} if format == "anthropic" else set()
    assert not sent.keys() - kind.__annotations__.keys() - sampling
    TypeAdapter(kind).validate_python(sent)


EXPRESSED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("openai", {"top_p": 0.5}, {"top_p": 0.5}),
    ("openai", {"seed": 7}, {"seed": 7}),
    (
        "openai",
        {"presence_penalty": 1.0, "frequency_penalty": -1.0},
        {"presence_penalty": 1.0, "frequency_penalty": -1},
    ),
    ("openai", {"n": 3}, {"n": 3}),
    ("openai", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ("openai", {"verbosity": "low"}, {"verbosity": "low"}),
    ("openai", {"tools": (Tool("f"),), "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    ("openai", {"service_tier": "flex"}, {"service_tier": "flex"}),
    ("openai", {"user": "u1"}, {"user": "u1"}),
    ("openai", {"extra": {"logit_bias": {"7": -1}, "store": True}}, {"logit_bias": {"7": -1}, "store": True}),
    ("anthropic", {"top_p": 0.5, "top_k": 4}, {"top_p": 0.5, "top_k": 4}),
    ("anthropic", {"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
    ("anthropic", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    ("anthropic", {"thinking_budget": 0}, {"thinking": {"type": "disabled"}}),
    ("anthropic", {"thinking_budget": -1}, {"thinking": {"type": "adaptive"}}),
    (
        "anthropic",
        {"thinking_budget": 2048},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2048 + 8192},
    ),
    ("anthropic", {"thinking_budget": 2048, "max_tokens": 3000}, {"max_tokens": 3000}),
    (
        "anthropic",
        {"tools": (Tool("f"),), "parallel_tool_calls": False},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    (
        "anthropic",
        {"tools": (Tool("f"),), "tool_choice": "required", "parallel_tool_calls": False},
        {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    ),
    ("anthropic", {"service_tier": "default"}, {"service_tier": "standard_only"}),
    ("anthropic", {"user": "u1"}, {"metadata": {"user_id": "u1"}}),
    ("anthropic", {"extra": {"container": "c1"}}, {"container": "c1"}),
    ("gemini", {"top_p": 0.5, "top_k": 4}, {"generationConfig": {"topP": 0.5, "topK": 4}}),
    ("gemini", {"seed": 7, "n": 2}, {"generationConfig": {"seed": 7, "candidateCount": 2}}),
    ("gemini", {"presence_penalty": 1.0}, {"generationConfig": {"presencePenalty": 1.0}}),
    ("gemini", {"frequency_penalty": 1.0}, {"generationConfig": {"frequencyPenalty": 1.0}}),
    ("gemini", {"reasoning_effort": "low"}, {"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}}}),
    ("gemini", {"thinking_budget": -1}, {"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}),
    ("gemini", {"service_tier": "flex"}, {"serviceTier": "flex"}),
    (
        "gemini",
        {"extra": {"mediaResolution": "MEDIA_RESOLUTION_LOW", "labels": {"a": "b"}}},
        {"generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"}, "labels": {"a": "b"}},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("format", "fields", "sent"), EXPRESSED)
def test_a_parameter_goes_out_in_the_words_of_the_format(
    format: str, fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    request = asked(**fields)
    found = body(format, request)
    assert {key: found.get(key) for key in sent} == sent
    is_taken_by_its_sdk(format, found)
    assert fits(place(format), Config(), needs_of(request)) == ()


UNSAID: list[tuple[str, dict[str, Any], str]] = [
    ("openai", {"top_k": 4}, "top_k"),
    ("openai", {"thinking_budget": 2048}, "thinking_budget"),
    ("openai", {"extra": {"safetySettings": []}}, "safetySettings"),
    ("anthropic", {"temperature": 1.5}, "temperature of 1.5, at most 1"),
    ("anthropic", {"seed": 7}, "seed"),
    ("anthropic", {"n": 3}, "n of 3"),
    ("anthropic", {"presence_penalty": 1.0}, "presence_penalty"),
    ("anthropic", {"frequency_penalty": 1.0}, "frequency_penalty"),
    ("anthropic", {"verbosity": "low"}, "verbosity"),
    ("anthropic", {"reasoning_effort": "minimal"}, "reasoning_effort 'minimal'"),
    ("anthropic", {"thinking_budget": 100}, "less than 1024"),
    ("anthropic", {"service_tier": "flex"}, "service_tier 'flex'"),
    ("anthropic", {"extra": {"logit_bias": {}}}, "logit_bias"),
    ("gemini", {"user": "u1"}, "user"),
    ("gemini", {"verbosity": "low"}, "verbosity"),
    ("gemini", {"reasoning_effort": "none"}, "reasoning_effort 'none'"),
    ("gemini", {"reasoning_effort": "low", "thinking_budget": 100}, "not both"),
    ("gemini", {"tools": (Tool("f"),), "parallel_tool_calls": False}, "parallel_tool_calls as false"),
    ("gemini", {"extra": {"logit_bias": {}}}, "logit_bias"),
]


@pytest.mark.parametrize(("format", "fields", "what"), UNSAID)
def test_what_a_format_has_no_word_for_speaks_against_the_deployment(
    format: str, fields: dict[str, Any], what: str
) -> None:
    request = asked(**fields)
    assert what in "; ".join(fits(place(format), Config(), needs_of(request)))
    with pytest.raises(CapabilityError, match=what):
        body(format, request)


@pytest.mark.parametrize(("format", "fields", "what"), [case for case in UNSAID if "not both" not in case[2]])
def test_what_may_be_left_out_is(format: str, fields: dict[str, Any], what: str) -> None:
    droppable = frozenset(fields) | frozenset(fields.get("extra", ()))
    request = asked(**fields, droppable=droppable)
    assert fits(place(format), Config(), needs_of(request)) == ()
    plain = {key: value for key, value in fields.items() if key == "tools"}
    assert body(format, request) == body(format, asked(**plain))


@FORMATS
def test_extra_cannot_say_what_a_field_says(format: str) -> None:
    for name in (
        "model",
        "messages",
        "stream",
        "max_completion_tokens",
        "maxOutputTokens",
        "top_p",
        "tools",
        "contents",
    ):
        with pytest.raises(RequestError, match=f"spot: extra of a request names {name}"):
            body(format, asked(extra={name: 1}))
        with pytest.raises(RequestError, match=name):
            needs_of(asked(extra={name: 1}))


def test_extra_does_not_overwrite_what_another_field_has_written() -> None:
    with pytest.raises(RequestError, match="extra names response_format"):
        body("openai", asked(json_schema={"type": "object"}, extra={"response_format": {"type": "text"}}))
    with pytest.raises(RequestError, match="extra names thinkingConfig"):
        body("gemini", asked(thinking_budget=9, extra={"thinkingConfig": {"includeThoughts": True}}))
    with pytest.raises(RequestError, match="extra names metadata"):
        body("anthropic", asked(user="u", extra={"metadata": {"user_id": "v"}}))


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-opus-4-7", {"effort"}),
        ("claude-sonnet-5", {"effort"}),
        ("anthropic/claude-haiku-5.5", {"effort"}),
        ("claude-opus-4-5-20251101", {"effort", "sampling", "budget"}),
        ("claude-opus-4-20250514", {"sampling", "budget"}),
        ("claude-3-5-haiku-20241022", {"sampling", "budget"}),
        ("a-model-of-ones-own", {"effort", "sampling", "budget"}),
    ],
)
def test_a_claude_model_is_asked_for_what_its_version_takes(model: str, takes: set[str]) -> None:
    asks: dict[str, dict[str, Any]] = {
        "effort": {"reasoning_effort": "low"},
        "sampling": {"temperature": 0.0},
        "budget": {"thinking_budget": 2048},
    }
    where = place("anthropic", upstream_model=model)
    assert {name for name, fields in asks.items() if not fits(where, Config(), needs_of(asked(**fields)))} == takes


def test_gemini_2_thinks_by_budget_and_gemini_3_by_level() -> None:
    low = asked(reasoning_effort="low")
    assert body("gemini", low, upstream_model="gemini-2.5-pro")["generationConfig"]["thinkingConfig"] == {
        "thinkingBudget": 1024
    }
    off = body("gemini", asked(reasoning_effort="none"), upstream_model="gemini-2.5-flash")
    assert off["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"max_tokens": 2048}, "raise max_tokens"),
        ({"temperature": 0.5}, "temperature other than 1"),
        ({"top_k": 3}, "with top_k"),
        ({"top_p": 0.5}, "top_p below 0.95"),
        ({"tools": (Tool("f"),), "tool_choice": "required"}, "demands a call"),
    ],
)
def test_anthropic_does_not_think_beside_what_excludes_it(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(CapabilityError, match=what):
        body("anthropic", asked(thinking_budget=2048, **fields))
    assert "thinking" not in body("anthropic", asked(thinking_budget=2048, droppable={"thinking_budget"}, **fields))


def test_a_server_without_a_row_is_sent_what_its_format_says_and_what_its_deployment_says() -> None:
    own: dict[str, Any] = {"provider": None, "base_url": "http://localhost:9/v1"}
    assert body("openai", asked(top_k=4, extra={"min_p": 0.1}), **own)["min_p"] == 0.1
    with pytest.raises(CapabilityError, match="carries: in its deployment says that it does"):
        body("openai", asked(thinking_budget=9), **own)
    assert body("openai", asked(thinking_budget=9), **own, carries=["thinking_budget"])["thinking_budget"] == 9
    with pytest.raises(CapabilityError, match="seed"):
        body("openai", asked(seed=9), **own, lacks=["seed"])


def test_what_a_deployment_carries_goes_out_under_its_own_name_in_every_format() -> None:
    seeded = asked(seed=7, verbosity="low")
    assert body("anthropic", seeded, carries=["seed", "verbosity"])["seed"] == 7
    assert body("gemini", asked(verbosity="low"), carries=["verbosity"])["generationConfig"] == {"verbosity": "low"}
    assert body("anthropic", asked(service_tier="flex"), carries=["service_tier"])["service_tier"] == "flex"


def test_the_address_of_a_vendor_stands_for_its_row() -> None:
    where: dict[str, Any] = {"provider": None, "base_url": "https://api.openai.com/v1/"}
    for fields in ({"top_k": 4}, {"extra": {"min_p": 0.1}}):
        with pytest.raises(CapabilityError, match="does not carry"):
            body("openai", asked(**fields), **where)


def test_rows_say_what_their_vendors_do_otherwise() -> None:
    rows: list[dict[str, Any]] = [{"provider": name} for name in ("mistral", "openrouter", "groq")]
    mistral, openrouter, groq = rows
    assert body("openai", asked(seed=7), **mistral)["random_seed"] == 7
    assert body("openai", asked(thinking_budget=9), **openrouter)["reasoning"] == {"max_tokens": 9}
    with pytest.raises(CapabilityError, match="not both"):
        body("openai", asked(thinking_budget=9, reasoning_effort="low"), **openrouter)
    with pytest.raises(CapabilityError, match="groq does not carry n"):
        body("openai", asked(n=2), **groq)
    assert "n" not in body("openai", asked(n=1), **groq)


@pytest.mark.parametrize("format", ["openai", "gemini"])
def test_a_stream_gives_one_answer(format: str) -> None:
    with pytest.raises(CapabilityError, match="a stream gives one answer"):
        body(format, asked(n=3), stream=True)


# Cache markers.

MARKED = Request(
    (
        {"role": "system", "content": [{"type": "text", "text": "be brief", "cache_control": MARKER}]},
        {"role": "user", "content": "hello", "cache_control": MARKER},
    ),
    tools=(Tool("f", cache_control=MARKER),),
)


@pytest.mark.slow
def test_cache_markers_reach_anthropic_and_openrouter() -> None:
    sent = body("anthropic", MARKED)
    is_taken_by_its_sdk("anthropic", sent)
    assert sent["system"] == [{"type": "text", "text": "be brief", "cache_control": MARKER}]
    assert sent["messages"][0]["content"] == [{"type": "text", "text": "hello", "cache_control": MARKER}]
    assert sent["tools"][0]["cache_control"] == MARKER
    routed = body("openai", MARKED, provider="openrouter")
    assert routed["messages"][0]["content"][0]["cache_control"] == routed["tools"][0]["cache_control"] == MARKER


@pytest.mark.parametrize("format", ["openai", "gemini"])
def test_cache_markers_speak_against_formats_without_a_word_for_them(format: str) -> None:
    with pytest.raises(CapabilityError, match="cache_control"):
        body(format, MARKED)
    assert "cache_control" in "; ".join(fits(place(format), Config(), needs_of(MARKED)))
    dropped = Request(MARKED.messages, tools=MARKED.tools, droppable=frozenset({"cache_control"}))
    assert "cache_control" not in str(body(format, dropped))


def test_an_anthropic_place_that_lacks_markers_is_sent_none() -> None:
    dropped = Request(MARKED.messages, tools=MARKED.tools, droppable=frozenset({"cache_control"}))
    assert "cache_control" not in str(body("anthropic", dropped, lacks=["cache_control"]))


# Several answers.


@pytest.mark.parametrize("format", ["openai", "gemini"])
def test_several_answers_come_side_by_side(format: Format) -> None:
    with FakeProvider() as provider:
        url = provider.base_url if format == "openai" else provider.gemini_url
        provider.script(answer("yes", output_tokens=3))

        async def work() -> Completion:
            async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                where = CallTarget(place(format, base_url=url))
                return await ADAPTERS[format].complete(client, where, asked(n=3), within_s=10)

        found = asyncio.run(work())
    assert (found.text, [other.text for other in found.alternatives]) == ("yes", ["yes (2)", "yes (3)"])
    assert {other.finish_reason for other in found.alternatives} == {"stop"}


def test_several_answers_are_reserved_and_priced_as_several() -> None:
    assert needs_of(asked(n=3, max_tokens=10)).output_tokens == 30
    assert needs_of(asked(thinking_budget=5000)).max_output_tokens > 5000


# What the old fields mean.


def test_a_single_stop_text_is_one_text() -> None:
    for stop in ("END", ["END"], ("END",)):
        request = asked(stop=stop)
        assert body("openai", request)["stop"] == ["END"]
        assert body("anthropic", request)["stop_sequences"] == ["END"]
        assert body("gemini", request)["generationConfig"]["stopSequences"] == ["END"]
    assert asked(stop="").stop == ()
    assert asked(droppable="seed").droppable == {"seed"}


def test_the_old_fields_stand_where_they_stood() -> None:
    old = Request((USER,), 5, 0.5, ("a",), (), None, None, True, {"tenant": "t"})
    assert (old.max_tokens, old.temperature, old.stop, old.logprobs, old.metadata) == (
        5,
        0.5,
        ("a",),
        True,
        {"tenant": "t"},
    )
