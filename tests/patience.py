"""Patience with work that might hang: long enough for any busy machine, and no measure of how long the work takes."""

from __future__ import annotations

import threading
from collections.abc import Callable

PATIENCE_S = 60.0
"""Longest wait for what happens at once unless it hangs, seconds. What a test has hang takes far longer."""


def ends(work: Callable[[], object]) -> bool:
    """Do ``work`` in a thread of its own; False if it still goes on after :data:`PATIENCE_S`.

    The thread of a hang is left behind, and keeps nothing from ending.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="patience", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if failures:
        raise failures[0]
    return not thread.is_alive()
