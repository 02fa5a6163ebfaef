"""Whose time passed: the deployment's limits, the request's, the reader's pauses and this process's own stalls."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
import pytest
import transports

from semroute.config import Deployment, Timeouts
from semroute.errors import ProviderTimeoutError, UnavailableError
from semroute.providers import ADAPTERS
from semroute.providers.http import open_stream, post_json
from semroute.providers.streaming import CallClock
from semroute.providers.target import CallTarget
from semroute.testing import FakeProvider, hang, stall_after
from semroute.types import Completion, Request

T = TypeVar("T")
pytestmark = pytest.mark.usefixtures("each_transport")
HELLO = Request(({"role": "user", "content": "one two three four five six"},), max_tokens=100)
LONG_S = 30.0
FORMATS = ("openai", "anthropic", "gemini", "responses")


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved: to its timers a jump is what a blocked loop is, without the wait."""

    jumped_s = 0.0

    def time(self) -> float:
        return super().time() + self.jumped_s


def run(work: Callable[[httpx.AsyncClient, JumpingLoop], Coroutine[Any, Any, T]]) -> T:
    async def inside() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        async with transports.client() as client:
            return await work(client, loop)

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(inside())


def target(url: str, format: str = "openai", **more: Any) -> CallTarget:
    return CallTarget(Deployment(name="spot", model="small", base_url=url, format=format, **more), None, None)


def url_of(provider: FakeProvider, format: str) -> str:
    urls = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }
    return urls[format]


async def answer(
    client: httpx.AsyncClient, where: CallTarget, within: float | CallClock, *, streaming: bool
) -> Completion:
    adapter = ADAPTERS[where.deployment.format]
    if not streaming:
        return await adapter.complete(client, where, HELLO, within_s=within)
    async with aclosing(adapter.stream(client, where, HELLO, within_s=within)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, Completion)
    return last


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("streaming", "fault", "limits", "named"),
    [
        (False, hang(), {"timeout_s": 0.1}, "timeout_s"),
        (True, hang(), {"timeout_s": 0.1}, "timeout_s"),
        (True, hang(), {"timeouts": Timeouts(first_token_s=0.1)}, "timeouts.first_token_s"),
        (True, stall_after(2), {"timeouts": Timeouts(idle_s=0.1)}, "timeouts.idle_s"),
        (True, stall_after(2), {"timeout_s": 0.3}, "timeout_s"),
    ],
)
def test_a_limit_of_the_deployment_is_never_blamed_on_the_request(
    provider: FakeProvider, format: str, streaming: bool, fault: Any, limits: Any, named: str
) -> None:
    provider.script(fault)
    where = target(url_of(provider, format), format, **limits)

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> ProviderTimeoutError:
        with pytest.raises(ProviderTimeoutError) as caught:
            await answer(client, where, 2 * LONG_S, streaming=streaming)
        return caught.value

    error = run(work)
    assert f"({named})" in str(error)
    assert not error.is_cut_short


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("streaming", [False, True])
def test_the_requests_own_limit_is_said_to_be_that(provider: FakeProvider, format: str, streaming: bool) -> None:
    provider.script(hang())

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> ProviderTimeoutError:
        with pytest.raises(ProviderTimeoutError) as caught:
            await answer(client, target(url_of(provider, format), format), 0.1, streaming=streaming)
        return caught.value

    error = run(work)
    assert error.is_cut_short
    assert "which is what the request had left" in str(error)


def drip(raw: Any, *events: bytes) -> list[Any]:
    """Events that come one by one, each after the one before was read."""
    return [*raw.head(), *(step for event in events for step in (raw.bytes(event)[1], 0.02)), raw.bytes(b"")[-1]]


