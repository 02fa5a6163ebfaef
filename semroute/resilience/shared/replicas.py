"""Who shares the Redis: replicas that say they live, and what each last saw."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from semroute.errors import StateError
from semroute.resilience.clock import Clock
from semroute.resilience.fork import after_fork
from semroute.resilience.shared.gates import MONTH_S, PREFIX
from semroute.resilience.shared.server import Server

LIVE_S = 10.0
"""A replica that has said nothing for this long is no longer counted, seconds."""

PUBLISH_S = 1.0
"""A replica's snapshot is written at most this often, seconds."""


class UnreadableSnapshotError(StateError):
    """Redis answers, and holds something else where a snapshot should be."""


class Replicas:
    """This replica among the others.

    Args:
        server: the Redis.
        prefix: before every key.
        name: of this replica; host, process and a random part when left out.
        live_s: how long a heartbeat and a snapshot last, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        server: Server,
        *,
        prefix: str = PREFIX,
        name: str | None = None,
        live_s: float = LIVE_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name or _own_name()
        self._server = server
        self._prefix = prefix
        self._live_s = live_s
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()
        self._published_at: float | None = None
        self._memory: bytes | None = None
        self.has_lost_memory = False
        """Whether Redis came back without what it knew; stays so until it is set to False."""
        after_fork(self)

    @property
    def count(self) -> int:
        """The most replicas that were seen to live at once in the last ``live_s`` seconds in which Redis answered."""
        return max((count for _, count in self._counts), default=1)

    async def beat(self, snapshot: str = "") -> None:
        """Say that this replica lives, and count the others.

        Raises:
            StateError: Redis is away.
        """
        keys = [self._prefix + kind for kind in ("replicas", f"snapshot:{self.name}", "memory", "clock")]
        args = ("", self.name, self._live_s, snapshot, secrets.token_hex(8), MONTH_S)
        count, memory = await self._server.run("heartbeat", keys, args)
        self.has_lost_memory |= self._memory not in (None, memory)
        self._memory = memory
        now = self._clock()
        self._counts.append((now, int(count)))
        # The most and not the last: a Redis that has just restarted knows only who has spoken since.
        while self._counts[0][0] <= now - self._live_s:
            self._counts.popleft()

    async def publish(self, snapshot: Mapping[str, object]) -> None:
        """Let others read what this replica sees; does nothing within a second of the last time.

        Raises:
            StateError: Redis is away.
        """
        now = self._clock()
        if self._published_at is not None and now < self._published_at + PUBLISH_S:
            return
        self._published_at = now
        await self.beat(json.dumps(snapshot))

    async def snapshots(self) -> dict[str, dict[str, Any]]:
        """The last snapshot of each replica that published one in the last ``live_s`` seconds, by its name.

        Raises:
            UnreadableSnapshotError: one is no JSON mapping.
            StateError: Redis is away.
        """
        listed = await self._server.command("ZRANGE", f"{self._prefix}replicas", 0, -1)
        names = sorted(name.decode(errors="replace") for name in listed)
        if not names:
            return {}
        texts = await self._server.command("MGET", *(f"{self._prefix}snapshot:{name}" for name in names))
        return {name: self._read(name, text) for name, text in zip(names, texts, strict=True) if text is not None}

    def _read(self, name: str, text: bytes) -> dict[str, Any]:
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            key = f"{self._prefix}snapshot:{name}"
            raise UnreadableSnapshotError(
                f"Redis at {self._server.name} holds a snapshot that is no JSON mapping; delete {key!r}"
            )
        return found

    def _after_fork(self) -> None:
        """Be another replica than the parent."""
        self.name = _own_name()
        self._published_at = None


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
