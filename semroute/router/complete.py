"""Answers of decided queries, and the outcomes recorded of them.

Outcomes have version 7 UUIDs as ids, which sort by time. A decision is answered by the cascade of its category, or by
its candidates in their order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from semroute import forks
from semroute.cascade import Cascade
from semroute.cascade.cascade import with_effort
from semroute.config import Config
from semroute.dispatch.constraints import ANYTHING, Constraints
from semroute.errors import DispatchError, InputError, SemrouteError
from semroute.router.query import ConstrainedClient
from semroute.strategies import Pool
from semroute.strategies.chain import REQUESTED
from semroute.text.signals import NO_SIGNALS, Signals, signals_of
from semroute.types import (
    PINNED,
    AnswerScorer,
    Attempt,
    Completion,
    Decision,
    Delta,
    Outcome,
    OutcomeSink,
    Request,
    StrategyResult,
    Usage,
)
from semroute.types.protocols import OnDelta

if TYPE_CHECKING:
    from semroute.catalog import StrongestModel
    from semroute.dispatch import Dispatcher


_lock = forks.lock()
_last = 0


def new_id(now: float) -> str:
    """Return a version 7 UUID in hex, without dashes.

    Each is greater than the one before in this process: 48 bits of milliseconds, the version, 12 bits that count
    within the process, the variant, 62 random bits (RFC 9562, 5.7 and 6.2, method 1: a counter in ``rand_a``, which
    carries into the time where it is full).

    Args:
        now: seconds since the epoch.
    """
    global _last
    with _lock:
        _last = max(_last + 1, int(now * 1000) << 12)
        stamp, count = divmod(_last, 1 << 12)
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return f"{stamp << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | random:032x}"


# Recording of outcomes as they happen.

CANCELLED = "Cancelled"
"""Error kind of a query whose caller left before its answer was complete."""
UNDECIDED = "undecided"
"""Strategy name of a query that ended before it was routed."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class _Heard:
    """State of a query's outcome while its answer is under way.

    Attributes:
        name: id of the outcome.
        started: :func:`time.perf_counter` at its arrival.
        completion: the complete answer; None until it is there.
        attempts: those of the answer or of the error.
        first_ms: from arrival to the first piece of a stream.
        kind: error kind; :data:`CANCELLED` until the answer is complete.
        message: error message, of semroute's own errors only.
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

    def completed(self, completion: Completion, decision: Decision) -> Completion:
        """Log the completion; return it with its decision and outcome id."""
        self.completion = replace(completion, decision=decision, outcome_id=self.name)
        self.attempts, self.kind = completion.attempts, None
        return self.completion

    def noting(self, on_delta: OnDelta | None) -> OnDelta | None:
        """Return the callback of a stream, with the time of the first piece noted."""
        if on_delta is None:
            return None
        pass_on = on_delta

        async def noted(delta: Delta) -> None:
            if self.first_ms is None and delta.is_answer:
                self.first_ms = self.elapsed_ms
            await pass_on(delta)

        return noted

    def broke(self, error: BaseException) -> None:
        """Note the error that ended it; leaving after the end changes nothing."""
        if isinstance(error, DispatchError):
            self.attempts, self.kind, self.message = error.attempts, type(error).__name__, str(error)
        elif isinstance(error, Exception):  # not ours: its words may hold anything
            self.kind = type(error).__name__


class Recorder:
    """Recorder of decisions and answers as outcomes in a log.

    Safe to share between threads.

    Args:
        sink: stores the outcomes.
        config: determines the strongest model and its price.
        clock: seconds since 1970, for ids and times of outcomes.
    """

    def __init__(self, sink: OutcomeSink, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._config = config
        self._clock = clock

    @cached_property
    def _baseline(self) -> StrongestModel:
        # On first use: the first look at the price list takes a third of a second.
        from semroute.catalog import StrongestModel

        return StrongestModel(self._config)

    def decided(self, decisions: Sequence[Decision], requests: Sequence[Request]) -> None:
        """Record queries that were routed and not answered."""
        now = self._clock()
        at = datetime.fromtimestamp(now, UTC)
        for decision, request in zip(decisions, requests, strict=True):
            outcome = Outcome(
                new_id(now),
                at,
                decision,
                latency_ms=decision.elapsed_ms,
                metadata=request.metadata,
                signals=_signals(request),
            )
            self._sink.record(outcome)

    async def answered(
        self,
        call: Callable[[OnDelta | None], Awaitable[Completion]],
        decision: Decision,
        started: float,
        request: Request | None = None,
        made: Sequence[Attempt] = (),
        on_delta: OnDelta | None = None,
    ) -> Completion:
        """Return an answer with its decision, and log its outcome.

        It is complete, failed or cancelled.

        Args:
            call: makes the answer; it is given the callback of the stream.
            decision: the decision that led to it.
            started: when the query arrived, :func:`time.perf_counter`.
            request: what is known of the caller, and the signals of the conversation; None for neither.
            made: grows by every attempt that ends; recorded if the query is cancelled or fails before its answer is
                complete.
            on_delta: awaited with each piece of a streamed answer; None does not stream.

        Raises:
            DispatchError: as ``call``.
        """
        heard = _Heard(new_id(self._clock()), started)
        try:
            return heard.completed(await call(heard.noting(on_delta)), decision)
        except BaseException as error:
            heard.broke(error)
            raise
        finally:
            self._sink.record(self._outcome(heard, decision, request, made))

    def _outcome(self, heard: _Heard, decision: Decision, request: Request | None, made: Sequence[Attempt]) -> Outcome:
        latency_ms = heard.elapsed_ms
        usage = None if heard.completion is None else heard.completion.usage
        cost = None if usage is None else self._compared(usage)
        return Outcome(
            id=heard.name,
            at=datetime.fromtimestamp(self._clock() - latency_ms / 1000, UTC),
            decision=decision,
            completion=heard.completion,
            # Calls are charged in any case: a failed query has its attempts in the error, a cancelled one cannot.
            attempts=heard.attempts or tuple(made),
            latency_ms=latency_ms,
            first_token_ms=heard.first_ms,
            error_kind=heard.kind,
            error=heard.message,
            baseline_model=None if cost is None else self._baseline.model,
            baseline_usd=cost,
            metadata=NOTHING if request is None else request.metadata,
            signals=NO_SIGNALS if request is None else _signals(request),
        )

    def undecided(
        self, text: str, attempts: Sequence[Attempt], error: BaseException, started: float, request: Request
    ) -> None:
        """Record a query that ended while models were asked where to route it.

        Args:
            text: the routed text.
            attempts: of those models.
            error: the error that ended it.
            started: when the query arrived, :func:`time.perf_counter`.
            request: what is known of the caller, and the signals of the conversation.
        """
        is_failure = isinstance(error, Exception)
        latency_ms = (time.perf_counter() - started) * 1000
        self._sink.record(
            Outcome(
                id=new_id(self._clock()),
                at=datetime.fromtimestamp(self._clock() - latency_ms / 1000, UTC),
                decision=_undecided(text, attempts, latency_ms),
                latency_ms=latency_ms,
                error_kind=type(error).__name__ if is_failure else CANCELLED,
                error=str(error) if isinstance(error, SemrouteError) else None,
                metadata=request.metadata,
                signals=_signals(request),
            )
        )

    def _compared(self, usage: Usage) -> float | None:
        cost = self._baseline.cost(usage)
        return None if cost is None else cost.usd


def _signals(request: Request) -> Signals:
    return signals_of(request.messages, has_tools=bool(request.tools))


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


def store_feedback(
    log: OutcomeSink | None,
    outcome_id: str | None,
    quality: float,
    comment: str | None,
    owner: tuple[str, str] | None = None,
) -> str:
    """Store feedback as :meth:`semroute.router.Router.feedback` does.

    With an owner, a name and a value of the metadata, only the outcomes that have it are known, by their whole ids.
    """
    if log is None:
        raise InputError(
            "this router has no log, so that there is no outcome to judge; add log: {enabled: true} to semroute.yaml, "
            "or open it by Router.load(log=True)"
        )
    keeps: Callable[..., str] | None = getattr(log, "judge", None)
    if keeps is None:
        raise InputError(
            f"{type(log).__name__} keeps outcomes but no feedback; give it a method judge(outcome_id, quality, comment)"
        )
    if outcome_id is None:
        raise InputError(
            "the outcome has no id: nothing was logged of it (log=False, or an answer from before there was a log)"
        )
    return keeps(outcome_id, quality, comment) if owner is None else keeps(outcome_id, quality, comment, owner=owner)


def opened_log(
    log: OutcomeSink | bool | None, config: Config, env: Mapping[str, str], on_failure: ExitStack
) -> OutcomeSink | None:
    """Return the sink that was given, the configured database, or None.

    Args:
        log: the sink, or whether there is one; None takes what is configured.
        config: names the database.
        env: holds its password.
        on_failure: closes what was opened here.

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

    opened = open_log(config.log, env, may_be_down=True)
    close = getattr(opened, "close", None)
    if callable(close):
        on_failure.callback(close)
    return opened


