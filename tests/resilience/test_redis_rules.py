"""The gates in Redis against the gates in process: the same calls at the same times, the same answers."""

from __future__ import annotations

import asyncio
import secrets
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from resilience.redis_server import OwnRedis

from semroute.config import BreakerRules
from semroute.resilience import MemoryGates
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.server import Server
from semroute.types import CallResult, Endpoint, EndpointStatus, Permit, Rejection

RULES = BreakerRules(
    window_s=10.0,
    least_calls=6,
    in_a_row=3,
    most_open_s=60.0,
    probe_lease_s=20.0,
    successes=2,
    ramp_s=8.0,
    panic_per_s=0.5,
    suspend_s=10.0,
    most_suspend_s=30.0,
    disabled_probe_s=50.0,
    most_hint_s=100.0,
    most_failure_hint_s=20.0,
)
HOST = "https://one.example:443"
PLACES = (
    Endpoint("free"),
    Endpoint("tight", "KEY", origin=HOST, rpm=3, tpm=500, parallel=2, budget_usd=1.0),
    Endpoint("roomy", "KEY", origin=HOST, rpm=40, budget_usd=2.0),
    Endpoint("tokens", "OTHER", origin=HOST, tpm=1000),
    Endpoint("requests", "OTHER", origin=HOST, rpm=2),
    Endpoint("elsewhere", "OTHER", origin="https://other.example:443"),
)
# 31 December 2026, 23:50 UTC: a month, and a year, ends within the test.
BEGIN = 1_798_761_000.0
# Longer than a script: the two notice a lost call at different moments, which the contract's tests allow.
LEASE_S = 1e6


class Even(Random):
    """Always one half, since the two do not ask equally often."""

    def random(self) -> float:
        return 0.5


money = st.sampled_from([0.0, 0.001, 0.25, 0.3, 1.5])
tokens = st.sampled_from([0, 1, 99, 100, 400, 1001, -5, 10**12])
luck = st.none() | st.sampled_from([0.0, 0.4, 0.9, 1.0])
acquire = st.tuples(st.just("acquire"), st.sampled_from(PLACES), tokens, money, luck)
release = st.tuples(
    st.just("release"),
    st.integers(0, 30),
    st.sampled_from([CallResult.SUCCESS, CallResult.FAILURE, CallResult.FAILURE, CallResult.NEUTRAL]),
    st.none() | tokens,
    st.none() | money,
    st.sampled_from([None, None, None, 0.0, 3.0, 30.0, 1e9, float("nan"), -4.0]),
)
again = st.tuples(st.just("again"), st.integers(0, 30))
refuse = st.tuples(
    st.just("refuse"),
    st.integers(0, 30),
    st.sampled_from([CallResult.SUSPEND, CallResult.DISABLE]),
    st.sampled_from([None, "one", "other"]),
)
lift = st.tuples(st.just("lift"), st.sampled_from(PLACES))
welcome = st.tuples(st.just("welcome"), st.sampled_from(PLACES), st.sampled_from(["one", "other"]))
enable = st.tuples(st.just("enable"), st.sampled_from(["KEY", "OTHER", None]))
advance = st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 0.7, 1 / 3, 5.0, 20.0, 59.9, 60.0, 120.0, 400.0]))
step = st.one_of(
    acquire, acquire, acquire, release, release, release, advance, advance, again, refuse, enable, lift, welcome
)
steps = st.lists(step, min_size=20, max_size=80)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=steps)
def test_redis_and_memory_answer_alike(redis: OwnRedis, script: list[Any]) -> None:
    asyncio.run(Comparison(redis.url).run(script))


def test_a_breaker_in_full_swing_is_the_same_in_both(redis: OwnRedis) -> None:
    free = PLACES[0]
    call = [("acquire", free, 0, 0.0, None), ("release", 0, CallResult.FAILURE, None, None, None)]
    good = [("acquire", free, 0, 0.0, None), ("release", 0, CallResult.SUCCESS, None, None, None)]
    mixed = (call + good) * 3
    script = call * 3 + [("advance", 5.0), *call, ("advance", 20.0), *good * 3, ("advance", 1.0), *mixed]
    asyncio.run(Comparison(redis.url).run([*script, ("advance", 5.0), *good, ("advance", 10.0), *mixed]))


