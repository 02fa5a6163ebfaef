"""Redis as the gates see it: scripts that run whole, or :class:`StateError`."""

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


# Tells a Redis that is silent from a process that is busy.

TICKS = 8
"""Looks within one limit."""


class Watch:
    """Limits calls of one event loop by the time in which it could have heard an answer.

    A time-out by the clock takes a loop that was busy, or a process that was not scheduled, for a Redis that is away.
    Here time passes in short ticks of the loop, and a tick that came late counts no more than two. Silence is that of
    Redis, and not of one call: after ``limit_s`` without any answer while one was due it is asked over a connection of
    its own, and only when that stays silent for as long it is held to be away (:attr:`is_away`). A call that gets no
    answer while others do is given up after twice the limit.

    Nothing runs while no call is under way.

    Args:
        ask: asks Redis over a connection of its own.
        limit_s: seconds of silence until it is asked.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], limit_s: float) -> None:
        self.limit_s = limit_s
        self.is_away = False
        """Whether Redis was silent twice; until it answers."""
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
        """Bound what is done inside.

        Raises:
            TimeoutError: no answer; :attr:`is_away` tells whether to others neither.
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
        """Note an answer, whatever it says."""
        self._heard_at = self._now
        self.is_away = False

    def stop(self) -> None:
        """Look no more."""
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
            return  # no answer is no news: the silence goes on
        else:
            self.heard()
        finally:
            self._asking = None


Argument: TypeAlias = str | int | float

CONNECTIONS = 32
"""Most connections of one event loop; further calls wait for their turn, which costs them well under a millisecond."""

TIMEOUT_S = 0.5
"""Seconds without any answer after which Redis is asked once more, and again as many after which it is held to be away:
a connection to one 40 ms away takes four round trips, and one that saves its memory pauses for tenths of a second."""

FIRST_ANSWER_S = 2.0
"""The longest wait for Redis before it has answered once, seconds: a process that starts under load must not take it
for away, since it knows of no other replica yet and would take the whole limits for itself."""


class SlowAnswerError(StateError):
    """One call got no answer in time, while Redis answers others: no sign that it is away."""


@dataclass(slots=True)
class _Connected:
    """What belongs to one event loop: sockets cannot be shared between loops."""

    redis: Redis
    lifetime: AsyncGenerator[Redis]
    watch: Watch
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))
    failures: int = 0


class Server:
    """One Redis (5.0 or later; not a cluster), for any number of event loops.

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
        """Run ``lua/<script>.lua`` as one atomic step and give what it returns, texts as bytes.

        The scripts that change something do so once for each pass, so that a call may be repeated. A script is sent
        whole (EVAL) where Redis does not know it yet, and always where EVALSHA is not allowed; SCRIPT LOAD is never
        needed.

        Raises:
            StateError: Redis is away, too slow, or refuses.
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
        """Send one command that may be repeated.

        Raises:
            StateError: Redis is away, too slow, or refuses.
        """

        async def ask(redis: Redis) -> Any:
            return await redis.execute_command(*words)  # type: ignore[no-untyped-call]

        return await self._ask(ask)

    async def close(self) -> None:
        """Close the running loop's connections; ``asyncio.run`` does it for a loop that ends."""
        connected = self._open.get(asyncio.get_running_loop())
        if connected is not None:
            await connected.lifetime.aclose()

    async def _ask(self, ask: Callable[[Redis], Awaitable[Any]]) -> Any:
        connected = await self._connected()
        failures = connected.failures
        async with connected.turns:
            if connected.failures != failures:  # who was before in the queue has already waited for nothing
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
            # A Redis that was started again has left dead connections in the pool; it may itself be well.
            await connected.redis.connection_pool.disconnect(inuse_connections=False)
            return await ask(connected.redis)

    async def _ping(self) -> None:
        """Ask over a connection of its own whether Redis is there."""
        async with self._client(1) as client:
            await client.ping()

    def _is_not_allowed(self, error: Exception) -> bool:
        """Whether a command is refused as such: by an access list, or by a proxy that does not know it."""
        text = str(error).lower()
        return isinstance(error, self._exceptions.NoPermissionError) or "unknown" in text or "evalsha" in text

    def _after_fork(self) -> None:
        """Leave the parent's connections alone."""
        forks.leave_behind(*self._open.values(), self._open)
        self._open = WeakKeyDictionary()

    def _told(self, error: BaseException) -> str:
        """What an error says, without the password should a server ever repeat it."""
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
        """A generator that a loop which ends finishes by itself (``shutdown_asyncgens``), and the client with it."""
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
    """The text of a script, with what all scripts share before it, and the digest under which Redis knows it."""
    folder = files("semroute.resilience.redis") / "lua"
    text = (folder / "common.lua").read_text("utf-8") + (folder / f"{script}.lua").read_text("utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
