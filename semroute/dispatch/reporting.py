"""Lets others see how the places stand: replicas through Redis, ``semroute providers status`` through a file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from semroute.config import Config
from semroute.dispatch.status import describe, places_of, save_state, wish_file, wishes
from semroute.errors import DataError, SemrouteError
from semroute.eventloop import WorkerPool
from semroute.resilience import LatencyWindows, MemoryGates
from semroute.types import AdmissionControl

EVERY_S = 1.0
"""A report at most so often, seconds."""

log = logging.getLogger("semroute")


@runtime_checkable
class Publishing(Protocol):
    """Gates that can show other processes what this one sees."""

    async def publish(self, snapshot: Mapping[str, Any]) -> None: ...


class Reporter:
    """Reports in the background, so that no request waits for it; a report that fails is logged and no more.

    Args:
        gates: whose standings; state in memory is written to ``file``, shared state is published.
        latencies: what this process measured.
        config: where models can be called.
        file: None writes none.
        workers: write the file; None makes some.
    """

    def __init__(
        self,
        gates: AdmissionControl,
        latencies: LatencyWindows,
        config: Config,
        file: Path | None,
        workers: WorkerPool | None = None,
    ) -> None:
        self._gates = gates
        self._latencies = latencies
        self._config = config
        self._file = file
        self._workers = workers or WorkerPool("semroute-report")
        self._last = self._looked = float("-inf")
        self._heeded_to = time.time()
        self._running: asyncio.Task[None] | None = None

    def due(self) -> None:
        """Start a report when the last one is old enough."""
        if not self._reports or time.monotonic() - self._last < EVERY_S:
            return
        if self._running is not None and not self._running.done():  # a disk that hangs is not asked again and again
            return
        self._last = time.monotonic()
        self._running = asyncio.get_running_loop().create_task(self.report())

    async def heed(self) -> None:
        """Lift what ``semroute providers enable`` was asked to, where it is asked beside the file of this process."""
        if self._file is None or not isinstance(self._gates, MemoryGates):
            return
        if time.monotonic() - self._looked < EVERY_S or not wish_file(self._file).exists():
            return
        self._looked = time.monotonic()
        try:
            found = wishes(self._file)
        except DataError as error:
            log.warning("what shall be enabled could not be read: %s", error)
            return
        wanted = {key for key, at in found.items() if at > self._heeded_to}
        self._heeded_to = max([self._heeded_to, *found.values()])
        await self._gates.lift([place for place in places_of(self._config) if place.key in wanted])

    async def report(self) -> None:
        """Report now."""
        if not self._reports:
            return
        try:
            description = await describe(self._gates, self._latencies, self._config)
            if isinstance(self._gates, Publishing):
                await self._gates.publish(description)
            elif isinstance(self._gates, MemoryGates) and self._file is not None:
                await self._workers.run(save_state, self._file, self._gates, description)
        except (OSError, SemrouteError) as error:
            log.warning("the state of the deployments could not be reported: %s", error)

    @property
    def _reports(self) -> bool:
        return self._file is not None or isinstance(self._gates, Publishing)
