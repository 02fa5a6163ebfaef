"""Pick the next endpoint to call, or explain why none is available."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from semroute.catalog import estimated_cost
from semroute.config import Config, Deployment
from semroute.dispatch.attempt import AttemptLog
from semroute.dispatch.plan import DispatchPlan, Option, Stage
from semroute.dispatch.selection import Candidate, ScoredCandidate, expected_s, named, sample, score
from semroute.errors import AllClosedError
from semroute.resilience.breaker import RetryBudget
from semroute.resilience.latency import LatencyWindows
from semroute.resilience.suspension import is_same_key
from semroute.types import AdmissionControl, BreakerState, EndpointStatus, Permit, total_cost

LEAST_ROOM = 0.4
"""Share of a request's remaining time that an attempt's ``timeout_s`` must leave to other endpoints."""


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """An endpoint to call now, with its permit.

    Attributes:
        scored: the candidate that was sampled.
        leave: permit of the call.
        siblings: deployments of its stage.
        retry: True if the deployment was called before.
        has_others: True if another deployment could be called now if this one stays silent.
    """

    scored: ScoredCandidate
    leave: Permit
    siblings: tuple[Deployment, ...] = ()
    retry: bool = False
    has_others: bool = False

    @property
    def option(self) -> Option:
        return self.scored.ready.option


class EndpointScheduler:
    """Scheduler of the endpoints of one request.

    Endpoints of a stage are sampled first, each once; a failure that does not concern the key excludes the deployment
    with all its keys. Then transient failures are retried, after a backoff and within the retry budget, as long as
    attempts are left for later stages; then comes the next stage.

    If every endpoint of the request is closed, those closed only by their circuit breaker get a share of the requests,
    as large as their successes allow (panic mode, ``Breaker.panic_share``). A request samples once for all its
    attempts, since an admitted request should not fail by the sample of its retry.
    """

    def __init__(
        self,
        plan: DispatchPlan,
        config: Config,
        gates: AdmissionControl,
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
        self._luck: float | None = None

    async def next(self, record: AttemptLog, *, deadline_s: float) -> ScheduledCall | None:
        """Return the next call, or None if nothing is left to try.

        ``deadline_s`` is the time left for the request, seconds.
        """
        for number, stage in enumerate(self._plan.stages):
            later = None
            if len(record.attempts) + 1 < self._config.retries.attempts and self._is_tight(stage, deadline_s):
                later = [o for other in self._plan.stages[number + 1 :] for o in self._fresh(other, record)]
            turn = await self._draw(record, self._fresh(stage, record), later)
            if turn is None and self._spare(number, record) > 0:
                turn = await self._repeat(stage, record, later, deadline_s)
            if turn is not None:
                return turn
        return await self._come_back(record) or await self._panic(record, deadline_s)

    async def beside(self, turn: ScheduledCall, record: AttemptLog) -> ScheduledCall | None:
        """Schedule a hedged request at another deployment of the same stage."""
        stage = next(stage for stage in self._plan.stages if turn.option in stage.options)
        others = [
            option
            for option in self._fresh(stage, record)
            if option.deployment != turn.option.deployment and self._affords(option, record, turn.option.usd or 0.0)
        ]
        return await self._draw(record, others)

    async def closed_error(self) -> AllClosedError | None:
        """Return the error if every endpoint is closed; None if one is open."""
        places = [option.place for option in self._plan.options]
        standings = await self._standings(self._plan.options)
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

    def _is_tight(self, stage: Stage, left_s: float) -> bool:
        """Return True if the deployments' timeouts leave others too little time."""
        return any(
            min(one.timeout_s, one.timeouts.first_token_s if self._streaming else one.timeout_s)
            > (1.0 - LEAST_ROOM) * left_s
            for one in (option.deployment for option in stage.options)
        )

    def _siblings(self, option: Option) -> tuple[Deployment, ...]:
        stage = next(stage for stage in self._plan.stages if option in stage.options)
        return tuple(one.deployment for one in stage.options)

    def _fresh(self, stage: Stage, record: AttemptLog) -> list[Option]:
        """Return the stage's affordable endpoints that were not called yet."""
        failed = {name for name, verdict in record.verdicts.items() if not verdict.is_the_keys}
        fresh = [o for o in stage.options if o.place.key not in self._places and o.deployment.name not in failed]
        return [option for option in fresh if self._affords(option, record)]

    def _affords(self, option: Option, record: AttemptLog, running_usd: float = 0.0) -> bool:
        """Return True if the budget allows another attempt.

        Counts the attempts made, and one running at ``running_usd``.
        """
        if self._plan.total_usd is None:
            return True
        spent = total_cost(record.attempts)
        ahead = running_usd + (option.usd or 0.0)
        return (0.0 if spent is None else spent.usd) + ahead <= self._plan.total_usd

    def _is_one_left(self, left: Sequence[Option], option: Option, record: AttemptLog) -> bool:
        """Return True if another deployment could be called after this one.

        The budget must allow it after a silent call of this one.
        """
        others = [other for other in left if other.deployment != option.deployment]
        if not others or self._plan.total_usd is None:
            return bool(others)
        silence = estimated_cost(option.deployment, self._config, self._plan.needs.input_tokens, 0)
        usd = 0.0 if silence is None else silence.usd
        return any(self._affords(other, record, usd) for other in others)

    def _untried(self, start: int) -> int:
        """Count the stages from ``start`` on of which no endpoint was called."""
        later = self._plan.stages[start:]
        return sum(all(option.place.key not in self._places for option in stage.options) for stage in later)

    def _spare(self, number: int, record: AttemptLog) -> int:
        """Return the attempts that stage ``number`` may use for retries."""
        return self._config.retries.attempts - len(record.attempts) - self._untried(number + 1)

    async def _panic(self, record: AttemptLog, deadline_s: float) -> ScheduledCall | None:
        """Pick an endpoint closed only by its circuit breaker (panic mode).

        Applies if every endpoint of the request is closed.
        """
        options = self._plan.options
        standings = await self._standings(options)
        if any(self._is_to_be_called(*pair) for pair in zip(options, standings, strict=True)):
            return None
        closed = {option.place.key for option, standing in zip(options, standings, strict=True) if _is_broken(standing)}
        if not closed:
            return None
        if self._luck is None:
            self._luck = self._random.random()
        stages = self._plan.stages
        fresh = [[o for o in self._fresh(stage, record) if o.place.key in closed] for stage in stages]
        for number, stage in enumerate(stages):
            later = None
            if len(record.attempts) + 1 < self._config.retries.attempts and self._is_tight(stage, deadline_s):
                later = [option for others in fresh[number + 1 :] for option in others]
            turn = await self._draw(record, fresh[number], later, panic=self._luck)
            if turn is None and self._spare(number, record) > 0:
                turn = await self._repeat(stage, record, later, deadline_s, panic=self._luck)
            if turn is not None:
                return turn
        return await self._come_back(record, panic=self._luck)

    def _is_to_be_called(self, option: Option, standing: EndpointStatus) -> bool:
        """Return True if an open endpoint rules out panic mode.

        A half-open endpoint whose probe was this request does not.
        """
        is_probed = standing.breaker is not BreakerState.CLOSED and option.place.key in self._places
        return standing.wait_s == 0.0 and not is_probed

    async def _may_open(self, options: Sequence[Option]) -> bool:
        """Return True unless all endpoints are closed by circuit breakers.

        A limit may soon lift.
        """
        return not all(_is_broken(standing) for standing in await self._standings(options))

    async def _repeat(
        self,
        stage: Stage,
        record: AttemptLog,
        later: list[Option] | None,
        deadline_s: float,
        *,
        panic: float | None = None,
    ) -> ScheduledCall | None:
        rules, called = self._config.retries, self._deployments
        options = [
            option
            for option in stage.options
            if 0 < called[option.deployment.name] <= rules.same_place
            and (verdict := record.verdicts.get(option.deployment.name)) is not None
            and verdict.again
            and self._affords(option, record)
        ]
        # A retry that only panic mode could admit is left to it, so that the retry budget is used once.
        if not options or (panic is None and not await self._may_open(options)):
            return None
        tries = min(called[option.deployment.name] for option in options)
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        pause = self._random.uniform(0, min(rules.backoff_s * 2 ** (tries - 1), rules.most_backoff_s))
        if pause >= deadline_s or not self._retries.take():
            return None
        await asyncio.sleep(pause)
        return await self._draw(record, options, later, retry=True, panic=panic)

    async def _come_back(self, record: AttemptLog, *, panic: float | None = None) -> ScheduledCall | None:
        """Retry an endpoint whose silent attempt was cut short.

        The others, for which it was cut short, have failed since.
        """
        options = [
            option
            for option in self._plan.options
            if option.deployment.name in record.cut
            and self._deployments[option.deployment.name] == 1
            and self._affords(option, record)
        ]
        if not options or (panic is None and not await self._may_open(options)) or not self._retries.take():
            return None
        return await self._draw(record, options, retry=True, panic=panic)

    async def _draw(
        self,
        record: AttemptLog,
        options: list[Option],
        later: list[Option] | None = None,
        *,
        retry: bool = False,
        panic: float | None = None,
    ) -> ScheduledCall | None:
        """Sample an open option and acquire its permit.

        In panic mode, sample among those closed by their circuit breakers too.

        ``later`` are options that could be called afterwards: checked, not sampled. None if that makes no difference.
        """
        while options:
            asked = [*options, *(later or ())]
            standings = await self._standings(asked)
            ready = [
                Candidate(option, standing, expected_s(self._latencies, option, self._plan.needs, self._streaming))
                for option, standing in zip(options, standings, strict=False)
                if standing.wait_s == 0.0 or panic is not None
            ]
            if not ready:
                return None
            scored = sample(score(ready, self._config.selection), self._random)
            option = scored.ready.option
            how = {} if panic is None else {"panic": panic}
            leave = await self._gates.acquire(option.place, self._plan.tokens, option.usd or 0.0, **how)
            if isinstance(leave, Permit):
                self._places.add(option.place.key)
                self._deployments[option.deployment.name] += 1
                # A probe may hang like the calls before it; panic mode may then call the closed ones.
                may_panic = leave.is_probe or panic is not None
                left = [
                    other
                    for other, one in zip(asked, standings, strict=True)
                    if one.wait_s == 0.0 or (may_panic and _is_broken(one))
                ]
                has_others = later is not None and self._is_one_left(left, option, record)
                return ScheduledCall(scored, leave, self._siblings(option), retry, has_others)
            # Another request took the capacity between the check and the acquire.
            options = [other for other in options if other is not option]
        return None

    async def _standings(self, options: Sequence[Option]) -> list[EndpointStatus]:
        """Return the endpoints' status, reopening those with a replaced key."""
        places, prices = [option.place for option in options], _prices(options)
        standings = await self._gates.standings(places, self._plan.tokens, prices)
        replaced = [
            (option.place, standing.refused)
            for option, standing in zip(options, standings, strict=True)
            if standing.refused is not None and not is_same_key(standing.refused, option.target.key)
        ]
        if not replaced:
            return standings
        for place, refused in replaced:
            await self._gates.welcome(place, refused)
        return await self._gates.standings(places, self._plan.tokens, prices)


def _is_broken(standing: EndpointStatus) -> bool:
    """Return True if an endpoint is closed by its circuit breaker."""
    return standing.wait_s != 0.0 and standing.breaker in (BreakerState.OPEN, BreakerState.HALF_OPEN)


def _prices(options: Sequence[Option]) -> list[float]:
    """Return the expected cost at each endpoint, USD; 0 if no price is known."""
    return [option.usd or 0.0 for option in options]
