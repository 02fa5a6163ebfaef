"""What was let through while Redis was away, until Redis knows of it."""

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
from semroute.errors import StateError
from semroute.resilience.breaker import Clock
from semroute.resilience.gates import LEASE_S, MemoryGates, account
from semroute.resilience.limits import WINDOW_S
from semroute.resilience.redis.gates import MONTH_S, PREFIX, RedisGates
from semroute.resilience.redis.server import Server, SlowAnswerError
from semroute.types import CallResult, Endpoint, EndpointStatus, Permit, Rejection


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended, with the arguments of ``AdmissionControl.release``; ``at`` is when."""

    at: float
    ending: CallResult
    tokens: int | None = None
    usd: float | None = None
    wait_s: float | None = None
    reason: str | None = None
    refused: str | None = None


LASTING = (CallResult.SUSPEND, CallResult.DISABLE)
"""Endings that matter for longer than a minute."""


@dataclass(slots=True)
class Line:
    """One pass that this process gave; ``end`` where it has come back."""

    leave: Permit
    since: float
    end: End | None = None


class PendingReleases:
    """The passes given while Redis was away, oldest first.

    A line of more than a minute ago that has ended no longer matters to any limit; what it cost is added up by place
    and the line goes, unless its credential was refused or it brought a hint that still holds. So the ledger does not
    grow with the time that Redis is away.

    Args:
        clock: seconds, monotonic.
        window_s: the throttle's minute.
        lease_s: a call that has not come back after this is forgotten, seconds; it cost what it reserved.
    """

    def __init__(self, clock: Clock, window_s: float, lease_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._lease_s = lease_s
        self._lines: dict[str, Line] = {}
        self._spent: dict[Endpoint, float] = {}
        self._telling: str | None = None  # the line that Redis is just being told of, which must not go twice
        self._lock = forks.lock()

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, leave: Permit) -> None:
        """Note a pass."""
        with self._lock:
            self._lines[leave.id] = Line(leave, self._clock())
            self._drop_old()

    def end(self, id: str, end: Callable[[float], End]) -> bool:
        """Note how a call ended, given the time; False where its pass is not in here."""
        with self._lock:
            line = self._lines.get(id)
            if line is None:
                return False
            if line.end is None:
                line.end = end(self._clock())
            return True

    def first(self) -> tuple[Line, float] | None:
        """The oldest line that still matters and the seconds since then; None when there is none."""
        with self._lock:
            self._drop_old()
            for line in self._lines.values():
                self._telling = line.leave.id
                return line, self._clock() - line.since
            return None

    def told(self, id: str) -> tuple[End, float] | None:
        """Drop a line that Redis knows now: its ending, where it has one, and the seconds since then."""
        with self._lock:
            self._telling = None
            end = self._lines.pop(id).end
            return None if end is None else (end, self._clock() - end.at)

    def spent(self) -> tuple[Endpoint, float] | None:
        """A place and the USD that the lines cost there that are gone; None when there is none."""
        with self._lock:
            self._drop_old()
            return next(iter(self._spent.items()), None)

    def told_spent(self, place: Endpoint, usd: float) -> None:
        """Take off what Redis knows now."""
        with self._lock:
            self._spent[place] -= usd
            if self._spent[place] <= 0.0:
                del self._spent[place]

    def _drop_old(self) -> None:
        while self._lines:
            line = next(iter(self._lines.values()))
            if line.leave.id == self._telling or self._matters(line):
                return
            del self._lines[line.leave.id]
            cost = line.leave.usd if line.end is None or line.end.usd is None else line.end.usd
            if cost > 0.0:
                self._spent[line.leave.place] = self._spent.get(line.leave.place, 0.0) + cost

    def _matters(self, line: Line) -> bool:
        now, end = self._clock(), line.end
        if end is None:
            return now < line.since + self._lease_s
        if end.ending in LASTING or now < line.since + self._window_s:
            return True
        return end.wait_s is not None and now < end.at + end.wait_s


# Who shares the Redis: replicas that say they live, and what each last saw.

LIVE_S = 10.0
"""A replica that has said nothing for this long is no longer counted, seconds."""

PUBLISH_S = 1.0
"""A replica's snapshot is written at most this often, seconds."""


class UnreadableSnapshotError(StateError):
    """Redis answers, and holds something else where a snapshot should be."""


