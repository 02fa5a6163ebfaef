"""Calls of a process that was killed, or forked, and calls of one that was only busy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from patience import PATIENCE_S
from resilience.redis_server import OwnRedis
from resilience.test_redis_gates import own_prefix

from semroute.config import BreakerRules
from semroute.resilience import MemoryGates
from semroute.resilience.redis.failover import FailoverGates, Replicas
from semroute.resilience.redis.gates import RENEW_S, SLOT_S, RedisGates
from semroute.resilience.redis.server import Server
from semroute.types import CallResult, Endpoint, Permit, Rejection

RULES = BreakerRules(jitter=0.0)
PLACE = Endpoint("p", "KEY", tpm=1000, parallel=2, budget_usd=10.0)


class Time:
    """Time of the gates, ahead of the wall's."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def run(redis: OwnRedis, test: Callable[[RedisGates, Time], Awaitable[None]]) -> None:
    async def inside() -> None:
        clock = Time()
        gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=own_prefix(), clock=clock)
        await test(gates, clock)
        await gates.close()

    asyncio.run(inside())


async def entered(gates: RedisGates, endpoint: Endpoint = PLACE, tokens: int = 0, usd: float = 0.0) -> Permit:
    permit = await gates.acquire(endpoint, tokens, usd)
    assert isinstance(permit, Permit), permit
    return permit


async def renew(gates: RedisGates) -> None:
    gates._renewed_at = -1e9
    await gates.renew()


def test_slots_of_a_process_that_is_no_longer_heard_are_free_within_seconds(redis: OwnRedis) -> None:
    async def test(gates: RedisGates, clock: Time) -> None:
        for _ in range(2):
            await entered(gates)
        refusal = await gates.acquire(PLACE, 0)
        assert isinstance(refusal, Rejection)
        assert refusal.wait_s == 0.25  # its process lives: a call may end at any moment
        clock.ahead_s += SLOT_S - 4.0
        refusal = await gates.acquire(PLACE, 0)
        assert isinstance(refusal, Rejection)
        assert refusal.wait_s == pytest.approx(4.0, abs=1.0)  # it was not heard for two heartbeats
        clock.ahead_s += 4.0
        assert (await gates.statuses([PLACE]))[0].in_flight == 0
        await entered(gates)

    run(redis, test)


def test_a_call_that_runs_keeps_its_slot_as_long_as_its_process_says_that_it_lives(redis: OwnRedis) -> None:
    async def test(gates: RedisGates, clock: Time) -> None:
        permit, _ = [await entered(gates) for _ in range(2)]
        for _ in range(10):
            clock.ahead_s += RENEW_S
            await renew(gates)
            assert isinstance(await gates.acquire(PLACE, 0), Rejection)
        await gates.release(permit, CallResult.SUCCESS)
        await renew(gates)
        assert (await gates.statuses([PLACE]))[0].in_flight == 1

    run(redis, test)


def test_a_process_that_was_silent_for_long_gets_its_slots_again_and_settles_what_its_calls_cost(
    redis: OwnRedis,
) -> None:
    async def test(gates: RedisGates, clock: Time) -> None:
        one, two = [await entered(gates, tokens=400, usd=1.0) for _ in range(2)]
        clock.ahead_s += 3 * SLOT_S
        await gates.release(one, CallResult.SUCCESS, tokens=100, usd=0.25)
        await renew(gates)
        (found,) = await gates.statuses([PLACE], 500)
        assert (found.in_flight, found.spent_usd, found.wait_s) == (1, 1.25, 0.0)
        await gates.release(two, CallResult.SUCCESS, tokens=0, usd=0.0)
        assert (await gates.statuses([PLACE]))[0].spent_usd == 0.25

    run(redis, test)


def test_a_probe_of_a_killed_process_does_not_keep_a_breaker_half_open(redis: OwnRedis) -> None:
    async def test(gates: RedisGates, clock: Time) -> None:
        endpoint = Endpoint("q")
        for _ in range(RULES.in_a_row):
            await gates.release(await entered(gates, endpoint), CallResult.FAILURE)
        clock.ahead_s += RULES.open_s
        assert all([(await entered(gates, endpoint)).is_probe for _ in range(RULES.probes)])
        assert isinstance(await gates.acquire(endpoint, 0), Rejection)
        clock.ahead_s += SLOT_S
        assert (await entered(gates, endpoint)).is_probe

    run(redis, test)


def test_without_a_call_under_way_nothing_is_sent(redis: OwnRedis) -> None:
    async def test(gates: RedisGates, clock: Time) -> None:
        await gates.release(await entered(gates), CallResult.SUCCESS)
        before = (await gates.server.command("INFO", "stats"))["total_commands_processed"]
        await renew(gates)
        after = (await gates.server.command("INFO", "stats"))["total_commands_processed"]
        assert after - before == 1  # the look itself

    run(redis, test)


