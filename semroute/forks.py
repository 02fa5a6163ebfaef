"""Fork safety: locks, threads, event loops and connections in a child.

``fork`` copies the memory of a process and of its threads only the one that forks. A lock that another thread held
stays locked for ever in the child, a pool of threads has none, and a loop's selector and sockets are shared with the
parent, so that to close them there would end them here. Servers that load before they fork (gunicorn ``--preload``,
multiprocessing with the start method ``fork``) meet all of these.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet, ref

T = TypeVar("T")

WAIT_S = 2.0
"""Longest wait of a fork for the holder of a :class:`WaitedLock`, seconds since it took the lock."""

_locks: WeakSet[threading.Lock] = WeakSet()
_waited: WeakSet[WaitedLock] = WeakSet()
_taken = threading.local()
_resets: dict[int, tuple[ref[Any], Callable[[Any], None]]] = {}
_numbers = itertools.count()


def lock() -> threading.Lock:
    """Return a lock that is open in a forked child.

    It does not matter who held it in the parent.
    """
    new_lock = threading.Lock()
    _locks.add(new_lock)
    return new_lock


class WaitedLock:
    """Context manager that locks as :func:`lock`, and that forks wait for.

    For work within a library whose own locks a child cannot open, such as SQLite: a child that was forked meanwhile
    could not even open another database. Hold it for a single step, and do not fork within. A holder for longer than
    :data:`WAIT_S` is considered hanging, and forks do not wait for it: a server that forks its workers one after
    another must not wait once for each.

    Args:
        clock: monotonic clock, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = lock()
        self._since = 0.0
        _waited.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._since = self._clock()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def locked(self) -> bool:
        """Return True if the lock is held."""
        return self._lock.locked()

    def acquire_for_fork(self) -> bool:
        """Take the lock before a fork; False if its holder exceeds :data:`WAIT_S`."""
        return self._lock.acquire(timeout=min(max(self._since + WAIT_S - self._clock(), 0.0), WAIT_S))

    def release(self) -> None:
        """Release the lock after a fork."""
        self._lock.release()


def in_child(owner: T, reset: Callable[[T], None]) -> None:
    """Call ``reset(owner)`` in every forked child while the owner lives.

    Owners are reset in the order in which they were named, after all locks were opened. ``reset`` must not refer to the
    owner itself, which it would keep alive.
    """
    number = next(_numbers)
    _resets[number] = ref(owner, lambda _: _resets.pop(number, None)), reset


def leave_behind(*parents: object) -> None:
    """Keep the parent's loops, pools and connections undestroyed in a child.

    Their destructors would wait for threads that do not exist in the child, or close the parent's sockets, and those of
    module attributes run at the end of the interpreter. Hence a reference that is never released.
    """
    import ctypes

    for parent in parents:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(parent))


def _before_fork() -> None:
    _taken.locks = [lock for lock in list(_waited) if lock.acquire_for_fork()]


def _after_fork_in_parent() -> None:
    for lock in _taken.locks:
        lock.release()
    _taken.locks = []


def _open_locks() -> None:
    for lock in list(_locks):
        if lock.locked():
            lock.release()


def _after_fork_in_child() -> None:
    _open_locks()
    for owner, reset in list(_resets.values()):
        alive = owner()
        if alive is not None:
            reset(alive)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