def test_the_pauses_of_a_slow_reader_run_on_no_limit_of_the_provider(raw: Any) -> None:
    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> tuple[list[str], CallClock]:
        async with raw.serve(drip(raw, b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n")) as server:
            where, seen = target(server.url, timeout_s=3.0, timeouts=Timeouts(idle_s=2.0)), []
            clock = CallClock(4.0)
            async with aclosing(open_stream(client, where, "/x", {}, headers={}, within_s=clock)) as events:
                async for event in events:
                    seen.append(event.data)
                    loop.jumped_s += 100.0
            return seen, clock

    seen, clock = run(work)
    assert seen == ["1", "2", "3"]
    assert clock.waited_s < 3.0
    assert clock.longest_pause_s == pytest.approx(100.0, abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("limits", [{"timeout_s": 3.0}, {"timeouts": Timeouts(first_token_s=3.0, idle_s=3.0)}])
def test_a_stall_of_this_process_runs_on_no_limit_of_the_provider(raw: Any, streaming: bool, limits: Any) -> None:
    script = drip(raw, b"data: 1\n\n", b"data: 2\n\n") if streaming else raw.answer({"a": 1})

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> CallClock:
        async with raw.serve([0.05, *script]) as server:
            where, clock = target(server.url, **limits), CallClock(LONG_S)

            async def call() -> None:
                if not streaming:
                    await post_json(client, where, "/x", {}, headers={}, within_s=clock)
                    return
                async with aclosing(open_stream(client, where, "/x", {}, headers={}, within_s=clock)) as events:
                    assert [event.data async for event in events] == ["1", "2"]

            asked = asyncio.create_task(call())
            while not server.bodies:
                await asyncio.sleep(0.001)
            loop.jumped_s += 4.0
            await asked
            return clock

    clock = run(work)
    assert clock.waited_s < 3.0
    assert clock.stalled_s == pytest.approx(4.0, abs=0.5)


def test_an_answer_that_came_during_a_stall_is_read_although_the_requests_time_is_over(raw: Any) -> None:
    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> dict[str, object]:
        async with raw.serve([0.02, *raw.answer({"a": 1})]) as server:
            asked = asyncio.create_task(post_json(client, target(server.url), "/x", {}, headers={}, within_s=3.0))
            while not server.bodies:
                await asyncio.sleep(0.001)
            loop.jumped_s += 4.0
            return await asked

    assert run(work) == {"a": 1}


@pytest.mark.slow
def test_a_place_that_hangs_is_not_excused_by_a_stall(raw: Any) -> None:
    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> ProviderTimeoutError:
        async with raw.serve([raw.listen]) as server:
            where = target(server.url, timeout_s=0.2)
            asked = asyncio.create_task(post_json(client, where, "/x", {}, headers={}, within_s=LONG_S))
            while not server.bodies:
                await asyncio.sleep(0.001)
            loop.jumped_s += 4.0
            with pytest.raises(ProviderTimeoutError) as caught:
                await asked
            return caught.value

    assert not run(work).is_cut_short


@pytest.mark.slow
def test_a_silent_call_ends_when_another_place_needs_the_time_and_one_that_answers_goes_on(raw: Any) -> None:
    async def read(client: httpx.AsyncClient, script: list[Any]) -> list[str]:
        async with raw.serve(script) as server:
            clock = CallClock(LONG_S, silent_s=0.15)
            events = open_stream(client, target(server.url), "/x", {}, headers={}, within_s=clock)
            async with aclosing(events):
                return [event.data async for event in events]

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> None:
        with pytest.raises(ProviderTimeoutError, match="leaves time for another place") as caught:
            await read(client, [raw.listen])
        assert caught.value.is_cut_short
        slow = [*raw.bytes(b"data: 1\n\n", end=False), 0.3, *raw.bytes(b"data: 2\n\n")[1:]]
        assert await read(client, slow) == ["1", "2"]

    run(work)


@pytest.mark.slow
def test_a_second_try_without_stream_options_runs_on_the_same_clock(raw: Any) -> None:
    refusal = raw.answer({"error": {"message": "unknown field stream_options"}}, "400 Bad Request")

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> ProviderTimeoutError:
        async with raw.serve([0.2, *refusal], [raw.listen]) as server:
            with pytest.raises(ProviderTimeoutError) as caught:
                await answer(client, target(server.url, timeout_s=0.3), LONG_S, streaming=True)
            assert len(server.bodies) == 2
            return caught.value

    error = run(work)
    assert "0.3 s (timeout_s)" in str(error)
    assert not error.is_cut_short


@pytest.mark.slow
def test_a_name_server_that_hangs_for_one_host_holds_up_no_call_to_another(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, go_on = socket.getaddrinfo, threading.Event()

    def resolve(host: Any, *more: Any, **options: Any) -> Any:
        if host in (b"hanging.test", "hanging.test"):
            go_on.wait(30)
            raise socket.gaierror("no such name")
        return real("127.0.0.1" if host in (b"healthy.test", "healthy.test") else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    healthy = target(provider.base_url.replace("127.0.0.1", "healthy.test"))

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> list[bool]:
        hanging = target("http://hanging.test/v1", timeouts=Timeouts(connect_s=LONG_S))
        most = (os.cpu_count() or 1) + 8  # more than asyncio's default executor has threads
        calls = [asyncio.create_task(answer(client, hanging, LONG_S, streaming=False)) for _ in range(most)]
        await asyncio.sleep(0.05)
        assert (await answer(client, healthy, LONG_S, streaming=False)).text
        still = [not call.done() for call in calls]
        go_on.set()
        await asyncio.gather(*calls, return_exceptions=True)
        return still

    assert all(run(work))


@pytest.mark.slow
def test_a_look_up_that_hangs_is_bounded_by_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go_on.wait(30))

    async def work(client: httpx.AsyncClient, loop: JumpingLoop) -> None:
        where = target("http://hanging.test/v1", timeouts=Timeouts(connect_s=0.1))
        with pytest.raises(UnavailableError, match="connect_s"):
            await answer(client, where, LONG_S, streaming=False)

    try:
        run(work)
    finally:
        go_on.set()
