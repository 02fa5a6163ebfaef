"""The one bridge from synchronous callers to asynchronous work.

A single event loop runs in a daemon thread, started on first use. It works whether or not the caller is itself inside a
running loop (a notebook, say), where :func:`asyncio.run` would refuse.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_S = 1.0
"""How long an interrupted caller waits for the end of what it cancels, seconds."""

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` on the shared loop and wait; an interrupt of the caller cancels it.

    Raises:
        RuntimeError: when called on the shared loop itself, which would wait for ever.
    """
    loop = _shared_loop()
    if threading.current_thread().name == _THREAD_NAME:
        work.close()
        raise RuntimeError("bridge.run() was called from the bridge's own loop; await the coroutine instead")
    has_ended = threading.Event()
    future = asyncio.run_coroutine_threadsafe(_ending(work, has_ended), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        # What the work does at its end, such as to record its outcome, comes before what its caller closes.
        has_ended.wait(CANCEL_S)
        raise


async def _ending(work: Coroutine[Any, Any, T], has_ended: threading.Event) -> T:
    try:
        return await work
    finally:
        has_ended.set()


_THREAD_NAME = "semroute-bridge"


def _shared_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name=_THREAD_NAME, daemon=True).start()
        return _loop
