"""Batches of concurrent queries, decided in one thread.

Encoding is most of a decision, and costs less for several texts at once. Threads of their own for queries that come
together would only compete for the cores and for the interpreter.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from semroute import forks
from semroute.encoders.cache import CACHE_OWNER
from semroute.eventloop import WorkerPool
from semroute.types import Decision, Request

MOST_QUERIES = 32
"""Most queries of a batch: more gain nothing, and keep the first of them waiting."""
MOST_CHARACTERS = 16_000
"""Most characters of a batch, unless a single query has more: short queries do not wait for many long ones."""
LONG = 2_000
"""Characters of a text from which on it costs no more, since an encoder takes its head and tail alone."""

Decide: TypeAlias = Callable[[Sequence[str], Sequence[Request]], list[Decision]]
"""Decision of several queries at once, which computes and waits for nobody."""


@dataclass(slots=True, eq=False)
class _WaitingQuery:
    """Query that waits for its decision, and the event loop on which it does."""

    text: str
    request: Request
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    owner: str = field(default_factory=CACHE_OWNER.get)
    result: asyncio.Future[Decision | None] = field(init=False)

    def __post_init__(self) -> None:
        self.result = self.loop.create_future()


class DecisionBatcher:
    """Batcher of the queries that wait at the same time.

    A query that comes while nothing is decided is decided at once; those that come meanwhile are the next batch, so
    that nobody waits for a batch to fill. Queries of one batch have one :data:`~semroute.encoders.cache.CACHE_OWNER`,
    in whose context all of them are decided. Safe to share between threads, event loops and forked children.

    Args:
        decide: decides a batch, in the context of its first query.
        workers: threads in which the queries of a batch that failed are decided alone: each gets its own error.
    """

    def __init__(self, decide: Decide, workers: WorkerPool) -> None:
        self._decide, self._workers = decide, workers
        self._lock = forks.lock()
        self._waiting: deque[_WaitingQuery] = deque()
        self._is_deciding = False
        self._thread: ThreadPoolExecutor | None = None
        self._owner = os.getpid()

    async def decide(self, text: str, request: Request) -> Decision:
        """Return the decision of a query.

        One that is cancelled before its batch begins costs nothing.

        Raises:
            SemrouteError: as ``decide`` for this query alone.
        """
        query = _WaitingQuery(text, request)
        with self._lock:
            if self._owner != os.getpid():  # what waits in a fork's parent, and its thread, are not here
                self._waiting, self._is_deciding, self._thread, self._owner = deque(), False, None, os.getpid()
            self._waiting.append(query)
            if not self._is_deciding:
                self._is_deciding = True
                self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="semroute-decide")
                self._thread.submit(self._run)
        decision = await query.result
        if decision is None:
            (decision,) = await self._workers.run(self._decide, [text], [request])
        return decision

    def close(self) -> None:
        """Let the thread end when nothing waits.

        The next query starts a new one.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            is_own = self._owner == os.getpid()
        if thread is not None and is_own:
            thread.shutdown(wait=False)

    def _run(self) -> None:
        """Decide batch after batch until nothing waits."""
        while batch := self._next():
            decisions: Sequence[Decision | None]
            try:
                texts, requests = [one.text for one in batch], [one.request for one in batch]
                decisions = batch[0].context.run(self._decide, texts, requests)
            except BaseException:  # whose error it is shows when each is decided alone
                decisions = [None] * len(batch)
            _hand_over(batch, decisions)

    def _next(self) -> list[_WaitingQuery]:
        batch, others, characters = list[_WaitingQuery](), list[_WaitingQuery](), 0
        with self._lock:
            while self._waiting and len(batch) < MOST_QUERIES and characters < MOST_CHARACTERS:
                query = self._waiting.popleft()
                if query.result.cancelled():
                    continue
                if batch and query.owner != batch[0].owner:
                    others.append(query)  # their vectors would be cached for the first one's owner
                    continue
                batch.append(query)
                characters += min(len(query.text), LONG)
            self._waiting.extendleft(reversed(others))
            self._is_deciding = bool(batch)
        return batch


def _hand_over(batch: Sequence[_WaitingQuery], decisions: Sequence[Decision | None]) -> None:
    """Hand decisions to the event loops that wait, all at once to each."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Decision | None], Decision | None]]] = {}
    for query, decision in zip(batch, decisions, strict=True):
        by_loop.setdefault(query.loop, []).append((query.result, decision))
    for loop, results in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_set_results, results)


def _set_results(results: Sequence[tuple[asyncio.Future[Decision | None], Decision | None]]) -> None:
    for future, decision in results:
        if not future.done():  # its task may have been cancelled meanwhile
            future.set_result(decision)