class Comparison:
    def __init__(self, url: str) -> None:
        self.now = BEGIN
        self.memory = MemoryGates(RULES, clock=lambda: self.now, wall=lambda: self.now, rng=Even(), lease_s=LEASE_S)
        prefix = f"semroute:{{test-{secrets.token_hex(6)}}}:"
        server = Server(url, timeout_s=PATIENCE_S)
        self.redis = RedisGates(
            server, RULES, prefix=prefix, rng=Even(), clock=lambda: self.now, lease_s=LEASE_S, slot_s=LEASE_S
        )
        self.out: list[tuple[Permit, Permit]] = []
        self.gone: list[tuple[Permit, Permit]] = []

    async def run(self, script: list[Any]) -> None:
        for what, *args in script:
            await getattr(self, what)(*args)
            for tokens, usd in ((0, 0.0), (100, 0.3)):
                here = await self.memory.statuses(PLACES, tokens, usd)
                there = await self.redis.statuses(PLACES, tokens, usd)
                for one, other in zip(here, there, strict=True):
                    assert comparable(one) == pytest.approx(comparable(other), abs=1e-6)
                    assert (one.breaker, one.reason, one.refused) == (other.breaker, other.reason, other.refused)
        await self.redis.close()

    async def acquire(self, endpoint: Endpoint, tokens: int, usd: float, panic: float | None) -> None:
        here = await self.memory.acquire(endpoint, tokens, usd, panic=panic)
        there = await self.redis.acquire(endpoint, tokens, usd, panic=panic)
        assert type(here) is type(there), (here, there)
        if isinstance(here, Permit) and isinstance(there, Permit):
            assert (here.is_probe, here.is_panic) == (there.is_probe, there.is_panic)
            self.out.append((here, there))
        elif isinstance(here, Rejection) and isinstance(there, Rejection):
            assert here.reason == there.reason
            assert there.wait_s == (None if here.wait_s is None else pytest.approx(here.wait_s, abs=1e-6))

    async def release(
        self, index: int, result: CallResult, tokens: int | None, usd: float | None, wait_s: float | None
    ) -> None:
        if self.out:
            here, there = self.out.pop(index % len(self.out))
            self.gone.append((here, there))
            await self.memory.release(here, result, tokens=tokens, usd=usd, wait_s=wait_s)
            await self.redis.release(there, result, tokens=tokens, usd=usd, wait_s=wait_s)

    async def again(self, index: int) -> None:
        if self.gone:
            here, there = self.gone[index % len(self.gone)]
            await self.memory.release(here, CallResult.FAILURE, tokens=7, usd=0.7, wait_s=70.0)
            await self.redis.release(there, CallResult.FAILURE, tokens=7, usd=0.7, wait_s=70.0)

    async def refuse(self, index: int, result: CallResult, refused: str | None) -> None:
        if self.out:
            for gates, permit in zip((self.memory, self.redis), self.out.pop(index % len(self.out)), strict=True):
                await gates.release(permit, result, reason="it was refused", refused=refused)

    async def lift(self, endpoint: Endpoint) -> None:
        for gates in (self.memory, self.redis):
            await gates.lift([endpoint])

    async def welcome(self, endpoint: Endpoint, refused: str) -> None:
        for gates in (self.memory, self.redis):
            await gates.welcome(endpoint, refused)

    async def enable(self, credential: str | None) -> None:
        await self.memory.enable(credential)
        await self.redis.enable(credential)

    async def advance(self, seconds: float) -> None:
        self.now += seconds


def comparable(status: EndpointStatus) -> dict[str, float]:
    """Its numbers; -1 where no waiting helps."""
    numbers = {name: value for name, value in status._asdict().items() if isinstance(value, int | float)}
    return {"wait_s": -1.0, **numbers}
