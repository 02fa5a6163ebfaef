"""Whose turn it is: from the standings of the places to the next call, or to the reason why there is none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from semroute.config import Config
from semroute.dispatch.attempt import Record
from semroute.dispatch.choice import Ready, Scored, draw, rank
from semroute.dispatch.outlook import expected_s, named
from semroute.dispatch.plan import Option, Plan, Stage
from semroute.errors import AllClosedError
from semroute.resilience.latency import LatencyWindows
from semroute.resilience.retry_budget import RetryBudget
from semroute.types import Gates, Pass, total_cost


@dataclass(frozen=True, slots=True)
class Turn:
    """Leave to call a place now."""

    scored: Scored
    leave: Pass
    retry: bool = False

    @property
    def option(self) -> Option:
        return self.scored.ready.option


class Turns:
    """Gives out the turns of one request.

    Places of a stage come first by the draw, each once; a deployment that failed for a reason that is not its key's has
    had its turn with all its keys. Then those that failed in passing come once more, after a pause and within the retry
    budget, as long as attempts are left for the stages after; then the next stage.
    """

    def __init__(
        self,
        plan: Plan,
        config: Config,
        gates: Gates,
        latencies: LatencyWindows,
        retries: RetryBudget,
        random: Random,
        *,
        streaming: bool,
    ) -> None:
        self._plan = plan
        self._config = config
        self._gates = gates
        self._latencies = latencies
        self._retries = retries
        self._random = random
        self._streaming = streaming
        self._places = set[str]()
        self._deployments = Counter[str]()

    async def next(self, record: Record, *, deadline_s: float) -> Turn | None:
        """The next turn; None when nothing is left to try. ``deadline_s`` is what is left for the request."""
        for number, stage in enumerate(self._plan.stages):
            turn = await self._draw(self._fresh(stage, record), retry=False)
            if turn is None:
                spare = self._config.retries.attempts - len(record.attempts) - self._untried(number + 1)
                turn = await self._repeat(stage, record, deadline_s) if spare > 0 else None
            if turn is not None:
                return turn
        return None

    async def beside(self, turn: Turn, record: Record) -> Turn | None:
        """A turn at another deployment of the same stage, for a hedge."""
        stage = next(stage for stage in self._plan.stages if turn.option in stage.options)
        others = [
            option
            for option in self._fresh(stage, record)
            if option.deployment != turn.option.deployment and self._affords(option, record, turn.option.usd or 0.0)
        ]
        return await self._draw(others, retry=False)

    async def closed_error(self) -> AllClosedError | None:
        """The error for a request whose every place is closed by now; None when one of them is open."""
        places = [option.place for option in self._plan.options]
        standings = await self._gates.standings(places, self._plan.tokens, _prices(self._plan.options))
        if any(standing.wait_s == 0.0 for standing in standings):
            return None
        waits = [standing.wait_s for standing in standings if standing.wait_s is not None]
        reasons = "; ".join(
            f"{named(place)}: {standing.reason or 'closed'}" for place, standing in zip(places, standings, strict=True)
        )
        when = f"the first may open in {min(waits):.1f} s" if waits else "waiting will not open one"
        return AllClosedError(
            f"every place that could answer is closed, and {when} ({reasons})", wait_s=min(waits) if waits else None
        )

    def _fresh(self, stage: Stage, record: Record) -> list[Option]:
        """The stage's places that have not had their turn."""
        failed = {name for name, verdict in record.verdicts.items() if not verdict.is_the_keys}
        fresh = [o for o in stage.options if o.place.key not in self._places and o.deployment.name not in failed]
        return [option for option in fresh if self._affords(option, record)]

    def _affords(self, option: Option, record: Record, running_usd: float = 0.0) -> bool:
        """True if the request's budget allows another attempt beside those made, and one that runs at this price."""
        if self._plan.total_usd is None:
            return True
        spent = total_cost(record.attempts)
        ahead = running_usd + (option.usd or 0.0)
        return (0.0 if spent is None else spent.usd) + ahead <= self._plan.total_usd

    def _untried(self, start: int) -> int:
        """Stages from ``start`` on of which no place was called."""
        later = self._plan.stages[start:]
        return sum(all(option.place.key not in self._places for option in stage.options) for stage in later)

    async def _repeat(self, stage: Stage, record: Record, deadline_s: float) -> Turn | None:
        rules, called = self._config.retries, self._deployments
        options = [
            option
            for option in stage.options
            if 0 < called[option.deployment.name] <= rules.same_place
            and (verdict := record.verdicts.get(option.deployment.name)) is not None
            and verdict.again
            and self._affords(option, record)
        ]
        if not options:
            return None
        tries = min(called[option.deployment.name] for option in options)
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        pause = self._random.uniform(0, min(rules.backoff_s * 2 ** (tries - 1), rules.most_backoff_s))
        if pause >= deadline_s or not self._retries.take():
            return None
        await asyncio.sleep(pause)
        return await self._draw(options, retry=True)

    async def _draw(self, options: list[Option], *, retry: bool) -> Turn | None:
        while options:
            standings = await self._gates.standings([o.place for o in options], self._plan.tokens, _prices(options))
            ready = [
                Ready(option, standing, expected_s(self._latencies, option, self._plan.needs, self._streaming))
                for option, standing in zip(options, standings, strict=True)
                if standing.wait_s == 0.0
            ]
            if not ready:
                return None
            scored = draw(rank(ready, self._config.selection), self._random)
            option = scored.ready.option
            leave = await self._gates.enter(option.place, self._plan.tokens, option.usd or 0.0)
            if isinstance(leave, Pass):
                self._places.add(option.place.key)
                self._deployments[option.deployment.name] += 1
                return Turn(scored, leave, retry)
            # Another request took the room between the look and the step.
            options = [other for other in options if other is not option]
        return None


def _prices(options: Sequence[Option]) -> list[float]:
    """What the call is expected to cost at each place, USD; 0 where no price is known."""
    return [option.usd or 0.0 for option in options]
