"""Waits for Redis on the way of one request: two before its provider is asked, and none before its answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from patience import PATIENCE_S
from resilience.redis_server import OwnRedis, own_redis
from server.conftest import config_over

from semroute.outcomes.log import open_log
from semroute.resilience.redis.server import source
from semroute.router import Router
from semroute.router.load import LoadedIndex
from semroute.server.keys import create_key
from semroute.testing import FakeProvider
from semroute.types import Endpoint

uvicorn = pytest.importorskip("uvicorn", reason='needs the extra "serve"')

BACKGROUND = tuple(source(script)[1].encode() for script in ("heartbeat", "renew"))
"""Digests of the scripts that run from time to time, and that no request waits for."""
QUIET = 100
"""Turns of the event loop without a further command after which a round is complete."""
WARM = 3
"""Requests after which every connection is open and every script known."""
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "recipe for carrot soup"},
    {"role": "assistant", "content": "Take carrots."},
    {"role": "user", "content": "And then?"},
]


@pytest.fixture
def redis() -> Iterator[OwnRedis]:
    pytest.importorskip("redis", reason='needs the extra "redis"')
    with own_redis() as running:
        yield running


class CountedLine:
    """A proxy before Redis that passes commands on in rounds, and counts them.

    A round is all that is sent before any of it is answered: what is started together is one wait, and what is asked
    for after an answer is another. It is complete after :data:`QUIET` turns of the event loop without a further
    command. The gateway runs on the same loop, so that no clock is needed.

    Args:
        port: that of Redis.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._quiet = 0
        self._passing: asyncio.Task[None] | None = None
        self.rounds = self.connections = 0
        self.is_silent = False
        """While True no command is passed on."""

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[str]:
        """Listen; yield the address."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        for _ in range(2 * QUIET):
            await asyncio.sleep(0)
            while self._passing is not None:
                await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answers, asked = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._pass_back(answers, writer))
        while data := await reader.read(2**16):
            if any(digest in data for digest in BACKGROUND):
                asked.write(data)
                continue
            self._held.append((asked, data))
            self._quiet = 0
            if self._passing is None:
                self._passing = asyncio.create_task(self._pass_on())
        asked.close()
        await back
        writer.close()

    async def _pass_on(self) -> None:
        while self._quiet < QUIET or self.is_silent:
            self._quiet += 1
            await asyncio.sleep(0)
        held, self._held, self._passing = self._held, [], None
        self.rounds += 1
        for asked, data in held:
            asked.write(data)

    async def _pass_back(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await answers.read(2**16):
            writer.write(data)


class Gateway:
    """A gateway with virtual keys, whose Redis is behind a counted line."""

    def __init__(self, url: str, router: Router, line: CountedLine, secret: str) -> None:
        self.router, self.line = router, line
        self._url = url
        self._headers = {"session-id": "one", "authorization": f"Bearer {secret}"}
        self._started = self.before = 0
        self.is_silent_then = False
        """True if Redis falls silent as soon as the provider is asked."""

    async def asks(self, _: httpx.Request) -> None:
        """Note that the provider is asked now."""
        self.before = self.line.rounds - self._started
        self.line.is_silent = self.is_silent_then

    async def answer(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Answer a request while nothing else is under way."""
        await self.line.idle()
        self._started = self.line.rounds
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            answered = await client.post(self._url + path, json=body, headers=self._headers)
        assert answered.status_code == 200, answered.text
        return answered

    async def rounds(self, path: str, body: Callable[[int], dict[str, Any]]) -> int:
        """Return how often a request waits for Redis before its provider is asked, with all connections open."""
        for number in range(100):
            connections = self.line.connections
            await self.answer(path, body(number))
            if number >= WARM and self.line.connections == connections:
                return self.before
        raise AssertionError("it always makes a connection")


def serving(
    test: Callable[[Gateway], Awaitable[None]], redis: OwnRedis, live: LoadedIndex, provider: FakeProvider, folder: Path
) -> None:
    """Run ``test`` with a gateway on its event loop."""

    async def run() -> None:
        from semroute.server.app import create_app

        line = CountedLine(redis.port)
        _, secret = create_key(folder / "keys.json", "team", rpm=1000, tpm=10**9, budget_usd=100.0)
        gateway: Gateway

        async def asks(request: httpx.Request) -> None:
            await gateway.asks(request)

        async with line.listening() as state, httpx.AsyncClient(event_hooks={"request": [asks]}) as client:
            config = config_over(
                provider, "openai", state=state, log={"enabled": True, "url": f"sqlite:///{folder}/log.db"}
            )
            log = open_log(config.log, os.environ)
            router = Router(live.with_config(config), config, http_client=client, log=log)
            app = create_app(router, keys=folder / "keys.json")
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
            with socket.create_server(("127.0.0.1", 0)) as listening:
                gateway = Gateway(f"http://127.0.0.1:{listening.getsockname()[1]}", router, line, secret)
                running = asyncio.create_task(server.serve(sockets=[listening]))
                try:
                    await test(gateway)
                finally:
                    line.is_silent = False
                    server.should_exit = True
                    await running

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["small", "both", "auto"])
@pytest.mark.parametrize("messages", [TURNS, TURNS[:1]], ids=["going on", "beginning"])
def test_a_request_waits_twice_for_redis_before_its_provider_is_asked(
    redis: OwnRedis,
    live: LoadedIndex,
    provider: FakeProvider,
    tmp_path: Path,
    model: str,
    messages: list[dict[str, Any]],
) -> None:
    async def test(gateway: Gateway) -> None:
        # Once for the key's limits and the session, once for an endpoint and its permit.
        body = {"model": model, "messages": messages}
        assert await gateway.rounds("/v1/chat/completions", lambda _: body) == 2

    serving(test, redis, live, provider, tmp_path)


@pytest.mark.slow
def test_who_sealed_an_item_takes_no_wait_of_its_own(
    redis: OwnRedis, live: LoadedIndex, provider: FakeProvider, tmp_path: Path
) -> None:
    def body(number: int) -> dict[str, Any]:
        sealed = {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": f"sealed {number}"}
        return {"model": "small", "input": [sealed, *TURNS]}

    async def test(gateway: Gateway) -> None:
        assert await gateway.rounds("/v1/responses", body) == 2

    serving(test, redis, live, provider, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_no_answer_waits_for_redis(
    redis: OwnRedis, live: LoadedIndex, provider: FakeProvider, tmp_path: Path, stream: bool
) -> None:
    async def test(gateway: Gateway) -> None:
        body = {"model": "auto", "messages": TURNS, "stream": stream}
        await gateway.rounds("/v1/chat/completions", lambda _: body)
        gateway.is_silent_then = True
        answered = await gateway.answer("/v1/chat/completions", body)
        assert gateway.line.is_silent
        assert "[DONE]" in answered.text if stream else answered.json()["choices"]
        gateway.line.is_silent = False
        await gateway.line.idle()
        gates = gateway.router.dispatcher.gates
        endpoints = [Endpoint(one.name) for one in gateway.router.config.deployments]
        assert [one.in_flight for one in await gates.statuses(endpoints)] == [0, 0, 0], "it was released afterwards"

    serving(test, redis, live, provider, tmp_path)
