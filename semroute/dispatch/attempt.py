"""One attempt: one call of one place, given back and recorded on every way out."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import httpx

from semroute.config import Config
from semroute.dispatch.choice import Scored
from semroute.dispatch.ending import Ledger
from semroute.dispatch.verdicts import Verdict, judge
from semroute.errors import DispatchError
from semroute.providers import ADAPTERS
from semroute.resilience.latency import LatencyWindows
from semroute.types import Attempt, Completion, Delta, Gates, Pass, Request


@dataclass(frozen=True, slots=True)
class Scene:
    """What all attempts of one request share."""

    request: Request
    config: Config
    gates: Gates
    latencies: LatencyWindows
    client: httpx.AsyncClient
    input_tokens: int
    streaming: bool


@dataclass(slots=True)
class Record:
    """What the attempts of one request have come to.

    Attributes:
        attempts: in the order in which they ended.
        verdicts: on the last failure at each deployment, by its name.
        final: a failure that no other place can mend.
    """

    attempts: list[Attempt] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    final: DispatchError | None = None


async def attempt(
    scene: Scene, scored: Scored, leave: Pass, record: Record, *, within_s: float, hedge: bool = False, retry: bool
) -> AsyncGenerator[Delta | Completion]:
    """Call the place and pass on what it says.

    Raises:
        DispatchError: as the adapter raised it; its verdict is in ``record``.
    """
    deployment = scored.ready.option.deployment
    ledger = Ledger(scored, leave, scene.config, scene.input_tokens, hedge=hedge, retry=retry)
    try:
        async with aclosing(_events(scene, scored, within_s)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    event = replace(event, cost=ledger.cost_of(event))
                    ledger.observe(event, scene.latencies, streaming=scene.streaming)
                    await ledger.answered(event, record.attempts, scene.gates)
                else:
                    ledger.heard(event)
                given_out = time.perf_counter()
                yield event
                ledger.paused_s += time.perf_counter() - given_out
    except DispatchError as error:
        verdict = judge(error, scored.ready.standing)
        record.verdicts[deployment.name] = verdict
        if not verdict.elsewhere:
            record.final = error
        await ledger.failed(error, verdict, record.attempts, scene.gates)
        raise
    finally:
        # Cancelled, closed by the reader, or a fault of our own: nothing of it is the place's doing.
        if not ledger.is_closed:
            await ledger.abandoned(record.attempts, scene.gates)


def _events(scene: Scene, scored: Scored, within_s: float) -> AsyncGenerator[Delta | Completion]:
    target = scored.ready.option.target
    adapter = ADAPTERS[target.deployment.format]
    if scene.streaming:
        return adapter.stream(scene.client, target, scene.request, within_s=within_s)

    async def whole() -> AsyncGenerator[Delta | Completion]:
        yield await adapter.complete(scene.client, target, scene.request, within_s=within_s)

    return whole()
