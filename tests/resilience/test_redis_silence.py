"""A Redis that is away, one that is slow, and a process that is busy; and a Redis that is not quite one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from patience import PATIENCE_S
from resilience.redis_server import OwnRedis, own_redis
from resilience.test_redis_gates import own_prefix

from semroute.config import BreakerRules, Config
from semroute.dispatch.status import read_status
from semroute.errors import StateError
from semroute.resilience import MemoryGates
from semroute.resilience.redis.failover import FailoverGates, Replicas
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.server import Server, Watch
from semroute.types import BreakerState, CallResult, Endpoint, Permit, Rejection

RULES = BreakerRules(jitter=0.0)
PLACE = Endpoint("p", "KEY", rpm=10_000)


def replica(url: str, timeout_s: float = 0.5, heartbeat_s: float = 0.05) -> FailoverGates:
    server, prefix = Server(url, timeout_s=timeout_s), own_prefix()
    shared = RedisGates(server, RULES, prefix=prefix)
    return FailoverGates(shared, Replicas(server, prefix=prefix), lambda: MemoryGates(RULES), heartbeat_s=heartbeat_s)


@asynccontextmanager
async def in_use(gates: FailoverGates) -> AsyncGenerator[FailoverGates]:
    """Gates that Redis has answered once."""
    await gates.heartbeat()
    assert gates.mode == "shared"
    yield gates
    await gates.close()


async def call(gates: FailoverGates, endpoint: Endpoint = PLACE) -> None:
    permit = await gates.acquire(endpoint, 1)
    assert isinstance(permit, Permit)
    await gates.release(permit, CallResult.SUCCESS)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [200, 1000])
def test_a_burst_of_calls_on_a_busy_loop_is_no_silence_of_redis(
    redis: OwnRedis, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def busy(gates: FailoverGates) -> None:
        await gates.statuses([PLACE])
        time.sleep(1.6 / calls)  # what a call needs of the loop besides: choosing, parsing, counting
        await call(gates)

    async def test() -> None:
        async with in_use(replica(redis.url, timeout_s=0.4)) as gates:
            await asyncio.gather(*(busy(gates) for _ in range(calls)))
            assert gates.mode == "shared"

    asyncio.run(test())
    assert "going on" not in caplog.text


@pytest.mark.slow
def test_a_loop_that_was_blocked_is_no_silence_of_redis(redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with in_use(replica(redis.url, timeout_s=0.25)) as gates:
            asking = [asyncio.create_task(call(gates)) for _ in range(50)]
            await asyncio.sleep(0.001)
            time.sleep(1.5)  # six times the time-out
            await asyncio.gather(*asking)

    asyncio.run(test())
    assert "going on" not in caplog.text


@pytest.mark.slow
def test_one_silence_is_not_taken_for_the_end_of_redis(redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with in_use(replica(redis.url, timeout_s=1.0)) as gates:
            redis.freeze()
            asking = asyncio.create_task(call(gates))
            await asyncio.sleep(1.2)
            redis.thaw()
            await asking

    asyncio.run(test())
    assert "going on" not in caplog.text


@pytest.mark.slow
@pytest.mark.services
def test_a_redis_that_stays_silent_is_away_and_one_that_refuses_is_so_at_once() -> None:
    async def test(redis: OwnRedis) -> None:
        async with in_use(replica(redis.url, timeout_s=0.5)) as gates:
            redis.freeze()
            await call(gates)
            assert gates.mode == "local"
            redis.thaw()
            async with asyncio.timeout(PATIENCE_S):
                while gates.mode != "shared":
                    await asyncio.sleep(0.02)
        async with in_use(replica(redis.url, timeout_s=600)) as gates, asyncio.timeout(PATIENCE_S):
            redis.kill()
            await call(gates)
            assert gates.mode == "local"

    with own_redis() as redis:
        asyncio.run(test(redis))


class Mute:
    """A way to Redis that takes time, and on which connections can go silent as behind a firewall."""

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self._port = port
        self._delay_s = delay_s
        self._open: list[asyncio.Event] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def forget(self) -> None:
        """Let all connections that there are go silent."""
        for event in self._open:
            event.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_mute = asyncio.Event()
        self._open.append(is_mute)
        there, onward = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._copy(reader, onward, is_mute), self._copy(there, writer, is_mute))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            onward.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_mute: asyncio.Event) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self._delay_s)
            if not is_mute.is_set():
                writer.write(data)
        writer.close()

    async def stop(self) -> None:
        self._server.close()


@pytest.mark.slow
def test_connections_that_a_firewall_forgot_are_replaced(redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        way = Mute(redis.port)
        async with in_use(replica(await way.start(), timeout_s=0.5, heartbeat_s=60.0)) as gates:
            await asyncio.gather(*(call(gates) for _ in range(5)))
            way.forget()
            await asyncio.gather(*(call(gates) for _ in range(5)))
            assert gates.mode == "shared"
        await way.stop()

    asyncio.run(test())
    assert "going on" not in caplog.text


@pytest.mark.slow
def test_a_redis_forty_milliseconds_away_is_there(redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        way = Mute(redis.port, delay_s=0.02)
        async with in_use(replica(await way.start())) as gates:
            await asyncio.gather(*(call(gates) for _ in range(100)))
            assert gates.mode == "shared"
        await way.stop()

    asyncio.run(test())
    assert "going on" not in caplog.text


def test_a_redis_that_allows_no_evalsha_and_no_script_runs_by_eval(redis: OwnRedis) -> None:
    async def test() -> None:
        server = Server(redis.url)
        await server.command("ACL", "SETUSER", "default", "-evalsha", "-script")
        try:
            gates = RedisGates(server, RULES, prefix=own_prefix())
            for _ in range(3):
                permit = await gates.acquire(PLACE, 1)
                assert isinstance(permit, Permit)
                await gates.release(permit, CallResult.SUCCESS)
            assert (await gates.statuses([PLACE]))[0].calls == 3
        finally:
            await server.command("ACL", "SETUSER", "default", "+@all")
            await server.close()

    asyncio.run(test())


def test_a_script_that_redis_refuses_is_an_error_of_ours(redis: OwnRedis) -> None:
    async def test() -> None:
        server = Server(redis.url)
        await server.command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        try:
            with pytest.raises(StateError, match="eval"):
                await RedisGates(server, RULES, prefix=own_prefix()).acquire(PLACE, 1)
        finally:
            await server.command("ACL", "SETUSER", "default", "+@all")
            await server.close()

    asyncio.run(test())


def test_a_clock_set_back_by_an_hour_freezes_nothing(redis: OwnRedis) -> None:
    now = 1_798_000_000.0

    async def test() -> None:
        nonlocal now
        gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=own_prefix(), clock=lambda: now)
        limited, broken, hinted = Endpoint("limited", rpm=2, parallel=1), Endpoint("broken"), Endpoint("hinted")
        for endpoint, result in [(limited, CallResult.SUCCESS)] * 2 + [(broken, CallResult.FAILURE)] * RULES.in_a_row:
            permit = await gates.acquire(endpoint, 1)
            assert isinstance(permit, Permit)
            await gates.release(permit, result)
        permit = await gates.acquire(hinted, 1)
        assert isinstance(permit, Permit)
        await gates.release(permit, CallResult.NEUTRAL, wait_s=40.0)
        now -= 3600.0
        waits = [found.wait_s for found in await gates.statuses([limited, broken, hinted])]
        assert waits == [pytest.approx(60.0), pytest.approx(RULES.open_s), pytest.approx(40.0)]
        now += 61.0
        for endpoint in (limited, broken, hinted):
            permit = await gates.acquire(endpoint, 1)
            assert isinstance(permit, Permit)
            await gates.release(permit, CallResult.SUCCESS)
        (found,) = await gates.statuses([limited])
        assert found.in_flight == 0
        await gates.close()

    asyncio.run(test())


def test_a_month_follows_the_calendar_and_not_the_time_that_never_runs_backwards(redis: OwnRedis) -> None:
    now = 1_798_761_500.0  # the last day of a year

    async def test() -> None:
        nonlocal now
        gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=own_prefix(), clock=lambda: now)
        endpoint = Endpoint("p", "KEY", budget_usd=1.0)
        now += 40 * 86400.0  # set wrong
        assert isinstance(await gates.acquire(endpoint, 1, 0.25), Permit)
        now -= 40 * 86400.0  # put right
        assert isinstance(await gates.acquire(endpoint, 1, 0.75), Permit)
        assert (await gates.statuses([endpoint]))[0].spent_usd == 0.75
        await gates.close()

    asyncio.run(test())


def test_what_earlier_versions_stored_is_read_and_put_right(redis: OwnRedis) -> None:
    async def test() -> None:
        prefix = own_prefix()
        gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=prefix)
        disabled = Endpoint("p", "KEY", origin="https://api.example:443")
        await gates.server.command("HSET", f"{prefix}disabled", "KEY", "401: refused")
        (found,) = await gates.statuses([disabled])
        assert (found.breaker, found.wait_s) == (BreakerState.DISABLED, 0.0)
        permit = await gates.acquire(disabled, 1)
        assert isinstance(permit, Permit)
        refusal = await gates.acquire(disabled, 1)
        assert isinstance(refusal, Rejection)
        assert "401: refused" in refusal.reason
        await gates.release(permit, CallResult.SUCCESS)
        assert (await gates.statuses([disabled]))[0].breaker is BreakerState.CLOSED
        hinted = Endpoint("q")
        await gates.server.command("HSET", f"{prefix}breaker:{hinted.key}", "hint_until", str(time.time() + 3e7))
        for _ in range(2):
            (found,) = await gates.statuses([hinted])
            assert found.wait_s is not None
            assert found.wait_s <= RULES.most_hint_s
        await gates.close()

    asyncio.run(test())


def test_a_place_that_was_closed_here_alone_is_open_when_redis_goes_away(redis: OwnRedis) -> None:
    async def test() -> None:
        async with in_use(replica(redis.url, timeout_s=PATIENCE_S)) as gates:
            endpoint = Endpoint("p", "KEY")
            mine = [await gates._local.acquire(endpoint, 1) for _ in range(RULES.in_a_row)]
            for permit in mine:
                assert isinstance(permit, Permit)
                await gates._local.release(permit, CallResult.FAILURE)
            assert (await gates._local.statuses([endpoint]))[0].breaker is BreakerState.OPEN
            await call(gates, endpoint)
            assert (await gates._local.statuses([endpoint]))[0].breaker is BreakerState.CLOSED

    asyncio.run(test())


@pytest.mark.parametrize(
    "snapshot",
    [
        "[]",
        "3",
        "null",
        '"text"',
        "not json",
        "\ud800".encode("utf-8", "surrogatepass"),
        "[" * 100_000,
        json.dumps({"latencies": 3}),
        json.dumps({"latencies": [3]}),
        json.dumps({"latencies": [{"deployment": "a"}]}),
        json.dumps({"latencies": {}}),
    ],
)
def test_a_snapshot_that_is_none_is_an_error_of_ours(redis: OwnRedis, snapshot: str | bytes) -> None:
    async def test() -> None:
        server = Server(redis.url, timeout_s=PATIENCE_S)
        await server.command("ZADD", "semroute:{gates}:replicas", time.time(), "strange")
        await server.command("SET", "semroute:{gates}:snapshot:strange", snapshot)  # type: ignore[arg-type]
        config = Config.model_validate({"deployments": [{"name": "a", "model": "m"}], "state": redis.url})
        with pytest.raises(StateError, match=r"snapshot.*delete"):
            await read_status(config, {})
        await server.close()

    asyncio.run(test())


def test_an_answer_that_is_not_of_our_scripts_is_an_error_of_ours(redis: OwnRedis) -> None:
    gates = RedisGates(Server(redis.url), RULES)
    for reply in (b"OK", None, 3.5j):
        with pytest.raises(StateError, match="not JSON"):
            gates._read(reply)


def test_a_call_that_ends_late_does_not_end_the_watch() -> None:
    """On a busy loop the watch looks again before a call that it gave up has ended."""

    async def silent() -> None:
        await asyncio.sleep(3600)

    async def main() -> tuple[bool, list[object]]:
        failures: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
        watch = Watch(silent, limit_s=1000.0)

        async def call() -> None:
            async with watch.limited():
                watch._now = 10_000.0
                watch._look()  # gives the call up in the next turn of the loop, and looks once more in the same turn
                loop.call_soon(watch._look)
                await asyncio.sleep(3600)

        with pytest.raises(TimeoutError):
            await call()
        watch.stop()
        return watch.is_away, failures

    assert asyncio.run(main()) == (True, [])