HOLDER = """
import asyncio, sys
from semroute.config import BreakerRules
from semroute.resilience import MemoryGates
from semroute.resilience.redis.failover import FailoverGates
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.failover import Replicas
from semroute.resilience.redis.server import Server
from semroute.types import Endpoint

async def hold(url, prefix):
    server = Server(url, timeout_s=60.0)
    gates = FailoverGates(
        RedisGates(server, BreakerRules(), prefix=prefix), Replicas(server), lambda: MemoryGates(BreakerRules())
    )
    for _ in range(2):
        await gates.acquire(Endpoint("p", "KEY", tpm=1000, parallel=2, budget_usd=10.0), 0)
    print(gates.mode, flush=True)
    await asyncio.sleep(60)

asyncio.run(hold(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_replica_killed_in_the_middle_of_its_calls_leaves_no_slot_taken(redis: OwnRedis) -> None:
    prefix = own_prefix()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, redis.url, prefix], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "shared\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    clock = Time()

    async def test() -> None:
        gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=prefix, clock=clock)
        assert isinstance(await gates.acquire(PLACE, 0), Rejection)
        clock.ahead_s = SLOT_S + 1.0
        for _ in range(2):
            await entered(gates)
        await gates.close()

    asyncio.run(test())


def test_the_heartbeat_runs_by_itself_while_calls_are_under_way(redis: OwnRedis, monkeypatch: Any) -> None:
    monkeypatch.setattr("semroute.resilience.redis.gates.RENEW_S", 0.0)
    prefix = own_prefix()

    async def test() -> None:
        server = Server(redis.url, timeout_s=PATIENCE_S)
        shared = RedisGates(server, RULES, prefix=prefix)
        gates = FailoverGates(shared, Replicas(server, prefix=prefix), lambda: MemoryGates(RULES), heartbeat_s=0.02)
        permit = await gates.acquire(PLACE, 0)
        assert isinstance(permit, Permit)
        slots = f"{prefix}slots:{PLACE.key}"
        (first,) = [float(score) for _, score in await server.command("ZRANGE", slots, 0, -1, "WITHSCORES")]
        for _ in range(200):
            await asyncio.sleep(0.02)
            (last,) = [float(score) for _, score in await server.command("ZRANGE", slots, 0, -1, "WITHSCORES")]
            if last > first:
                break
        assert last > first
        await gates.release(permit, CallResult.SUCCESS)
        await gates.close()

    asyncio.run(test())


FORKER = """
import asyncio, json, os, sys
from semroute.config import BreakerRules
from semroute.resilience import MemoryGates
from semroute.resilience.redis.failover import FailoverGates
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.failover import Replicas
from semroute.resilience.redis.server import Server
from semroute.types import CallResult, Endpoint

place = Endpoint("p", parallel=4)

async def enter(gates, count):
    return [await gates.acquire(place, 0) for _ in range(count)]

async def in_child(gates, memory, parents):
    before = (await memory.statuses([place]))[0].in_flight
    mine = await enter(gates, 2)
    for leave in mine:
        await gates.release(leave, CallResult.SUCCESS)
    found = {"memory": before, "ids": [permit.id for permit in mine], "renews": len(gates._shared._running)}
    found |= {"mode": gates.mode, "name": gates.replica, "in_flight": (await gates.statuses([place]))[0].in_flight}
    await gates.close()
    return found

def main(url, prefix):
    server = Server(url, timeout_s=60.0)
    memory = MemoryGates(BreakerRules())
    gates = FailoverGates(
        RedisGates(server, BreakerRules(), prefix=prefix), Replicas(server, prefix=prefix),
        lambda: MemoryGates(BreakerRules()),
    )
    loop = asyncio.new_event_loop()
    parents = loop.run_until_complete(enter(gates, 2))
    loop.run_until_complete(enter(memory, 3))
    gates._beating.acquire()  # as if another thread were at it in the moment of the fork
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.write(writing, json.dumps(asyncio.run(in_child(gates, memory, parents))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        child = json.loads(told.read())
    os.wait()
    gates._beating.release()
    parent = {"ids": [permit.id for permit in parents], "renews": len(gates._shared._running), "name": gates.replica}
    parent["in_flight"] = loop.run_until_complete(gates.statuses([place]))[0].in_flight
    loop.run_until_complete(gates.close())
    loop.close()
    print(json.dumps([parent, child]))

main(*sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_has_calls_ids_and_connections_of_its_own(redis: OwnRedis) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKER, redis.url, own_prefix()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    parent, child = json.loads(done.stdout)
    assert (child["mode"], child["memory"]) == ("shared", 0)
    assert not set(parent["ids"]) & set(child["ids"])
    assert parent["name"] != child["name"]
    assert (parent["renews"], child["renews"]) == (2, 0)
    assert (parent["in_flight"], child["in_flight"]) == (2, 2)
