from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest
from resilience.gates_contract import GatesContract
from resilience.gates_world import RULES, World, end, entered, half_opened, refused, state, status

from semroute.config import BreakerRules
from semroute.errors import DataError
from semroute.resilience import MemoryGates
from semroute.types import BreakerState, CallResult, Endpoint, Permit

LIMITED = Endpoint("p", "KEY", rpm=1000, tpm=1000, parallel=8, budget_usd=1.0)


class MemoryWorld:
    """Memory gates in a time of their own that begins on 14 November 2026, 12:00 UTC."""

    def __init__(self, rules: BreakerRules = RULES) -> None:
        self.now = 1000.0
        self.gates = MemoryGates(rules, clock=lambda: self.now, wall=lambda: 1_794_656_600.0 + self.now, rng=Random(1))

    async def advance(self, seconds: float) -> None:
        self.now += seconds


class TestMemoryGates(GatesContract):
    @asynccontextmanager
    async def world(self, rules: BreakerRules) -> AsyncGenerator[World]:
        yield MemoryWorld(rules)


def test_tasks_cancelled_at_any_moment_leave_nothing_behind() -> None:
    rng, world = Random(7), MemoryWorld()

    async def call() -> None:
        permit = await world.gates.acquire(LIMITED, 100, 0.1)
        if not isinstance(permit, Permit):
            return
        result, tokens = CallResult.NEUTRAL, 0
        try:
            for _ in range(rng.randint(0, 5)):
                await asyncio.sleep(0)
            result, tokens = CallResult.SUCCESS, 1
        finally:
            await world.gates.release(permit, result, tokens=tokens, usd=0.0)

    async def inside() -> None:
        for _ in range(100):
            tasks = [asyncio.create_task(call()) for _ in range(10)]
            for task in tasks:
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                if rng.random() < 0.6:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.done() for task in tasks)
            found = await status(world.gates, LIMITED)
            assert (found.in_flight, found.spent_usd, found.breaker) == (0, 0.0, BreakerState.CLOSED)
            await world.advance(60.0)
        assert (await status(world.gates, LIMITED)).headroom == pytest.approx(1 - 1 / 8)

    asyncio.run(inside())


def test_a_cancelled_probe_is_followed_by_another() -> None:
    async def inside() -> None:
        world = MemoryWorld()
        await half_opened(world)

        async def probe() -> None:
            permit = await entered(world.gates)
            assert permit.is_probe
            try:
                await asyncio.sleep(3600)
            finally:
                await world.gates.release(permit, CallResult.NEUTRAL, tokens=0, usd=0.0)

        for _ in range(10):
            tasks = [asyncio.create_task(probe()) for _ in range(RULES.probes)]
            await asyncio.sleep(0)
            await refused(world.gates)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await end(world.gates, [CallResult.SUCCESS] * RULES.successes)
        assert await state(world.gates) is BreakerState.CLOSED

    asyncio.run(inside())


def test_a_call_that_is_forgotten_has_spent_what_it_reserved() -> None:
    async def inside() -> None:
        world = MemoryWorld()
        lost = await entered(world.gates, LIMITED, 500, 0.5)
        await world.advance(3600.0)
        assert (await status(world.gates, LIMITED)).in_flight == 0
        await world.gates.release(lost, CallResult.SUCCESS, tokens=0, usd=0.0)
        found = await status(world.gates, LIMITED)
        assert (found.in_flight, found.spent_usd) == (0, 0.5)

    asyncio.run(inside())


def test_a_pass_of_other_gates_is_not_taken_for_one_of_ours() -> None:
    async def inside() -> None:
        ours, theirs = MemoryWorld().gates, MemoryWorld().gates
        await entered(ours, LIMITED)
        await ours.release(await entered(theirs, LIMITED), CallResult.DISABLE, wait_s=60.0)
        found = await status(ours, LIMITED)
        assert (found.in_flight, found.breaker, found.wait_s) == (1, BreakerState.CLOSED, 0.0)

    asyncio.run(inside())


