"""Noticing that an artifact was replaced, and switching to it without dropping a query."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from semroute.errors import SemrouteError
from semroute.index.manifest import MANIFEST

log = logging.getLogger("semroute")


class Reloader:
    """Looks at the manifest's change of time, at most once per interval, and reloads in a thread of its own.

    Args:
        folder: the artifact's folder.
        every_s: shortest time between two looks, seconds.
        clock: monotonic seconds.
    """

    def __init__(self, folder: Path, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = folder / MANIFEST
        self._every_s = every_s
        self._clock = clock
        self._seen = _stamp(self._path)
        self._next = clock() + every_s
        self._lock = threading.Lock()

    def look(self, reload: Callable[[], None]) -> threading.Thread | None:
        """Start ``reload`` in the background if the manifest has changed; the thread, if one was started."""
        now = self._clock()
        if now < self._next or not self._lock.acquire(blocking=False):
            return None
        try:
            self._next = now + self._every_s
            stamp = _stamp(self._path)
            if stamp is None or stamp == self._seen:
                return None
            self._seen = stamp
        finally:
            self._lock.release()
        thread = threading.Thread(target=self._reload, args=(reload,), name="semroute-reload", daemon=True)
        thread.start()
        return thread

    def _reload(self, reload: Callable[[], None]) -> None:
        try:
            reload()
        except SemrouteError as error:
            log.warning("the new index cannot be used, the old one goes on serving: %s", error)
        except Exception:  # whatever else a foreign index leads to must not pass in silence with this thread
            log.exception("the new index cannot be used, the old one goes on serving")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
