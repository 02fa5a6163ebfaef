"""Conversations through the gateway: they stay with their model while that pays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from click.testing import CliRunner
from server.conftest import Served

from semroute.cli.serve import serve as serve_command
from semroute.server.keys import create_key
from semroute.testing import Call, FakeProvider, answer, fail

PROMPT = "You are an agent that works in a repository. " * 2000  # about 18,000 words
WORDS = len(PROMPT.split())
FIX, SOUP = "fix this python traceback", "recipe for carrot soup"
PRICES = {
    "small": {"input": 1.0, "output": 2.0, "cached_input": 0.1},
    "coder": {"input": 5.0, "output": 10.0, "cached_input": 0.5},
    "large": {"input": 10.0, "output": 20.0, "cached_input": 1.0},
}
READ = {
    "name": "read",
    "description": "Read a file",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
}


def deployments(provider: FakeProvider, format: str = "openai") -> list[dict[str, Any]]:
    """Return one deployment for each model, at its own price."""
    url = {"openai": provider.base_url, "anthropic": provider.anthropic_url}[format]
    return [
        {"name": f"{model}-1", "model": model, "format": format, "base_url": url, "price": price}
        for model, price in PRICES.items()
    ]


def agent(served: Served, session: str = "one", **options: Any) -> anthropic.Anthropic:
    headers = {"x-claude-code-session-id": session}
    return anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0, default_headers=headers, **options)


def models_asked(served: Served) -> list[str]:
    return [request.body["model"] for request in served.provider.requests]


class Agent:
    """A coding agent of Anthropic's format that sends its whole conversation at each turn, with cache markers."""

    def __init__(self, served: Served, session: str = "one") -> None:
        self._client = agent(served, session)
        self._provider = served.provider
        self.messages: list[Any] = []
        self.headers: httpx.Headers = httpx.Headers()

    def say(self, content: Any, *replies: Any) -> anthropic.types.Message:
        """Send one more user message; the provider gives these replies."""
        self._provider.script(*replies)
        self.messages.append({"role": "user", "content": content})
        raw = self._client.messages.with_raw_response.create(
            model="claude-auto",
            max_tokens=1000,
            system=[{"type": "text", "text": PROMPT, "cache_control": {"type": "ephemeral"}}],
            messages=self.messages,
            tools=[READ],  # type: ignore[list-item]
        )
        self.headers = raw.headers
        message = raw.parse()
        self.messages.append({"role": "assistant", "content": [block.model_dump() for block in message.content]})
        return message

    @property
    def move(self) -> str | None:
        return self.headers.get("x-semroute-session")


def reply(text: str = "done", *, cached: int, calls: tuple[Call, ...] = ()) -> Any:
    return answer(text, calls=calls, input_tokens=WORDS + 50, output_tokens=30, cached_tokens=cached)


def result_of(message: anthropic.types.Message, text: str) -> list[dict[str, str]]:
    (call,) = [block for block in message.content if block.type == "tool_use"]
    return [{"type": "tool_result", "tool_use_id": call.id, "content": text}]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openai", "anthropic"])
def test_an_agent_with_a_cached_prefix_stays_with_its_model(
    serve: Callable[..., Served], provider: FakeProvider, format: str
) -> None:
    served = serve(format, deployments=deployments(provider, format))
    session = Agent(served)
    called = session.say(FIX, reply(cached=0, calls=(Call("read", {"path": "a.py"}),)))
    assert session.move == "new"
    session.say(result_of(called, "raise ValueError"), reply(cached=WORDS - 100))
    assert session.move == "stays"
    session.say(SOUP, reply(cached=WORDS))
    assert session.move == "stays"
    session.say(FIX, reply(cached=WORDS))
    assert (session.move, models_asked(served)) == ("stays", ["coder"] * 4)
    assert session.headers["x-semroute-model"] == "coder"


