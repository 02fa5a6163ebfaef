"""Failover of shared admission control while Redis is unavailable.

Each replica goes on with its part of the limits; permits given meanwhile are queued and imported when Redis is back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from semroute import forks
from semroute.config import Selection
from semroute.errors import StateError
from semroute.resilience.breaker import Clock
from semroute.resilience.gates import LEASE_S, MemoryGates, SampledPermit, SamplingSignals, account
from semroute.resilience.limits import WINDOW_S
from semroute.resilience.redis.gates import MONTH_S, PREFIX, RedisGates
from semroute.resilience.redis.server import Server, SlowAnswerError
from semroute.types import CallResult, Endpoint, EndpointStatus, Permit, Rejection


@dataclass(frozen=True, slots=True)
class ReleaseArguments:
    """Arguments of ``AdmissionControl.release``, and the time of the release."""

    at: float
    result: CallResult
    tokens: int | None = None
    usd: float | None = None
    wait_s: float | None = None
    reason: str | None = None
    refused: str | None = None


PASSING = (CallResult.SUCCESS, CallResult.NEUTRAL)
"""Call results that close nothing."""

LASTING = (CallResult.SUSPEND, CallResult.DISABLE)
"""Call results with effects for longer than a minute."""


@dataclass(slots=True)
class PendingPermit:
    """Permit that this process gave; ``end`` once it was released."""

    permit: Permit
    since: float
    end: ReleaseArguments | None = None


class PendingReleases:
    """Permits given while Redis was unavailable, oldest first.

    A permit released more than a minute ago no longer matters to any limit; its cost is summed by endpoint and the
    permit is dropped, unless its credential was refused or it brought a hint that still holds. So memory does not grow
    with the time that Redis is unavailable.

    Args:
        clock: seconds, monotonic.
        window_s: the throttle's window.
        lease_s: a call that has not returned after this is dropped, seconds; it cost its reservation.
    """

    def __init__(self, clock: Clock, window_s: float, lease_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._lease_s = lease_s
        self._permits: dict[str, PendingPermit] = {}
        self._spent: dict[Endpoint, float] = {}
        self._importing: str | None = None  # the permit that is being imported, which must not be sent twice
        self._lock = forks.lock()

    def __len__(self) -> int:
        return len(self._permits)

    def add(self, permit: Permit) -> None:
        """Add a permit."""
        with self._lock:
            self._permits[permit.id] = PendingPermit(permit, self._clock())
            self._drop_old()

    def end(self, id: str, end: Callable[[float], ReleaseArguments]) -> bool:
        """Record a release, made with the time; False if its permit is not here."""
        with self._lock:
            pending = self._permits.get(id)
            if pending is None:
                return False
            if pending.end is None:
                pending.end = end(self._clock())
            return True

    def first(self) -> tuple[PendingPermit, float] | None:
        """Return the oldest permit that still matters, with its age in seconds."""
        with self._lock:
            self._drop_old()
            for pending in self._permits.values():
                self._importing = pending.permit.id
                return pending, self._clock() - pending.since
            return None

    def imported(self, id: str) -> tuple[ReleaseArguments, float] | None:
        """Drop an imported permit; return its release, if any, and seconds since."""
        with self._lock:
            self._importing = None
            end = self._permits.pop(id).end
            return None if end is None else (end, self._clock() - end.at)

    def spent(self) -> tuple[Endpoint, float] | None:
        """Return an endpoint and the USD of its dropped permits; None without any."""
        with self._lock:
            self._drop_old()
            return next(iter(self._spent.items()), None)

    def subtract_spent(self, endpoint: Endpoint, usd: float) -> None:
        """Subtract USD that Redis has now counted."""
        with self._lock:
            self._spent[endpoint] -= usd
            if self._spent[endpoint] <= 0.0:
                del self._spent[endpoint]

    def _drop_old(self) -> None:
        while self._permits:
            pending = next(iter(self._permits.values()))
            if pending.permit.id == self._importing or self._matters(pending):
                return
            del self._permits[pending.permit.id]
            cost = pending.permit.usd if pending.end is None or pending.end.usd is None else pending.end.usd
            if cost > 0.0:
                self._spent[pending.permit.endpoint] = self._spent.get(pending.permit.endpoint, 0.0) + cost

    def _matters(self, pending: PendingPermit) -> bool:
        now, end = self._clock(), pending.end
        if end is None:
            return now < pending.since + self._lease_s
        if end.result in LASTING or now < pending.since + self._window_s:
            return True
        return end.wait_s is not None and now < end.at + end.wait_s


# Replicas that share the Redis: their heartbeats and snapshots.

LIVE_S = 10.0
"""Time after which a replica without a heartbeat is no longer counted, seconds."""

PUBLISH_S = 1.0
"""Shortest interval between two snapshots of a replica, seconds."""


class UnreadableSnapshotError(StateError):
    """Snapshot key of Redis that holds something else."""


class Replicas:
    """Heartbeats and snapshots of this replica and the others.

    Args:
        server: the Redis.
        prefix: prefix of every key.
        name: name of this replica; by default host, process and a random part.
        live_s: time to live of a heartbeat and a snapshot, seconds.
        clock: seconds, monotonic.
        wall: for tests only: time in place of the server's, that of the gates with the same prefix, seconds since 1970.
    """

    def __init__(
        self,
        server: Server,
        *,
        prefix: str = PREFIX,
        name: str | None = None,
        live_s: float = LIVE_S,
        clock: Clock = time.monotonic,
        wall: Clock | None = None,
    ) -> None:
        self.name = name or _own_name()
        self._server = server
        self._prefix = prefix
        self._live_s = live_s
        self._clock, self._wall = clock, wall
        self._counts: deque[tuple[float, int]] = deque()
        self._published_at: float | None = None
        self._memory: bytes | None = None
        self.has_lost_memory = False
        """True after Redis came back without its data, until it is set to False."""
        forks.in_child(self, Replicas._after_fork)

    @property
    def count(self) -> int:
        """Most replicas alive at once in the last ``live_s`` answered seconds."""
        return max((count for _, count in self._counts), default=1)

    async def beat(self, snapshot: str = "") -> None:
        """Send a heartbeat of this replica, and count the others.

        Raises:
            StateError: Redis is unavailable.
        """
        keys = [self._prefix + kind for kind in ("replicas", f"snapshot:{self.name}", "memory", "clock")]
        now = "" if self._wall is None else repr(self._wall())
        args = (now, self.name, self._live_s, snapshot, secrets.token_hex(8), MONTH_S)
        count, memory = await self._server.run("heartbeat", keys, args)
        self.has_lost_memory |= self._memory not in (None, memory)
        self._memory = memory
        at = self._clock()
        self._counts.append((at, int(count)))
        # The maximum and not the last: a Redis that has just restarted knows only later heartbeats.
        while self._counts[0][0] <= at - self._live_s:
            self._counts.popleft()

    async def publish(self, snapshot: Mapping[str, object]) -> None:
        """Publish this replica's snapshot; do nothing within a second of the last.

        Raises:
            StateError: Redis is unavailable.
        """
        now = self._clock()
        if self._published_at is not None and now < self._published_at + PUBLISH_S:
            return
        self._published_at = now
        await self.beat(json.dumps(snapshot))

    async def snapshots(self) -> dict[str, dict[str, Any]]:
        """Return the snapshots of the last ``live_s`` seconds, by replica.

        Raises:
            UnreadableSnapshotError: one is no JSON mapping.
            StateError: Redis is unavailable.
        """
        listed = await self._server.command("ZRANGE", f"{self._prefix}replicas", 0, -1)
        names = sorted(name.decode(errors="replace") for name in listed)
        if not names:
            return {}
        texts = await self._server.command("MGET", *(f"{self._prefix}snapshot:{name}" for name in names))
        return {name: self._read(name, text) for name, text in zip(names, texts, strict=True) if text is not None}

    def _read(self, name: str, text: bytes) -> dict[str, Any]:
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            key = f"{self._prefix}snapshot:{name}"
            raise UnreadableSnapshotError(
                f"Redis at {self._server.name} holds a snapshot that is no JSON mapping; delete {key!r}"
            )
        return found

    def _after_fork(self) -> None:
        """Become another replica than the parent."""
        self.name = _own_name()
        self._published_at = None


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


# Admission control that fails over to this process while Redis is unavailable.

Mode: TypeAlias = Literal["shared", "local"]

logger = logging.getLogger("semroute")


class FailoverGates:
    """Admission control in Redis, with failover to a share in this process.

    While Redis does not answer, each replica admits calls by one part in n of the limits, with n replicas last seen
    alive (at least one request, token and call: see :func:`share`). No method raises because Redis is unavailable. That
    is a Redis that refuses connections or was silent twice (:class:`~semroute.resilience.redis.server.Watch`): the
    calls of that second wait, from then on none does, and a task of the event loop checks every ``heartbeat_s``
    seconds if Redis is back. One call that is slow while others are answered is admitted here, and imported into Redis
    a moment later. When Redis is back, permits given meanwhile are counted there at the time they were given, with
    their cost, refused keys and wait hints; other call results do not count for the shared breaker.

    **How far limits are overshot.** Each replica counts its calls locally too while Redis answers, so that it starts
    its share with its own last minute counted. With a limit of L a minute and n replicas, all of which have seen each
    other:

    - unavailable for more than a minute: the replicas together stay within L (within n if L < n);
    - in a minute that holds the moment at which Redis failed, at most L + L (n - 1) / n calls are admitted, less than
      2 L: when one replica alone had used all of L before, and then each of the others uses its share. Replicas that
      had used equal shares stay within L;
    - the same holds in a minute that holds the moment at which it came back: for the second or so until every replica
      has imported its permits, it does not know of the others' shares. A Redis that comes back empty gets the last
      minute and the budgets too; breakers begin afresh.

    For tokens add at most one call of each replica, the one that no longer fitted into its local count. The same task
    sends the heartbeat of this process for all of its calls, so that a killed one holds its slots for seconds.

    A replica that starts while Redis is unavailable knows of no other and takes the whole limit. Of a monthly budget
    each replica may spend one part in n of the rest as last read from Redis.

    Args:
        shared: admission control in Redis.
        replicas: replicas of the same Redis, to count them.
        local: makes the admission control of this process.
        heartbeat_s: interval of heartbeats, and of checks if Redis is back, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        shared: RedisGates,
        replicas: Replicas,
        local: Callable[[], MemoryGates],
        *,
        heartbeat_s: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._shared = shared
        self._replicas = replicas
        self._local = local()
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._mode: Mode = "shared"
        self._pending = PendingReleases(clock, WINDOW_S, LEASE_S)
        self._held: dict[str, Permit] = {}  # local permits, by the id of the permit that was handed out
        self._recent: deque[tuple[float, Permit]] = deque()  # permits of Redis in the last minute
        self._running: set[str] = set()  # the ids of those that are not released
        self.answers_first = False
        """True where the process lives on after an answer: then :meth:`release` does not wait for Redis, see there."""
        self._releasing: set[asyncio.Task[None]] = set()
        self._ids = f"local-{secrets.token_hex(6)}"
        self._numbers = itertools.count()
        self._beating = forks.lock()
        self._heartbeats: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()
        forks.in_child(self, FailoverGates._after_fork)

    @property
    def mode(self) -> Mode:
        """``shared`` while Redis answers, ``local`` while it does not."""
        return self._mode

    @property
    def replica(self) -> str:
        """Name of this replica."""
        return self._replicas.name

    @property
    def replicas(self) -> int:
        """Number of replicas last seen alive, this one included."""
        return self._replicas.count

    async def statuses(
        self, endpoints: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """Return each endpoint's status; see ``AdmissionControl.statuses``."""
        if self._mode == "shared":
            try:
                return await self._shared.statuses(endpoints, tokens, usd)
            except StateError as error:
                self._go_local(error)
        return await self._local.statuses([self._share(endpoint) for endpoint in endpoints], tokens, usd)

    async def acquire(
        self, endpoint: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Acquire a permit and reserve in one step; see ``AdmissionControl``."""
        self._start_heartbeat()
        if self._mode == "shared":
            try:
                answer = await self._shared.acquire(endpoint, tokens, usd, panic=panic)
            except StateError as error:
                self._go_local(error)
            else:
                if isinstance(answer, Permit):
                    self._remember(answer)
                    self._count_here(answer)
                return answer
        own = await self._local.acquire(self._share(endpoint), tokens, usd, panic=panic)
        if isinstance(own, Rejection):
            return replace(own, endpoint=endpoint)
        permit = replace(own, endpoint=endpoint, id=self._next_id())
        self._held[permit.id] = own
        self._pending.add(permit)
        return permit

    async def acquire_sampled(
        self,
        endpoints: Sequence[Endpoint],
        tokens: int,
        signals: Sequence[SamplingSignals],
        usd: Sequence[float],
        selection: Selection,
        number: float,
    ) -> SampledPermit:
        """Sample an open endpoint and acquire its permit; see ``SamplingGates``."""
        self._start_heartbeat()
        if self._mode == "shared":
            try:
                found = await self._shared.acquire_sampled(endpoints, tokens, signals, usd, selection, number)
            except StateError as error:
                self._go_local(error)
            else:
                if found.permit is not None:
                    self._remember(found.permit)
                    self._count_here(found.permit)
                return found
        return SampledPermit(await self._local.statuses([self._share(one) for one in endpoints], tokens, usd))

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
        """Release a permit on the side that gave it, once.

        With :attr:`answers_first`, the release of a call that closes nothing is sent to Redis in the background, unless
        its endpoint has a limit of parallel calls, whose slot the next call may need at once. :meth:`close` waits for
        such releases.
        """
        ending = self._release(permit, result, tokens=tokens, usd=usd, wait_s=wait_s, reason=reason, refused=refused)
        is_awaited = result not in PASSING or wait_s is not None or permit.endpoint.parallel is not None
        if is_awaited or not self.answers_first or self._mode == "local":
            await ending
            return
        task = asyncio.create_task(ending)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _release(
        self,
        permit: Permit,
        result: CallResult,
        *,
        tokens: int | None,
        usd: float | None,
        wait_s: float | None,
        reason: str | None,
        refused: str | None,
    ) -> None:
        self._running.discard(permit.id)
        why = {"reason": reason, "refused": refused}
        own = self._held.pop(permit.id, None)
        if own is not None and permit.id.startswith(self._ids):
            await self._local.release(own, result, tokens=tokens, usd=usd, wait_s=wait_s, **why)
        elif own is not None:
            # Money and refused credentials are in Redis, where they may be corrected; here they would stay.
            known = CallResult.NEUTRAL if result in LASTING else result
            await self._local.release(own, known, tokens=tokens, wait_s=wait_s)
        if self._pending.end(
            permit.id, lambda now: ReleaseArguments(now, result, tokens, usd, wait_s, reason, refused)
        ):
            return
        if self._mode == "local":
            self._shared.enqueue_release(permit, result, tokens=tokens, usd=usd, wait_s=wait_s, **why)
            return
        try:
            await self._shared.release(permit, result, tokens=tokens, usd=usd, wait_s=wait_s, **why)
        except StateError as error:
            self._go_local(error)

    async def enable(self, credential: str | None) -> None:
        """Enable a credential's endpoints, here and everywhere.

        None: the endpoints that need no key.

        Raises:
            StateError: Redis is unavailable, and they are enabled here alone.
        """
        await self._local.enable(credential)
        await self._shared.enable(credential)

    async def welcome(self, endpoint: Endpoint, refused: str) -> None:
        """Enable an endpoint that refused the key of this digest before."""
        await self._local.welcome(endpoint, refused)
        if self._mode == "shared":
            try:
                await self._shared.welcome(endpoint, refused)
            except StateError as error:
                self._go_local(error)

    async def lift(self, endpoints: Sequence[Endpoint]) -> None:
        """Reset all that rejects calls to these endpoints, here and everywhere.

        Raises:
            StateError: Redis is unavailable, and it is reset here alone.
        """
        await self._local.lift(endpoints)
        await self._shared.lift(endpoints)

    async def publish(self, snapshot: Mapping[str, object]) -> None:
        """Publish a snapshot, at most once a second; drop it without Redis."""
        if self._mode == "shared":
            try:
                await self._replicas.publish(snapshot)
            except StateError as error:
                self._go_local(error)

    async def read_snapshots(self) -> dict[str, dict[str, Any]]:
        """Return the last snapshot of each replica, by name; empty without Redis.

        Raises:
            UnreadableSnapshotError: one is no JSON mapping.
        """
        if self._mode == "shared":
            try:
                return await self._replicas.snapshots()
            except UnreadableSnapshotError:
                raise
            except StateError as error:
                self._go_local(error)
        return {}

    async def heartbeat(self) -> None:
        """Send a heartbeat, import pending permits, and return to Redis."""
        if not self._beating.acquire(blocking=False):
            return  # another event loop is sending it
        try:
            await self._replicas.beat()
            if self._replicas.has_lost_memory:
                await self._restore_recent()
                self._replicas.has_lost_memory = False
            await self._shared.settle()
            await self._import_pending()
            await self._shared.renew()
            self._go_shared()
        except StateError as error:
            self._go_local(error)
        finally:
            self._beating.release()

    async def close(self) -> None:
        """Close the running loop's connections."""
        beating = self._heartbeats.pop(asyncio.get_running_loop(), None)
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(one for one in self._releasing if one.get_loop() is loop), return_exceptions=True)
        await self._shared.close()
        await self._local.close()

    def _count_here(self, permit: Permit) -> None:
        """Count a shared call locally too, unless the local share is used up.

        An endpoint whose shared breaker is closed is closed here: a merely local failure must not reject the calls of
        the moment in which Redis fails.
        """
        endpoint = replace(self._share(permit.endpoint), budget_usd=None)
        own = self._local.import_permit(endpoint, permit.tokens, is_closed=not (permit.is_probe or permit.is_panic))
        if own is not None:
            self._held[permit.id] = own

    def _remember(self, permit: Permit) -> None:
        now = self._clock()
        self._running.add(permit.id)
        self._recent.append((now, permit))
        while self._recent[0][0] <= now - WINDOW_S:
            self._recent.popleft()

    async def _restore_recent(self) -> None:
        """Restore spending and last minute's calls in a Redis that lost them."""
        await self._shared.restore_spent()
        recent = list(self._recent)
        back = [permit for _, permit in recent if permit.id not in self._running]
        for since, permit in recent:
            await self._shared.import_permit(replace(permit, usd=0.0), self._clock() - since)
        await self._shared.settle()  # first those released meanwhile, with their usage
        for permit in back:
            await self._shared.release(permit, CallResult.NEUTRAL)

    async def _import_pending(self) -> None:
        """Import every pending permit into Redis, then release it there."""
        while (spent := self._pending.spent()) is not None:
            endpoint, usd = spent
            sum_of_many = Permit(endpoint, self._next_id(), 0, usd)
            await self._shared.import_permit(sum_of_many, WINDOW_S)
            self._pending.subtract_spent(endpoint, usd)
            await self._shared.release(sum_of_many, CallResult.NEUTRAL)
        while (first := self._pending.first()) is not None:
            pending, age_s = first
            await self._shared.import_permit(pending.permit, age_s)
            released = self._pending.imported(pending.permit.id)
            if released is not None:  # otherwise it is running, and will be released in Redis
                end, ago_s = released
                wait_s = None if end.wait_s is None or end.wait_s <= ago_s else end.wait_s - ago_s
                result = end.result if end.result in LASTING else CallResult.NEUTRAL
                why = {"reason": end.reason, "refused": end.refused}
                await self._shared.release(pending.permit, result, tokens=end.tokens, usd=end.usd, wait_s=wait_s, **why)

    def _share(self, endpoint: Endpoint) -> Endpoint:
        month, spent_usd = self._shared.spent_usd.get(account(endpoint), ("", 0.0))
        return share(endpoint, self.replicas, spent_usd if month == time.strftime("%Y-%m", time.gmtime()) else 0.0)

    def _next_id(self) -> str:
        return f"{self._ids}-{next(self._numbers)}"

    def _go_local(self, error: StateError) -> None:
        if self._mode == "shared" and not isinstance(error, SlowAnswerError):
            self._mode = "local"
            logger.warning(
                "%s; going on with the limits of this process, one part in %d, until it is back", error, self.replicas
            )

    def _go_shared(self) -> None:
        if self._mode == "local":
            self._mode = "shared"
            logger.warning("Redis at %s is back: limits and breakers are shared again", self._shared.server.name)

    def _after_fork(self) -> None:
        """Drop the parent's calls, which it reports itself; never reuse its ids."""
        self._ids = f"local-{secrets.token_hex(6)}"
        forks.leave_behind(self._heartbeats, *self._heartbeats.values(), self._releasing)
        self._releasing = set()
        self._heartbeats = WeakKeyDictionary()
        self._pending = PendingReleases(self._clock, WINDOW_S, LEASE_S)
        self._held, self._running = {}, set()
        self._recent.clear()

    def _start_heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        if loop not in self._heartbeats:
            self._heartbeats[loop] = loop.create_task(self._beat_for_ever())

    async def _beat_for_ever(self) -> None:
        while True:
            try:
                await self.heartbeat()
            except Exception:  # any error: this task is the only way back to Redis
                logger.exception("could not tend the state shared through Redis; trying again")
            await asyncio.sleep(self._heartbeat_s)


def share(endpoint: Endpoint, replicas: int, spent_usd: float) -> Endpoint:
    """Return an endpoint with one replica's part of its limits.

    Rounded down, but at least 1, so that every replica can call it.
    """
    budget = endpoint.budget_usd
    return replace(
        endpoint,
        rpm=_part(endpoint.rpm, replicas),
        tpm=_part(endpoint.tpm, replicas),
        parallel=_part(endpoint.parallel, replicas),
        budget_usd=None if budget is None else max(budget - spent_usd, 0.0) / replicas,
    )


def _part(limit: int | None, replicas: int) -> int | None:
    return None if limit is None else max(limit // replicas, 1)
