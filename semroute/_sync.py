"""Bridge from synchronous callers to asynchronous code.

A single event loop runs in a daemon thread, started on first use, and again on first use in a forked child. It works
whether or not the caller is itself inside a running loop (a notebook, say), where :func:`asyncio.run` would refuse.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from semroute import forks

T = TypeVar("T")

CANCEL_S = 1.0
"""Longest wait of an interrupted caller for the work that it cancels to end, seconds."""

_THREAD_NAME = "semroute-bridge"


class _Shared:
    """Event loop that all synchronous callers of this process share."""

    def __init__(self) -> None:
        self._lock = forks.lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        forks.in_child(self, _Shared._reset)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; start it on first use."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=_THREAD_NAME, daemon=True).start()
            return self._loop

    def _reset(self) -> None:
        # The thread is the parent's, and so are the loop's selector and what it watches.
        forks.leave_behind(self._loop)
        self._loop = None


_shared = _Shared()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` on the shared loop and wait for its result.

    An interrupt of the caller cancels it.

    Raises:
        RuntimeError: when called on the shared loop itself, which would wait for ever.
    """
    loop = _shared.loop()
    if _running_loop() is loop:
        coroutine.close()
        raise RuntimeError("bridge.run() was called from the bridge's own loop; await the coroutine instead")
    has_ended = threading.Event()
    future = asyncio.run_coroutine_threadsafe(_run_and_signal(coroutine, has_ended), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        # What the work does at its end, such as to record its outcome, comes before what its caller closes.
        has_ended.wait(CANCEL_S)
        raise


async def _run_and_signal(coroutine: Coroutine[Any, Any, T], has_ended: threading.Event) -> T:
    try:
        return await coroutine
    finally:
        has_ended.set()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
