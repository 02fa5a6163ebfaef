"""Signals that end a command: none gets lost, and each lets the log be written."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_S = 0.05
"""How long after an interrupt was lost it is raised again, seconds."""
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a process to end, besides Ctrl-C; left to their default they end it where it stands."""


class Terminated(KeyboardInterrupt):
    """A signal of :data:`ENDING` asks this process to end: a Ctrl-C to all that handles one.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextmanager
def orderly_end() -> Iterator[None]:
    """Raise :class:`Terminated` in the main thread for the first signal that asks for the end; others wait for it.

    What a shell or another program has set is left alone: nohup has SIGHUP ignored. Outside the main thread, where no
    handler can be set, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        _raised.clear()


_raised: set[int] = set()
"""The signal that has ended the command, if one has."""


def _end(number: int, _: object) -> None:
    if not _raised:
        _raised.add(number)
        raise Terminated(number)


@contextmanager
def not_lost() -> Iterator[None]:
    """Raise an interrupt again that fell into a destructor.

    Python raises :class:`KeyboardInterrupt` wherever the main thread stands, and drops what a ``__del__`` raises
    (``sys.unraisablehook``). Some libraries free hundreds of such objects while they are imported: without this, a
    Ctrl-C of that moment changes nothing, and the command goes on to its end.
    """
    passed_on, again = sys.unraisablehook, list[threading.Timer]()

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            passed_on(unraisable)
            return
        # Not from here: what this function raises is dropped as well.
        lost = unraisable.exc_value
        _raised.clear()
        timer = threading.Timer(AGAIN_S, _press, (lost.signal if isinstance(lost, Terminated) else signal.SIGINT,))
        again.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = passed_on
        for timer in again:
            timer.cancel()


def _press(number: int) -> None:
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:  # a signal to the thread itself also ends what it waits for
        signal.pthread_kill(threading.main_thread().ident or 0, number)
