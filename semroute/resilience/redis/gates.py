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
from random import Random
from typing import Any

from semroute import forks
from semroute.config import BreakerRules
from semroute.errors import StateError
from semroute.resilience.breaker import Clock
from semroute.resilience.gates import LEASE_S, account, each
from semroute.resilience.limits import PER_USD, WINDOW_S, amount_of, counted_tokens, heeded_s, settled
from semroute.resilience.redis.server import Server
from semroute.resilience.suspension import is_login_of, login, short_reason
from semroute.types import BreakerState, CallResult, Endpoint, EndpointStatus, Permit, Rejection

PREFIX = "semroute:{gates}:"
"""Prefix of every key. The braces are a hash tag
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec): all keys lie in one slot, because one
script reads those of several endpoints."""

DAY_S = 86400
MONTH_S = 40 * DAY_S
MOST_OWED = 10_000

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
        self._passes = secrets.token_hex(6)
        self._out: dict[str, tuple[float, Endpoint]] = {}
        self._renewed_at = -math.inf
        self._numbers = itertools.count()
        self._owed: deque[tuple[float, Endpoint, dict[str, object]]] = deque(maxlen=MOST_OWED)
        self._sending: set[asyncio.Future[Any]] = set()
        self.spent_usd: dict[str, tuple[str, float]] = {}
        """Month and USD spent in it as last read from Redis, by credential."""
        forks.in_child(self, RedisGates._after_fork)

    async def standings(
        self, places: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """Return each endpoint's status; see ``AdmissionControl.standings``."""
        if not places:
            return []
        calls = [
            {**_limits(place), "tokens": counted_tokens(tokens), "amount": amount_of(cost)}
            for place, cost in each(places, usd)
        ]
        answers = self._read(await self._run("standings", self._keys_of(*places), calls))
        return [self._standing(place, answer) for place, answer in zip(places, answers, strict=True)]

    async def acquire(
        self, place: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Acquire a permit and reserve in one step; see ``AdmissionControl``.

        Cancelled before Redis has answered, it releases the permit that it may have got.
        """
        asked = Permit(place, f"{self._passes}-{next(self._numbers)}", tokens, usd)
        sent = asyncio.ensure_future(self._enter(asked, {} if panic is None else {"panic": panic}))
        try:
            return await asyncio.shield(sent)
        except asyncio.CancelledError:
            sent.add_done_callback(self._give_back)
            self._sending.add(sent)
            raise

    async def import_permit(self, leave: Permit, age_s: float) -> None:
        """Import a permit given elsewhere ``age_s`` seconds ago, unconditionally.

        It has to be released by :meth:`release` like any other; its call result does not count for the breaker.
        """
        await self._enter(leave, {"adopt": True, "age_s": age_s})

    async def release(
        self,
        leave: Permit,
        ending: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Release a permit, once; see ``AdmissionControl.release``."""
        ended = self._ended(leave, ending, tokens, usd, wait_s, reason, refused)
        sent = asyncio.ensure_future(self._leave(leave.place, ended))
        self._sending.add(sent)
        sent.add_done_callback(self._sent)
        await asyncio.shield(sent)  # a caller cancelled here has released the permit all the same

    def enqueue_release(
        self,
        leave: Permit,
        ending: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Queue a release for :meth:`settle` while Redis is unavailable."""
        ended = self._ended(leave, ending, tokens, usd, wait_s, reason, refused)
        self._owed.append((time.monotonic(), leave.place, ended))

    async def settle(self) -> None:
        """Send the queued releases to Redis.

        The call result of one older than the breaker's window does not count.

        Raises:
            StateError: Redis is still unavailable.
        """
        while self._owed:
            since, place, ended = self._owed.popleft()
            ago_s = time.monotonic() - since
            if ago_s > self._window_s and ended["ending"] != CallResult.DISABLE:
                ended = {**ended, "ending": CallResult.NEUTRAL}
            wait_s = ended.get("wait_s")
            if isinstance(wait_s, float):
                ended = {**ended, "wait_s": max(wait_s - ago_s, 0.0)}
            try:
                await self._run("leave", self._keys_of(place), ended)
            except StateError:
                self._owed.appendleft((since, place, ended))
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

    async def welcome(self, place: Endpoint, refused: str) -> None:
        """Enable an endpoint that refused the key of this digest before."""
        await self._run("lift", self._keys_of(place), [{**_limits(place), "refused": refused}])

    async def lift(self, places: Sequence[Endpoint]) -> None:
        """Reset hints, breakers, suspensions and disabled keys of endpoints."""
        if places:
            await self._run("lift", self._keys_of(*places), [_limits(place) for place in places])

    async def renew(self) -> None:
        """Send a heartbeat for the running calls of this process.

        Does nothing without running calls, or within :data:`RENEW_S` of the last one.

        Raises:
            StateError: Redis is unavailable.
        """
        now = time.monotonic()
        if not self._out or now < self._renewed_at + RENEW_S:
            return
        self._renewed_at = now
        by_place: dict[Endpoint, list[str]] = {}
        for id, (since, place) in list(self._out.items()):
            if now >= since + self._lease_s:
                self._out.pop(id, None)  # it will not return
            else:
                by_place.setdefault(place, []).append(id)
        if by_place:
            await self._run("renew", self._keys_of(*by_place), list(by_place.values()))

    async def close(self) -> None:
        """Finish pending releases and close the running loop's connections."""
        loop = asyncio.get_running_loop()
        while own := [sent for sent in self._sending if sent.get_loop() is loop]:
            await asyncio.gather(*own, return_exceptions=True)
        await self.server.close()

    async def _enter(self, asked: Permit, how: dict[str, object]) -> Permit | Rejection:
        place = asked.place
        wanted = {"tokens": counted_tokens(asked.tokens), "amount": amount_of(asked.usd), "id": asked.id, "age_s": 0.0}
        try:
            reply = await self._run("enter", self._keys_of(place), {**_limits(place), **wanted, **how})
        except StateError:
            if "adopt" not in how:
                self.enqueue_release(asked, CallResult.NEUTRAL, tokens=0, usd=0.0)
            raise
        let_through, *answer = self._read(reply)
        if not let_through:
            wait, reason = answer
            return Rejection(place, reason, float(wait) if wait else None)
        is_probe, spent, month, is_panic = answer
        self._note_spent(place, month, spent)
        self._out[asked.id] = (time.monotonic(), place)
        return Permit(place, asked.id, asked.tokens, asked.usd, is_probe, is_panic)

    def _give_back(self, sent: asyncio.Future[Permit | Rejection]) -> None:
        self._sent(sent)
        if sent.cancelled() or sent.exception() is not None:
            return  # the release of an unanswered request is queued already
        answer = sent.result()
        if isinstance(answer, Permit):
            ended = self._ended(answer, CallResult.NEUTRAL, 0, 0.0, None, None, None)
            task = sent.get_loop().create_task(self._leave(answer.place, ended))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, sent: asyncio.Future[Any]) -> None:
        """Forget a finished task; its error is handled: the release is queued."""
        self._sending.discard(sent)
        if not sent.cancelled():
            sent.exception()

    async def _leave(self, place: Endpoint, ended: dict[str, object]) -> None:
        try:
            await self._run("leave", self._keys_of(place), ended)
        except StateError:
            self._owed.append((time.monotonic(), place, ended))
            raise

    def _ended(
        self,
        leave: Permit,
        ending: CallResult,
        tokens: int | None,
        usd: float | None,
        wait_s: float | None,
        reason: str | None,
        refused: str | None,
    ) -> dict[str, object]:
        """Return the script's arguments of a release, without unknown ones.

        Lua's JSON makes null a value of its own.
        """
        self._out.pop(leave.id, None)
        tokens, usd = settled(leave, tokens, usd)
        known = {
            "tokens": tokens,
            "amount": None if usd is None else amount_of(usd),
            "wait_s": heeded_s(self._hints, ending, wait_s),
            "refused": refused,
        }
        return {
            "id": leave.id,
            "ending": ending.value,
            "account": account(leave.place),
            "login": login(leave.place),
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
        self._passes = secrets.token_hex(6)
        self._rng.seed()
        self._out = {}
        self._owed.clear()
        forks.leave_behind(self._sending)
        self._sending = set()

    def _keys_of(self, *places: Endpoint) -> list[str]:
        shared = (self._prefix + kind for kind in ("disabled", "clock"))
        return [*shared, *(key for place in places for key in self._keys(place))]

    def _keys(self, place: Endpoint) -> tuple[str, ...]:
        """Return the keys in the order of ``keys_of`` in common.lua."""
        kinds = ("breaker", "log", "tokens", "passes", "leases", "slots")
        of_place = (f"{self._prefix}{kind}:{place.key}" for kind in kinds)
        return (*of_place, f"{self._prefix}spent:{account(place)}")

    def _note_spent(self, place: Endpoint, month: str, amount: int) -> float:
        spent_usd = amount / PER_USD
        self.spent_usd[account(place)] = (month, spent_usd)
        return spent_usd

    def _standing(self, place: Endpoint, answer: list[Any]) -> EndpointStatus:
        breaker, calls, share, ramp, headroom, in_flight, spent, month, wait, reason, refused = answer
        return EndpointStatus(
            breaker=BreakerState(breaker),
            failure_share=float(share),
            calls=calls,
            ramp=float(ramp),
            headroom=float(headroom),
            in_flight=in_flight,
            spent_usd=self._note_spent(place, month, spent),
            wait_s=float(wait) if wait else None,
            reason=reason or None,
            refused=refused or None,
        )


def _limits(place: Endpoint) -> dict[str, object]:
    limits = {
        "rpm": place.rpm,
        "tpm": place.tpm,
        "parallel": place.parallel,
        "budget": None if place.budget_usd is None else amount_of(place.budget_usd),
    }
    named = {"account": account(place), "login": login(place), "name": place.credential or place.deployment}
    return named | {name: limit for name, limit in limits.items() if limit is not None}
