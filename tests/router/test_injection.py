"""What a program hands to a router is used in place of the router's own, and stays the program's."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from semroute.config import Config
from semroute.encoders.remote import RemoteEncoder
from semroute.errors import AllClosedError, DispatchError, EncoderError, InputError, NoDeploymentError
from semroute.learn.artifact import Examples, build_artifact, embed
from semroute.learn.fit import FitOptions
from semroute.resilience import MemoryGates
from semroute.router import Router
from semroute.router.load import ENVIRONMENT, LoadedIndex
from semroute.testing import FakeProvider, fail
from semroute.types import Outcome

KEY = "SEMROUTE_TEST_KEY"
MODELS = ("small", "large", "coder")
START = 1_800_000_000.0
"""In January 2027, seconds since 1970."""


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Gates(MemoryGates):
    closed = 0

    async def close(self) -> None:
        self.closed += 1


class Sink:
    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.delenv(KEY, raising=False)
    with FakeProvider(key="right") as running:
        yield running


def settings(provider: FakeProvider, **sections: Any) -> Config:
    places = [
        {"name": model, "model": model, "base_url": provider.base_url, "api_key_env": KEY,
         "price": {"input": 1e6, "output": 1e6}}
        for model in MODELS
    ]  # fmt: skip
    return Config.model_validate({"deployments": places, "retries": {"attempts": 1}, **sections})


Opened = Callable[..., Router]


def by_load(index: Path, config: Config, **given: Any) -> Router:
    return Router.load(index, config=config, **given)


def by_class(index: Path, config: Config, **given: Any) -> Router:
    return Router(LoadedIndex.open(index, config), config, **given)


def by_examples(index: Path, config: Config, **given: Any) -> Router:
    live = LoadedIndex.open(index, config)
    examples = {"cooking": ["boil an egg", "recipe for soup"], "code": ["fix a loop", "sql join"]}
    models = {"cooking": "small", "code": "coder"}
    return Router.from_examples(examples, models, encoder=live.encoder, config=config, **given)


@pytest.fixture(params=[by_load, by_class, by_examples], ids=["load", "class", "from_examples"])
def opened(request: pytest.FixtureRequest) -> Opened:
    found: Opened = request.param
    return found


@pytest.mark.slow
def test_keys_come_from_the_environment_that_was_handed_in(
    opened: Opened, routing_index: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    env: dict[str, str] = {}
    with opened(routing_index, settings(provider), env=env) as router:
        monkeypatch.setenv(KEY, "right")
        with pytest.raises(NoDeploymentError):
            router.complete("recipe for soup")
        env[KEY] = "right"  # keys are read at each call, as from os.environ
        assert router.complete("recipe for soup").text == "recipe for soup"
    assert KEY in os.environ


@pytest.mark.slow
def test_one_client_serves_all_calls_and_stays_open(
    opened: Opened, routing_index: Path, provider: FakeProvider
) -> None:
    seen: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        message = {"role": "assistant", "content": "from the transport"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx.Response(200, json={"model": "m", "choices": [choice]})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    router = opened(routing_index, settings(provider), env={KEY: "right"}, http_client=client)
    assert router.complete("recipe for soup").text == "from the transport"
    router.close()
    assert not client.is_closed
    assert (seen, provider.requests) == (["Bearer right"], [])
    asyncio.run(client.aclose())


@pytest.mark.slow
def test_a_stream_comes_through_a_transport_of_the_programs_own(routing_index: Path, provider: FakeProvider) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        pieces = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("from the ", "transport")]
        pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, text="".join(lines) + "data: [DONE]\n\n"
        )

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    with by_load(routing_index, settings(provider), env={KEY: "right"}, http_client=client) as router:
        *_, last = router.stream("recipe for soup")
    assert last.text == "from the transport"
    assert provider.requests == []


@pytest.mark.slow
def test_a_function_opens_a_client_for_each_loop_and_the_router_closes_them(
    opened: Opened, routing_index: Path, provider: FakeProvider
) -> None:
    clients: list[httpx.AsyncClient] = []

    def make() -> httpx.AsyncClient:
        clients.append(httpx.AsyncClient(headers={"x-made": "here"}))
        return clients[-1]

    with opened(routing_index, settings(provider), env={KEY: "right"}, http_client=make) as router:
        for _ in range(2):
            router.complete("recipe for soup")
        asyncio.run(router.acomplete("recipe for soup"))
        assert [client.is_closed for client in clients] == [False, True]
    assert [client.is_closed for client in clients] == [True, True]
    assert [request.headers["x-made"] for request in provider.requests] == ["here"] * 3


@pytest.mark.slow
def test_a_client_that_is_none_is_refused(routing_index: Path, provider: FakeProvider) -> None:
    router = by_load(routing_index, settings(provider), env={KEY: "right"}, http_client="proxy")
    with router, pytest.raises(InputError, match=r"an httpx\.AsyncClient, or a function that opens one, not str"):
        router.complete("recipe for soup")


@pytest.mark.slow
def test_a_client_that_its_program_closed_is_an_error_that_counts_against_no_endpoint(
    routing_index: Path, provider: FakeProvider
) -> None:
    client = httpx.AsyncClient()
    asyncio.run(client.aclose())
    config = settings(provider)
    with by_load(routing_index, config, env={KEY: "right"}, http_client=client) as router:
        for _ in range(30):  # a breaker that counted them would have opened
            with pytest.raises(DispatchError, match="the HTTP client was closed"):
                router.complete("recipe for soup")


@pytest.mark.slow
def test_two_routers_share_the_gates_that_they_are_handed(
    opened: Opened, routing_index: Path, provider: FakeProvider
) -> None:
    config = settings(provider, retries={"attempts": 1, "same_place": 0})
    gates = Gates(config.breaker)
    first = opened(routing_index, config, env={KEY: "right"}, gates=gates)
    second = opened(routing_index, config, env={KEY: "right"}, gates=gates)
    provider.script(fail(429, retry_after=30))
    with first, second:
        with pytest.raises(DispatchError):
            first.complete("recipe for soup")
        with pytest.raises(AllClosedError):
            second.complete("recipe for soup")
    assert len(provider.requests) == 1
    assert gates.closed == 0


@pytest.mark.slow
def test_limits_and_budgets_follow_the_clock_that_was_handed_in(
    opened: Opened, routing_index: Path, provider: FakeProvider
) -> None:
    clock = Clock()
    config = settings(provider, budgets={KEY: 1040.0})
    with opened(routing_index, config, env={KEY: "right"}, clock=clock) as router:
        router.complete("recipe for soup")
        with pytest.raises(AllClosedError, match="monthly budget"):
            router.complete("recipe for soup")
        clock.now += 40 * 86_400  # another month
        assert router.complete("recipe for soup").model == "small"


@pytest.mark.slow
def test_outcomes_have_the_time_of_the_clock_that_was_handed_in(
    opened: Opened, routing_index: Path, provider: FakeProvider
) -> None:
    sink = Sink()
    with opened(routing_index, settings(provider), env={KEY: "right"}, clock=Clock(), log=sink) as router:
        router.route("recipe for soup")
        completion = router.complete("recipe for soup")
    decided, answered = sink.outcomes
    assert decided.at.timestamp() == START
    assert answered.at.timestamp() == pytest.approx(START - answered.latency_ms / 1000, abs=1e-3)
    assert completion.outcome_id == answered.id
    assert int(answered.id[:12], 16) >= START * 1000  # ids never go back, and other routers have issued some


@pytest.mark.slow
def test_the_index_is_looked_up_in_the_environment_that_was_handed_in(
    routing_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none"))
    router = Router.load(config=Config(), env={ENVIRONMENT: str(routing_index)})
    assert router.live.artifact.folder == routing_index


@pytest.mark.slow
def test_a_replaced_index_is_looked_for_by_the_clock_that_was_handed_in(own_index: Path) -> None:
    clock = Clock()
    looks: list[float] = []

    class Watched(Clock):
        def __call__(self) -> float:
            looks.append(clock.now)
            return clock.now

    router = Router.load(own_index, config=Config(), reload_every_s=60.0, clock=Watched())
    router.route("recipe for soup")
    assert looks
    assert set(looks) == {START}


@pytest.mark.slow
def test_the_key_of_a_remote_encoder_comes_from_the_environment_that_was_handed_in(
    provider: FakeProvider, tmp_path: Path
) -> None:
    texts = {"code": ["fix a loop", "sql join"], "cooking": ["boil an egg", "soup"]}
    env = {KEY: "right"}
    encoder = RemoteEncoder(provider.base_url, "embedding", api_key_env=KEY, env=env)
    examples = Examples(
        texts=tuple(text for found in texts.values() for text in found),
        owners=tuple(name for name, found in texts.items() for _ in found),
        descriptions=dict.fromkeys(texts, ""),
        models=dict.fromkeys(texts, ("small",)),
        pinned={},
    )
    build_artifact(tmp_path, examples, embed(encoder, examples.texts), encoder, options=FitOptions(head=False))
    encoder.close()
    named = {"kind": "remote", "model": "embedding", "base_url": provider.base_url, "api_key_env": KEY}
    config = Config.model_validate({"encoder": named})
    with Router.load(tmp_path, config=config, env=env) as router:
        assert router.route("boil an egg").query == "boil an egg"
        env.clear()
        with pytest.raises(EncoderError, match=KEY):
            router.route("another text")
    env[KEY] = "right"
    with Router.from_examples(texts, dict.fromkeys(texts, "small"), config=config, env=env) as built:
        assert built.route("boil an egg").category == "cooking"
        assert provider.stats()["connections"] == 1
    ends_at = time.monotonic() + 60
    while provider.stats()["connections"] and time.monotonic() < ends_at:
        time.sleep(0.005)
    assert provider.stats()["connections"] == 0


@pytest.mark.slow
def test_a_password_of_the_log_comes_from_the_environment_that_was_handed_in(
    routing_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semroute.outcomes import log as outcomes_log

    seen: list[Any] = []

    def open_log(section: Any, env: Any, **options: Any) -> Sink:
        seen.append(env)
        return Sink()

    monkeypatch.setattr(outcomes_log, "open_log", open_log)
    env = {"PASSWORD": "x"}
    Router.load(routing_index, config=Config(), log=True, env=env)
    assert seen == [env]
    assert seen[0] is env


@pytest.mark.parametrize("opened", [by_load, by_examples], ids=["load", "from_examples"], indirect=False)
@pytest.mark.slow
def test_an_option_that_there_is_not_is_named_beside_those_that_there_are(opened: Opened, routing_index: Path) -> None:
    with pytest.raises(TypeError, match=r"no option 'clok'; it has config, log, .*clock"):
        opened(routing_index, Config(), clok=time.time)
