"""Event-loop stall measurement, worker threads, host look-ups, streaming.

The first three attribute elapsed time: a blocked loop, a look-up that hangs for another host, or threads that wait for
something else must not be charged to a provider or to another query. asyncio has none of these.
"""

from __future__ import annotations

import asyncio
import contextvars
import ipaddress
import os
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType, coroutine
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

BEAT_S = 0.05
"""Interval of the stall meter's beats, seconds: shorter stalls are not measured."""
LATE_S = 0.02
"""Lateness of a beat that still counts as the loop's ordinary work, seconds."""
GRACE_S = 0.1
"""Time after a stall in which bytes that arrived meanwhile are read, seconds."""
MAX_GRACES = 3
"""Most grace periods of one wait: a loop that keeps stalling must not postpone its end for ever."""


class StallMeter:
    """Meter of the seconds in which this process blocked a running event loop.

    A beat that comes late measures the stall before it. It beats only while :meth:`start` was called more often than
    :meth:`stop`.
    """

    def __init__(self) -> None:
        self._users = 0
        self._is_beating = False
        self._due = 0.0
        self._stalled_s = 0.0

    def start(self) -> None:
        """Start measuring."""
        self._users += 1
        if not self._is_beating:
            self._is_beating = True
            self._plan()

    def stop(self) -> None:
        """Undo one :meth:`start`."""
        self._users -= 1

    def seconds(self) -> float:
        """Return the total of all stalls so far, including the latest."""
        if not self._is_beating:
            return self._stalled_s
        late_s = asyncio.get_running_loop().time() - self._due
        return self._stalled_s + (late_s if late_s > LATE_S else 0.0)

    def _plan(self) -> None:
        # Neither loop nor handle is kept: they would keep the loop alive that this meter is stored by.
        loop = asyncio.get_running_loop()
        self._due = loop.time() + BEAT_S
        loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        self._stalled_s = self.seconds()
        if self._users > 0:
            self._plan()
        else:
            self._is_beating = False


_meters: WeakKeyDictionary[asyncio.AbstractEventLoop, StallMeter] = WeakKeyDictionary()


def stall_meter() -> StallMeter:
    """Return the running loop's meter."""
    loop = asyncio.get_running_loop()
    meter = _meters.get(loop)
    if meter is None:
        meter = _meters[loop] = StallMeter()
    return meter


class bounded:  # noqa: N801  # a context manager like asyncio.timeout
    """Bound a block by the caller's own clock, like :func:`asyncio.timeout`.

    Raises TimeoutError when no time is left. A stream enters one for each piece, so that it is written out here.

    Args:
        left_s: returns the seconds left; called again when they have elapsed, because its clock may have stood still.
    """

    def __init__(self, left_s: Callable[[], float]) -> None:
        self._left_s = left_s
        self._loop = asyncio.get_running_loop()
        self._is_over = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a wait is bounded within a task")
        self._task, self._cancelling = task, task.cancelling()
        self._due()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        # A cancellation from elsewhere, at the same time, goes on as one.
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _due(self) -> None:
        seconds = self._left_s()
        if seconds > 0.0:
            self._handle: asyncio.Handle = self._loop.call_later(seconds, self._due)
        else:
            self._handle = self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()


class Countdown:
    """Remaining seconds of a wait, with grace after a stall of the loop.

    Args:
        seconds: length of the wait.
        meter: of the running loop, started.
    """

    def __init__(self, seconds: float, meter: StallMeter) -> None:
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._meter = meter
        self._stalled_s = meter.seconds()
        self._graces = 0

    def left_s(self) -> float:
        """Return the seconds left; after a stall a little more than that."""
        left = self._ends_at - asyncio.get_running_loop().time()
        return left if left > 0.0 else self.grace_s()

    def grace_s(self) -> float:
        """Return extra time if the loop has stalled since the last call, else 0."""
        stalled_s = self._meter.seconds()
        if stalled_s <= self._stalled_s or self._graces >= MAX_GRACES:
            return 0.0
        self._stalled_s = stalled_s
        self._graces += 1
        return GRACE_S


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """Bound a block as :func:`asyncio.timeout` does, with grace after a stall.

    What arrived during a stall of this process is read before it gives up.

    Raises:
        TimeoutError: the time is over.
    """
    meter = stall_meter()
    meter.start()
    try:
        async with bounded(Countdown(seconds, meter).left_s):
            yield
    finally:
        meter.stop()


