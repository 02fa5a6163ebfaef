"""Dispatcher: schedule endpoints, attempt calls, hedge and fail over."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeAlias
from weakref import WeakSet

import httpx

from semroute import forks
from semroute._sync import run_on
from semroute.config import Config
from semroute.dispatch.attempt import AttemptLog, CallContext, Deadline, attempt
from semroute.dispatch.constraints import ANYTHING, Constraints
from semroute.dispatch.plan import DispatchPlan, Planner, ScheduledCall, estimate_call
from semroute.dispatch.scheduler import EndpointScheduler
from semroute.dispatch.silence import SilenceMonitor
from semroute.dispatch.status import Reporter, restore_state
from semroute.dispatch.validation import valid_candidates, valid_constraints, valid_request
from semroute.errors import DeadlineError, DispatchError, InputError, RateLimitError, SemrouteError
from semroute.eventloop import WorkerPool, streamed
from semroute.providers.connection import SHARED, ClientPool
from semroute.resilience import LatencyWindows, MemoryGates, RetryBudget
from semroute.resilience.gates import SamplingGates, open_gates
from semroute.types import AdmissionControl, Attempt, CallEstimate, Completion, Delta, Request
from semroute.types.protocols import OnDelta
from semroute.types.tracing import Tracer

# Hedged requests: a second attempt starts when the first one is slow to send; the first to send anything wins, and the
# other is cancelled.
#
# Source: J. Dean and L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013, "hedged requests".

Call: TypeAlias = Callable[[OnDelta | None], Coroutine[Any, Any, Completion]]
"""Attempt that has not begun; it is called with the callback of its stream."""
ClientMaker: TypeAlias = Callable[[], httpx.AsyncClient]

CLOSE_S = 5.0
"""Longest wait for another thread's event loop to release what it holds, seconds."""

_log = logging.getLogger("semroute")

QUEUED = 16
"""Pieces of an answer buffered for a slow reader before reading from the connection pauses."""


async def hedge(
    first: Call, delay_s: float, another: Callable[[], Awaitable[Call | None]], on_delta: OnDelta | None = None
) -> Completion:
    """Return the answer of the attempt that sends something first.

    Args:
        first: the attempt that starts at once.
        delay_s: silence after which a second attempt starts, seconds.
        another: called once after that; returns the second attempt, or None if there is none.
        on_delta: gets the pieces of that answer; None does not stream.

    Raises:
        DispatchError: the first attempt's error if it fails before the second starts, else that of the last to fail.
    """
    calls = [_HedgedCall(first, streaming=on_delta is not None)]
    try:
        await asyncio.wait({calls[0].has_sent}, timeout=delay_s)
        if not calls[0].has_sent.done():
            second = await another()
            if second is not None:
                calls.append(_HedgedCall(second, streaming=on_delta is not None))
        winner = await _first_to_send(calls)
        await asyncio.gather(*(one.stop() for one in calls if one is not winner))
        return await winner.answer(on_delta)
    finally:
        await asyncio.gather(*(one.stop() for one in calls))


async def _first_to_send(calls: list[_HedgedCall]) -> _HedgedCall:
    waiting = list(calls)
    while True:
        await asyncio.wait([one.has_sent for one in waiting], return_when=asyncio.FIRST_COMPLETED)
        for one in [one for one in waiting if one.has_sent.done()]:
            # The last attempt left wins even if it failed: its error is then that of the hedged request.
            if not one.has_failed or len(waiting) == 1:
                return one
            waiting.remove(one)


