"""Pick the next endpoint to call, or explain why none is available."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from random import Random

from semroute.catalog import estimated_cost
from semroute.config import Config
from semroute.dispatch.attempt import AttemptLog
from semroute.dispatch.plan import Candidate, DispatchPlan, ScheduledCall, Stage, expected_s, reasons_of, sample, score
from semroute.errors import AllClosedError
from semroute.resilience.breaker import RetryBudget, is_same_key
from semroute.resilience.gates import SampledPermit, SamplingGates, SamplingSignals
from semroute.resilience.latency import LatencyWindows
from semroute.types import AdmissionControl, BreakerState, EndpointStatus, Permit, Rejection, total_cost

LEAST_ROOM = 0.4
"""Share of a request's remaining time that an attempt's ``timeout_s`` must leave to other endpoints."""


class EndpointScheduler:
    """Scheduler of the endpoints of one request.

    Endpoints of a stage are sampled first, each once; a failure that does not concern the key excludes the deployment
    with all its keys. Then transient failures are retried, after a backoff and within the retry budget, as long as
    attempts are left for later stages; then comes the next stage.

    If every endpoint of the request is closed, those closed only by their circuit breaker get a share of the requests,
    as large as their successes allow (panic mode, ``Breaker.panic_share``). A request samples once for all its
    attempts, since an admitted request should not fail by the sample of its retry.

    ``sampling`` are the gates where they sample themselves: then the next endpoint takes one round trip and not two.
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
        sampling: SamplingGates | None = None,
    ) -> None:
        self._plan, self._sampling = plan, sampling
        self._config = config
        self._gates = gates
        self._latencies = latencies
        self._retries = retries
        self._random = random
        self._streaming = streaming
        self._called = set[str]()
        self._deployments = Counter[str]()
        self._panic_sample: float | None = None

    async def next(self, log: AttemptLog, *, deadline_s: float) -> ScheduledCall | None:
        """Return the next call, or None if nothing is left to try.

        ``deadline_s`` is the time left for the request, seconds.
        """
        return await self._in_order(log, deadline_s) or await self._panic(log, deadline_s)

    async def _in_order(
        self, log: AttemptLog, deadline_s: float, closed: Collection[str] | None = None, panic: float | None = None
    ) -> ScheduledCall | None:
        """Schedule a call of the first stage that has one left, else a late retry.

        In panic mode only the ``closed`` endpoints, given by their keys, count.
        """
        for number, stage in enumerate(self._plan.stages):
            later = None
            if len(log.attempts) + 1 < self._config.retries.attempts and self._is_tight(stage, deadline_s):
                later = [one for other in self._plan.stages[number + 1 :] for one in self._fresh(other, log, closed)]
            call = await self._sample(log, self._fresh(stage, log, closed), later, panic=panic)
            if call is None and self._spare(number, log) > 0:
                call = await self._repeat(stage, log, later, deadline_s, panic=panic)
            if call is not None:
                return call
        return await self._retry_cut_short(log, panic=panic)

    async def hedge_of(self, call: ScheduledCall, log: AttemptLog) -> ScheduledCall | None:
        """Schedule a hedged request at another deployment of the same stage."""
        others = [
            candidate
            for candidate in self._fresh(self._stage_of(call.candidate), log)
            if candidate.deployment != call.deployment and self._affords(candidate, log, call.candidate.usd or 0.0)
        ]
        return await self._sample(log, others)

    async def closed_error(self) -> AllClosedError | None:
        """Return the error if every endpoint is closed; None if one is open."""
        candidates = self._plan.candidates
        statuses = await self._statuses(candidates)
        if any(status.wait_s == 0.0 for status in statuses):
            return None
        waits = [status.wait_s for status in statuses if status.wait_s is not None]
        reasons = reasons_of([candidate.endpoint for candidate in candidates], statuses)
        when = f"the first may open in {min(waits):.1f} s" if waits else "waiting will not open one"
        return AllClosedError(
            f"every place that could answer is closed, and {when} ({reasons})", wait_s=min(waits) if waits else None
        )

    def _is_tight(self, stage: Stage, left_s: float) -> bool:
        """Return True if the deployments' timeouts leave others too little time."""
        return any(
            min(one.timeout_s, one.timeouts.first_token_s if self._streaming else one.timeout_s)
            > (1.0 - LEAST_ROOM) * left_s
            for one in (candidate.deployment for candidate in stage)
        )

    def _stage_of(self, candidate: Candidate) -> Stage:
        key = candidate.endpoint.key
        return next(stage for stage in self._plan.stages if any(one.endpoint.key == key for one in stage))

    def _fresh(self, stage: Stage, log: AttemptLog, closed: Collection[str] | None = None) -> list[Candidate]:
        """Return the stage's affordable endpoints that were not called yet."""
        failed = {name for name, policy in log.policies.items() if not policy.is_the_keys}
        fresh = [one for one in stage if one.endpoint.key not in self._called and one.deployment.name not in failed]
        if closed is not None:
            fresh = [one for one in fresh if one.endpoint.key in closed]
        return [candidate for candidate in fresh if self._affords(candidate, log)]

    def _affords(self, candidate: Candidate, log: AttemptLog, running_usd: float = 0.0) -> bool:
        """Return True if the budget allows another attempt.

        Counts the attempts made, and one running at ``running_usd``.
        """
        if self._plan.total_usd is None:
            return True
        spent = total_cost(log.attempts)
        ahead = running_usd + (candidate.usd or 0.0)
        return (0.0 if spent is None else spent.usd) + ahead <= self._plan.total_usd

    def _is_one_left(self, left: Sequence[Candidate], candidate: Candidate, log: AttemptLog) -> bool:
        """Return True if another deployment could be called after this one.

        The budget must allow it after a silent call of this one.
        """
        others = [other for other in left if other.deployment != candidate.deployment]
        if not others or self._plan.total_usd is None:
            return bool(others)
        silence = estimated_cost(candidate.deployment, self._config, self._plan.needs.input_tokens, 0)
        usd = 0.0 if silence is None else silence.usd
        return any(self._affords(other, log, usd) for other in others)

    def _untried(self, start: int) -> int:
        """Count the stages from ``start`` on of which no endpoint was called."""
        later = self._plan.stages[start:]
        return sum(all(candidate.endpoint.key not in self._called for candidate in stage) for stage in later)

    def _spare(self, number: int, log: AttemptLog) -> int:
        """Return the attempts that stage ``number`` may use for retries."""
        return self._config.retries.attempts - len(log.attempts) - self._untried(number + 1)

    async def _panic(self, log: AttemptLog, deadline_s: float) -> ScheduledCall | None:
        """Pick an endpoint closed only by its circuit breaker (panic mode).

        Applies if every endpoint of the request is closed.
        """
        candidates = self._plan.candidates
        statuses = await self._statuses(candidates)
        if any(self._is_to_be_called(*pair) for pair in zip(candidates, statuses, strict=True)):
            return None
        closed = {
            candidate.endpoint.key for candidate, status in zip(candidates, statuses, strict=True) if _is_broken(status)
        }
        if not closed:
            return None
        if self._panic_sample is None:
            self._panic_sample = self._random.random()
        return await self._in_order(log, deadline_s, closed, self._panic_sample)

    def _is_to_be_called(self, candidate: Candidate, status: EndpointStatus) -> bool:
        """Return True if an open endpoint rules out panic mode.

        A half-open endpoint whose probe was this request does not.
        """
        is_probed = status.breaker is not BreakerState.CLOSED and candidate.endpoint.key in self._called
        return status.wait_s == 0.0 and not is_probed

    async def _may_open(self, candidates: Sequence[Candidate]) -> bool:
        """Return True unless all endpoints are closed by circuit breakers.

        A limit may soon lift.
        """
        return not all(_is_broken(status) for status in await self._statuses(candidates))

    async def _repeat(
        self,
        stage: Stage,
        log: AttemptLog,
        later: list[Candidate] | None,
        deadline_s: float,
        *,
        panic: float | None = None,
    ) -> ScheduledCall | None:
        rules, called = self._config.retries, self._deployments
        candidates = [
            candidate
            for candidate in stage
            if 0 < called[candidate.deployment.name] <= rules.same_place
            and (policy := log.policies.get(candidate.deployment.name)) is not None
            and policy.again
            and self._affords(candidate, log)
        ]
        # A retry that only panic mode could admit is left to it, so that the retry budget is used once.
        if not candidates or (panic is None and not await self._may_open(candidates)):
            return None
        tries = min(called[candidate.deployment.name] for candidate in candidates)
        # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        pause = self._random.uniform(0, min(rules.backoff_s * 2 ** (tries - 1), rules.most_backoff_s))
        if pause >= deadline_s or not self._retries.take():
            return None
        await asyncio.sleep(pause)
        return await self._sample(log, candidates, later, retry=True, panic=panic)

    async def _retry_cut_short(self, log: AttemptLog, *, panic: float | None = None) -> ScheduledCall | None:
        """Retry an endpoint whose silent attempt was cut short.

        The others, for which it was cut short, have failed since.
        """
        candidates = [
            candidate
            for candidate in self._plan.candidates
            if candidate.deployment.name in log.cut
            and self._deployments[candidate.deployment.name] == 1
            and self._affords(candidate, log)
        ]
        if not candidates or (panic is None and not await self._may_open(candidates)) or not self._retries.take():
            return None
        return await self._sample(log, candidates, retry=True, panic=panic)

    async def _sample(
        self,
        log: AttemptLog,
        candidates: list[Candidate],
        later: list[Candidate] | None = None,
        *,
        retry: bool = False,
        panic: float | None = None,
    ) -> ScheduledCall | None:
        """Sample an open candidate and acquire its permit.

        In panic mode, sample among those closed by their circuit breakers too.

        ``later`` are candidates that could be called afterwards: checked, not sampled. None if that makes no
        difference.
        """
        while candidates:
            candidates = [one._replace(expected_s=self._expected_s(one)) for one in candidates]
            asked = [*candidates, *(later or ())]
            found = await self._ask(asked, len(candidates), may_sample=panic is None)
            is_open = {
                number: one._replace(status=status)
                for number, (one, status) in enumerate(zip(candidates, found.statuses, strict=False))
                if status.wait_s == 0.0 or panic is not None or number == found.sampled
            }
            if not is_open:
                return None
            scored = dict(zip(is_open, score(list(is_open.values()), self._config.selection), strict=True))
            permit: Permit | Rejection | None
            if found.sampled is None:
                sampled = sample(list(scored.values()), self._random)
                permit = await self._acquire(sampled.candidate, panic)
            else:
                sampled, permit = scored[found.sampled], found.permit
            chosen = sampled.candidate
            if isinstance(permit, Permit):
                self._called.add(chosen.endpoint.key)
                self._deployments[chosen.deployment.name] += 1
                # A probe may hang like the calls before it; panic mode may then call the closed ones.
                may_panic = permit.is_probe or panic is not None
                left = [
                    other
                    for other, one in zip(asked, found.statuses, strict=True)
                    if one.wait_s == 0.0 or (may_panic and _is_broken(one))
                ]
                has_others = later is not None and self._is_one_left(left, chosen, log)
                siblings = tuple(one.deployment for one in self._stage_of(chosen))
                return ScheduledCall(sampled, permit, siblings, retry, has_others)
            # Another request took the capacity between the check and the acquire.
            candidates = [other for other in candidates if other.endpoint.key != chosen.endpoint.key]
        return None

    async def _ask(self, candidates: Sequence[Candidate], count: int, *, may_sample: bool) -> SampledPermit:
        """Get the candidates' status, and a permit of one of the first ``count``.

        Only admission control that samples itself gives one, in one round trip.
        """
        if self._sampling is None or not may_sample:
            return SampledPermit(await self._statuses(candidates))
        found = await self._sampling.acquire_sampled(
            [one.endpoint for one in candidates],
            self._plan.tokens,
            [SamplingSignals(one.usd, one.expected_s, one.strength) for one in candidates[:count]],
            [one.usd or 0.0 for one in candidates],
            self._config.selection,
            self._random.random(),
        )
        if found.permit is not None:
            return found
        return SampledPermit(await self._reopened(candidates, found.statuses))

    async def _acquire(self, candidate: Candidate, panic: float | None) -> Permit | Rejection:
        how = {} if panic is None else {"panic": panic}
        return await self._gates.acquire(candidate.endpoint, self._plan.tokens, candidate.usd or 0.0, **how)

    def _expected_s(self, candidate: Candidate) -> float | None:
        return expected_s(self._latencies, candidate, self._plan.needs, self._streaming)

    async def _statuses(self, candidates: Sequence[Candidate]) -> list[EndpointStatus]:
        """Return the endpoints' status, reopening those with a replaced key."""
        return await self._reopened(candidates, await self._asked_statuses(candidates))

    async def _asked_statuses(self, candidates: Sequence[Candidate]) -> list[EndpointStatus]:
        endpoints, prices = [one.endpoint for one in candidates], [one.usd or 0.0 for one in candidates]
        return await self._gates.statuses(endpoints, self._plan.tokens, prices)

    async def _reopened(self, candidates: Sequence[Candidate], statuses: list[EndpointStatus]) -> list[EndpointStatus]:
        """Reopen endpoints whose refused key was replaced; return all status."""
        replaced = [
            (candidate.endpoint, status.refused)
            for candidate, status in zip(candidates, statuses, strict=True)
            if status.refused is not None and not is_same_key(status.refused, candidate.target.key)
        ]
        if not replaced:
            return statuses
        for endpoint, refused in replaced:
            await self._gates.welcome(endpoint, refused)
        return await self._asked_statuses(candidates)


def _is_broken(status: EndpointStatus) -> bool:
    """Return True if an endpoint is closed by its circuit breaker."""
    return status.wait_s != 0.0 and status.breaker in (BreakerState.OPEN, BreakerState.HALF_OPEN)
