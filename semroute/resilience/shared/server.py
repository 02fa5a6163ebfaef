"""Redis as the gates see it: scripts that run whole, each within a tenth of a second, or :class:`StateError`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from semroute.errors import StateError
from semroute.extras import require

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

Argument: TypeAlias = str | int | float

CONNECTIONS = 32
"""Most connections of one event loop; further calls wait for their turn, which costs them well under a millisecond."""

FIRST_ANSWER_S = 2.0
"""The longest wait for Redis before it has answered once, seconds: a process that starts under load must not take it
for away, since it knows of no other replica yet and would take the whole limits for itself."""


@dataclass(slots=True)
class _Connected:
    """What belongs to one event loop: sockets cannot be shared between loops."""

    redis: Redis
    lifetime: AsyncGenerator[Redis]
    scripts: dict[str, AsyncScript] = field(default_factory=dict)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))
    failures: int = 0


class Server:
    """One Redis (5.0 or later; not a cluster), for any number of event loops.

    Args:
        url: ``redis://`` or ``rediss://`` address without a password.
        password: never shown.
        timeout_s: the longest wait for an answer, seconds; :data:`FIRST_ANSWER_S` for the first.

    Raises:
        MissingExtraError: the extra "redis" is not installed.
    """

    def __init__(self, url: str, *, password: str | None = None, timeout_s: float = 0.1) -> None:
        self._redis = require("redis.asyncio", what="state shared through Redis", extra="redis")
        self._errors = (require("redis", what="state shared through Redis", extra="redis").RedisError, OSError)
        self._url, self._password, self._timeout_s = url, password, timeout_s
        self._has_answered = False
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Connected] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Server({self.name!r})"

    @property
    def name(self) -> str:
        """Host, port and database, for messages."""
        parts = urlsplit(self._url)
        return f"{parts.hostname}:{parts.port or 6379}{parts.path}"

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run ``lua/<script>.lua`` as one atomic step and give what it returns, texts as bytes.

        The scripts that change something do so once for each pass, so that a call may be repeated.

        Raises:
            StateError: Redis is away, too slow, or refuses.
        """

        async def ask(connected: _Connected) -> Any:
            if script not in connected.scripts:
                connected.scripts[script] = connected.redis.register_script(source(script))
            return await connected.scripts[script](keys=keys, args=args)  # loads the script where Redis lost it

        return await self._ask(ask)

    async def command(self, *words: Argument) -> Any:
        """Send one command that may be repeated.

        Raises:
            StateError: Redis is away, too slow, or refuses.
        """

        async def ask(connected: _Connected) -> Any:
            return await connected.redis.execute_command(*words)  # type: ignore[no-untyped-call]

        return await self._ask(ask)

    async def close(self) -> None:
        """Close the running loop's connections; ``asyncio.run`` does it for a loop that ends."""
        connected = self._open.get(asyncio.get_running_loop())
        if connected is not None:
            await connected.lifetime.aclose()

    async def _ask(self, ask: Callable[[_Connected], Awaitable[Any]]) -> Any:
        connected = await self._connected()
        failures = connected.failures
        async with connected.turns:
            if connected.failures != failures:  # who was before in the queue has already waited for nothing
                raise StateError(f"Redis at {self.name} is away")
            try:
                answer = await self._in_time(partial(self._over_live_connection, ask), connected)
            except self._errors as error:
                connected.failures += 1
                raise StateError(f"Redis at {self.name}: {self._told(error)}") from None
            self._has_answered = True
            return answer

    async def _over_live_connection(self, ask: Callable[[_Connected], Awaitable[Any]], connected: _Connected) -> Any:
        try:
            return await ask(connected)
        except self._redis.ConnectionError:
            # A Redis that was started again has left dead connections in the pool; it may itself be well.
            await connected.redis.connection_pool.disconnect(inuse_connections=False)
            return await ask(connected)

    async def _in_time(self, ask: Callable[[_Connected], Awaitable[Any]], connected: _Connected) -> Any:
        timeout_s = self._timeout_s if self._has_answered else max(self._timeout_s, FIRST_ANSWER_S)
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                return await ask(connected)
        except TimeoutError:
            if time.monotonic() - started < 1.5 * timeout_s:
                raise TimeoutError(f"no answer within {timeout_s:g} s") from None
        # The timeout itself came late: this loop was busy, and the answer may well have been there in time.
        async with asyncio.timeout(timeout_s):
            return await ask(connected)

    def _told(self, error: BaseException) -> str:
        """What an error says, without the password should a server ever repeat it."""
        text = str(error) or type(error).__name__
        return text.replace(self._password, "***") if self._password else text

    async def _connected(self) -> _Connected:
        loop = asyncio.get_running_loop()
        connected = self._open.get(loop)
        if connected is None:
            lifetime = self._lifetime()
            connected = self._open[loop] = _Connected(await anext(lifetime), lifetime)
        return connected

    async def _lifetime(self) -> AsyncGenerator[Redis]:
        """A generator that a loop which ends finishes by itself (``shutdown_asyncgens``), and the client with it."""
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client: Redis = self._redis.Redis.from_url(
            self._url,
            **({} if self._password is None else {"password": self._password}),
            max_connections=CONNECTIONS,
            socket_timeout=None,  # one timeout for the whole call, in _in_time
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            yield client
        finally:
            self._open.pop(asyncio.get_running_loop(), None)
            await client.aclose()


@cache
def source(script: str) -> str:
    """The text of a script, with what all scripts share before it."""
    folder = files("semroute.resilience.shared") / "lua"
    return (folder / "common.lua").read_text("utf-8") + (folder / f"{script}.lua").read_text("utf-8")