@pytest.mark.slow
def test_without_a_cache_the_cheaper_model_takes_over(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"))
    session = Agent(served)
    session.say(FIX, reply(cached=0))
    session.say(SOUP, reply(cached=0))
    assert (session.move, models_asked(served)) == ("switches", ["coder", "small"])


@pytest.mark.slow
def test_a_model_that_is_cheap_enough_takes_over_in_spite_of_the_lost_cache(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    cheap = deployments(provider, "anthropic")
    cheap[0]["price"] = {"input": 0.2, "output": 0.4}
    served = serve("anthropic", deployments=cheap)
    session = Agent(served)
    session.say(FIX, reply(cached=WORDS))
    session.say(SOUP, reply(cached=0))
    assert (session.move, models_asked(served)) == ("switches", ["coder", "small"])


@pytest.mark.slow
def test_a_weaker_model_is_not_stayed_with(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"))
    session = Agent(served)
    session.say(SOUP, reply(cached=WORDS))
    session.say(FIX, reply(cached=0))
    assert (session.move, models_asked(served)) == ("switches", ["small", "coder"])


@pytest.mark.slow
def test_a_conversation_returns_after_a_failover(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"), retries={"attempts": 2})
    session = Agent(served)
    session.say(FIX, reply(cached=WORDS))
    session.say(FIX, fail(500), reply(cached=0))
    assert (session.move, session.headers["x-semroute-model"]) == ("stays", "large")
    session.say(FIX, reply(cached=WORDS))
    assert session.headers["x-semroute-model"] == "coder"
    assert models_asked(served) == ["coder", "coder", "large", "coder"]


@pytest.mark.slow
def test_a_tool_result_goes_to_the_model_that_called_even_after_a_failover(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"), retries={"attempts": 2})
    session = Agent(served)
    session.say(FIX, reply(cached=WORDS))
    called = session.say(FIX, fail(500), reply(cached=0, calls=(Call("read", {"path": "a.py"}),)))
    assert session.headers["x-semroute-model"] == "large"
    session.say([*result_of(called, "text"), {"type": "text", "text": SOUP}], reply(cached=0))
    assert (session.move, session.headers["x-semroute-model"]) == ("stays", "large")
    session.say(FIX, reply(cached=WORDS))
    assert models_asked(served) == ["coder", "coder", "large", "large", "coder"]


@pytest.mark.slow
def test_a_tool_result_goes_elsewhere_when_its_owner_is_down(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"), retries={"attempts": 2})
    session = Agent(served)
    called = session.say(FIX, reply(cached=0, calls=(Call("read", {"path": "a.py"}),)))
    message = session.say(result_of(called, "text"), fail(500), reply("fixed", cached=0))
    assert message.content[0].text == "fixed"  # type: ignore[union-attr]
    assert models_asked(served) == ["coder", "coder", "large"]


@pytest.mark.slow
def test_among_the_deployments_of_a_model_the_one_with_the_cache_is_asked(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    url = provider.base_url
    many = [
        {"name": f"coder-{number}", "model": "coder", "base_url": url, "upstream_model": f"coder-{number}"}
        for number in range(5)
    ]
    served = serve("openai", groups={}, deployments=[one | {"price": PRICES["coder"]} for one in many])
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        for _ in range(8):
            client.chat.completions.create(
                model="coder",
                messages=[{"role": "user", "content": FIX}],
                extra_headers={"x-session-affinity": "two"},
            )
    assert len(set(models_asked(served))) == 1


@pytest.mark.slow
def test_streamed_turns_belong_to_the_conversation(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("openai", deployments=deployments(provider))
    messages: list[Any] = [{"role": "system", "content": PROMPT}, {"role": "user", "content": FIX}]
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        for move, asked in (("new", FIX), ("stays", SOUP)):
            served.provider.script(reply(cached=WORDS))
            raw = client.chat.completions.with_raw_response.create(
                model="auto",
                messages=[*messages, {"role": "assistant", "content": "done"}, {"role": "user", "content": asked}],
                stream=True,
                prompt_cache_key="thread",
            )
            assert list(raw.parse())
            assert raw.headers["x-semroute-session"] == move
    assert models_asked(served) == ["coder", "coder"]


@pytest.mark.slow
def test_two_keys_never_share_a_session(serve: Callable[..., Served], provider: FakeProvider, tmp_path: Path) -> None:
    served = serve("openai", deployments=deployments(provider))
    moves = []
    secrets = [create_key(tmp_path / "keys.json", name)[1] for name in ("first", "second")]
    for secret in (*secrets, secrets[0]):
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key=secret, max_retries=0) as client:
            raw = client.chat.completions.with_raw_response.create(
                model="auto", messages=[{"role": "user", "content": FIX}], extra_headers={"session-id": "same"}
            )
        moves.append(raw.headers["x-semroute-session"])
    assert moves == ["new", "new", "stays"]


@pytest.mark.slow
def test_a_pinned_model_stays_pinned(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("openai", deployments=deployments(provider))
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        for model in ("coder", "small", "large"):
            raw = client.chat.completions.with_raw_response.create(
                model=model, messages=[{"role": "user", "content": FIX}], extra_headers={"session-id": "same"}
            )
            assert "x-semroute-session" not in raw.headers
    assert models_asked(served) == ["coder", "small", "large"]


@pytest.mark.slow
def test_cache_markers_and_cache_keys_go_upstream_and_cached_tokens_are_priced(
    serve: Callable[..., Served], provider: FakeProvider
) -> None:
    served = serve("anthropic", deployments=deployments(provider, "anthropic"))
    session = Agent(served)
    session.say(FIX, answer("done", input_tokens=10_000, output_tokens=100, cached_tokens=9_000))
    (sent,) = served.provider.requests
    assert sent.body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert float(session.headers["x-semroute-cost-usd"]) == pytest.approx((1000 * 5 + 9000 * 0.5 + 100 * 10) / 1e6)


@pytest.mark.slow
def test_a_prompt_cache_key_goes_upstream(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("openai", deployments=deployments(provider))
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": FIX}], prompt_cache_key="thread"
        )
        client.responses.create(model="auto", input=FIX, prompt_cache_key="thread")
    assert [request.body["prompt_cache_key"] for request in served.provider.requests] == ["thread", "thread"]


@pytest.mark.slow
def test_the_time_to_live_is_the_operators(serve: Callable[..., Served], provider: FakeProvider) -> None:
    served = serve("anthropic", session_ttl_s=1e-9, deployments=deployments(provider, "anthropic"))
    session = Agent(served)
    for _ in range(2):
        session.say(FIX, reply(cached=WORDS))
        assert session.move == "new"


@pytest.mark.parametrize("given", ["0", "-5", "soon"])
def test_a_time_to_live_that_is_none_is_refused_at_the_prompt(given: str) -> None:
    result = CliRunner().invoke(serve_command, ["--session-ttl", given, "--demo"])
    assert result.exit_code == 2
    assert "--session-ttl" in result.output
