"""Admission control in Redis, shared by all processes that use it.

They respect common rate limits, budgets and circuit breakers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from semroute import forks
from semroute.config import BreakerRules, Selection
from semroute.errors import StateError
from semroute.resilience.breaker import Clock, is_login_of, login, short_reason
from semroute.resilience.gates import LEASE_S, SampledPermit, SamplingSignals, account, each
from semroute.resilience.limits import PER_USD, WINDOW_S, amount_of, counted_tokens, heeded_s, settled
from semroute.resilience.redis.server import Server
from semroute.types import BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection

Acquired = TypeVar("Acquired", bound="Permit | Rejection | SampledPermit")

PREFIX = "semroute:{gates}:"
"""Prefix of every key. The braces are a hash tag
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec): all keys lie in one slot, because one
script reads those of several endpoints."""

DAY_S = 86400
MONTH_S = 40 * DAY_S
MOST_QUEUED = 10_000

SLOT_S = 10.0
"""Time for which a parallel call keeps its slot after the last heartbeat of its process, seconds: so long a killed
process holds its slots. Longer than a process may be busy, since a silent one loses its slots to others after it."""

RENEW_S = 3.0
"""Heartbeat interval of a process with running calls, seconds: two heartbeats may be lost."""


class RedisGates:
    """Admission control in one Redis: breakers, throttles and budgets.

    The rules are those of :class:`~semroute.resilience.gates.MemoryGates`. Each method is one Lua script, hence
    atomic, and one round trip; time is the server's alone. Unused keys expire: minute counts after two minutes,
    breakers and permits after a day, disabled credentials and budgets 40 days after the last change. For one Redis and
    its replicas; a Redis Cluster is not supported.

    Slots of parallel calls, and those of probes, belong to a process that sends heartbeats (:meth:`renew`): they are
    free :data:`SLOT_S` seconds after it was killed. The reservations of such calls count as spent.

    Methods raise :class:`~semroute.errors.StateError` when Redis is unavailable;
    :class:`~semroute.resilience.redis.failover.FailoverGates` goes on without it. A script call that was cut off may
    have had its effect or not: the release that corrects it is queued, and :meth:`settle` sends it when Redis is back.

    Args:
        server: the Redis.
        rules: thresholds of the breakers; the same in every process.
        prefix: prefix of every key; processes with the same one share admission control.
        rng: source of the breakers' jitter; None seeds one from the system.
        lease_s: a call that has not returned after this is dropped, seconds; longer than any deadline.
        slot_s: time for which a call keeps its slot without :meth:`renew`, seconds.
        window_s: the throttle's window.
        clock: for tests only: time in place of the server's, seconds since 1970.
    """

    def __init__(
        self,
        server: Server,
        rules: BreakerRules,
        *,
        prefix: str = PREFIX,
        rng: Random | None = None,
        lease_s: float = LEASE_S,
        slot_s: float = SLOT_S,
        window_s: float = WINDOW_S,
        clock: Clock | None = None,
    ) -> None:
        self.server = server
        self._prefix = prefix
        self._rng = rng if rng is not None else Random()
        self._clock = clock
        self._window_s = rules.window_s
        self._hints = rules
        self._lease_s = lease_s
        longest_s = max(lease_s, rules.most_open_s, rules.most_suspend_s, rules.ramp_s, rules.window_s)
        lives = {
            "lease_s": lease_s,
            "slot_s": slot_s,
            "minute_s": window_s,
            "idle_s": math.ceil(max(DAY_S, 2 * longest_s)),
            "month_s": MONTH_S,
            "failed_probes": rules.failed_probes,
        }
        self._rules = json.dumps({**rules.model_dump(), **lives})
        self._prefix_of_ids = secrets.token_hex(6)
        self._running: dict[str, tuple[float, Endpoint]] = {}
        self._renewed_at = -math.inf
        self._numbers = itertools.count()
        self._queued: deque[tuple[float, Endpoint, dict[str, object]]] = deque(maxlen=MOST_QUEUED)
        self._sending: set[asyncio.Future[Any]] = set()
        self.spent_usd: dict[str, tuple[str, float]] = {}
        """Month and USD spent in it as last read from Redis, by credential."""
        forks.in_child(self, RedisGates._after_fork)

    async def statuses(
        self, endpoints: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """Return each endpoint's status; see ``AdmissionControl.statuses``."""
        if not endpoints:
            return []
        calls = _calls(endpoints, tokens, usd)
        answers = self._read(await self._run("statuses", self._keys_of(*endpoints), calls))
        return [self._status(endpoint, answer) for endpoint, answer in zip(endpoints, answers, strict=True)]

    async def acquire(
        self, endpoint: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Acquire a permit and reserve in one step; see ``AdmissionControl``.

        Cancelled before Redis has answered, it releases the permit that it may have got.
        """
        asked = Permit(endpoint, self._next_id(), tokens, usd)
        sent = asyncio.ensure_future(self._send_acquire(asked, {} if panic is None else {"panic": panic}))
        return await self._unless_cancelled(sent)

    async def acquire_sampled(
        self,
        endpoints: Sequence[Endpoint],
        tokens: int,
        signals: Sequence[SamplingSignals],
        usd: Sequence[float],
        selection: Selection,
        number: float,
    ) -> SampledPermit:
        """Sample an open endpoint and acquire its permit; see ``SamplingGates``.

        Cancelled before Redis has answered, it releases the permit that it may have got.
        """
        id = self._next_id()
        asked = [Permit(endpoint, id, tokens, cost) for endpoint, cost in zip(endpoints, usd, strict=True)]
        sent = asyncio.ensure_future(self._send_sampled(asked, signals, selection, number))
        return await self._unless_cancelled(sent)

    async def import_permit(self, permit: Permit, age_s: float) -> None:
        """Import a permit given elsewhere ``age_s`` seconds ago, unconditionally.

        It has to be released by :meth:`release` like any other; its call result does not count for the breaker.
        """
        await self._send_acquire(permit, {"is_imported": True, "age_s": age_s})

    async def release(
        self,
        permit: Permit,
        result: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Release a permit, once; see ``AdmissionControl.release``."""
        ended = self._ended(permit, result, tokens, usd, wait_s, reason, refused)
        sent = asyncio.ensure_future(self._send_release(permit.endpoint, ended))
        self._sending.add(sent)
        sent.add_done_callback(self._sent)
        await asyncio.shield(sent)  # a caller cancelled here has released the permit all the same

    def enqueue_release(
        self,
        permit: Permit,
        result: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Queue a release for :meth:`settle` while Redis is unavailable."""
        ended = self._ended(permit, result, tokens, usd, wait_s, reason, refused)
        self._queued.append((time.monotonic(), permit.endpoint, ended))

    async def settle(self) -> None:
        """Send the queued releases to Redis.

        The call result of one older than the breaker's window does not count.

        Raises:
            StateError: Redis is still unavailable.
        """
        while self._queued:
            since, endpoint, ended = self._queued.popleft()
            ago_s = time.monotonic() - since
            if ago_s > self._window_s and ended["result"] != CallResult.DISABLE:
                ended = {**ended, "result": CallResult.NEUTRAL}
            wait_s = ended.get("wait_s")
            if isinstance(wait_s, float):
                ended = {**ended, "wait_s": max(wait_s - ago_s, 0.0)}
            try:
                await self._run("release", self._keys_of(endpoint), ended)
            except StateError:
                self._queued.appendleft((since, endpoint, ended))
                raise

    async def restore_spent(self) -> None:
        """Restore the last known spending in a Redis that lost its memory.

        Raises:
            StateError: Redis is unavailable.
        """
        for name, (month, usd) in list(self.spent_usd.items()):
            await self.server.run("restore", [f"{self._prefix}spent:{name}"], (month, amount_of(usd), MONTH_S))

    async def enable(self, credential: str | None) -> None:
        """Enable a credential's endpoints; None: those that need no key."""
        key = self._prefix + "disabled"
        names = [name.decode(errors="replace") for name in await self.server.command("HKEYS", key)]
        for name in names:
            if is_login_of(name, credential):
                await self.server.command("HDEL", key, name)

    async def welcome(self, endpoint: Endpoint, refused: str) -> None:
        """Enable an endpoint that refused the key of this digest before."""
        await self._run("lift", self._keys_of(endpoint), [{**_limits(endpoint), "refused": refused}])

    async def lift(self, endpoints: Sequence[Endpoint]) -> None:
        """Reset hints, breakers, suspensions and disabled keys of endpoints."""
        if endpoints:
            await self._run("lift", self._keys_of(*endpoints), [_limits(endpoint) for endpoint in endpoints])

    async def renew(self) -> None:
        """Send a heartbeat for the running calls of this process.

        Does nothing without running calls, or within :data:`RENEW_S` of the last one.

        Raises:
            StateError: Redis is unavailable.
        """
        now = time.monotonic()
        if not self._running or now < self._renewed_at + RENEW_S:
            return
        self._renewed_at = now
        by_endpoint: dict[Endpoint, list[str]] = {}
        for id, (since, endpoint) in list(self._running.items()):
            if now >= since + self._lease_s:
                self._running.pop(id, None)  # it will not return
            else:
                by_endpoint.setdefault(endpoint, []).append(id)
        if by_endpoint:
            await self._run("renew", self._keys_of(*by_endpoint), list(by_endpoint.values()))

    async def close(self) -> None:
        """Finish pending releases and close the running loop's connections."""
        loop = asyncio.get_running_loop()
        while own := [sent for sent in self._sending if sent.get_loop() is loop]:
            await asyncio.gather(*own, return_exceptions=True)
        await self.server.close()

    async def _send_acquire(self, asked: Permit, how: dict[str, object]) -> Permit | Rejection:
        endpoint = asked.endpoint
        wanted = {"tokens": counted_tokens(asked.tokens), "amount": amount_of(asked.usd), "id": asked.id, "age_s": 0.0}
        try:
            reply = await self._run("acquire", self._keys_of(endpoint), {**_limits(endpoint), **wanted, **how})
        except StateError:
            if "is_imported" not in how:
                self.enqueue_release(asked, CallResult.NEUTRAL, tokens=0, usd=0.0)
            raise
        return self._admitted(asked, self._read(reply))

    async def _send_sampled(
        self, asked: Sequence[Permit], signals: Sequence[SamplingSignals], selection: Selection, number: float
    ) -> SampledPermit:
        """Send the script of :meth:`acquire_sampled`.

        ``asked`` has the permit that is wanted, at each endpoint.
        """
        endpoints, first = [one.endpoint for one in asked], asked[0]
        wanted = {
            "id": first.id,
            "calls": _calls(endpoints, first.tokens, [one.usd for one in asked]),
            "signals": [{name: value for name, value in one._asdict().items() if value is not None} for one in signals],
            "selection": selection.model_dump(),
            "number": number,
        }
        try:
            reply = await self._run("sample", self._keys_of(*endpoints), wanted)
        except StateError:
            # At one of them it may have been permitted; at the others its release does nothing.
            for one in asked[: len(signals)]:
                self.enqueue_release(one, CallResult.NEUTRAL, tokens=0, usd=0.0)
            raise
        found, sampled, answer = self._read(reply)
        statuses = [self._status(endpoint, status) for endpoint, status in zip(endpoints, found, strict=True)]
        permit = self._admitted(asked[sampled - 1], answer) if sampled else None
        return SampledPermit(statuses, sampled - 1, permit) if isinstance(permit, Permit) else SampledPermit(statuses)

    def _admitted(self, asked: Permit, answer: Sequence[Any]) -> Permit | Rejection:
        """Read the answer of ``acquire`` in common.lua."""
        endpoint = asked.endpoint
        if not answer[0]:
            _, wait, reason = answer
            return Rejection(endpoint, reason, float(wait) if wait else None)
        _, is_probe, spent, month, is_panic = answer
        self._note_spent(endpoint, month, spent)
        self._running[asked.id] = (time.monotonic(), endpoint)
        return replace(asked, is_probe=is_probe, is_panic=is_panic)

    def _next_id(self) -> str:
        return f"{self._prefix_of_ids}-{next(self._numbers)}"

    async def _unless_cancelled(self, sent: asyncio.Future[Acquired]) -> Acquired:
        """Return a permit request's answer; release its permit when cancelled."""
        try:
            return await asyncio.shield(sent)
        except asyncio.CancelledError:
            sent.add_done_callback(self._return_permit)
            self._sending.add(sent)
            raise

    def _return_permit(self, sent: asyncio.Future[Any]) -> None:
        self._sent(sent)
        if sent.cancelled() or sent.exception() is not None:
            return  # the release of an unanswered request is queued already
        found = sent.result()
        answer = found.permit if isinstance(found, SampledPermit) else found
        if isinstance(answer, Permit):
            ended = self._ended(answer, CallResult.NEUTRAL, 0, 0.0, None, None, None)
            task = sent.get_loop().create_task(self._send_release(answer.endpoint, ended))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, sent: asyncio.Future[Any]) -> None:
        """Forget a finished task; its error is handled: the release is queued."""
        self._sending.discard(sent)
        if not sent.cancelled():
            sent.exception()

    async def _send_release(self, endpoint: Endpoint, ended: dict[str, object]) -> None:
        try:
            await self._run("release", self._keys_of(endpoint), ended)
        except StateError:
            self._queued.append((time.monotonic(), endpoint, ended))
            raise

    def _ended(
        self,
        permit: Permit,
        result: CallResult,
        tokens: int | None,
        usd: float | None,
        wait_s: float | None,
        reason: str | None,
        refused: str | None,
    ) -> dict[str, object]:
        """Return the script's arguments of a release, without unknown ones.

        Lua's JSON makes null a value of its own.
        """
        self._running.pop(permit.id, None)
        tokens, usd = settled(permit, tokens, usd)
        known = {
            "tokens": tokens,
            "amount": None if usd is None else amount_of(usd),
            "wait_s": heeded_s(self._hints, result, wait_s),
            "refused": refused,
        }
        return {
            "id": permit.id,
            "result": result.value,
            "account": account(permit.endpoint),
            "login": login(permit.endpoint),
            "reason": short_reason(reason),
            "random": self._rng.random(),
            **{name: value for name, value in known.items() if value is not None},
        }

    async def _run(self, script: str, keys: Sequence[str], calls: object) -> Any:
        now = "" if self._clock is None else repr(self._clock())
        return await self.server.run(script, keys, (now, self._rules, json.dumps(calls)))

    def _read(self, reply: Any) -> Any:
        """Parse the reply of a script.

        Raises:
            StateError: the reply is not JSON: something stands between us and a Redis that runs our scripts.
        """
        try:
            return json.loads(reply)
        except (TypeError, ValueError):
            raise StateError(f"Redis at {self.server.name} gave an answer that is not JSON") from None

    def _after_fork(self) -> None:
        """Drop the parent's calls and queued releases, and never reuse its ids."""
        self._prefix_of_ids = secrets.token_hex(6)
        self._rng.seed()
        self._running = {}
        self._queued.clear()
        forks.leave_behind(self._sending)
        self._sending = set()

    def _keys_of(self, *endpoints: Endpoint) -> list[str]:
        shared = (self._prefix + kind for kind in ("disabled", "clock"))
        return [*shared, *(key for endpoint in endpoints for key in self._keys(endpoint))]

    def _keys(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return the keys in the order of ``keys_of`` in common.lua."""
        kinds = ("breaker", "log", "tokens", "passes", "leases", "slots")
        of_endpoint = (f"{self._prefix}{kind}:{endpoint.key}" for kind in kinds)
        return (*of_endpoint, f"{self._prefix}spent:{account(endpoint)}")

    def _note_spent(self, endpoint: Endpoint, month: str, amount: int) -> float:
        spent_usd = amount / PER_USD
        self.spent_usd[account(endpoint)] = (month, spent_usd)
        return spent_usd

    def _status(self, endpoint: Endpoint, answer: list[Any]) -> EndpointStatus:
        breaker, calls, share, ramp, headroom, in_flight, spent, month, wait, reason, refused = answer
        return EndpointStatus(
            breaker=BreakerState(breaker),
            failure_share=float(share),
            calls=calls,
            ramp=float(ramp),
            headroom=float(headroom),
            in_flight=in_flight,
            spent_usd=self._note_spent(endpoint, month, spent),
            wait_s=float(wait) if wait else None,
            reason=reason or None,
            refused=refused or None,
        )


def _calls(endpoints: Sequence[Endpoint], tokens: int, usd: float | Sequence[float]) -> list[dict[str, object]]:
    """Return the scripts' arguments of a call at each endpoint."""
    return [
        {**_limits(endpoint), "tokens": counted_tokens(tokens), "amount": amount_of(cost)}
        for endpoint, cost in each(endpoints, usd)
    ]


def _limits(endpoint: Endpoint) -> dict[str, object]:
    limits = {
        "rpm": endpoint.rpm,
        "tpm": endpoint.tpm,
        "parallel": endpoint.parallel,
        "budget": None if endpoint.budget_usd is None else amount_of(endpoint.budget_usd),
    }
    named = {"account": account(endpoint), "login": login(endpoint), "name": endpoint.credential or endpoint.deployment}
    return named | {name: limit for name, limit in limits.items() if limit is not None}
