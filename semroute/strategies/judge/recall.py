"""Answers that are remembered for a while, and calls that are shared by all who wait for the same answer."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from semroute import forks

T = TypeVar("T")


class Recall(Generic[T]):
    """The last ``size`` values, each for ``ttl_s`` seconds; the least recently used goes first. Safe between threads.

    Args:
        size: values to remember; 0 remembers none.
        ttl_s: how long a value is remembered, seconds.
        clock: monotonic time, seconds.
    """

    def __init__(self, size: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, T]] = OrderedDict()
        self._lock = forks.lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> T | None:
        """The value, or None where it was never there, has gone or is too old."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            until, value = found
            if self._clock() >= until:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return value

    def put(self, key: bytes, value: T) -> None:
        """Remember a value."""
        with self._lock:
            self._kept[key] = (self._clock() + self._ttl_s, value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


class _Running(Generic[T]):
    """A call under way, how many wait for it, and whether one of them has taken its bill."""

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiters = 0
        self.is_billed = False


class SharedCalls(Generic[T]):
    """Makes one call for all who ask for the same thing on an event loop while it is under way."""

    def __init__(self) -> None:
        self._running: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, _Running[T]]] = WeakKeyDictionary()
        self._lock = forks.lock()

    async def get(self, key: bytes, call: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The call's result, and whether it falls to this caller to account for the call: to one of those who wait.

        One who is cancelled leaves the call to the others; the last one ends it, and waits until it has: only then is
        it known what was charged.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            here = self._running.setdefault(loop, {})
        running = here.get(key)
        if running is None:
            running = here[key] = _Running(loop.create_task(call()))
            running.task.add_done_callback(lambda _: here.pop(key, None))
        running.waiters += 1
        try:
            result = await asyncio.shield(running.task)
        finally:
            running.waiters -= 1
            if not running.waiters and not running.task.done():
                here.pop(key, None)
                running.task.cancel()
                await asyncio.wait({running.task})
        is_ours, running.is_billed = not running.is_billed, True
        return result, is_ours
