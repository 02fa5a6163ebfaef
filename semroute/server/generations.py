"""Generations of the gateway: routers replaced without a lost request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from semroute.errors import InputError, SemrouteError
from semroute.router import Router
from semroute.server.guards import Application, Receive, Scope, Send
from semroute.server.metrics import Metrics

CHECK_S = 2.0
"""Interval of the checks for a changed configuration or index, seconds."""

log = logging.getLogger("semroute")


class _Generation:
    """One router with its application, and the number of its requests."""

    def __init__(self, router: Router, app: Application) -> None:
        self.router, self.app = router, app
        self.users = 0
        self.unused = asyncio.Event()
        self.unused.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.users += 1
        self.unused.clear()
        try:
            await self.app(scope, receive, send)
        finally:
            self.users -= 1
            if not self.users:
                self.unused.set()

    async def close(self) -> None:
        """Close the router when its last request has ended."""
        await self.unused.wait()
        try:
            await self.router.aclose()
        except (OSError, SemrouteError) as error:
            log.warning("the replaced router could not be closed properly: %s", error)


class Generations:
    """ASGI application of the router that serves now.

    Args:
        router: the first router.
        application: makes the application over a router.
        metrics: counts reloads.
        reopen: opens the router that follows the given one, from what the files now hold; None never does.
        stamp: identity of the files behind a router; a new one means that they changed. None checks nothing.
        check_s: interval of these checks, seconds.
        settle: called when a replaced router is closed.
    """

    def __init__(
        self,
        router: Router,
        application: Callable[[Router], Application],
        metrics: Metrics,
        *,
        reopen: Callable[[Router], Router] | None = None,
        stamp: Callable[[Router], object] | None = None,
        check_s: float = CHECK_S,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._application, self._metrics, self._settle = application, metrics, settle
        self._reopen, self._stamp, self._check_s = reopen, stamp, check_s
        self._current = _Generation(router, application(router))
        self._seen = None if stamp is None else stamp(router)
        self._old: dict[asyncio.Task[None], _Generation] = {}
        self._watching: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        metrics.know(router.config)

    @property
    def router(self) -> Router:
        """Router that serves now."""
        return self._current.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with the current router, to the end of its answer."""
        await self._current(scope, receive, send)

    async def open(self) -> None:
        """Open what the first query needs, and begin to check the files."""
        await asyncio.to_thread(lambda: self.router.dispatcher)
        if self._reopen is not None and self._stamp is not None:
            self._watching = asyncio.create_task(self._watch(self._stamp))

    async def close(self) -> None:
        """Close every router; those that still serve a request are not waited for."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        async with self._reloading:
            for generation in self._old.values():
                generation.unused.set()
            if self._old:
                await asyncio.wait(set(self._old))
            await asyncio.to_thread(self.router.close)

    async def reload(self) -> bool:
        """Replace the router by one of the current files.

        Requests under way keep theirs.

        Returns:
            False if the new one could not be opened: the old one goes on serving, and the error is logged.
        """
        if self._reopen is None:
            return False
        async with self._reloading:
            old = self._current
            try:
                router = await asyncio.to_thread(self._opened, self._reopen, old.router)
            except SemrouteError as error:
                log.error("the new configuration cannot be used, the old one goes on serving: %s", error)
            except Exception:  # a plugin may raise anything; the server goes on
                log.exception("the new configuration cannot be used, the old one goes on serving")
            else:
                self._current = _Generation(router, self._application(router))
                self._metrics.know(router.config)
                self._metrics.reloaded("ok")
                task = asyncio.create_task(old.close())
                self._old[task] = old
                task.add_done_callback(self._forget)
                log.info("configuration and index are loaded anew")
                return True
        self._metrics.reloaded("failed")
        return False

    async def reload_for(self, tell: Callable[[], None] | None) -> Mapping[str, object]:
        """Reload at somebody's wish, in every process where there are several.

        Args:
            tell: tells every process to reload, this one among them; None reloads here.

        Returns:
            What was done, as JSON-ready values.

        Raises:
            InputError: nothing can be reloaded, or not what the files hold now; the log of this process says why.
        """
        if self._reopen is None:
            raise InputError("this gateway was opened over no files: there is nothing to reload")
        if tell is not None:
            tell()
            return {"reloaded": None, "workers": "told"}
        if not await self.reload():
            raise InputError(
                "configuration or index cannot be used, and the old ones go on serving; the gateway's log says why"
            )
        return {"reloaded": True}

    def _forget(self, closed: asyncio.Task[None]) -> None:
        del self._old[closed]
        self._settle()

    @staticmethod
    def _opened(reopen: Callable[[Router], Router], old: Router) -> Router:
        router = reopen(old)
        try:
            router.dispatcher  # noqa: B018  what the first query would wait for, and errors that it would meet
        except BaseException:
            router.close()
            raise
        return router

    async def _watch(self, stamp: Callable[[Router], object]) -> None:
        pending = self._seen
        while True:
            await asyncio.sleep(self._check_s)
            found = await asyncio.to_thread(stamp, self.router)
            # Only what two looks find alike: a file that is being written may be valid before it is whole.
            if found != self._seen and found == pending:
                self._seen = found  # before the reload: a change during it is another one
                await self.reload()
            pending = found
