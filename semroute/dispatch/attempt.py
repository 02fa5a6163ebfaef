"""One attempt: one call of one place, and everything that its end has to tell to whom."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import httpx

from semroute.catalog import cost_of, estimated_cost
from semroute.config import Config
from semroute.dispatch.choice import Scored
from semroute.dispatch.verdicts import Verdict, judge
from semroute.errors import DispatchError
from semroute.providers import ADAPTERS
from semroute.resilience.latency import LatencyWindows, seconds_per_token
from semroute.types import Attempt, Completion, Cost, Delta, Ending, Gates, Pass, Request, Usage

CHARACTERS_PER_TOKEN = 4
"""For what a broken stream had said: OpenAI's rule of thumb for English text
(https://help.openai.com/en/articles/4936856)."""


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
    """The attempts of one request so far, in the order in which they ended."""

    attempts: list[Attempt] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


async def attempt(
    scene: Scene, scored: Scored, leave: Pass, record: Record, *, within_s: float, hedge: bool = False, retry: bool
) -> AsyncGenerator[Delta | Completion]:
    """Call the place and pass on what it says; the pass is given back on every way out.

    Raises:
        DispatchError: as the adapter raised it; its verdict is in ``record`` under the place's key.
    """
    option = scored.ready.option
    deployment = option.deployment
    started = time.perf_counter()
    end = _End(scene, scored, leave, started, hedge=hedge, retry=retry)
    try:
        async with aclosing(_events(scene, scored, within_s)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    event = replace(event, cost=cost_of_answer(scene, scored, event))
                    record.attempts.append(await end.answered(event))
                else:
                    end.heard(event)
                yield event
    except DispatchError as error:
        verdict = judge(error, cut_short=within_s < min(deployment.timeout_s, deployment.timeouts.first_token_s))
        record.verdicts[option.place.key] = verdict
        record.attempts.append(await end.failed(error, verdict))
        raise
    finally:
        # Cancelled, closed by the reader, or a fault of our own: nothing of it is the place's doing.
        if not end.is_told:
            record.attempts.append(await end.abandoned())


def _events(scene: Scene, scored: Scored, within_s: float) -> AsyncGenerator[Delta | Completion]:
    target = scored.ready.option.target
    adapter = ADAPTERS[target.deployment.format]
    if scene.streaming:
        return adapter.stream(scene.client, target, scene.request, within_s=within_s)

    async def whole() -> AsyncGenerator[Delta | Completion]:
        yield await adapter.complete(scene.client, target, scene.request, within_s=within_s)

    return whole()


def cost_of_answer(scene: Scene, scored: Scored, answer: Completion) -> Cost | None:
    """Cost from the counted tokens; estimated and marked so where the provider did not count."""
    deployment = scored.ready.option.deployment
    if answer.usage is not None:
        return cost_of(deployment, scene.config, answer.usage)
    return estimated_cost(deployment, scene.config, scene.input_tokens, _tokens_in(len(answer.text)))


class _End:
    """Tells the gates, the latency windows and the record how an attempt ended; once."""

    def __init__(self, scene: Scene, scored: Scored, leave: Pass, started: float, *, hedge: bool, retry: bool) -> None:
        self._scene = scene
        self._scored = scored
        self._leave = leave
        self._started = started
        self._flags = {"hedge": hedge, "retry": retry}
        self._first_token_s: float | None = None
        self._characters = 0
        self.is_told = False

    def heard(self, delta: Delta) -> None:
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._started
        self._characters += len(delta.text)

    async def answered(self, answer: Completion) -> Attempt:
        total_s = time.perf_counter() - self._started
        self._observe(answer, total_s)
        return await self._tell(Ending.SUCCESS, usage=answer.usage, cost=answer.cost, status=200)

    async def failed(self, error: DispatchError, verdict: Verdict) -> Attempt:
        usage, cost = error.usage, self._cost_so_far(error.usage)
        is_refused = error.status is not None and not 200 <= error.status < 300
        if is_refused and usage is None and not self._characters:
            # A refused call is not charged; where no price is known, neither is this one's.
            usage, cost = Usage(0, 0), None if cost is None else Cost(0.0)
        return await self._tell(
            verdict.ending,
            usage=usage,
            cost=cost,
            status=error.status,
            error=error,
            wait_s=verdict.wait_s,
        )

    async def abandoned(self) -> Attempt:
        cost = self._cost_so_far(None)
        return await self._tell(Ending.NEUTRAL, usage=None, cost=cost, abandoned=True)

    async def _tell(
        self,
        ending: Ending,
        *,
        usage: Usage | None,
        cost: Cost | None,
        status: int | None = None,
        error: DispatchError | None = None,
        wait_s: float | None = None,
        abandoned: bool = False,
    ) -> Attempt:
        self.is_told = True
        elapsed_s = time.perf_counter() - self._started
        place = self._leave.place
        await self._scene.gates.leave(
            self._leave,
            ending,
            tokens=None if usage is None else usage.input_tokens + usage.output_tokens,
            usd=None if cost is None else cost.usd,
            wait_s=wait_s,
            reason=None if error is None or ending is not Ending.DISABLE else str(error),
        )
        return Attempt(
            deployment=place.deployment,
            model=self._scored.ready.option.deployment.model,
            latency_ms=elapsed_s * 1000,
            status=status,
            error="given up: not needed any more" if abandoned else None if error is None else str(error),
            error_kind="Abandoned" if abandoned else None if error is None else type(error).__name__,
            credential=place.credential,
            first_token_ms=None if self._first_token_s is None else self._first_token_s * 1000,
            usage=usage,
            cost=cost,
            probability=self._scored.probability,
            score=self._scored.parts,
            **self._flags,
        )

    def _cost_so_far(self, usage: Usage | None) -> Cost | None:
        """What a call that did not end well will be charged: its input, and what it had said."""
        deployment, config = self._scored.ready.option.deployment, self._scene.config
        said = _tokens_in(self._characters)
        if usage is None:
            return estimated_cost(deployment, config, self._scene.input_tokens, said)
        # Some providers count the output only at the end, and a stream that broke did not come to it.
        cost = cost_of(deployment, config, replace(usage, output_tokens=max(usage.output_tokens, said)))
        return cost if cost is None or said <= usage.output_tokens else replace(cost, estimated=True)

    def _observe(self, answer: Completion, total_s: float) -> None:
        output_tokens = answer.usage.output_tokens if answer.usage else _tokens_in(len(answer.text))
        self._scene.latencies.observe(
            self._leave.place.deployment,
            streaming=self._scene.streaming,
            prompt_tokens=answer.usage.input_tokens if answer.usage else self._scene.input_tokens,
            first_token_s=self._first_token_s,
            per_token_s=seconds_per_token(total_s, self._first_token_s, output_tokens),
            total_s=total_s,
        )


def _tokens_in(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)
