"""Dispatcher: schedule endpoints, attempt calls, hedge and fail over."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TypeAlias
from weakref import WeakSet

import httpx

from semroute import forks
from semroute.config import Config
from semroute.dispatch.attempt import AttemptList, AttemptLog, CallContext, attempt
from semroute.dispatch.constraints import ANYTHING, Constraints
from semroute.dispatch.plan import Planner
from semroute.dispatch.scheduler import EndpointScheduler, ScheduledCall
from semroute.dispatch.selection import estimate_call
from semroute.dispatch.silence import SHARE, SilenceMonitor
from semroute.dispatch.status import Reporter, restore_state
from semroute.dispatch.validation import valid_candidates, valid_constraints, valid_request
from semroute.errors import DeadlineError, DispatchError, InputError, RateLimitError
from semroute.eventloop import WorkerPool
from semroute.providers.connection import SHARED, ClientPool
from semroute.providers.streaming import CallClock
from semroute.resilience import LatencyWindows, MemoryGates, RetryBudget
from semroute.resilience.gates import open_gates
from semroute.types import AdmissionControl, Attempt, CallEstimate, Completion, Delta, Request

# Hedged requests: a second attempt starts when the first one is slow to send; the first to send anything wins, and the
# other is cancelled.
#
# Source: J. Dean and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013, "hedged requests".

Events: TypeAlias = AsyncGenerator[Delta | Completion]
ClientMaker: TypeAlias = Callable[[], httpx.AsyncClient]

QUEUED = 16
"""Chunks of an answer buffered for a slow reader before reading from the connection pauses."""


async def hedge(first: Events, delay_s: float, another: Callable[[], Awaitable[Events | None]]) -> Events:
    """Yield the events of the attempt that sends something first.

    Args:
        first: the attempt that starts at once.
        delay_s: silence after which a second attempt starts, seconds.
        another: called once after that; returns the second attempt, or None if there is none.

    Raises:
        DispatchError: the first attempt's error if it fails before the second starts, else that of the last to fail.
    """
    runners = [_HedgedCall(first)]
    try:
        await asyncio.wait({runners[0].spoke}, timeout=delay_s)
        if not runners[0].spoke.done():
            second = await another()
            if second is not None:
                runners.append(_HedgedCall(second))
        winner = await _first_to_speak(runners)
        await asyncio.gather(*(runner.stop() for runner in runners if runner is not winner))
        async with aclosing(winner.events()) as events:
            async for event in events:
                yield event
    finally:
        await asyncio.gather(*(runner.stop() for runner in runners))


async def _first_to_speak(runners: list[_HedgedCall]) -> _HedgedCall:
    waiting = list(runners)
    while True:
        await asyncio.wait([runner.spoke for runner in waiting], return_when=asyncio.FIRST_COMPLETED)
        for runner in [runner for runner in waiting if runner.spoke.done()]:
            # The last attempt left wins even if it failed: its error is then that of the hedged request.
            if runner.failure is None or len(waiting) == 1:
                return runner
            waiting.remove(runner)


class _HedgedCall:
    """One attempt of a hedged request, run in a task of its own.

    It stays in that task from first step to last: a timeout must not be entered in one task and left in another.
    """

    def __init__(self, events: Events) -> None:
        self._source = events
        self._queue: asyncio.Queue[Delta | Completion | None] = asyncio.Queue(QUEUED)
        self.failure: BaseException | None = None
        self.spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._has_begun = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self._has_begun = True
        try:
            async with aclosing(self._source) as events:
                async for event in events:
                    self._speak()
                    await self._queue.put(event)
        except Exception as error:
            self.failure = error
        self._speak()
        await self._queue.put(None)

    def _speak(self) -> None:
        if not self.spoke.done():
            self.spoke.set_result(None)

    async def events(self) -> Events:
        while (event := await self._queue.get()) is not None:
            yield event
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        """Cancel the attempt and wait until its accounting is complete."""
        while not self._has_begun:  # a task that is cancelled before its first step would never release its permit
            await asyncio.sleep(0)
        self._task.cancel()
        await asyncio.wait({self._task})
        self._speak()


BEATEN_S = 0.01
"""Longest pause before retrying endpoints whose capacity other requests took in the meantime, seconds."""
HEDGE_WINDOW_S = 600.0
"""Window of the cap on hedged requests, seconds. It is long because 2% is a whole call only from 50 requests on."""


class Dispatcher:
    """Dispatcher of requests to endpoints, with failover.

    Make it once and use it for every request.

    Args:
        config: deployments and rules.
        gates: admission control (circuit breakers, rate limits, budgets), which stays the caller's to close; None opens
            the one named by ``config.state``.
        client: HTTP client for the calls of one event loop, which stays the caller's to close; or a function that opens
            one for each loop, which :meth:`release` closes; None shares a client with all other calls on a loop.
        env: environment from which API keys are read, at each call.
        random: random source of sampling and backoff.
        state_file: file that keeps in-memory state for ``semroute providers status`` and restores the month's spending;
            None neither reads nor writes. Processes that share a file overwrite each other: keep the state of several
            processes in Redis.
        workers: threads for slow computations and file writes; None makes a pool that :meth:`close` ends.
        clock: seconds since 1970, for the rate limits, breakers and months of admission control in this process; None
            takes the machine's. Deadlines and latencies are always the machine's.
    """

    def __init__(
        self,
        config: Config,
        *,
        gates: AdmissionControl | None = None,
        client: httpx.AsyncClient | ClientMaker | None = None,
        env: Mapping[str, str] = os.environ,
        random: Random | None = None,
        state_file: Path | None = None,
        workers: WorkerPool | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.config = config
        self._state_file, self._draws_itself = state_file, random is None
        self.gates = open_gates(config, env, clock) if gates is None else gates
        self._owns_gates = gates is None
        self.latencies = LatencyWindows()
        self._silence = SilenceMonitor()
        self._workers = workers or WorkerPool("semroute-dispatch")
        self._owns_workers = workers is None
        if state_file is not None and isinstance(self.gates, MemoryGates):
            restore_state(state_file, self.gates)
        self._reporter = Reporter(self.gates, self.latencies, config, state_file, self._workers)
        self._client, self._clients = _clients(client)
        self._loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._loops_lock = forks.lock()
        self._planner = Planner(config, env)
        self._knows_models = False
        self._random = random or Random()
        self._retries = RetryBudget(config.retries.budget)
        self._hedges = RetryBudget(config.hedging.most, least=0, window_s=HEDGE_WINDOW_S)
        forks.in_child(self, Dispatcher._after_fork)

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints = ANYTHING,
        *,
        reserve_s: float = 0.0,
        attempts: list[Attempt] | None = None,
    ) -> Completion:
        """Return the whole answer to a request.

        Args:
            request: the request to send.
            candidates: models and groups, in the order to try them.
            constraints: limits of this request.
            reserve_s: part of the deadline, seconds, kept for later callers while endpoints are silent; an endpoint
                that is answering, or usually takes longer, may use it.
            attempts: list that receives every attempt as it ends, however the call ends: a cancelled call is charged
                and returns nothing.

        Raises:
            InputError: the request, the candidates or the limits cannot be used; the message names the path.
            NoDeploymentError, CapabilityError: no deployment may or can answer; nothing was called.
            AllClosedError: every endpoint is closed for now; ``wait_s`` is the time until one may open.
            DeadlineError: the deadline passed.
            DispatchError: the last attempt's error; its ``attempts`` lists all attempts.
        """
        answer: Completion | None = None
        events = self._run(request, candidates, constraints, reserve_s, attempts, streaming=False)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Completion):
                    answer = event
        assert answer is not None  # _run ends with a completion or raises
        return answer

    async def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints = ANYTHING,
        *,
        reserve_s: float = 0.0,
        attempts: list[Attempt] | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """Stream the answer; a :class:`~semroute.types.Completion` comes last.

        There is no failover after the first chunk: a later failure is raised. Arguments as for :meth:`complete`.

        Raises:
            DispatchError: as :meth:`complete`.
        """
        events = self._run(request, candidates, constraints, reserve_s, attempts, streaming=True)
        async with aclosing(events):
            async for event in events:
                yield event

    async def outlook(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints = ANYTHING,
        *,
        streaming: bool = False,
    ) -> CallEstimate:
        """Estimate price, latency and availability without making a call.

        Nothing is reserved.
        """
        request, constraints = valid_request(request), valid_constraints(constraints)
        candidates = valid_candidates(candidates)
        await self._know_models()
        try:
            plan = self._planner.plan(request, candidates, constraints)
        except DispatchError as error:
            return CallEstimate(closed=str(error))
        return await estimate_call(plan, self.gates, self.latencies, streaming=streaming)

    async def close(self) -> None:
        """Report the status a last time, and release what the running loop holds.

        The dispatcher may be used again.
        """
        await self._reporter.report()
        await self.release()
        if self._owns_workers:
            self._workers.close()

    async def release(self) -> None:
        """Close the running loop's connections to providers and to Redis.

        What was handed in stays open.
        """
        with self._loops_lock:
            self._loops.discard(asyncio.get_running_loop())
        await self._reporter.finish()  # it would connect to Redis anew
        if self._owns_gates:
            await self.gates.close()
        await self._clients.release(self)

    @property
    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Event loops that made calls since their last :meth:`release`."""
        with self._loops_lock:
            return [loop for loop in self._loops if not loop.is_closed()]

    async def _http_client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            with self._loops_lock:
                self._loops.add(loop)
        return self._client or await self._clients.client(self)

    async def _run(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints,
        reserve_s: float,
        attempts: list[Attempt] | None,
        *,
        streaming: bool,
    ) -> Events:
        started = time.monotonic()
        request, constraints = valid_request(request), valid_constraints(constraints)
        candidates = valid_candidates(candidates)
        await self._know_models()
        plan = self._planner.plan(request, candidates, constraints)
        rules = self.config.retries
        limit_s = rules.deadline_s if constraints.deadline_s is None else min(constraints.deadline_s, rules.deadline_s)
        deadline = _Deadline(started + limit_s, reserve_s)
        await self._reporter.heed()
        client = await self._http_client()
        scene = CallContext(
            request, self.config, self.gates, self.latencies, self._silence, client, plan.needs.input_tokens, streaming
        )
        turns = EndpointScheduler(
            plan, self.config, self.gates, self.latencies, self._retries, self._random, streaming=streaming
        )
        self._retries.request()
        self._hedges.request()
        record, last = AttemptLog(AttemptList(attempts)), None
        while True:
            turn = await self._next(turns, record, last, deadline)
            is_heard = False
            try:
                async with aclosing(self._attempt(scene, turn, turns, record, deadline)) as events:
                    async for event in events:
                        is_heard = True
                        if isinstance(event, Completion):
                            elapsed_ms = (time.monotonic() - started) * 1000
                            event = replace(event, attempts=tuple(record.attempts), latency_ms=elapsed_ms)
                        yield event
                self._reporter.due()
                return
            except DispatchError as error:
                self._reporter.due()
                if is_heard or record.final is not None:
                    raise _with_attempts(error if is_heard else record.final or error, record) from None
                last = error

    def _after_fork(self) -> None:
        """Renew the reporter and the random source in a forked child.

        A report under way is the parent's, and so are the loops; admission control has a fork handler of its own.
        """
        self._loops = WeakSet()
        forks.leave_behind(self._reporter)
        self._reporter = Reporter(self.gates, self.latencies, self.config, self._state_file, self._workers)
        if self._draws_itself:
            self._random = Random()  # else all children would sample the same

    async def _know_models(self) -> None:
        if not self._knows_models:
            # The first read of the price list takes a third of a second and would block other requests.
            await self._workers.run(self._planner.know_models)
            self._knows_models = True

    async def _next(
        self, turns: EndpointScheduler, record: AttemptLog, last: DispatchError | None, deadline: _Deadline
    ) -> ScheduledCall:
        while True:
            left = deadline.for_silence_s
            if left <= 0:
                raise _with_attempts(_too_late(last), record) from last
            if last is not None and len(record.attempts) >= self.config.retries.attempts:
                raise _with_attempts(last, record) from None
            turn = await turns.next(record, deadline_s=left)
            if turn is not None:
                return turn
            if last is not None and not isinstance(last, RateLimitError) and last.wait_s is None:
                raise _with_attempts(last, record) from None
            closed = await turns.closed_error()
            if closed is not None:
                raise _with_attempts(closed, record) from last
            if last is not None:
                raise _with_attempts(last, record) from None
            # Other requests took the capacity between our check and our acquire; nothing was called, an endpoint is
            # open.
            await asyncio.sleep(self._random.uniform(0, BEATEN_S))

    def _attempt(
        self, scene: CallContext, turn: ScheduledCall, turns: EndpointScheduler, record: AttemptLog, deadline: _Deadline
    ) -> Events:
        streaming, tokens = scene.streaming, scene.input_tokens

        def call(which: ScheduledCall, *, hedge: bool) -> Events:
            deployment = which.option.deployment
            left_s, silent_s = deadline.left_s, None
            if which.has_others or deadline.reserve_s:
                share = SHARE if which.has_others else 1.0
                silent_s = self._silence.share_s(
                    deployment, share * deadline.for_silence_s, left_s, streaming=streaming, prompt_tokens=tokens
                )
            patience = self._silence.patience(deployment, which.siblings, streaming=streaming, prompt_tokens=tokens)
            clock = CallClock(left_s, silent_s)
            return attempt(
                scene,
                which.scored,
                which.leave,
                record,
                clock=clock,
                patience=patience,
                hedge=hedge,
                retry=which.retry,
            )

        async def another() -> Events | None:
            if len(record.attempts) + 2 > self.config.retries.attempts or not self._hedges.take():
                return None
            second = await turns.beside(turn, record)
            return None if second is None else call(second, hedge=True)

        delay_s = self._hedge_after(scene, turn)
        events = call(turn, hedge=False)
        return events if delay_s is None else hedge(events, delay_s, another)

    def _hedge_after(self, scene: CallContext, turn: ScheduledCall) -> float | None:
        """Return the hedging delay, seconds.

        None if hedging is off or no latency was measured yet.
        """
        rules = self.config.hedging
        if not rules.enabled:
            return None
        estimate = self.latencies.estimate(
            turn.option.deployment.name, streaming=scene.streaming, prompt_tokens=scene.input_tokens
        )
        if estimate is None:
            return None
        return estimate.quantile(rules.quantile) if scene.streaming else estimate.total_quantile(rules.quantile)


