"""An endpoint that Redis samples and permits in one step is the one that the scheduler would have sampled."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from resilience.redis_server import OwnRedis

from semroute.config import BreakerRules, Deployment, Selection, Weights
from semroute.dispatch.plan import Candidate, sample, score
from semroute.errors import StateError
from semroute.providers import CallTarget
from semroute.resilience.gates import SampledPermit, SamplingSignals
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.server import Server
from semroute.types import CallResult, Endpoint, EndpointStatus, Permit

# Few calls reach every state: open after three failures in a row, then half open, then with a ramp.
RULES = BreakerRules(jitter=0.0, in_a_row=3)
NOW = 1.7e9
SIGNAL = SamplingSignals(0.01, None, 1.0)


@asynccontextmanager
async def gates_of(redis: OwnRedis, clock: Callable[[], float] = lambda: NOW) -> AsyncGenerator[RedisGates]:
    prefix = f"semroute:{{test-{secrets.token_hex(6)}}}:"
    gates = RedisGates(Server(redis.url, timeout_s=PATIENCE_S), RULES, prefix=prefix, clock=clock)
    yield gates
    await gates.close()


def run(redis: OwnRedis, test: Callable[[RedisGates], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with gates_of(redis) as gates:
            await test(gates)

    asyncio.run(inside())


async def sampled(gates: RedisGates, *endpoints: Endpoint, number: float = 0.5) -> SampledPermit:
    count = len(endpoints)
    return await gates.acquire_sampled(endpoints, 10, [SIGNAL] * count, [0.01] * count, Selection(), number)


class Fixed(Random):
    """A source of one number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self._number = number

    def random(self) -> float:
        return self._number


def by_the_scheduler(
    signals: Sequence[SamplingSignals], statuses: Sequence[EndpointStatus], selection: Selection, edge: int
) -> tuple[float, int | None]:
    """Return a number, and the index that ``score`` and ``sample`` choose by it; None if all are closed.

    The number lies just beside the edge between two endpoints' shares, so that a slightly different share shows.
    """
    target = CallTarget(Deployment(name="any", model="any", base_url="https://host/v1"), None, None)
    candidates = [
        Candidate(target, Endpoint(str(index)), signal.usd, signal.strength, status, signal.expected_s)
        for index, (signal, status) in enumerate(zip(signals, statuses, strict=False))
        if status.wait_s == 0.0
    ]
    if not candidates:
        return 0.5, None
    scored = score(candidates, selection)
    ends = list(itertools.accumulate(one.probability for one in scored))
    beside = ends[abs(edge) % len(ends)] / ends[-1] + math.copysign(1e-9, edge)
    number = min(max(beside, 0.0), 1.0 - 1e-9)
    return number, int(sample(scored, Fixed(number)).candidate.endpoint.deployment)


AMOUNTS = st.floats(0.0, 10.0)
SHARES = st.floats(0.0, 1.0)
SIGNALS = st.builds(
    SamplingSignals, usd=st.none() | AMOUNTS, expected_s=st.none() | st.floats(0.01, 60.0), strength=SHARES
)
LIMITS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "rpm": st.none() | st.integers(4, 9),
            "tpm": st.none() | st.integers(100, 1000),
            "parallel": st.none() | st.integers(2, 6),
            "budget_usd": st.none() | AMOUNTS,
        }
    ),
)
RESULTS = st.lists(st.sampled_from([None, *[CallResult.SUCCESS, CallResult.FAILURE] * 3, *CallResult]), max_size=6)
"""Results of the calls before; None for one that is running."""
SELECTIONS = st.builds(
    Selection,
    weights=st.builds(
        Weights, cost=st.floats(0.1, 1.0), latency=SHARES, availability=st.floats(0.1, 1.0), capability=SHARES
    ),
    sharpness=st.floats(0.0, 30.0),
    exploration=SHARES,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(SIGNALS, LIMITS, RESULTS), min_size=1, max_size=5),
    st.integers(0, 1),
    SELECTIONS,
    st.integers(-5, 5),
    st.sampled_from([0.0, 20.0, 45.0, 90.0]),
)
def test_redis_samples_as_the_scheduler_does(
    redis: OwnRedis,
    places: list[tuple[SamplingSignals, dict[str, Any], list[CallResult | None]]],
    later: int,
    selection: Selection,
    edge: int,
    passed_s: float,
) -> None:
    now = NOW
    endpoints = [Endpoint(f"p{index}", f"KEY{index}", **limits) for index, (_, limits, _) in enumerate(places)]
    signals = [signal for signal, _, _ in places][: max(1, len(places) - later)]
    usd = [signal.usd or 0.0 for signal, _, _ in places]

    async def test() -> None:
        nonlocal now
        async with gates_of(redis, lambda: now) as gates:
            for endpoint, (_, _, results) in zip(endpoints, places, strict=True):
                for result in results:
                    permit = await gates.acquire(endpoint, 100, 0.5)
                    if isinstance(permit, Permit) and result is not None:
                        await gates.release(permit, result)
            now += passed_s
            statuses = await gates.statuses(endpoints, 100, usd)
            number, wanted = by_the_scheduler(signals, statuses, selection, edge)
            found = await gates.acquire_sampled(endpoints, 100, signals, usd, selection, number)
            assert (found.statuses, found.sampled) == (statuses, wanted)
            after = await gates.statuses(endpoints, 100, usd)
            taken = [one.in_flight - before.in_flight for one, before in zip(after, statuses, strict=True)]
            assert taken == [int(index == wanted) for index in range(len(endpoints))]
            if found.permit is not None and wanted is not None:
                permit = found.permit
                assert (permit.endpoint, permit.tokens, permit.usd) == (endpoints[wanted], 100, usd[wanted])
                await gates.release(permit, CallResult.NEUTRAL)
                assert (await gates.statuses(endpoints))[wanted].in_flight == statuses[wanted].in_flight

    asyncio.run(test())


