"""Ctrl-C that does not get lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_S = 0.05
"""How long after an interrupt was lost it is raised again, seconds."""


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
        timer = threading.Timer(AGAIN_S, _press)
        again.append(timer)
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = passed_on
        for timer in again:
            timer.cancel()


def _press() -> None:
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:  # a signal to the thread itself also ends what it waits for
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
