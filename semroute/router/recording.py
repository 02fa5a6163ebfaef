"""Outcomes as they happen, handed to a log."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from semroute.config import Config
from semroute.errors import DispatchError, InputError, SemrouteError
from semroute.outcomes.ids import new_id
from semroute.types import Attempt, Completion, Decision, Delta, Outcome, OutcomeSink, StrategyResult, Usage

if TYPE_CHECKING:
    from semroute.catalog import StrongestModel

CANCELLED = "Cancelled"
"""Kind of the error of a query whose caller left before its answer was whole."""
UNDECIDED = "undecided"
"""Named as the strategy of a query that ended before it was decided where it goes."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class _Heard:
    """What came of a query so far.

    Attributes:
        name: of its outcome.
        started: :func:`time.perf_counter` at its arrival.
        completion: the whole answer; None until it is there.
        attempts: that the answer, or the error, names.
        first_ms: from arrival to the first piece of a stream.
        kind: of the error; of one whose caller has left, until the answer is whole.
        message: of an error that is ours.
    """

    name: str
    started: float
    completion: Completion | None = None
    attempts: tuple[Attempt, ...] = ()
    first_ms: float | None = None
    kind: str | None = CANCELLED
    message: str | None = None

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000

    def noted(self, event: Delta | Completion) -> Delta | Completion:
        """Take a piece or the whole answer, which gets the outcome's name."""
        if isinstance(event, Completion):
            event = self.completion = replace(event, outcome_id=self.name)
            self.attempts, self.kind = event.attempts, None
        elif self.first_ms is None:
            self.first_ms = self.elapsed_ms
        return event

    def broke(self, error: BaseException) -> None:
        """Take what ended it early; one who leaves a whole answer changes nothing of it."""
        if isinstance(error, DispatchError):
            self.attempts, self.kind, self.message = error.attempts, type(error).__name__, str(error)
        elif isinstance(error, Exception):  # not ours: its words may hold anything
            self.kind = type(error).__name__


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
    def _baseline(self) -> StrongestModel:
        # On first use: the first look at the price list takes a third of a second.
        from semroute.catalog import StrongestModel

        return StrongestModel(self._config)

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
        heard = _Heard(new_id(time.time()), started)
        try:
            async with aclosing(events):
                async for event in events:
                    yield heard.noted(event)
        except BaseException as error:
            heard.broke(error)
            raise
        finally:
            self._sink.record(self._outcome(heard, decision, metadata, made))

    def _outcome(
        self, heard: _Heard, decision: Decision, metadata: Mapping[str, str], made: Sequence[Attempt]
    ) -> Outcome:
        latency_ms = heard.elapsed_ms
        usage = None if heard.completion is None else heard.completion.usage
        cost = None if usage is None else self._compared(usage)
        return Outcome(
            id=heard.name,
            at=datetime.fromtimestamp(time.time() - latency_ms / 1000, UTC),
            decision=decision,
            completion=heard.completion,
            # Charged, whoever left: a failed query names its attempts itself, and a cancelled one cannot.
            attempts=heard.attempts or tuple(made),
            latency_ms=latency_ms,
            first_token_ms=heard.first_ms,
            error_kind=heard.kind,
            error=heard.message,
            baseline_model=None if cost is None else self._baseline.model,
            baseline_usd=cost,
            metadata=metadata,
        )

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
        opinions=(StrategyResult("judge", "passed", reason, elapsed_ms=elapsed_ms, attempts=tuple(attempts)),),
    )


def judge(log: OutcomeSink | None, outcome_id: str | None, quality: float, comment: str | None) -> str:
    """Keep a judgement of an outcome; see :meth:`semroute.router.Router.feedback`."""
    if log is None:
        raise InputError(
            "this router has no log, so that there is no outcome to judge; add log: {enabled: true} to semroute.yaml, "
            "or open it by Router.load(log=True)"
        )
    keeps: Callable[[str, float, str | None], str] | None = getattr(log, "judge", None)
    if keeps is None:
        raise InputError(
            f"{type(log).__name__} keeps outcomes but no feedback; give it a method judge(outcome_id, quality, comment)"
        )
    if outcome_id is None:
        raise InputError(
            "the outcome has no id: nothing was logged of it (log=False, or an answer from before there was a log)"
        )
    return keeps(outcome_id, quality, comment)


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