# Answering of a decision: by the cascade of its category, or by its candidates in their order.

CHOSEN = frozenset({"judge", "classifier"})
"""Strategies that choose a model and not a category: that model is called, and no tier below it; tiers above it only if
``cascade.start`` is ``decided``."""

DIRECT = frozenset({"preference", "stall", "session", "housekeeping"})
"""Strategies that revise a decision, the caller's preference and a server's: their candidates are called in their
order, without a cascade."""


class Answering:
    """Answering of decisions by cascade or by candidates in their order.

    Safe to share between threads.

    Args:
        config: cascades, and the deadline.
        pool: resolves the names of models and groups.
        without_models: categories that name no models, and so use the fallback's.

    Attributes:
        without_models: see above; replaced with the index.

    Raises:
        MissingExtraError: a check of a cascade needs an extra that is not installed.
        ArtifactError: a classifier of answers cannot be read.
    """

    def __init__(self, config: Config, pool: Pool, without_models: Collection[str] = ()) -> None:
        self._config = config
        self.without_models = without_models
        self._pool = pool
        # Tiers often share a classifier.
        scorer_of = cache(_classifier)
        self._general = Cascade.of(config.cascade, scorer_of)
        self._own = {
            name: Cascade.of(override.cascade, scorer_of)
            for name, override in config.categories.items()
            if override.cascade is not None
        }

    async def answer(
        self,
        request: Request,
        decision: Decision,
        dispatcher: Dispatcher,
        limits: Constraints,
        *,
        attempts: list[Attempt] | None = None,
        on_delta: OnDelta | None = None,
        input_tokens: int | None = None,
    ) -> Completion:
        """Return the answer of a cascade, or of the candidates in their order.

        Args:
            request: the request to send, which has been validated.
            decision: the routing decision.
            dispatcher: makes the calls.
            limits: the request's own limits.
            attempts: takes every attempt when it ends, however the query ends.
            on_delta: awaited with each piece of a streamed answer; None does not stream.
            input_tokens: estimated tokens of the request; None counts them.

        Raises:
            DispatchError: no endpoint could answer.
        """
        from semroute.catalog import estimate_tokens  # deciding alone does without it

        own = self._config.categories.get(decision.category or "")
        if own is not None and own.wants:
            limits = replace(limits, wants=limits.wants.union(own.wants))
        cascade = self._cascade(decision, limits)
        tokens = estimate_tokens(request) if input_tokens is None else input_tokens
        if cascade is None:
            request = with_effort(request, decision.efforts[0] if decision.efforts else None)
            return await dispatcher.complete(
                request, decision.candidates, limits, attempts=attempts, on_delta=on_delta, input_tokens=tokens
            )
        most_s = self._config.retries.deadline_s
        deadline_s = most_s if limits.deadline_s is None else min(limits.deadline_s, most_s)
        client = ConstrainedClient(dispatcher, limits, [] if attempts is None else attempts, tokens)
        spent_usd = 0.0 if decision.cost is None else decision.cost.usd
        return await cascade.run(
            decision.query, request, client, deadline_s=deadline_s, on_delta=on_delta, spent_usd=spent_usd
        )

    def pinned(self, text: str, limits: Constraints) -> Decision | None:
        """Return the decision of a caller who pins a model or a deployment.

        None where a query has to be decided all the same: strengths that its category prefers (``wants``) choose among
        the deployments of what is pinned.
        """
        if limits.deployment is None and any(override.wants for override in self._config.categories.values()):
            return None
        return pinned_decision(text, limits, self._config)

    def with_tiers(self, decision: Decision, limits: Constraints = ANYTHING) -> Decision:
        """Return a decision with models, groups and effort of each tier.

        It is the same without a cascade.
        """
        cascade = self._cascade(decision, limits)
        if cascade is None:
            return decision
        tiers = tuple(tier.candidates for tier in cascade.tiers)
        return replace(decision, cascade=tiers, efforts=cascade.efforts)

    def _cascade(self, decision: Decision, limits: Constraints) -> Cascade | None:
        """Return the cascade of a decision, or None if it needs none."""
        if limits.is_pinned or decision.strategy in DIRECT:
            return None
        if decision.strategy in CHOSEN or self._is_chosen_by_plugin(decision):
            cascade = self._narrowed(
                self._from_chosen(decision.candidates[0]), decision, by=("rules", "semantic", REQUESTED)
            )
        elif decision.strategy == "rules" and decision.category is None:
            return None
        elif decision.category in self._own:
            cascade = self._narrowed(self._own[decision.category], decision, by=("rules",))
        else:
            cascade = self._within_candidates(decision)
        return cascade if cascade.tiers else None

    def _within_candidates(self, decision: Decision) -> Cascade:
        """Restrict the general cascade to the models of category or fallback.

        One tier alone is no cascade: then the models are called in their order, including those that are no tier.
        """
        has_fallbacks = decision.category is None or decision.category in self.without_models
        if has_fallbacks and self._is_fallbacks(decision):
            return self._narrowed(self._general, decision, by=("rules",))
        cascade = self._general.within(decision.candidates, self._pool.kept)
        is_cascade = len(cascade.tiers) >= min(2, len(self._general.tiers))
        return cascade if is_cascade else Cascade(())

    def _is_fallbacks(self, decision: Decision) -> bool:
        """Return True if the general cascade is that of the fallback.

        It is if the fallback's models are not configured, or if only the fallback has no cascade of its own: every
        category that can be reached has one, as in a tuned policy.
        """
        if not self._config.fallback.is_written:
            return True
        if decision.category is not None:
            return False
        reached = {entry.category for entry in decision.categories}
        reached.update(rule.category for rule in self._config.rules if rule.category is not None)
        return reached <= self._own.keys()

    def _is_chosen_by_plugin(self, decision: Decision) -> bool:
        """Return True if the strategy of a plugin chose a model, and no category."""
        return decision.strategy in self._config.plugin_strategies and any(
            opinion.kind == "decided" and opinion.category is None for opinion in decision.opinions
        )

    def _narrowed(self, cascade: Cascade, decision: Decision, *, by: Collection[str]) -> Cascade:
        """Restrict a cascade to the models that strategies have left.

        A plugin that filters models, and finds no category, bounds every cascade.
        """
        for opinion in decision.opinions:
            is_bound = opinion.category is None and opinion.strategy in self._config.plugin_strategies
            if opinion.kind == "narrowed" and (is_bound or opinion.strategy in by):
                cascade = cascade.within(opinion.candidates, self._pool.kept)
        return cascade

    def _from_chosen(self, model: str) -> Cascade:
        """Return the tiers from the chosen one on; none if that is not wanted."""
        is_wanted = self._config.cascade.start == "decided"
        return self._general.starting_at(model, self._pool.models) if is_wanted else Cascade(())


def _classifier(folder: Path) -> AnswerScorer:
    from semroute.predictors.answer_quality import read_classifier

    return read_classifier(folder)


def pinned_decision(text: str, limits: Constraints, config: Config) -> Decision:
    """Return the decision of a caller who pins a model or a deployment."""
    models = [place.model for place in config.deployments if place.name == limits.deployment]
    candidates = tuple(filter(None, (limits.model or next(iter(models), limits.deployment),)))
    return Decision(
        query=text,
        category=None,
        model=candidates[0] if candidates else "",
        score=None,
        threshold=None,
        confidence=None,
        is_fallback=False,
        categories=(),
        candidates=candidates,
        strategy=PINNED,
        reason="the caller pins what is called",
        elapsed_ms=0.0,
    )