class WorkerPool:
    """Thread pool for work that must not queue behind other work.

    In asyncio's default executor it could wait for look-ups of hosts.

    Threads start with the first work. A forked child gets threads of its own; after :meth:`close` the next work starts
    new ones.

    Args:
        name: prefix of the threads' names.
        most: most threads; None takes asyncio's default, four more than there are processors.
    """

    def __init__(self, name: str, max_workers: int | None = None) -> None:
        self._name = name
        self._most = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._threads = self._made()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` in a thread, in the caller's context."""
        call = partial(contextvars.copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor(), call)

    def close(self) -> None:
        """Let the threads end when their work is done."""
        pid, executor = self._threads
        self._threads = self._made()
        if pid == os.getpid():  # the parent's may be locked for ever in a child
            executor.shutdown(wait=False)

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads[0] != os.getpid():  # the threads of a fork's parent are not here
            self._threads = self._made()
        return self._threads[1]

    def _made(self) -> tuple[int, ThreadPoolExecutor]:
        return os.getpid(), ThreadPoolExecutor(self._most, thread_name_prefix=self._name)


_lookups: dict[tuple[str, int], Future[None]] = {}
_lookups_lock = threading.Lock()
_lookups_owner = os.getpid()


async def look_up(host: str, port: int) -> None:
    """Wait until a host name resolves, in a thread shared per host.

    asyncio resolves names in its default executor, a handful of threads: one name server that hangs fills them and
    holds up every other host. A name that passes here has just been answered, so asyncio's own look-up after it does
    not hang.

    Raises:
        OSError: it cannot be resolved.
    """
    if not _is_address(host):
        await asyncio.wrap_future(_lookup(host, port))


def _lookup(host: str, port: int) -> Future[None]:
    global _lookups_owner, _lookups_lock
    if _lookups_owner != os.getpid():  # after a fork the threads are gone, and the lock may be held by one of them
        _lookups_owner, _lookups_lock = os.getpid(), threading.Lock()
        _lookups.clear()
    with _lookups_lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = Future()
            lookup.set_running_or_notify_cancel()  # from here on no caller that gives up can cancel it for the others
            threading.Thread(
                target=_resolve, args=(host, port, lookup), name=f"semroute-lookup-{host}", daemon=True
            ).start()
        return lookup


def _resolve(host: str, port: int, result: Future[None]) -> None:
    error: Exception | None = None
    try:
        # As anyio asks, so that a cache of the resolver's serves both.
        socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as failed:
        error = failed if isinstance(failed, OSError) else OSError(str(failed))
    _lookups.pop((host, port), None)
    if error is None:
        result.set_result(None)
    else:
        result.set_exception(error)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


# Streaming of a coroutine: what it passes to a callback comes out of an asynchronous generator.


_HANDED_OVER = object()
"""Marker that the coroutine yields to its reader in place of a future."""


async def streamed(
    call: Callable[[Callable[[T], Awaitable[None]]], Coroutine[Any, Any, R]],
) -> AsyncGenerator[T | R]:
    """Run a coroutine; yield what it passes to its callback, then its result.

    It runs in the reader's task and context, and only while the reader waits for the next value. A reader that leaves
    cancels it where it awaits the callback; an error that the reader throws in is raised there.

    Args:
        call: called with the callback, and returns the coroutine.
    """
    values: list[T] = []

    @coroutine
    def hand_over(value: T) -> Generator[object]:
        values.append(value)
        yield _HANDED_OVER

    running, result = call(hand_over), cast(object, None)
    while True:
        try:
            step = running.send(None)
        except StopIteration as end:
            result = end.value
            break
        if step is not _HANDED_OVER and (result := await _step(running, step)) is not _HANDED_OVER:
            break
        try:
            yield values.pop()
        except GeneratorExit:
            # Not thrown in: a coroutine that gets this error may await nothing while it cleans up.
            cancelled = asyncio.CancelledError("the reader has left")
            try:
                await _step(running, error=cancelled)
            except asyncio.CancelledError as error:
                if error is not cancelled:
                    raise
            raise
        except BaseException as error:
            await _step(running, error=error)
            raise
    yield cast(R, result)


@coroutine
def _step(
    running: Coroutine[Any, Any, R], step: object = None, error: BaseException | None = None
) -> Generator[Any, Any, R | object]:
    """Run a coroutine until it hands something over, or to its result.

    ``step`` is what it waits for, which goes on to the event loop; ``error`` is thrown into it first.
    """
    try:
        if error is not None:
            step = running.throw(error)
        while step is not _HANDED_OVER:
            try:
                yield step
            except BaseException as thrown:
                step = running.throw(thrown)
            else:
                step = running.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    return step
