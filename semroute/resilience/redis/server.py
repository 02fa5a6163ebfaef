"""Client of Redis: atomic scripts within a time limit, or an error.

Every failure is a :class:`StateError`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from semroute import forks
from semroute._optional import require
from semroute.errors import StateError

if TYPE_CHECKING:
    from redis.asyncio import Redis


# Distinguishes a silent Redis from a busy process.

TICKS = 8
"""Checks within one time limit."""


class Watch:
    """Time limit of calls, by the time in which a loop could hear an answer.

    A time-out by the clock mistakes a busy loop, or a process that was not scheduled, for an unavailable Redis. Here
    time advances in short ticks of the loop, and a late tick counts no more than two. Silence is that of Redis, and not
    of one call: after ``limit_s`` without any answer while one was due it is pinged over a separate connection, and
    only if that stays silent for as long it counts as unavailable (:attr:`is_away`). A call that gets no answer while
    others do is given up after twice the limit.

    Nothing runs while no call is under way.

    Args:
        ask: pings Redis over a separate connection.
        limit_s: seconds of silence until it is pinged.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], limit_s: float) -> None:
        self.limit_s = limit_s
        self.is_away = False
        """True after Redis was silent twice, until it answers."""
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._now = 0.0
        self._heard_at = 0.0
        self._ticked_at = 0.0
        self._since: dict[asyncio.Timeout, float] = {}  # in the order in which they began
        self._tick: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def limited(self) -> AsyncGenerator[None]:
        """Limit the time of the calls inside.

        Raises:
            TimeoutError: no answer; :attr:`is_away` is True if others got none either.
        """
        async with asyncio.timeout(None) as limit:
            self._since[limit] = self._now
            if self._tick is None:
                self._ticked_at = self._loop.time()
                self._wait()
            try:
                yield
            finally:
                del self._since[limit]

    def heard(self) -> None:
        """Note that an answer came, whatever its content."""
        self._heard_at = self._now
        self.is_away = False

    def stop(self) -> None:
        """Stop checking."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._asking is not None:
            self._asking.cancel()

    def _wait(self) -> None:
        self._tick = self._loop.call_later(self.limit_s / TICKS, self._look)

    def _look(self) -> None:
        self._tick = None
        now = self._loop.time()
        self._now += min(now - self._ticked_at, 2 * self.limit_s / TICKS)
        self._ticked_at = now
        silent_s = self._now - self._heard_at
        for limit, since in list(self._since.items()):
            if limit.expired():  # its command ends in one of the next turns of a busy loop
                continue
            waited_s = self._now - since
            if waited_s < self.limit_s:
                break
            if min(waited_s, silent_s) >= 2 * self.limit_s:
                self.is_away = True
                limit.reschedule(now)
            elif waited_s >= 2 * self.limit_s:
                limit.reschedule(now)
            elif silent_s >= self.limit_s and self._asking is None:
                self._asking = self._loop.create_task(self._ask_once())
        if self._since:
            self._wait()

    async def _ask_once(self) -> None:
        try:
            async with asyncio.timeout(4 * self.limit_s):
                await self._ask()
        except Exception:
            return  # no answer: the silence goes on
        else:
            self.heard()
        finally:
            self._asking = None


Argument: TypeAlias = str | int | float

CONNECTIONS = 32
"""Most connections of one event loop; further calls queue, which costs them well under a millisecond."""

TIMEOUT_S = 0.5
"""Seconds without any answer after which Redis is pinged, and again as many after which it counts as unavailable: a
connection to one 40 ms away takes four round trips, and one that saves its memory pauses for tenths of a second."""

FIRST_ANSWER_S = 2.0
"""Longest wait for the first answer of Redis, seconds: a process that starts under load must not mistake it for
unavailable, since it knows of no other replica yet and would take the whole limits for itself."""


class SlowAnswerError(StateError):
    """Call without an answer in time, while Redis answers other calls."""


@dataclass(slots=True)
class _Connected:
    """Connections of one event loop: sockets cannot be shared between loops."""

    redis: Redis
    lifetime: AsyncGenerator[Redis]
    watch: Watch
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))
    failures: int = 0


class Server:
    """Client of one Redis (5.0 or later, no cluster), for many event loops.

    Args:
        url: ``redis://`` or ``rediss://`` address without a password.
        password: never shown.
        timeout_s: see :data:`TIMEOUT_S`; :data:`FIRST_ANSWER_S` for the first answer.

    Raises:
        MissingExtraError: the extra "redis" is not installed.
    """

    def __init__(self, url: str, *, password: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._redis = require("redis.asyncio", what="state shared through Redis", extra="redis")
        self._exceptions = require("redis", what="state shared through Redis", extra="redis").exceptions
        self._errors = (self._exceptions.RedisError, OSError)
        self._url, self._password, self._timeout_s = url, password, timeout_s
        self._has_answered = False
        self._needs_eval = False
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connected] = WeakKeyDictionary()
        forks.in_child(self, Server._after_fork)

    def __repr__(self) -> str:
        return f"Server({self.name!r})"

    @property
    def name(self) -> str:
        """Host, port and database, for messages."""
        parts = urlsplit(self._url)
        return f"{parts.hostname}:{parts.port or 6379}{parts.path}"

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run ``lua/<script>.lua`` atomically; return its reply, texts as bytes.

        Scripts with effects have them once for each permit, so that a call may be repeated. A script is sent whole
        (EVAL) if Redis does not know it yet, and always if EVALSHA is not allowed; SCRIPT LOAD is never needed.

        Raises:
            StateError: Redis is unavailable, too slow, or refuses.
        """
        text, digest = source(script)
        words = (len(keys), *keys, *args)

        async def ask(redis: Redis) -> Any:
            if not self._needs_eval:
                try:
                    return await redis.execute_command("EVALSHA", digest, *words)  # type: ignore[no-untyped-call]
                except self._exceptions.NoScriptError:
                    pass
                except self._exceptions.ResponseError as error:
                    if not self._is_not_allowed(error):
                        raise
                    self._needs_eval = True
            return await redis.execute_command("EVAL", text, *words)  # type: ignore[no-untyped-call]

        return await self._ask(ask)

    async def command(self, *words: Argument) -> Any:
        """Send one idempotent command.

        Raises:
            StateError: Redis is unavailable, too slow, or refuses.
        """

        async def ask(redis: Redis) -> Any:
            return await redis.execute_command(*words)  # type: ignore[no-untyped-call]

        return await self._ask(ask)

    async def close(self) -> None:
        """Close the running loop's connections.

        ``asyncio.run`` does it for a loop that ends.
        """
        connected = self._open.get(asyncio.get_running_loop())
        if connected is not None:
            await connected.lifetime.aclose()

    async def _ask(self, ask: Callable[[Redis], Awaitable[Any]]) -> Any:
        connected = await self._connected()
        failures = connected.failures
        async with connected.turns:
            if connected.failures != failures:  # a call earlier in the queue has already timed out
                raise StateError(f"Redis at {self.name} is away")
            try:
                answer = await self._in_time(ask, connected)
            except self._errors as error:
                connected.failures += 1
                raise StateError(f"Redis at {self.name}: {self._told(error)}") from None
            self._has_answered = True
            return answer

    async def _in_time(self, ask: Callable[[Redis], Awaitable[Any]], connected: _Connected) -> Any:
        watch = connected.watch
        watch.limit_s = self._timeout_s if self._has_answered else max(self._timeout_s, FIRST_ANSWER_S / 2)
        for _ in range(2):
            try:
                async with watch.limited():
                    answer = await self._over_live_connection(ask, connected)
            except self._exceptions.ResponseError:
                watch.heard()
                raise
            except TimeoutError:
                if watch.is_away:
                    raise TimeoutError(f"no answer within {2 * watch.limit_s:g} s") from None
                # It answers others: a firewall may have dropped our connection, and the idle ones with it.
                await connected.redis.connection_pool.disconnect(inuse_connections=False)
            else:
                watch.heard()
                return answer
        raise SlowAnswerError(f"Redis at {self.name} answered others, but not this call")

    async def _over_live_connection(self, ask: Callable[[Redis], Awaitable[Any]], connected: _Connected) -> Any:
        try:
            return await ask(connected.redis)
        except self._redis.ConnectionError:
            # A restarted Redis has left dead connections in the pool, and may itself be healthy.
            await connected.redis.connection_pool.disconnect(inuse_connections=False)
            return await ask(connected.redis)

    async def _ping(self) -> None:
        """Ping Redis over a separate connection."""
        async with self._client(1) as client:
            await client.ping()

    def _is_not_allowed(self, error: Exception) -> bool:
        """Return True if a command is refused by an access list or a proxy."""
        text = str(error).lower()
        return isinstance(error, self._exceptions.NoPermissionError) or "unknown" in text or "evalsha" in text

    def _after_fork(self) -> None:
        """Leave the parent's connections untouched."""
        forks.leave_behind(*self._open.values(), self._open)
        self._open = WeakKeyDictionary()

    def _told(self, error: BaseException) -> str:
        """Return an error's message, with any password masked."""
        text = str(error) or type(error).__name__
        return text.replace(self._password, "***") if self._password else text

    async def _connected(self) -> _Connected:
        loop = asyncio.get_running_loop()
        connected = self._open.get(loop)
        if connected is None:
            lifetime = self._lifetime()
            watch = Watch(self._ping, self._timeout_s)
            connected = self._open[loop] = _Connected(await anext(lifetime), lifetime, watch)
        return connected

    async def _lifetime(self) -> AsyncGenerator[Redis]:
        """Yield a client that is closed with its event loop.

        A loop that ends finishes its generators (``shutdown_asyncgens``).
        """
        client = self._client(CONNECTIONS)
        try:
            yield client
        finally:
            connected = self._open.pop(asyncio.get_running_loop(), None)
            if connected is not None:
                connected.watch.stop()
            await client.aclose()

    def _client(self, connections: int) -> Redis:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client: Redis = self._redis.Redis.from_url(
            self._url,
            **({} if self._password is None else {"password": self._password}),
            max_connections=connections,
            socket_timeout=None,  # one limit for the whole call, in _in_time
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        return client


@cache
def source(script: str) -> tuple[str, str]:
    """Return a script's text, with the common part before it, and its SHA-1."""
    folder = files("semroute.resilience.redis") / "lua"
    text = (folder / "common.lua").read_text("utf-8") + (folder / f"{script}.lua").read_text("utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
