"""Time and helpers of the tests that every implementation of ``AdmissionControl`` must pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from semroute.config import BreakerRules
from semroute.types import AdmissionControl, BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection

# Without jitter, so that times are known.
RULES = BreakerRules(jitter=0.0)
# One failed probe opens the breaker again.
STRICT = RULES.model_copy(update={"failure_share": 0.2})
PLACE = Endpoint("openai-small", "OPENAI_API_KEY")
# What real time may add between two steps of a test.
SLACK_S = 0.5
# No implementation keeps a call that never came back for longer.
FORGOTTEN_S = 2 * 3600.0


class ContractGates(AdmissionControl, Protocol):
    """Gates whose disabled credentials can be enabled again."""

    async def enable(self, credential: str | None) -> None:
        """Let the credential's places be called again; None: the places that need no key."""
        ...

    async def lift(self, endpoints: Sequence[Endpoint]) -> None:
        """Lift whatever closes these places."""
        ...


class World(Protocol):
    """Fresh gates and the time they live in."""

    @property
    def gates(self) -> ContractGates: ...

    async def advance(self, seconds: float) -> None:
        """Let time pass, for the gates' clock and for the calendar."""
        ...


async def entered(gates: AdmissionControl, endpoint: Endpoint = PLACE, tokens: int = 0, usd: float = 0.0) -> Permit:
    answer = await gates.acquire(endpoint, tokens, usd)
    assert isinstance(answer, Permit), answer
    assert (answer.endpoint, answer.tokens, answer.usd) == (endpoint, tokens, usd)
    return answer


async def refused(gates: AdmissionControl, endpoint: Endpoint = PLACE, tokens: int = 0, usd: float = 0.0) -> Rejection:
    answer = await gates.acquire(endpoint, tokens, usd)
    assert isinstance(answer, Rejection), answer
    assert answer.endpoint == endpoint
    assert answer.reason
    return answer


async def status(
    gates: AdmissionControl, endpoint: Endpoint = PLACE, tokens: int = 0, usd: float = 0.0
) -> EndpointStatus:
    (found,) = await gates.statuses([endpoint], tokens, usd)
    return found


async def state(gates: AdmissionControl, endpoint: Endpoint = PLACE) -> BreakerState:
    return (await status(gates, endpoint)).breaker


async def end(gates: AdmissionControl, results: Iterable[CallResult], endpoint: Endpoint = PLACE) -> None:
    """One call after the other, each with its ending."""
    for result in results:
        await gates.release(await entered(gates, endpoint), result)


async def opened(gates: AdmissionControl, endpoint: Endpoint = PLACE) -> None:
    await end(gates, [CallResult.FAILURE] * RULES.in_a_row, endpoint)
    assert await state(gates, endpoint) is BreakerState.OPEN


async def half_opened(world: World) -> None:
    await opened(world.gates)
    await world.advance(RULES.open_s)
    assert await state(world.gates) is BreakerState.HALF_OPEN


def wait_of(found: Rejection | EndpointStatus) -> float:
    assert found.wait_s is not None
    return found.wait_s


class Contract:
    """Base of the contracts; a test module implements :meth:`world`."""

    def world(self, rules: BreakerRules) -> AbstractAsyncContextManager[World]:
        raise NotImplementedError

    def run(self, test: Callable[[World], Awaitable[Any]], rules: BreakerRules = RULES) -> None:
        async def inside() -> None:
            async with self.world(rules) as world:
                await test(world)

        asyncio.run(inside())
