"""Bridge from synchronous callers to asynchronous code.

A single event loop runs in a daemon thread, started on first use, and again on first use in a forked child. It works
whether or not the caller is itself inside a running loop (a notebook, say), where :func:`asyncio.run` would refuse.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from contextlib import aclosing
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from semroute import forks

T = TypeVar("T")

CANCEL_S = 1.0
"""Longest wait of an interrupted caller for the work that it cancels to end, seconds."""

QUEUED = 16
"""Items of a generator that wait for a slow reader before the generator pauses."""

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
_tasks: set[asyncio.Task[None]] = set()


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


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Run ``work`` on a loop, whether it runs here, in another thread, or not.

    On the loop that runs in this thread it becomes a task: to wait for it would take for ever.

    Raises:
        TimeoutError: another thread's loop had not ended the work within the limit, in seconds; it is cancelled.
    """
    running = _running_loop()
    if running is loop:
        task = loop.create_task(work)
        _tasks.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(_tasks.discard)
    elif loop.is_running() and not sys.is_finalizing():  # at the very end no other thread runs any more
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            future.result(limit_s)
        except TimeoutError:
            future.cancel()
            raise
    elif running is None and not loop.is_running() and not loop.is_closed():
        loop.run_until_complete(work)
    else:
        work.close()


def iterate(items: AsyncGenerator[T]) -> Generator[T]:
    """Yield the items of an asynchronous generator run on the shared loop.

    It starts with the first item that is wanted, and is closed when the reader stops early.

    Raises:
        RuntimeError: when read on the shared loop itself, or in another process than the one that began it.
    """
    reader = _Reader(items)
    try:
        while True:
            try:
                item = reader.next()
            except StopAsyncIteration:
                return
            yield item
    finally:
        reader.close()


class _Reader(Generic[T]):
    """Reader of an asynchronous generator from another thread.

    One task runs the generator from its first step to its last: a timeout must not be entered in one task and left in
    another.
    """

    def __init__(self, items: AsyncGenerator[T]) -> None:
        self._loop, self._process = _shared.loop(), os.getpid()
        if _running_loop() is self._loop:
            raise RuntimeError("a stream was read on the bridge's own loop; iterate over it asynchronously instead")
        self._queue: SimpleQueue[T | _End] = SimpleQueue()
        self._places = asyncio.Semaphore(QUEUED)
        self._has_ended = threading.Event()
        self._future: Future[None] = asyncio.run_coroutine_threadsafe(
            _run_and_signal(self._read(items), self._has_ended), self._loop
        )

    def next(self) -> T:
        """Wait for the next item.

        Raises:
            StopAsyncIteration: there is none.
        """
        if os.getpid() != self._process:
            raise RuntimeError("a stream cannot be read in a forked process; begin it there")
        item = self._queue.get()
        if isinstance(item, _End):
            self._future.result()
            raise StopAsyncIteration
        self._loop.call_soon_threadsafe(self._places.release)
        return item

    def close(self) -> None:
        """Cancel the generator unless it has ended, and wait until it has."""
        if os.getpid() != self._process:
            forks.leave_behind(self)  # its task is the parent's
            return
        if self._has_ended.is_set():
            return
        self._future.cancel()
        if _running_loop() is not self._loop:  # where the reader was collected there, waiting would take for ever
            self._has_ended.wait(CANCEL_S)

    async def _read(self, items: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    await self._places.acquire()
                    self._queue.put(item)
        finally:
            self._queue.put(_End())


class _End:
    """Mark after the last item."""


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