def _clients(given: httpx.AsyncClient | ClientMaker | None) -> tuple[httpx.AsyncClient | None, ClientPool]:
    """Return the client of all calls, if there is one, and the pool of those of each loop."""
    if given is None or isinstance(given, httpx.AsyncClient):
        return given, SHARED
    if not callable(given):
        raise InputError(
            f"the HTTP client is an httpx.AsyncClient, or a function that opens one, not {type(given).__name__}"
        )
    return None, ClientPool(given)


class _Deadline:
    """Deadline of a request, with time reserved from silent attempts.

    Args:
        at: the deadline on the clock of :func:`time.monotonic`.
        reserve_s: see :meth:`Dispatcher.complete`.
    """

    def __init__(self, at: float, reserve_s: float) -> None:
        self._at = at
        self.reserve_s = reserve_s

    @property
    def left_s(self) -> float:
        """Seconds left; 0 once the deadline has passed."""
        return max(self._at - time.monotonic(), 0.0)

    @property
    def for_silence_s(self) -> float:
        """Seconds left without the reserved part; 0 or less once they are used up."""
        return self._at - self.reserve_s - time.monotonic()


def _too_late(last: DispatchError | None) -> DispatchError:
    message = "the request's deadline passed"
    if last is None:
        return DeadlineError(f"{message} before any call")
    return DeadlineError(f"{message}; the last attempt: {last}", deployment=last.deployment, status=last.status)


def _with_attempts(error: DispatchError, record: AttemptLog) -> DispatchError:
    error.attempts = tuple(record.attempts)
    return error