class Replicas:
    """This replica among the others.

    Args:
        server: the Redis.
        prefix: before every key.
        name: of this replica; host, process and a random part when left out.
        live_s: how long a heartbeat and a snapshot last, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        server: Server,
        *,
        prefix: str = PREFIX,
        name: str | None = None,
        live_s: float = LIVE_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name or _own_name()
        self._server = server
        self._prefix = prefix
        self._live_s = live_s
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()
        self._published_at: float | None = None
        self._memory: bytes | None = None
        self.has_lost_memory = False
        """Whether Redis came back without what it knew; stays so until it is set to False."""
        forks.in_child(self, Replicas._after_fork)

    @property
    def count(self) -> int:
        """The most replicas that were seen to live at once in the last ``live_s`` seconds in which Redis answered."""
        return max((count for _, count in self._counts), default=1)

    async def beat(self, snapshot: str = "") -> None:
        """Say that this replica lives, and count the others.

        Raises:
            StateError: Redis is away.
        """
        keys = [self._prefix + kind for kind in ("replicas", f"snapshot:{self.name}", "memory", "clock")]
        args = ("", self.name, self._live_s, snapshot, secrets.token_hex(8), MONTH_S)
        count, memory = await self._server.run("heartbeat", keys, args)
        self.has_lost_memory |= self._memory not in (None, memory)
        self._memory = memory
        now = self._clock()
        self._counts.append((now, int(count)))
        # The most and not the last: a Redis that has just restarted knows only who has spoken since.
        while self._counts[0][0] <= now - self._live_s:
            self._counts.popleft()

    async def publish(self, snapshot: Mapping[str, object]) -> None:
        """Let others read what this replica sees; does nothing within a second of the last time.

        Raises:
            StateError: Redis is away.
        """
        now = self._clock()
        if self._published_at is not None and now < self._published_at + PUBLISH_S:
            return
        self._published_at = now
        await self.beat(json.dumps(snapshot))

    async def snapshots(self) -> dict[str, dict[str, Any]]:
        """The last snapshot of each replica that published one in the last ``live_s`` seconds, by its name.

        Raises:
            UnreadableSnapshotError: one is no JSON mapping.
            StateError: Redis is away.
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
        """Be another replica than the parent."""
        self.name = _own_name()
        self._published_at = None


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


# Gates shared through Redis that go on in this process while Redis is away.

Mode: TypeAlias = Literal["shared", "local"]

logger = logging.getLogger("semroute")