def test_where_every_endpoint_is_closed_none_is_sampled(redis: OwnRedis) -> None:
    async def test(gates: RedisGates) -> None:
        endpoint = Endpoint("p", parallel=1)
        assert isinstance(await gates.acquire(endpoint, 0), Permit)
        found = await sampled(gates, endpoint)
        assert (found.sampled, found.permit, found.statuses[0].in_flight) == (None, None, 1)

    run(redis, test)


@pytest.mark.parametrize("result", [CallResult.SUSPEND, CallResult.DISABLE])
def test_where_a_key_was_refused_the_caller_looks_first_if_it_has_another_one(
    redis: OwnRedis, result: CallResult
) -> None:
    async def test(gates: RedisGates) -> None:
        refused, other = Endpoint("p", "KEY"), Endpoint("q", "OTHER")
        permit = await gates.acquire(refused, 0)
        assert isinstance(permit, Permit)
        await gates.release(permit, result, reason="it answered 401", refused="digest")
        found = await sampled(gates, other, refused)
        assert (found.sampled, found.statuses[1].refused) == (None, "digest")
        assert [one.in_flight for one in await gates.statuses([refused, other])] == [0, 0]

    run(redis, test)


def test_a_repeated_request_gets_the_permit_that_it_has(redis: OwnRedis) -> None:
    async def test(gates: RedisGates) -> None:
        asked = [Permit(Endpoint(name, parallel=1), "once", 10, 0.01) for name in ("p", "q")]
        first, again = [await gates._send_sampled(asked, [SIGNAL] * 2, Selection(), number) for number in (0.1, 0.9)]
        assert first.permit is not None
        assert (again.sampled, again.permit) == (first.sampled, first.permit)
        assert sum(one.in_flight for one in await gates.statuses([one.endpoint for one in asked])) == 1

    run(redis, test)


def test_a_request_that_is_cancelled_gives_back_what_it_got(redis: OwnRedis) -> None:
    async def test(gates: RedisGates) -> None:
        endpoints = [Endpoint(name, name, parallel=5, budget_usd=1.0) for name in ("p", "q")]
        for delay_s in (0.0, 0.0001, 0.0003, 0.001):
            asking = asyncio.create_task(sampled(gates, *endpoints))
            await asyncio.sleep(delay_s)
            asking.cancel()
            answer: Any = (await asyncio.gather(asking, return_exceptions=True))[0]
            if isinstance(answer, SampledPermit) and answer.permit is not None:  # it was answered before
                await gates.release(answer.permit, CallResult.NEUTRAL, tokens=0, usd=0.0)
        await gates.close()
        assert [(one.in_flight, one.spent_usd) for one in await gates.statuses(endpoints)] == [(0, 0.0)] * 2

    run(redis, test)


def test_a_request_that_redis_did_not_answer_is_released_wherever_it_may_be(redis: OwnRedis) -> None:
    async def test(gates: RedisGates) -> None:
        asked = [Permit(Endpoint(name, parallel=1), "lost", 10, 0.01) for name in ("p", "q")]
        lost = RedisGates(Server("redis://127.0.0.1:1/0"), RULES, prefix=gates._prefix, clock=lambda: NOW)
        with pytest.raises(StateError):
            await lost._send_sampled(asked, [SIGNAL] * 2, Selection(), 0.5)
        assert (await gates._send_sampled(asked, [SIGNAL] * 2, Selection(), 0.5)).permit is not None  # it had arrived
        lost.server = gates.server
        await lost.settle()
        assert [one.in_flight for one in await gates.statuses([one.endpoint for one in asked])] == [0, 0]

    run(redis, test)
