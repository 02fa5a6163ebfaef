"""Outcomes as they happen, handed to a log."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from semroute.config import Config
from semroute.errors import DispatchError, SemrouteError
from semroute.outcomes.ids import new_id
from semroute.types import Attempt, Completion, Decision, Delta, Opinion, Outcome, OutcomeSink, Usage

if TYPE_CHECKING:
    from semroute.catalog import Baseline

CANCELLED = "Cancelled"
"""Kind of the error of a query whose caller left before its answer was whole."""
UNDECIDED = "undecided"
"""Named as the strategy of a query that ended before it was decided where it goes."""
NOTHING: Mapping[str, str] = MappingProxyType({})


class Recorder:
    """Makes outcomes of decisions and answers, and hands them to a log. Safe to share between threads.

    Args:
        sink: keeps them.
        config: what the strongest model is, and what it costs.
    """

    def __init__(self, sink: OutcomeSink, config: Config) -> None:
        self._sink = sink
        self._config = config

    @cached_property
    def _baseline(self) -> Baseline:
        # On first use: the first look at the price list takes a third of a second.
        from semroute.catalog import Baseline

        return Baseline(self._config)

    def decided(self, decisions: Sequence[Decision], metadata: Sequence[Mapping[str, str]]) -> None:
        """Queries that were routed and not answered."""
        now = time.time()
        at = datetime.fromtimestamp(now, UTC)
        for decision, known in zip(decisions, metadata, strict=True):
            outcome = Outcome(new_id(now), at, decision, latency_ms=decision.elapsed_ms, metadata=known)
            self._sink.record(outcome)

    async def answered(
        self,
        events: AsyncGenerator[Delta | Completion],
        decision: Decision,
        started: float,
        metadata: Mapping[str, str] = NOTHING,
        made: Sequence[Attempt] = (),
    ) -> AsyncGenerator[Delta | Completion]:
        """Pass an answer on, and record how it ended: whole, failed, or left by its caller.

        Args:
            events: the answer; closed with this.
            decision: what led to it.
            started: when the query arrived, :func:`time.perf_counter`.
            metadata: what is known of the caller.
            made: grows by every attempt that ends; recorded where the query is left or breaks before its answer is
                whole.

        Raises:
            DispatchError: as ``events``.
        """
        name = new_id(time.time())
        heard_ms: float | None = None
        completion: Completion | None = None
        attempts: tuple[Attempt, ...] = ()
        kind: str | None = CANCELLED
        message: str | None = None
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Completion):
                        completion = event = replace(event, outcome_id=name)
                        attempts, kind = event.attempts, None
                    elif heard_ms is None:
                        heard_ms = (time.perf_counter() - started) * 1000
                    yield event
        except DispatchError as error:
            attempts, kind, message = error.attempts, type(error).__name__, str(error)
            raise
        except Exception as error:  # not ours: its words may hold anything
            kind = type(error).__name__
            raise
        finally:
            latency_ms = (time.perf_counter() - started) * 1000
            cost = None if completion is None or completion.usage is None else self._compared(completion.usage)
            outcome = Outcome(
                id=name,
                at=datetime.fromtimestamp(time.time() - latency_ms / 1000, UTC),
                decision=decision,
                completion=completion,
                # Charged, whoever left: a failed query names its attempts itself, and a cancelled one cannot.
                attempts=attempts or tuple(made),
                latency_ms=latency_ms,
                first_token_ms=heard_ms,
                error_kind=kind,
                error=message,
                baseline_model=None if cost is None else self._baseline.model,
                baseline_usd=cost,
                metadata=metadata,
            )
            self._sink.record(outcome)

    def undecided(
        self, text: str, attempts: Sequence[Attempt], error: BaseException, started: float, metadata: Mapping[str, str]
    ) -> None:
        """Record a query that ended while models were asked where it should go.

        Args:
            text: the routed text.
            attempts: of those models.
            error: what ended it.
            started: when the query arrived, :func:`time.perf_counter`.
            metadata: what is known of the caller.
        """
        is_failure = isinstance(error, Exception)
        latency_ms = (time.perf_counter() - started) * 1000
        self._sink.record(
            Outcome(
                id=new_id(time.time()),
                at=datetime.fromtimestamp(time.time() - latency_ms / 1000, UTC),
                decision=_undecided(text, attempts, latency_ms),
                latency_ms=latency_ms,
                error_kind=type(error).__name__ if is_failure else CANCELLED,
                error=str(error) if isinstance(error, SemrouteError) else None,
                metadata=metadata,
            )
        )

    def _compared(self, usage: Usage) -> float | None:
        cost = self._baseline.cost(usage)
        return None if cost is None else cost.usd


def _undecided(text: str, attempts: Sequence[Attempt], elapsed_ms: float) -> Decision:
    reason = "the query ended before it was decided where it goes"
    return Decision(
        query=text,
        category=None,
        model="",
        score=None,
        threshold=None,
        confidence=None,
        is_fallback=False,
        categories=(),
        candidates=(),
        strategy=UNDECIDED,
        reason=reason,
        elapsed_ms=elapsed_ms,
        opinions=(Opinion("judge", "passed", reason, elapsed_ms=elapsed_ms, attempts=tuple(attempts)),),
    )


def opened_log(log: OutcomeSink | bool | None, config: Config) -> OutcomeSink | None:
    """What keeps outcomes: what was given, or the configuration's database, or None.

    Raises:
        StateError: the database holds other things, or was written by a newer semroute. One that is down is a warning.
        MissingExtraError: the extra "postgres" is not installed.
    """
    wanted = config.log.enabled if log is None else log
    if not isinstance(wanted, bool):
        return wanted
    if not wanted:
        return None
    from semroute.outcomes.log import open_log

    return open_log(config.log, os.environ, may_be_down=True)