class FailoverGates:
    """The gates in Redis, and gates of this process with a share of the limits for as long as Redis does not answer.

    The share is one part in as many as replicas were last seen alive (at least one request, token and call: see
    :func:`share`). No method raises because Redis is away. Away is a Redis that refuses connections or was silent
    twice (:class:`~semroute.resilience.redis.server.Watch`): the calls of that second wait, from then on none does, and
    a task of the event loop asks every ``tend_s`` seconds whether Redis is back. One call that is slow while others are
    answered is let through here, and told to Redis a moment later. When Redis is back, what was let through meanwhile
    is counted there at the time it happened, with the money it cost, the keys that were refused and the hints it
    brought; its other endings tell the shared breaker nothing.

    **How far limits are overshot.** Each replica counts its calls in its own gates too while Redis answers, so that it
    starts its share with its own last minute counted. With a limit of L a minute and n replicas, all of which have seen
    each other:

    - away for more than a minute, the replicas together stay within L (within n where L < n);
    - in a minute that holds the moment at which Redis went away, at most L + L (n - 1) / n pass, less than 2 L: when
      one replica alone had used all of L before, and then each of the others uses its share. Replicas that had used
      equal shares stay within L;
    - the same holds in a minute that holds the moment at which it came back: for the second or so until every replica
      has told it what passed, it does not know of the others' shares. A Redis that comes back empty is told the last
      minute and the budgets too; breakers begin afresh.

    For tokens add at most one call of each replica, the one that no longer fitted into what it counts of its own.
    The same task says for all calls of this process that it lives, so that a killed one holds its slots for seconds.

    A replica that starts while Redis is away knows of no other and takes the whole limit. Of a monthly budget each
    replica may spend one part in n of what was left when Redis last told.

    Args:
        shared: the gates in Redis.
        replicas: the same Redis, to count who shares it.
        local: makes the gates of this process.
        tend_s: how often this replica says that it lives, and asks whether Redis is back, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        shared: RedisGates,
        replicas: Replicas,
        local: Callable[[], MemoryGates],
        *,
        tend_s: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._shared = shared
        self._replicas = replicas
        self._local = local()
        self._tend_s = tend_s
        self._clock = clock
        self._mode: Mode = "shared"
        self._ledger = PendingReleases(clock, WINDOW_S, LEASE_S)
        self._held: dict[str, Permit] = {}  # passes of the local gates, by the id of the pass that was handed out
        self._recent: deque[tuple[float, Permit]] = deque()  # what Redis gave in the last minute
        self._out: set[str] = set()  # the ids of those that have not come back
        self._ids = f"local-{secrets.token_hex(6)}"
        self._numbers = itertools.count()
        self._tending = forks.lock()
        self._tenders: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()
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
        """How many replicas were last seen alive, this one included."""
        return self._replicas.count

    async def standings(
        self, places: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        """How each place stands. Arguments as of ``AdmissionControl.standings``."""
        if self._mode == "shared":
            try:
                return await self._shared.standings(places, tokens, usd)
            except StateError as error:
                self._go_local(error)
        return await self._local.standings([self._share(place) for place in places], tokens, usd)

    async def acquire(
        self, place: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        """Ask for leave and reserve in one step. Arguments as of ``AdmissionControl.acquire``."""
        self._start_tending()
        if self._mode == "shared":
            try:
                answer = await self._shared.acquire(place, tokens, usd, panic=panic)
            except StateError as error:
                self._go_local(error)
            else:
                if isinstance(answer, Permit):
                    self._remember(answer)
                    self._count_here(answer)
                return answer
        mine = await self._local.acquire(self._share(place), tokens, usd, panic=panic)
        if isinstance(mine, Rejection):
            return replace(mine, place=place)
        leave = replace(mine, place=place, id=self._next_id())
        self._held[leave.id] = mine
        self._ledger.add(leave)
        return leave

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
        """Return a permit to whichever side gave it; a second time does nothing. As ``AdmissionControl.release``."""
        self._out.discard(leave.id)
        why = {"reason": reason, "refused": refused}
        mine = self._held.pop(leave.id, None)
        if mine is not None and leave.id.startswith(self._ids):
            await self._local.release(mine, ending, tokens=tokens, usd=usd, wait_s=wait_s, **why)
        elif mine is not None:
            # Money and refused credentials are in Redis, where they may be put right; here they would stay.
            known = CallResult.NEUTRAL if ending in LASTING else ending
            await self._local.release(mine, known, tokens=tokens, wait_s=wait_s)
        if self._ledger.end(leave.id, lambda now: End(now, ending, tokens, usd, wait_s, reason, refused)):
            return
        if self._mode == "local":
            self._shared.enqueue_release(leave, ending, tokens=tokens, usd=usd, wait_s=wait_s, **why)
            return
        try:
            await self._shared.release(leave, ending, tokens=tokens, usd=usd, wait_s=wait_s, **why)
        except StateError as error:
            self._go_local(error)

    async def enable(self, credential: str | None) -> None:
        """Let the credential's places be called again, here and everywhere; None: the places that need no key.

        Raises:
            StateError: Redis is away, and they are enabled here alone.
        """
        await self._local.enable(credential)
        await self._shared.enable(credential)

    async def welcome(self, place: Endpoint, refused: str) -> None:
        """Lift what closed a place for the key of this digest. Arguments as of ``AdmissionControl.welcome``."""
        await self._local.welcome(place, refused)
        if self._mode == "shared":
            try:
                await self._shared.welcome(place, refused)
            except StateError as error:
                self._go_local(error)

    async def lift(self, places: Sequence[Endpoint]) -> None:
        """Lift whatever closes these places, here and everywhere.

        Raises:
            StateError: Redis is away, and it is lifted here alone.
        """
        await self._local.lift(places)
        await self._shared.lift(places)

    async def publish(self, snapshot: Mapping[str, object]) -> None:
        """Let others read what this replica sees, at most once a second; dropped while Redis is away."""
        if self._mode == "shared":
            try:
                await self._replicas.publish(snapshot)
            except StateError as error:
                self._go_local(error)

    async def read_snapshots(self) -> dict[str, dict[str, Any]]:
        """The last snapshot of each replica, by its name; empty while Redis is away.

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
        """Say that this replica lives; tell Redis what it does not know yet, and return to it once it knows."""
        if not self._tending.acquire(blocking=False):
            return  # another event loop is at it
        try:
            await self._replicas.beat()
            if self._replicas.has_lost_memory:
                await self._remind()
                self._replicas.has_lost_memory = False
            await self._shared.settle()
            await self._tell()
            await self._shared.renew()
            self._go_shared()
        except StateError as error:
            self._go_local(error)
        finally:
            self._tending.release()

    async def close(self) -> None:
        """Release the running loop's connections."""
        tender = self._tenders.pop(asyncio.get_running_loop(), None)
        if tender is not None:
            tender.cancel()
            await asyncio.gather(tender, return_exceptions=True)
        await self._shared.close()
        await self._local.close()

    def _count_here(self, leave: Permit) -> None:
        """Count a shared call here too. Where our share is used up it stays out, and our share is no worse for it.

        A place that is open there is open here: what closed it here alone must not meet the calls of the moment in
        which Redis goes away.
        """
        place = replace(self._share(leave.place), budget_usd=None)
        mine = self._local.import_permit(place, leave.tokens, is_closed=not (leave.is_probe or leave.is_panic))
        if mine is not None:
            self._held[leave.id] = mine

    def _remember(self, leave: Permit) -> None:
        now = self._clock()
        self._out.add(leave.id)
        self._recent.append((now, leave))
        while self._recent[0][0] <= now - WINDOW_S:
            self._recent.popleft()

    async def _remind(self) -> None:
        """Give a Redis that lost its memory what it had counted: money, and the calls of the last minute."""
        await self._shared.restore_spent()
        recent = list(self._recent)
        back = [leave for _, leave in recent if leave.id not in self._out]
        for since, leave in recent:
            await self._shared.import_permit(replace(leave, usd=0.0), self._clock() - since)
        await self._shared.settle()  # first those that came back meanwhile, with what they took
        for leave in back:
            await self._shared.release(leave, CallResult.NEUTRAL)

    async def _tell(self) -> None:
        """Tell Redis of every pass that it does not know: first that it was given, then how it came back."""
        while (spent := self._ledger.spent()) is not None:
            place, usd = spent
            sum_of_many = Permit(place, self._next_id(), 0, usd)
            await self._shared.import_permit(sum_of_many, WINDOW_S)
            self._ledger.told_spent(place, usd)
            await self._shared.release(sum_of_many, CallResult.NEUTRAL)
        while (first := self._ledger.first()) is not None:
            line, age_s = first
            await self._shared.import_permit(line.leave, age_s)
            told = self._ledger.told(line.leave.id)
            if told is not None:  # otherwise it is running, and comes back to Redis by itself
                end, ago_s = told
                wait_s = None if end.wait_s is None or end.wait_s <= ago_s else end.wait_s - ago_s
                ending = end.ending if end.ending in LASTING else CallResult.NEUTRAL
                why = {"reason": end.reason, "refused": end.refused}
                await self._shared.release(line.leave, ending, tokens=end.tokens, usd=end.usd, wait_s=wait_s, **why)

    def _share(self, place: Endpoint) -> Endpoint:
        month, spent_usd = self._shared.spent_usd.get(account(place), ("", 0.0))
        return share(place, self.replicas, spent_usd if month == time.strftime("%Y-%m", time.gmtime()) else 0.0)

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
        """Forget the parent's calls, and never give out its ids: it tells Redis of them itself."""
        self._ids = f"local-{secrets.token_hex(6)}"
        forks.leave_behind(self._tenders, *self._tenders.values())
        self._tenders = WeakKeyDictionary()
        self._ledger = PendingReleases(self._clock, WINDOW_S, LEASE_S)
        self._held, self._out = {}, set()
        self._recent.clear()

    def _start_tending(self) -> None:
        loop = asyncio.get_running_loop()
        if loop not in self._tenders:
            self._tenders[loop] = loop.create_task(self._tend_for_ever())

    async def _tend_for_ever(self) -> None:
        while True:
            try:
                await self.heartbeat()
            except Exception:  # whatever it is, this task is the only way back to Redis
                logger.exception("could not tend the state shared through Redis; trying again")
            await asyncio.sleep(self._tend_s)


def share(place: Endpoint, replicas: int, spent_usd: float) -> Endpoint:
    """A place with one replica's part of its limits: rounded down, but at least 1, so that no replica stands still."""
    budget = place.budget_usd
    return replace(
        place,
        rpm=_part(place.rpm, replicas),
        tpm=_part(place.tpm, replicas),
        parallel=_part(place.parallel, replicas),
        budget_usd=None if budget is None else max(budget - spent_usd, 0.0) / replicas,
    )


def _part(limit: int | None, replicas: int) -> int | None:
    return None if limit is None else max(limit // replicas, 1)
