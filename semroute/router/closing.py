"""Release of a router's connections, each on the event loop that opened it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from semroute.errors import SemrouteError

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher
    from semroute.router.shadow import BlindComparer

CLOSE_S = 5.0
"""Longest wait for another thread's event loop to release what it holds, seconds."""

log = logging.getLogger("semroute")
_tasks: set[asyncio.Task[None]] = set()


def release(dispatcher: Dispatcher, comparer: BlindComparer | None = None) -> None:
    """Release what the dispatcher holds on the loops that used it, after the comparisons that use it have ended.

    The status is reported once. On the loop that runs in this thread it is done in a task: to wait for it would take
    for ever. It never raises for a server that is down.
    """
    if comparer is not None:
        for loop in comparer.loops:
            _run_on(loop, comparer.finish())
    work = dispatcher.close
    for loop in dispatcher.loops:
        _run_on(loop, _quietly(work()))
        work = dispatcher.release


async def release_here(dispatcher: Dispatcher) -> None:
    """Release what the dispatcher holds on the running loop."""
    if asyncio.get_running_loop() in dispatcher.loops:
        await _quietly(dispatcher.close())


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (OSError, SemrouteError) as error:
        log.warning("a connection could not be closed properly: %s", error)


def _run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` on a loop, whether it runs here, in another thread, or not."""
    running = _running_loop()
    if running is loop:
        task = loop.create_task(work)
        _tasks.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(_tasks.discard)
    elif loop.is_running() and not sys.is_finalizing():  # at the very end no other thread runs any more
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            future.result(CLOSE_S)
        except TimeoutError:
            future.cancel()
            log.warning("an event loop did not close its connections within %g s", CLOSE_S)
    elif running is None and not loop.is_running() and not loop.is_closed():
        loop.run_until_complete(work)
    else:
        work.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
