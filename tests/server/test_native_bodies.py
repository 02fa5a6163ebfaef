"""Bodies of a client that go to a deployment of the same format as they came, and to no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import anthropic
import httpx
import openai
import pytest
from server.conftest import Served

from semroute.testing import Call, answer, fail
from semroute.testing.replies import Reply

pytestmark = pytest.mark.slow

SECRETS = {"authorization": "Bearer client-secret", "x-api-key": "client-secret", "cookie": "client-secret"}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Done."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Done."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
CASCADE = {"tiers": ["small", "large"], "accept": {"confidence": 0.5}}
ANSWERS = {"anthropic": MESSAGE, "openai": COMPLETION}
PATHS = {"anthropic": "/v1/messages", "openai": "/v1/chat/completions"}

# Keys in no natural order, with fields, blocks and tools that this package does not know.
OF_ANTHROPIC = """{"safeguards": {"z": 1, "a": [true, null, 1.5]}, "max_tokens": 50, "model": "small",
 "mcp_servers": [{"url": "https://mcp.example", "type": "url", "name": "m"}], "container": "c_1",
 "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
  {"defer_loading": true, "name": "weather", "input_schema": {"type": "object"}},
  {"type": "mcp_toolset", "mcp_server_name": "m"}],
 "messages": [{"content": [{"type": "document", "title": "é \\u2028", "citations": {"enabled": true},
  "source": {"data": "Soup.", "type": "text", "media_type": "text/plain"}}, {"text": "recipe?", "type": "text",
  "cache_control": {"type": "ephemeral", "ttl": "1h"}}], "role": "user"},
  {"role": "assistant", "content": [{"type": "server_tool_use", "id": "srvtoolu_1.x", "name": "web_search",
  "input": {"query": "q"}}, {"type": "tool_use", "id": "toolu:strange/1", "name": "weather",
  "input": {"b": 1, "a": 2}}]},
  {"role": "user", "content": [{"tool_use_id": "toolu:strange/1", "type": "tool_result",
  "content": [{"type": "search_result", "source": "s", "title": "t", "content": []}]}]}],
 "system": [{"type": "text", "text": "Be short.", "unheard_of": 1}], "metadata": {"user_id": "u", "x": 2}}"""
OF_OPENAI = """{"web_search_options": {"z": 1, "a": {}}, "model": "small", "unheard_of": {"b": [1.5], "a": null},
 "messages": [{"content": [{"type": "input_audio", "input_audio": {"format": "wav", "data": "AA=="}},
  {"text": "recipe? é", "type": "text"}], "name": "ann", "role": "user"},
  {"role": "assistant", "annotations": [], "audio": {"id": "a_1"}, "content": null,
  "tool_calls": [{"id": "call/1", "function": {"arguments": "{ }", "name": "f"}, "type": "function"},
  {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}}]},
  {"tool_call_id": "call/1", "role": "tool", "content": "r"}, {"tool_call_id": "c2", "role": "tool", "content": "r"}],
 "tools": [{"type": "custom", "custom": {"name": "g"}}, {"function": {"name": "f", "x": 1}, "type": "function"}],
 "store": true, "service_tier": null, "modalities": ["text"], "temperature": 1.0}"""
BODIES = {"anthropic": OF_ANTHROPIC, "openai": OF_OPENAI}


def raw(format: str) -> Reply:
    return Reply(body=json.dumps(ANSWERS[format]).encode())


def post(served: Served, format: str, body: str | Mapping[str, Any], **headers: str) -> httpx.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return httpx.post(served.url + PATHS[format], content=text.encode(), headers=headers, timeout=30)


def other(format: str) -> str:
    return "openai" if format == "anthropic" else "anthropic"


@pytest.mark.parametrize("format", ["anthropic", "openai"])
def test_a_body_arrives_as_the_client_wrote_it_with_another_model(serve: Callable[..., Served], format: str) -> None:
    served = serve(format)
    served.provider.always(raw(format))
    answered = post(served, format, BODIES[format])
    assert answered.status_code == 200, answered.text
    (sent,) = served.provider.requests
    assert sent.content.decode() == json.dumps(json.loads(BODIES[format]), ensure_ascii=False)


def test_only_the_names_of_beta_features_go_upstream_and_no_credential(serve: Callable[..., Served]) -> None:
    served = serve({"small": "anthropic", "large": "openai"})
    betas = {"anthropic-beta": "one-2025,two-2026", "openai-beta": "three=v1", "x-forwarded-for": "10.0.0.1"}
    plain = {"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    for model, format, expected in [
        ("small", "anthropic", {"anthropic-beta": "one-2025,two-2026"}),
        ("large", "anthropic", {}),
        ("large", "openai", {"openai-beta": "three=v1"}),
        ("small", "openai", {}),
    ]:
        assert post(served, format, {"model": model, **plain}, **betas, **SECRETS).status_code == 200
        sent = served.provider.requests[-1]
        named = {name: value for name, value in sent.headers.items() if "beta" in name or "forward" in name}
        assert named == expected
        assert "client-secret" not in str(sent.headers)


@pytest.mark.parametrize("format", ["anthropic", "openai"])
def test_nothing_of_it_arrives_at_a_deployment_of_another_format(serve: Callable[..., Served], format: str) -> None:
    served = serve({"small": other(format), "large": format}, fallback={"models": ["small", "large"]})
    served.provider.always(raw(format))
    body = json.loads(BODIES[format]) | {"model": "both"}
    answered = post(served, format, body)
    assert (answered.status_code, answered.headers["x-semroute-deployment"]) == (200, "large-1")
    assert [request.path for request in served.provider.requests] == [PATHS[format]]
    pinned = post(served, format, body | {"model": "small"})
    assert pinned.status_code == 400
    assert len(served.provider.requests) == 1


@pytest.mark.parametrize(
    ("format", "change", "named"),
    [
        ("anthropic", {"safeguards": {}}, "safeguards"),
        ("anthropic", {"tool_choice": {"type": "web"}}, "tool_choice (web)"),
        ("anthropic", {"thinking": {"type": "dreaming"}}, "thinking (dreaming)"),
        ("anthropic", {"output_config": {"format": {"type": "regex"}}}, "output_config.format (regex)"),
        ("anthropic", {"system": [{"type": "image"}]}, "system[0] (image)"),
        (
            "anthropic",
            {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
            "messages[0].content[0] (document)",
        ),
        (
            "anthropic",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}
                ]
            },
            "messages[0].content[0].source (file)",
        ),
        ("openai", {"unheard_of": 1}, "unheard_of"),
        ("openai", {"functions": [{"name": "f"}]}, "functions"),
        ("openai", {"messages": [{"role": "user", "name": "ann", "content": "hi"}]}, "messages[0].name"),
        (
            "openai",
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "messages[0].content[0] (file)",
        ),
    ],
)
def test_a_feature_of_one_format_is_the_reason_against_the_others(
    serve: Callable[..., Served], format: str, change: Mapping[str, Any], named: str
) -> None:
    served = serve({"small": other(format), "large": format})
    served.provider.always(raw(format))
    body = {"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **change}
    refused = post(served, format, body)
    assert refused.status_code == 400
    assert f"small-1: {other(format)} does not carry {named}" in refused.json()["error"]["message"]
    assert not served.provider.requests
    assert post(served, format, {**body, "model": "large"}).status_code == 200


@pytest.mark.parametrize("format", ["anthropic", "openai"])
def test_another_deployment_of_the_format_gets_the_same_body_after_a_failure(
    serve: Callable[..., Served], format: str
) -> None:
    served = serve({"small": format, "large": format})
    served.provider.script(fail(503), fail(503), raw(format))
    answered = post(served, format, BODIES[format].replace('"small"', '"both"'))
    assert answered.status_code == 200, answered.text
    bodies = [json.loads(request.content) for request in served.provider.requests]
    assert {body.pop("model") for body in bodies} == {"small", "large"}
    assert bodies[0] == bodies[-1]


@pytest.mark.parametrize("format", ["anthropic", "openai"])
@pytest.mark.parametrize("first", ["anthropic", "openai"])
def test_a_plain_body_fails_over_between_the_formats(serve: Callable[..., Served], format: str, first: str) -> None:
    served = serve({"small": first, "large": other(first)}, retries={"attempts": 2})
    served.provider.always(
        lambda request: fail(503) if request.path == PATHS[first] else answer("Rain.", input_tokens=3)
    )
    body = {"model": "both", "max_tokens": 9, "messages": [{"content": "hi", "role": "user"}], "temperature": 1}
    answered = post(served, format, body)
    assert (answered.status_code, answered.headers["x-semroute-deployment"]) == (200, "large-1")
    native = [request for request in served.provider.requests if request.path == PATHS[format]]
    assert [list(json.loads(request.content)) for request in native] == [list(body)] * len(native)


def test_a_stream_is_counted_and_the_rest_of_its_options_survive(serve: Callable[..., Served]) -> None:
    served = serve("openai")
    served.provider.always(answer("Rain.", input_tokens=3, output_tokens=4))
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="client-secret", max_retries=0) as client,
        client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_obfuscation": False},
            extra_body={"prompt_cache_key": "k"},
        ) as stream,
    ):
        chunks = list(stream)
    assert not any(chunk.usage for chunk in chunks)
    (sent,) = served.provider.requests
    assert sent.body["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert (sent.body["prompt_cache_key"], sent.headers.get("authorization")) == ("k", None)
    log: Any = served.router._log
    assert log.flush()
    (logged,) = log.outcomes()
    assert logged.calls[0].output_tokens == 4


def test_the_sdks_betas_and_the_vendors_own_tools_arrive(serve: Callable[..., Served]) -> None:
    served = serve({"small": "openai", "large": "anthropic"}, fallback={"models": ["small", "large"]})
    served.provider.always(raw("anthropic"))
    tools: Any = [{"type": "web_search_20250305", "name": "web_search", "user_location": {"type": "approximate"}}]
    with anthropic.Anthropic(base_url=served.url, api_key="client-secret", max_retries=0) as client:
        message = client.beta.messages.create(
            model="both",
            max_tokens=100,
            messages=[{"role": "user", "content": "hi"}],
            tools=tools,
            betas=["files-api-2025-04-14", "new-2099"],
            extra_body={"context_management": {"edits": []}},
        )
    assert [block.text for block in message.content if block.type == "text"] == ["Done."]
    (sent,) = served.provider.requests
    assert sent.headers["anthropic-beta"] == "files-api-2025-04-14,new-2099"
    assert (sent.body["tools"], sent.body["context_management"]) == (tools, {"edits": []})
    assert "client-secret" not in str(sent.headers)


def test_thinking_of_other_vendors_is_dropped_and_the_vendors_own_is_kept_to_the_letter(
    serve: Callable[..., Served],
) -> None:
    served = serve("anthropic")
    own = {"signature": "c2ln", "type": "thinking", "thinking": "Paris is far.", "more": 1}
    foreign = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    sealed = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
    history = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [own, sealed, {"type": "text", "text": "Rain."}]},
        {"role": "user", "content": "sure?"},
        {"role": "assistant", "content": [foreign]},
        {"role": "assistant", "content": [foreign, {"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "really?"},
    ]
    served.provider.always(answer("Rain again."))
    body = {"model": "small", "max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert post(served, "anthropic", {**body, "messages": history}).status_code == 200
    sent = served.provider.requests[-1].body
    left = {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}
    assert sent["messages"] == [*history[:3], left, history[5]]
    assert sent["thinking"] == body["thinking"]


@pytest.mark.parametrize("after", [[], [{"type": "text", "text": "and now?"}]])
def test_a_tool_loop_that_another_vendor_began_goes_on_without_thinking(
    serve: Callable[..., Served], after: list[Any]
) -> None:
    served = serve({"small": "openai", "large": "anthropic"})
    served.provider.script(
        answer(reasoning="Paris is far.", calls=[Call("weather", {"city": "Paris"})]), answer("Rain.")
    )
    asked: Any = {"max_tokens": 4096, "tools": [{"name": "weather", "input_schema": {"type": "object"}}]}
    history: Any = [{"role": "user", "content": "weather in Paris?"}]
    with anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0) as client:
        first = client.messages.create(model="small", messages=history, **asked)
        (used,) = [block for block in first.content if block.type == "tool_use"]
        history += [{"role": "assistant", "content": first.content}]
        history += [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "rain"}, *after]}
        ]
        asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        last = client.messages.create(model="large", messages=history, **asked)
    assert [block.text for block in last.content if block.type == "text"] == ["Rain."]
    assert "thinking" not in str(served.provider.requests[-1].body)


def test_a_cascade_asks_for_log_probabilities_and_escalates_with_the_same_body(serve: Callable[..., Served]) -> None:
    served = serve("openai", cascade=CASCADE, categories={"cooking": {"models": ["small", "large"]}})
    served.provider.script(answer("Perhaps.", logprob=-5.0), answer("Boil the carrots.", logprob=-0.01))
    body = {
        "prompt_cache_key": "k",
        "model": "auto",
        "messages": [{"content": "recipe for carrot soup", "role": "user"}],
    }
    answered = post(served, "openai", body)
    assert answered.json()["choices"][0]["message"]["content"] == "Boil the carrots."
    cheap, dear = (request.body for request in served.provider.requests)
    assert cheap.pop("logprobs") is dear.pop("logprobs") is True
    assert dear == {**body, "model": "large"}
    assert cheap == {**body, "model": "small"}


@pytest.mark.parametrize(
    ("format", "extra", "wanted"),
    [
        ("openai", {}, {"reasoning_effort": "low"}),
        ("openai", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ("anthropic", {}, {"output_config": {"effort": "low"}}),
        ("anthropic", {"thinking": {"type": "adaptive"}}, {"output_config": {"effort": "low"}}),
        ("anthropic", {"output_config": {"effort": "high"}}, {"output_config": {"effort": "high"}}),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"output_config": None}),
        ("anthropic", {"thinking": {"type": "disabled"}}, {"output_config": None}),
    ],
    ids=["openai", "openai-own", "anthropic", "adaptive", "anthropic-own", "budget", "off"],
)
def test_a_tiers_effort_is_added_to_a_body_that_has_none_of_its_own(
    serve: Callable[..., Served], format: str, extra: dict[str, Any], wanted: dict[str, Any]
) -> None:
    served = serve(format, cascade={"tiers": [{"use": "small", "effort": "low"}, {"use": "small", "effort": "high"}]})
    served.provider.always(answer("Done."))
    body = {"model": "auto", "max_tokens": 2000, "messages": [{"role": "user", "content": "recipe for soup"}], **extra}
    sent = httpx.post(f"{served.url}{PATHS[format]}", json=body, headers={"anthropic-version": "2023-06-01"})
    assert sent.status_code == 200, sent.text
    upstream = served.provider.requests[-1].body
    assert {name: upstream.get(name) for name in wanted} == wanted
    assert {name: upstream.get(name) for name in extra} == extra
