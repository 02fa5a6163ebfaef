"""One endpoint for a model: an open breaker must not call random failures into an outage, nor hammer a dead one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import httpx
import pytest

from semroute.config import BreakerRules, Config
from semroute.dispatch import Dispatcher
from semroute.dispatch.attempt import AttemptLog, ErrorPolicy
from semroute.dispatch.constraints import Constraints
from semroute.dispatch.plan import Planner
from semroute.dispatch.scheduler import EndpointScheduler
from semroute.errors import AllClosedError, DispatchError
from semroute.resilience import LatencyWindows, MemoryGates, RetryBudget
from semroute.testing import FakeProvider, Reply, fail
from semroute.types import Attempt, CallResult, Endpoint, Permit, Rejection, Request

HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)
NEVER = {"in_a_row": 10**9, "least_calls": 10**9}
EVERY_S = 0.1
REQUESTS = 2000


@dataclass
class Simulation:
    """Requests one after the other, each with its retries, in a time of their own."""

    rules: dict[str, float] = field(default_factory=dict)
    deployments: tuple[str, ...] = ("only",)
    now: float = 0.0
    calls: int = 0

    def __post_init__(self) -> None:
        places = [
            {"name": name, "model": "large", "base_url": f"http://{name}.example/v1"} for name in self.deployments
        ]
        self.config = Config.model_validate(
            {
                "deployments": places,
                "breaker": self.rules,
                "retries": {"backoff_s": 1e-9, "most_backoff_s": 1e-9},
            }
        )
        self.random = Random(7)
        clock = lambda: self.now  # noqa: E731
        self.gates = MemoryGates(self.config.breaker, clock=clock, wall=clock, rng=Random(1))
        self.retries = RetryBudget(self.config.retries.budget, clock)
        self.plan = Planner(self.config, {}).plan(HELLO, ("large",), Constraints())

    async def request(self, failing: float) -> bool:
        """Whether one request is answered, where each call fails with a probability."""
        self.now += EVERY_S
        self.retries.request()
        latencies = LatencyWindows(clock=lambda: self.now)
        scheduler = EndpointScheduler(
            self.plan, self.config, self.gates, latencies, self.retries, self.random, streaming=False
        )
        log = AttemptLog()
        while (call := await scheduler.next(log, deadline_s=60.0)) is not None:
            self.calls += 1
            name = call.candidate.deployment.name
            if self.random.random() >= failing:
                await self.gates.release(call.permit, CallResult.SUCCESS)
                return True
            log.attempts.append(Attempt(name, "large", 1.0))
            log.policies[name] = ErrorPolicy(CallResult.FAILURE, again=True)
            await self.gates.release(call.permit, CallResult.FAILURE)
        return False

    def answered(self, failing: float, requests: int = REQUESTS) -> float:
        """Share of the requests that are answered."""

        async def inside() -> int:
            return sum([await self.request(failing) for _ in range(requests)])

        return asyncio.run(inside()) / requests


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0.0, 0.2, 0.4, 0.6])
def test_with_one_endpoint_the_breaker_costs_no_answers_that_would_be_had_without_it(failing: float) -> None:
    without = Simulation(NEVER).answered(failing)
    assert Simulation().answered(failing) >= without - 0.03


@pytest.mark.slow
def test_a_dead_endpoint_gets_a_few_calls_and_is_used_again_seconds_after_it_is_well() -> None:
    simulation = Simulation()
    assert simulation.answered(1.0) == 0.0
    outage_s = REQUESTS * EVERY_S
    assert simulation.calls <= 2 * outage_s  # 10 requests a second, each with retries without a breaker
    simulation.answered(0.0, requests=100)
    assert simulation.answered(0.0, requests=100) == 1.0


@pytest.mark.slow
def test_two_dead_endpoints_are_called_no_more_often_each() -> None:
    simulation = Simulation(deployments=("one", "two"))
    simulation.answered(1.0)
    assert simulation.calls <= 2 * 2 * REQUESTS * EVERY_S


@pytest.mark.slow
def test_without_panic_a_dead_endpoint_gets_probes_alone() -> None:
    simulation = Simulation({"panic_per_s": 0.0})
    simulation.answered(1.0)
    assert simulation.calls <= 60


def test_beside_an_open_endpoint_a_closed_one_is_left_alone() -> None:
    simulation = Simulation(deployments=("dead", "well"))
    dead, _ = [candidate.endpoint for candidate in simulation.plan.candidates]

    async def inside() -> list[str]:
        for _ in range(5):
            permit = await simulation.gates.acquire(dead, 1)
            await simulation.gates.release(permit, CallResult.FAILURE)  # type: ignore[arg-type]
        return [await called(simulation) for _ in range(200)]

    async def called(simulation: Simulation) -> str:
        scheduler = EndpointScheduler(
            simulation.plan,
            simulation.config,
            simulation.gates,
            LatencyWindows(),
            simulation.retries,
            simulation.random,
            streaming=False,
        )
        log = AttemptLog()
        first = await scheduler.next(log, deadline_s=60.0)
        assert first is not None
        await simulation.gates.release(first.permit, CallResult.NEUTRAL)
        log.policies[first.candidate.deployment.name] = ErrorPolicy(CallResult.NEUTRAL)
        assert await scheduler.next(log, deadline_s=60.0) is None
        return first.candidate.deployment.name

    assert set(asyncio.run(inside())) == {"well"}


def test_panic_lets_nothing_through_a_limit() -> None:
    rules = BreakerRules(jitter=0.0)
    gates = MemoryGates(rules, clock=lambda: 0.0)

    async def inside() -> None:
        place = Endpoint("p", rpm=6)
        for _ in range(rules.in_a_row):
            permit = await gates.acquire(place, 1)
            assert isinstance(permit, Permit)
            await gates.release(permit, CallResult.FAILURE)
        assert isinstance(await gates.acquire(place, 1), Rejection)
        assert isinstance(await gates.acquire(place, 1, panic=0.0), Permit)
        refusal = await gates.acquire(place, 1, panic=0.0)
        assert isinstance(refusal, Rejection)
        assert refusal.reason == "6 requests a minute are used up"

    asyncio.run(inside())


def test_the_error_of_a_request_that_drew_badly_says_that_the_breaker_is_open() -> None:
    simulation = Simulation({"panic_per_s": 0.001})
    asyncio.run(drawn_badly(simulation))


async def drawn_badly(simulation: Simulation) -> None:
    for _ in range(20):
        await simulation.request(1.0)
    scheduler = EndpointScheduler(
        simulation.plan,
        simulation.config,
        simulation.gates,
        LatencyWindows(),
        simulation.retries,
        simulation.random,
        streaming=False,
    )
    assert await scheduler.next(AttemptLog(), deadline_s=60.0) is None
    error = await scheduler.closed_error()
    assert isinstance(error, AllClosedError)
    assert "breaker" in str(error)


@pytest.mark.slow
def test_a_real_endpoint_that_fails_at_random_answers_as_many_as_it_can() -> None:
    random = Random(3)

    async def answered(dispatcher: Dispatcher) -> bool:
        try:
            await dispatcher.complete(HELLO, ("large",))
        except DispatchError:
            return False
        return True

    async def inside(provider: FakeProvider) -> int:
        # Five failures in a row open the breaker before anything is known of the endpoint.
        provider.script(*[fail(500)] * 5, *[fail(500) if random.random() < 0.4 else Reply() for _ in range(600)])
        place = {"name": "only", "model": "large", "base_url": provider.base_url}
        quick = {"backoff_s": 1e-4, "most_backoff_s": 1e-4}
        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(Config.model_validate({"deployments": [place], "retries": quick}), client=client)
            while not await answered(dispatcher):
                await asyncio.sleep(0.05)
            found = sum([await answered(dispatcher) for _ in range(200)])
            await dispatcher.close()
            return found

    with FakeProvider() as provider:
        assert asyncio.run(inside(provider)) >= 0.55 * 200


def two_of_which(half_open: str, opened: str) -> Simulation:
    """Two endpoints: one whose breaker is half-open, and one whose breaker is open."""
    simulation = Simulation({"jitter": 0.0, "open_s": 100.0}, deployments=(half_open, opened))
    places = {candidate.endpoint.deployment: candidate.endpoint for candidate in simulation.plan.candidates}

    async def inside() -> None:
        for name in (half_open, opened):
            for _ in range(5):
                permit = await simulation.gates.acquire(places[name], 1)
                assert isinstance(permit, Permit)
                await simulation.gates.release(permit, CallResult.FAILURE)
            simulation.now += 50.0

    asyncio.run(inside())
    return simulation


def turns_of(simulation: Simulation) -> EndpointScheduler:
    return EndpointScheduler(
        simulation.plan,
        simulation.config,
        simulation.gates,
        LatencyWindows(clock=lambda: simulation.now),
        simulation.retries,
        simulation.random,
        streaming=False,
    )


def test_where_a_probe_failed_the_request_may_still_pass_the_open_breaker_of_another() -> None:
    simulation = two_of_which("probed", "closed")

    async def inside() -> list[tuple[str, bool]]:
        scheduler, log, found = turns_of(simulation), AttemptLog(), []
        while (call := await scheduler.next(log, deadline_s=60.0)) is not None:
            name = call.candidate.deployment.name
            found.append((name, call.permit.is_panic))
            log.attempts.append(Attempt(name, "large", 1.0))
            log.policies[name] = ErrorPolicy(CallResult.FAILURE)
            await simulation.gates.release(call.permit, CallResult.FAILURE)
        return found

    assert asyncio.run(inside()) == [("probed", False), ("closed", True)]


def test_a_probe_and_a_call_in_panic_leave_time_for_what_panic_may_call_after_them() -> None:
    async def first(simulation: Simulation, deadline_s: float) -> tuple[bool, bool]:
        call = await turns_of(simulation).next(AttemptLog(), deadline_s=deadline_s)
        assert call is not None
        return call.permit.is_panic, call.has_others

    simulation = two_of_which("probed", "closed")
    assert asyncio.run(first(simulation, 1.0)) == (False, True)
    assert asyncio.run(first(two_of_which("probed", "closed"), 1000.0)) == (False, False)
    simulation = two_of_which("probed", "closed")
    simulation.now -= 1.0  # both are open
    assert asyncio.run(first(simulation, 1.0)) == (True, True)
