from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from patience import PATIENCE_S
from resilience.gates_contract import GatesContract
from resilience.redis_server import OwnRedis, own_redis

from semroute.config import BreakerRules
from semroute.errors import StateError
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.server import Server
from semroute.types import CallResult, Endpoint, Permit

RULES = BreakerRules(jitter=0.0)
# The contract lets hours pass at once, in which no process could say that it lives.
SLOT_S = 1e6


def own_prefix() -> str:
    return f"semroute:{{test-{secrets.token_hex(6)}}}:"


@dataclass
class RedisWorld:
    """Gates whose time is the wall's at the start, and goes on only when told."""

    gates: RedisGates
    now: float = field(default_factory=time.time)

    async def advance(self, seconds: float) -> None:
        self.now += seconds


class TestRedisGates(GatesContract):
    @pytest.fixture(autouse=True)
    def _url(self, redis: OwnRedis) -> None:
        self.url = redis.url

    @asynccontextmanager
    async def world(self, rules: BreakerRules) -> AsyncGenerator[RedisWorld]:
        server = Server(self.url, timeout_s=PATIENCE_S)
        gates = RedisGates(server, rules, prefix=own_prefix(), slot_s=SLOT_S, clock=lambda: world.now)
        world = RedisWorld(gates)
        yield world
        await gates.close()


async def run_here(gates: RedisGates, endpoint: Endpoint, *, calls: int, tokens: int = 0) -> int:
    """Ask for many calls at once; how many were let through."""
    answers = await asyncio.gather(*(gates.acquire(endpoint, tokens) for _ in range(calls)))
    return sum(isinstance(answer, Permit) for answer in answers)


def test_time_is_the_servers_when_no_clock_is_given(redis: OwnRedis) -> None:
    async def test() -> tuple[float, float]:
        gates = RedisGates(Server(redis.url), RULES, prefix=own_prefix())
        endpoint = Endpoint("p", rpm=1)
        await gates.acquire(endpoint, 0)
        seconds, micros = await gates.server.command("TIME")
        ((_, at),) = await gates.server.command("ZRANGE", gates._keys(endpoint)[1], 0, -1, "WITHSCORES")
        await gates.close()
        return float(at), int(seconds) + int(micros) / 1e6

    at, now = asyncio.run(test())
    assert 0 <= now - at < PATIENCE_S


def test_every_key_has_the_prefix_and_goes_by_itself(redis: OwnRedis) -> None:
    async def test() -> None:
        prefix = own_prefix()
        gates = RedisGates(Server(redis.url), RULES, prefix=prefix)
        before = set(await gates.server.command("KEYS", "*"))
        endpoint = Endpoint("p", "KEY", rpm=100, tpm=1000, parallel=10, budget_usd=1.0)
        running = await gates.acquire(endpoint, 10, 0.1)
        assert isinstance(running, Permit)
        for result in [CallResult.FAILURE] * RULES.in_a_row + [CallResult.DISABLE]:
            permit = await gates.acquire(endpoint, 10, 0.01)
            if isinstance(permit, Permit):
                await gates.release(permit, result, wait_s=0.0)
        await gates.release(running, CallResult.DISABLE, wait_s=1000.0)
        keys = set(await gates.server.command("KEYS", "*")) - before
        assert len(keys) >= 5
        for key in keys:
            assert key.decode().startswith(prefix)
            assert 0 < await gates.server.command("TTL", key) <= 40 * 86400
        await gates.close()

    asyncio.run(test())


def test_scripts_that_redis_has_lost_are_loaded_again(redis: OwnRedis) -> None:
    async def test() -> None:
        gates = RedisGates(Server(redis.url), RULES, prefix=own_prefix())
        for _ in range(3):
            permit = await gates.acquire(Endpoint("p"), 0)
            await gates.server.command("SCRIPT", "FLUSH")
            assert isinstance(permit, Permit)
            await gates.release(permit, CallResult.SUCCESS)
            await gates.server.command("SCRIPT", "FLUSH")
            assert (await gates.statuses([Endpoint("p")]))[0].in_flight == 0
        await gates.close()

    asyncio.run(test())