class _HedgedCall:
    """One attempt of a hedged request, run in a task of its own.

    It stays in that task from first step to last: a timeout must not be entered in one task and left in another.
    """

    def __init__(self, call: Call, *, streaming: bool) -> None:
        self._call = call(self._receive if streaming else None)
        self._queue: asyncio.Queue[Delta | None] = asyncio.Queue(QUEUED)
        self.has_sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_failed = False
        self._has_begun = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> Completion | Exception:
        self._has_begun = True
        answer: Completion | Exception
        try:
            answer = await self._call
        except Exception as error:
            answer, self.has_failed = error, True
        self._note_sent()
        await self._queue.put(None)
        return answer

    async def _receive(self, delta: Delta) -> None:
        self._note_sent()
        await self._queue.put(delta)

    def _note_sent(self) -> None:
        if not self.has_sent.done():
            self.has_sent.set_result(None)

    async def answer(self, on_delta: OnDelta | None) -> Completion:
        """Pass the pieces on, and return the answer or raise the error."""
        while (delta := await self._queue.get()) is not None:
            if on_delta is not None:
                await on_delta(delta)
        answer = await self._task
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stop(self) -> None:
        """Cancel the attempt and wait until its accounting is complete."""
        while not self._has_begun:  # a task that is cancelled before its first step would never release its permit
            await asyncio.sleep(0)
        self._task.cancel()
        await asyncio.wait({self._task})
        self._note_sent()


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
        tracer: gets every attempt as it begins and ends; None traces nothing.
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
        tracer: Tracer | None = None,
    ) -> None:
        self.config, self._tracer = config, tracer
        self._state_file, self._draws_itself = state_file, random is None
        self.gates = open_gates(config, env, clock) if gates is None else gates
        self._owns_gates = gates is None
        # Once, since isinstance() of a protocol takes some 10 µs.
        self._sampling = self.gates if isinstance(self.gates, SamplingGates) else None
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
        on_delta: OnDelta | None = None,
        input_tokens: int | None = None,
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
            on_delta: streams the answer: it is awaited with each piece. There is no failover after the first piece: a
                later failure is raised.
            input_tokens: estimated tokens of a request that is known to be valid, with its limits; they are neither
                checked nor counted again, which for a long conversation takes longer than all else here. None for any
                other request.

        Raises:
            InputError: the request, the candidates or the limits cannot be used; the message names the path.
            NoDeploymentError, CapabilityError: no deployment may or can answer; nothing was called.
            AllClosedError: every endpoint is closed for now; ``wait_s`` is the time until one may open.
            DeadlineError: the deadline passed.
            DispatchError: the last attempt's error; its ``attempts`` lists all attempts.
        """
        started = time.monotonic()
        if input_tokens is None:
            request, constraints = valid_request(request), valid_constraints(constraints)
        candidates = valid_candidates(candidates)
        await self._know_models()
        plan = self._planner.plan(request, candidates, constraints, input_tokens)
        most_s = self.config.retries.deadline_s
        limit_s = most_s if constraints.deadline_s is None else min(constraints.deadline_s, most_s)
        await self._reporter.heed()
        context = CallContext(
            request,
            self.config,
            self.gates,
            self.latencies,
            self._silence,
            await self._http_client(),
            plan.needs.input_tokens,
            on_delta is not None,
            Deadline(started, limit_s, reserve_s),
            AttemptLog(attempts),
            self._tracer,
        )
        self._retries.request()
        self._hedges.request()
        return await self._first_answer(context, self._scheduler(plan, streaming=context.streaming), on_delta)

    def _scheduler(self, plan: DispatchPlan, *, streaming: bool) -> EndpointScheduler:
        return EndpointScheduler(
            plan,
            self.config,
            self.gates,
            self.latencies,
            self._retries,
            self._random,
            streaming=streaming,
            sampling=self._sampling,
        )

    def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints = ANYTHING,
        *,
        reserve_s: float = 0.0,
        attempts: list[Attempt] | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """Yield the pieces of the answer, and last the completion.

        Arguments and errors as for :meth:`complete`.
        """

        def call(on_delta: OnDelta) -> Coroutine[Any, Any, Completion]:
            return self.complete(
                request, candidates, constraints, reserve_s=reserve_s, attempts=attempts, on_delta=on_delta
            )

        return streamed(call)

    async def estimate(
        self,
        request: Request,
        candidates: Sequence[str],
        constraints: Constraints = ANYTHING,
        *,
        streaming: bool = False,
        input_tokens: int | None = None,
    ) -> CallEstimate:
        """Estimate price, latency and availability without making a call.

        Nothing is reserved. ``input_tokens`` is that of :meth:`complete`.
        """
        if input_tokens is None:
            request, constraints = valid_request(request), valid_constraints(constraints)
        candidates = valid_candidates(candidates)
        await self._know_models()
        try:
            plan = self._planner.plan(request, candidates, constraints, input_tokens)
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

    async def close_here(self) -> None:
        """Close as :meth:`close` does if the running loop made calls.

        A server that is down is logged.
        """
        if asyncio.get_running_loop() in self._used_loops():
            await _quietly(self.close())

    def close_everywhere(self) -> None:
        """Close the connections of every loop that made calls, each on its own.

        A server that is down is logged.

        The status is reported once. On the loop that runs in this thread it is done in a task.
        """
        work = self.close
        for loop in self._used_loops():
            try:
                run_on(loop, _quietly(work()), CLOSE_S)
            except TimeoutError:
                _log.warning("an event loop did not close its connections within %g s", CLOSE_S)
            work = self.release

    def _used_loops(self) -> list[asyncio.AbstractEventLoop]:
        """Return the event loops that made calls since their last :meth:`release`."""
        with self._loops_lock:
            return [loop for loop in self._loops if not loop.is_closed()]

    async def _http_client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            with self._loops_lock:
                self._loops.add(loop)
        return self._client or await self._clients.client(self)

    async def _first_answer(
        self, context: CallContext, scheduler: EndpointScheduler, on_delta: OnDelta | None
    ) -> Completion:
        """Make one scheduled call after another until one answers."""
        log, last = context.log, None
        while True:
            call = await self._next(context, scheduler, last)
            try:
                answer = await self._attempt(context, scheduler, call, on_delta)
            except DispatchError as error:
                self._reporter.due()
                if log.is_heard or log.final is not None:
                    raise _with_attempts(error if log.is_heard else log.final or error, log) from None
                last = error
            else:
                self._reporter.due()
                return answer

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
        self, context: CallContext, scheduler: EndpointScheduler, last: DispatchError | None
    ) -> ScheduledCall:
        log = context.log
        while True:
            left_s = context.deadline.for_silence_s
            if left_s <= 0:
                raise _with_attempts(_too_late(last), log) from last
            if last is not None and len(log.attempts) >= self.config.retries.attempts:
                raise _with_attempts(last, log) from None
            call = await scheduler.next(log, deadline_s=left_s)
            if call is not None:
                return call
            if last is not None and not isinstance(last, RateLimitError) and last.wait_s is None:
                raise _with_attempts(last, log) from None
            closed = await scheduler.closed_error()
            if closed is not None:
                raise _with_attempts(closed, log) from last
            if last is not None:
                raise _with_attempts(last, log) from None
            # Other requests took the capacity between our check and our acquire; nothing was called, an endpoint is
            # open.
            await asyncio.sleep(self._random.uniform(0, BEATEN_S))

    def _attempt(
        self, context: CallContext, scheduler: EndpointScheduler, call: ScheduledCall, on_delta: OnDelta | None
    ) -> Coroutine[Any, Any, Completion]:
        """Make a scheduled call, hedged if hedging is on."""
        delay_s = self._hedge_after(context, call)
        if delay_s is None:
            return attempt(context, call, on_delta)
        return self._hedged(context, scheduler, call, delay_s, on_delta)

    async def _hedged(
        self,
        context: CallContext,
        scheduler: EndpointScheduler,
        call: ScheduledCall,
        delay_s: float,
        on_delta: OnDelta | None,
    ) -> Completion:
        async def another() -> Call | None:
            if len(context.log.attempts) + 2 > self.config.retries.attempts or not self._hedges.take():
                return None
            second = await scheduler.hedge_of(call, context.log)
            return None if second is None else partial(attempt, context, second, is_hedge=True)

        answer = await hedge(partial(attempt, context, call), delay_s, another, on_delta)
        # The attempt that was beaten may have ended after the answer.
        attempts, elapsed_ms = tuple(context.log.attempts), context.deadline.elapsed_s * 1000
        return replace(answer, attempts=attempts, latency_ms=elapsed_ms)

    def _hedge_after(self, context: CallContext, call: ScheduledCall) -> float | None:
        """Return the hedging delay, seconds.

        None if hedging is off or no latency was measured yet.
        """
        rules = self.config.hedging
        if not rules.enabled:
            return None
        estimate = self.latencies.estimate(
            call.deployment.name, streaming=context.streaming, prompt_tokens=context.input_tokens
        )
        if estimate is None:
            return None
        return estimate.quantile(rules.quantile) if context.streaming else estimate.total_quantile(rules.quantile)


def _clients(given: httpx.AsyncClient | ClientMaker | None) -> tuple[httpx.AsyncClient | None, ClientPool]:
    """Return the one client, if given, and the pool of each loop's clients."""
    if given is None or isinstance(given, httpx.AsyncClient):
        return given, SHARED
    if not callable(given):
        raise InputError(
            f"the HTTP client is an httpx.AsyncClient, or a function that opens one, not {type(given).__name__}"
        )
    return None, ClientPool(given)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (OSError, SemrouteError) as error:
        _log.warning("a connection could not be closed properly: %s", error)


def _too_late(last: DispatchError | None) -> DispatchError:
    message = "the request's deadline passed"
    if last is None:
        return DeadlineError(f"{message} before any call")
    return DeadlineError(f"{message}; the last attempt: {last}", deployment=last.deployment, status=last.status)


def _with_attempts(error: DispatchError, log: AttemptLog) -> DispatchError:
    error.attempts = tuple(log.attempts)
    return error
