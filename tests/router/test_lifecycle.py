"""Closing of a router: what it opened is released where it was opened, once, in any state."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest
from resilience.redis_server import own_redis

import semroute
from semroute.config import Config, Log
from semroute.errors import ConfigError, DispatchError, InputError
from semroute.outcomes.log import open_log
from semroute.router import Router
from semroute.testing import FakeProvider, hang
from semroute.types import Delta, Outcome

PATIENCE_S = 10.0


def settings(provider: FakeProvider, **sections: Any) -> Config:
    places = [{"name": model, "model": model, "base_url": provider.base_url} for model in ("small", "large", "coder")]
    return Config.model_validate({"deployments": places, "retries": {"attempts": 1}, **sections})


def eventually(is_so: Callable[[], bool]) -> bool:
    ends_at = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < ends_at:
        time.sleep(0.005)
    return is_so()


class Sink:
    """A sink of outcomes that counts."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.closed = 0

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def close(self) -> None:
        self.closed += 1


async def collected(router: Router, query: str) -> str:
    return "".join([event.text async for event in router.astream(query) if isinstance(event, Delta)])


DOORS: dict[str, Callable[[Router], object]] = {
    "route": lambda router: router.route("x"),
    "route_many": lambda router: router.route_many(["x"]),
    "aroute": lambda router: asyncio.run(router.aroute("x")),
    "complete": lambda router: router.complete("x"),
    "acomplete": lambda router: asyncio.run(router.acomplete("x")),
    "stream": lambda router: list(router.stream("x")),
    "astream": lambda router: asyncio.run(collected(router, "x")),
    "dispatcher": lambda router: router.dispatcher,
    "feedback": lambda router: router.feedback("last", 1.0),
    "afeedback": lambda router: asyncio.run(router.afeedback("last", 1.0)),
    "reload": lambda router: router.reload(),
    "with": lambda router: router.__enter__(),
    "async with": lambda router: asyncio.run(router.__aenter__()),
}


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS.values(), ids=list(DOORS))
def test_a_closed_router_refuses_every_door(
    door: Callable[[Router], object], routing_index: Path, provider: FakeProvider
) -> None:
    router = Router.load(routing_index, config=settings(provider))
    router.complete("recipe for soup")
    router.close()
    with pytest.raises(InputError, match="this router is closed"):
        door(router)
    assert len(provider.requests) == 1


@pytest.mark.slow
def test_the_end_of_a_block_closes_log_and_connections(routing_index: Path, provider: FakeProvider) -> None:
    sink = Sink()
    with Router.load(routing_index, config=settings(provider), log=sink, http_client=httpx.AsyncClient) as router:
        assert router.complete("recipe for soup").text == "recipe for soup"
        assert provider.stats()["connections"] == 1
    assert (sink.closed, len(sink.outcomes)) == (1, 1)
    assert eventually(lambda: provider.stats()["connections"] == 0)


@pytest.mark.slow
def test_the_end_of_an_asynchronous_block_closes_the_connections_of_its_loop(
    routing_index: Path, provider: FakeProvider
) -> None:
    sink = Sink()

    async def work() -> bool:
        async with Router.load(routing_index, config=settings(provider), log=sink) as router:
            assert await collected(router, "recipe for soup") == "recipe for soup"
            assert provider.stats()["connections"] == 1
        return await asyncio.to_thread(eventually, lambda: provider.stats()["connections"] == 0)

    assert asyncio.run(work())
    assert sink.closed == 1


@pytest.mark.slow
def test_an_error_in_the_block_closes_too_and_goes_on(routing_index: Path, provider: FakeProvider) -> None:
    sink = Sink()
    with pytest.raises(ZeroDivisionError), Router.load(routing_index, config=settings(provider), log=sink):
        raise ZeroDivisionError
    assert sink.closed == 1


@pytest.mark.slow
def test_closing_again_does_nothing_in_any_form(routing_index: Path, provider: FakeProvider) -> None:
    sink = Sink()
    router = Router.load(routing_index, config=settings(provider), log=sink)
    with router:
        router.complete("recipe for soup")
        asyncio.run(router.aclose())
    router.close()
    asyncio.run(router.aclose())
    assert sink.closed == 1