@pytest.mark.slow
def test_one_object_serves_loops_one_after_the_other_and_at_the_same_time(redis: OwnRedis) -> None:
    gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=own_prefix())
    endpoint, passed = Endpoint("p", rpm=50), []

    def in_a_loop() -> None:
        passed.append(asyncio.run(run_here(gates, endpoint, calls=40)))

    in_a_loop()
    threads = [threading.Thread(target=in_a_loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed[0] == 40
    assert sum(passed) == 50


RACER = """
import asyncio, json, sys
from semroute.config import BreakerRules

WAVES = 5  # both wait for each other before every one: a busy machine may run one of them after the other

from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.server import Server
from semroute.types import Endpoint, Permit

async def race(url, prefix):
    gates = RedisGates(Server(url, timeout_s=60.0), BreakerRules(), prefix=prefix)
    passed = {"rpm": 0, "tpm": 0, "parallel": 0}
    places = {"rpm": Endpoint("a", rpm=100), "tpm": Endpoint("b", tpm=1000), "parallel": Endpoint("c", parallel=10)}
    async def ask(name):
        answer = await gates.acquire(places[name], 10)
        passed[name] += isinstance(answer, Permit)
    for _ in range(WAVES):
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(ask(name) for _ in range(100 // WAVES) for name in places))
    print(json.dumps(passed), flush=True)
    await gates.close()

asyncio.run(race(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_that_race_for_one_limit_use_all_of_it_and_no_more(redis: OwnRedis) -> None:
    command = [sys.executable, "-c", RACER, redis.url, own_prefix()]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for _ in range(5):
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
    found = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    assert {name: sum(one[name] for one in found) for name in found[0]} == {"rpm": 100, "tpm": 100, "parallel": 10}
    assert all(sum(one.values()) > 0 for one in found)


def test_a_breaker_that_one_opens_is_open_for_all(redis: OwnRedis) -> None:
    async def test() -> None:
        prefix, endpoint = own_prefix(), Endpoint("p", "KEY")
        one, other = [RedisGates(Server(redis.url), RULES, prefix=prefix) for _ in range(2)]
        for _ in range(RULES.in_a_row):
            permit = await one.acquire(endpoint, 0)
            assert isinstance(permit, Permit)
            await one.release(permit, CallResult.FAILURE)
        refusal = await other.acquire(endpoint, 0)
        assert not isinstance(refusal, Permit)
        assert "in a row" in refusal.reason
        await one.close()
        await other.close()

    asyncio.run(test())


def test_a_question_that_is_cancelled_gives_back_what_it_got(redis: OwnRedis) -> None:
    async def test() -> None:
        gates = RedisGates(Server(redis.url), RULES, prefix=own_prefix())
        endpoint = Endpoint("p", "KEY", tpm=1000, parallel=5, budget_usd=1.0)
        for delay_s in (0.0, 0.0001, 0.0003, 0.001):
            asking = asyncio.create_task(gates.acquire(endpoint, 1000, 1.0))
            await asyncio.sleep(delay_s)
            asking.cancel()
            answer: Any = (await asyncio.gather(asking, return_exceptions=True))[0]
            if isinstance(answer, Permit):  # it was answered before
                await gates.release(answer, CallResult.NEUTRAL, tokens=0, usd=0.0)
        await gates.close()
        (found,) = await gates.statuses([endpoint])
        assert (found.in_flight, found.spent_usd, found.headroom) == (0, 0.0, 0.8)
        await gates.close()

    asyncio.run(test())


def test_a_leave_that_is_cancelled_arrives_all_the_same(redis: OwnRedis) -> None:
    async def test() -> None:
        gates = RedisGates(Server(redis.url), RULES, prefix=own_prefix())
        permit = await gates.acquire(Endpoint("p"), 0)
        assert isinstance(permit, Permit)
        giving = asyncio.create_task(gates.release(permit, CallResult.SUCCESS))
        await asyncio.sleep(0)
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
        await gates.close()
        assert (await gates.statuses([Endpoint("p")]))[0].in_flight == 0
        await gates.close()

    asyncio.run(test())


def test_without_a_redis_there_that_does_answer_the_error_says_where(redis: OwnRedis) -> None:
    async def test() -> None:
        gates = RedisGates(Server("redis://127.0.0.1:1/3"), RULES)
        with pytest.raises(StateError, match=r"127\.0\.0\.1:1/3"):
            await gates.acquire(Endpoint("p"), 0)

    asyncio.run(test())


@pytest.mark.services
def test_the_password_reaches_redis_and_no_message(caplog: pytest.LogCaptureFixture) -> None:
    secret = "pass-" + secrets.token_hex(8)

    async def test(url: str) -> None:
        right, wrong = Server(url, password=secret), Server(url, password=secret + "-wrong")
        gates = RedisGates(right, RULES)
        assert isinstance(await gates.acquire(Endpoint("p"), 0), Permit)
        assert secret not in repr(right) + repr(gates) + repr(gates.server)
        for server in (wrong, Server(url)):
            with pytest.raises(StateError) as caught:
                await RedisGates(server, RULES).acquire(Endpoint("p"), 0)
            assert secret not in str(caught.value) + repr(caught.value)
            await server.close()
        await gates.close()

    with own_redis(secret) as running, caplog.at_level("DEBUG"):
        asyncio.run(test(running.url))
    assert secret not in caplog.text