def test_limits_are_those_of_the_place_as_it_is_asked_for_last() -> None:
    async def inside() -> None:
        gates = MemoryWorld().gates
        for _ in range(3):
            await entered(gates, Endpoint("p", rpm=3))
        await refused(gates, Endpoint("p", rpm=3))
        await entered(gates, Endpoint("p", rpm=4))
        await refused(gates, Endpoint("p", rpm=4))
        await refused(gates, Endpoint("p", rpm=2))

    asyncio.run(inside())


def test_the_reason_and_the_wait_are_those_of_the_longest_obstacle() -> None:
    async def inside() -> None:
        world = MemoryWorld()
        endpoint = Endpoint("p", "KEY", rpm=5, budget_usd=1.0)
        await end(world.gates, [CallResult.FAILURE] * 5, endpoint)
        refusal = await refused(world.gates, endpoint)
        assert (refusal.wait_s, refusal.reason) == (60.0, "5 requests a minute are used up")
        refusal = await refused(world.gates, endpoint, usd=2.0)
        assert (refusal.wait_s, "dearer" in refusal.reason) == (None, True)

    asyncio.run(inside())


def test_threads_with_loops_of_their_own_never_pass_a_limit_together() -> None:
    gates, endpoint, passes = MemoryWorld().gates, Endpoint("p", rpm=500, parallel=1000), []

    async def many() -> None:
        passes.extend([answer for _ in range(400) if isinstance(answer := await gates.acquire(endpoint, 0), Permit)])

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passes) == len({permit.id for permit in passes}) == 500


def test_the_snapshot_shows_every_place_and_is_ready_for_json() -> None:
    async def inside() -> None:
        world = MemoryWorld()
        await world.gates.release(await entered(world.gates, LIMITED, 300, 0.5), CallResult.SUCCESS, tokens=200)
        keyless = Endpoint("vllm")
        await world.gates.release(await entered(world.gates, keyless), CallResult.DISABLE, reason="401")
        snapshot = world.gates.snapshot()
        assert json.loads(json.dumps(snapshot)) == snapshot
        assert (snapshot["month"], snapshot["spent_usd"]) == ("2026-11", {"KEY": 0.5, "vllm|": 0.0})
        assert snapshot["disabled"] == {"vllm|": "401"}
        one, two = snapshot["places"]  # type: ignore[misc]
        shown = {"deployment": "p", "breaker": "closed", "calls": 1, "requests": 1, "tokens": 200, "in_flight": 0}
        assert shown.items() <= one.items()
        shown = {"deployment": "vllm", "breaker": "disabled", "wait_s": None, "reason": "vllm is disabled: 401"}
        assert shown.items() <= two.items()

    asyncio.run(inside())


def test_spending_goes_on_from_a_snapshot_of_the_same_month() -> None:
    async def inside() -> None:
        before, after = MemoryWorld(), MemoryWorld()
        await entered(before.gates, LIMITED, 0, 0.75)
        saved = json.loads(json.dumps(before.gates.snapshot()))
        for _ in range(2):
            after.gates.restore(saved)
        assert (await status(after.gates, LIMITED)).spent_usd == 0.75
        await refused(after.gates, LIMITED, 0, 0.5)
        later = MemoryWorld()
        await later.advance(31 * 24 * 3600.0)
        later.gates.restore(saved)
        assert (await status(later.gates, LIMITED)).spent_usd == 0.0

    asyncio.run(inside())


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"month": 11, "spent_usd": {}},
        {"month": "2026-11", "spent_usd": [1.0]},
        {"month": "2026-11", "spent_usd": {"KEY": "much"}},
        {"month": "2026-11", "spent_usd": {"KEY": float("nan")}},
        {"month": "2026-11", "spent_usd": {"KEY": -1.0}},
    ],
)
def test_what_is_no_snapshot_is_refused_and_changes_nothing(damaged: dict[str, object]) -> None:
    gates = MemoryWorld().gates
    with pytest.raises(DataError, match="snapshot of the gates"):
        gates.restore(damaged)
    assert gates.snapshot()["spent_usd"] == {}