@pytest.mark.slow
def test_many_threads_that_close_release_once(routing_index: Path, provider: FakeProvider) -> None:
    sink = Sink()
    router = Router.load(routing_index, config=settings(provider), log=sink)
    router.complete("recipe for soup")
    threads = [threading.Thread(target=router.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sink.closed == 1


class Loop:
    """An event loop that runs in a thread until it is stopped."""

    def __enter__(self) -> Loop:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        return self

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "aclose", "aclose there"])
def test_connections_close_on_the_loops_that_opened_them(how: str, routing_index: Path, provider: FakeProvider) -> None:
    closed_on: list[tuple[object, object]] = []

    class Watched(httpx.AsyncClient):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.get_running_loop()

        async def aclose(self) -> None:
            closed_on.append((self.loop, asyncio.get_running_loop()))
            await super().aclose()

    with Loop() as first, Loop() as second:
        router = Router.load(routing_index, config=settings(provider), http_client=Watched)
        for loop in (first, second):
            assert loop.run(router.acomplete("recipe for soup")).text == "recipe for soup"
        router.complete("recipe for bread")
        if how == "close":
            router.close()
        elif how == "aclose":
            asyncio.run(router.aclose())
        else:
            second.run(router.aclose())
        assert len(closed_on) == 3
        assert all(opened is closed for opened, closed in closed_on)
        assert {first.loop, second.loop} < {opened for opened, _ in closed_on}


@pytest.mark.slow
def test_a_loop_that_stands_still_is_closed_too(routing_index: Path, provider: FakeProvider) -> None:
    loop = asyncio.new_event_loop()
    router = Router.load(routing_index, config=settings(provider))
    loop.run_until_complete(router.acomplete("recipe for soup"))
    assert provider.stats()["connections"] == 1
    router.close()
    assert eventually(lambda: provider.stats()["connections"] == 0)
    loop.close()


@pytest.mark.slow
def test_to_close_within_the_running_loop_does_not_block_it(routing_index: Path, provider: FakeProvider) -> None:
    async def work() -> bool:
        router = Router.load(routing_index, config=settings(provider))
        await router.acomplete("recipe for soup")
        router.close()
        return await asyncio.to_thread(eventually, lambda: provider.stats()["connections"] == 0)

    assert asyncio.run(work())


@pytest.mark.slow
def test_another_router_keeps_the_connections_that_both_use(routing_index: Path, provider: FakeProvider) -> None:
    first = Router.load(routing_index, config=settings(provider))
    second = Router.load(routing_index, config=settings(provider))

    async def work() -> None:
        await first.acomplete("recipe for soup")
        await second.acomplete("recipe for bread")
        await first.aclose()
        assert provider.stats()["connections"] == 1
        assert (await second.acomplete("recipe for cake")).text == "recipe for cake"
        await second.aclose()
        assert await asyncio.to_thread(eventually, lambda: provider.stats()["connections"] == 0)

    asyncio.run(work())


@pytest.mark.slow
def test_calls_under_way_end_with_an_error_of_ours_and_are_logged(routing_index: Path, provider: FakeProvider) -> None:
    provider.always(hang())
    sink = Sink()

    async def work() -> BaseException | None:
        router = Router.load(routing_index, config=settings(provider), log=sink)
        call = asyncio.create_task(router.acomplete("recipe for soup"))
        await asyncio.to_thread(eventually, lambda: len(provider.requests) == 1)
        await router.aclose()
        (ended,) = await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), PATIENCE_S)
        assert isinstance(ended, BaseException)
        return ended

    assert isinstance(asyncio.run(work()), DispatchError | InputError)
    assert provider.wait_idle()


@pytest.mark.slow
def test_what_fails_to_close_does_not_keep_the_rest_open(routing_index: Path, provider: FakeProvider) -> None:
    class Failing(Sink):
        def close(self) -> None:
            super().close()
            raise OSError("disk full")

    sink = Failing()
    router = Router.load(routing_index, config=settings(provider), log=sink, http_client=httpx.AsyncClient)
    router.complete("recipe for soup")
    with pytest.raises(OSError, match="disk full"):
        router.close()
    router.close()
    assert sink.closed == 1
    assert eventually(lambda: provider.stats()["connections"] == 0)


@pytest.mark.slow
def test_a_router_that_cannot_be_made_closes_the_log_that_it_opened(
    routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    config = settings(
        provider, log={"url": f"sqlite:///{tmp_path}/log.db"}, trial={"policy": str(tmp_path / "missing.yaml")}
    )
    sink = Sink()
    for log in (True, sink):
        with pytest.raises(ConfigError):
            Router.load(routing_index, config=config, log=log)
    gc.collect()  # an engine that nobody closed is a ResourceWarning, which is an error here
    assert sink.closed == 0


@pytest.mark.slow
def test_the_outcomes_of_the_database_are_written_before_it_closes(
    routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    config = settings(provider, log={"url": f"sqlite:///{tmp_path}/log.db"})
    with Router.load(routing_index, config=config, log=True) as router:
        router.complete("recipe for soup")
        router.route("recipe for bread")
    with open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {}) as kept:
        assert {one.query for one in kept.outcomes()} == {"recipe for soup", "recipe for bread"}


@pytest.mark.slow
def test_the_state_of_the_deployments_is_saved_at_the_end(
    routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    file = tmp_path / "state.json"
    with Router.load(routing_index, config=settings(provider), state_file=file) as router:
        for _ in range(3):
            router.complete("recipe for soup")
    (row,) = [one for one in json.loads(file.read_text())["places"] if one["deployment"] == "small"]
    assert row["calls"] == 3


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("is_async", [False, True])
def test_connections_to_redis_are_released(is_async: bool, routing_index: Path, provider: FakeProvider) -> None:
    import redis

    with own_redis() as server, redis.Redis.from_url(server.url) as looking:

        def others() -> int:
            return len(looking.client_list()) - 1

        router = Router.load(routing_index, config=settings(provider, state=server.url))

        async def work() -> None:
            await router.acomplete("recipe for soup")
            await router.aclose()
            assert await asyncio.to_thread(eventually, lambda: others() == 0)

        if is_async:
            asyncio.run(work())
        else:
            router.complete("recipe for soup")
            assert others() > 0
            router.close()
            assert eventually(lambda: others() == 0)


PROGRAM = """
import asyncio, atexit, json, os, sys, threading
from semroute import Config, Router

config = Config.model_validate(json.loads(sys.argv[2]))
router = Router.load(sys.argv[1], config=config, log=True)
how = sys.argv[3]
if how == "atexit":
    atexit.register(router.close)
elif how == "unused":
    atexit.register(router.close)
    sys.exit()
router.complete("recipe for soup")
if how == "fork":
    child = os.fork()
    if child == 0:
        assert router.complete("recipe for bread").text == "recipe for bread"
        router.close()
        sys.exit()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert router.complete("recipe for cake").text == "recipe for cake"
    router.close()
elif how == "fork closed":
    router.close()
    child = os.fork()
    if child == 0:
        router.close()
        sys.exit()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
elif how == "async":
    async def main():
        async with router:
            assert (await router.acomplete("recipe for bread")).text == "recipe for bread"
    asyncio.run(main())
elif how == "thread":
    thread = threading.Thread(target=router.close)
    thread.start()
    thread.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["atexit", "unused", "fork", "fork closed", "async", "thread", "never"])
def test_a_program_ends_in_silence_however_it_closes(
    how: str, routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    if "fork" in how and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    config = settings(provider, log={"url": f"sqlite:///{tmp_path}/log.db"}).model_dump(mode="json", exclude_unset=True)
    ended = subprocess.run(
        # A fork of a process with threads is a warning of Python 3.12, and the point of the test.
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", dedent(PROGRAM), str(routing_index),
         json.dumps(config), how],
        env={**os.environ, "PYTHONPATH": str(Path(semroute.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    if how not in ("unused", "never"):
        with open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {}) as kept:
            queries = {str(one.query) for one in kept.outcomes()}
        also = {"fork": {"recipe for bread", "recipe for cake"}, "async": {"recipe for bread"}}.get(how, set())
        assert queries == {"recipe for soup"} | also


@pytest.mark.slow
def test_an_awaited_close_may_be_cancelled_and_still_releases(routing_index: Path, provider: FakeProvider) -> None:
    sink = Sink()

    async def work() -> None:
        router = Router.load(routing_index, config=settings(provider), log=sink)
        await router.acomplete("recipe for soup")
        closing: Awaitable[None] = asyncio.ensure_future(router.aclose())
        await asyncio.sleep(0)
        closing.cancel()  # type: ignore[attr-defined]
        await asyncio.gather(closing, return_exceptions=True)

    asyncio.run(work())
    assert eventually(lambda: sink.closed == 1)
