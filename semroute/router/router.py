"""Router: from a query to a decision, and on to a completion."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from semroute import forks
from semroute.config import Config
from semroute.dispatch.constraints import ANYTHING, Constraints, Preference
from semroute.dispatch.validation import valid_constraints, valid_queries, valid_request
from semroute.errors import DeadlineError, InputError, SemrouteError
from semroute.index.artifact import MemoryArtifact
from semroute.router.complete import Answering, Recorder, opened_log, store_feedback
from semroute.router.decide import ClientFactory, chain_of
from semroute.router.experiment import TrafficShare, is_by_trial
from semroute.router.load import (
    HttpClient,
    LoadedIndex,
    Reloader,
    RouterOptions,
    config_of,
    locate_index,
    shipped_index,
)
from semroute.router.policies import PolicyPair, open_comparer, open_policies, open_trial
from semroute.router.query import judging_caller, routable_text, routable_texts
from semroute.router.requested import as_requested, ordered
from semroute.types import (
    AdmissionControl,
    Attempt,
    Completion,
    Decision,
    Delta,
    Encoder,
    OutcomeSink,
    Query,
    Request,
)
from semroute.types.protocols import OnDelta, Revision, silent
from semroute.types.tracing import UNTRACED, NoteDecision, Tracer

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher
    from semroute.eventloop import WorkerPool
    from semroute.router.batching import DecisionBatcher


class Router:
    """Router of queries by one artifact and one configuration.

    Open it by :meth:`load` or :meth:`from_examples`, and close it by ``with``, ``async with``, :meth:`close` or
    :meth:`aclose`. Safe to share between threads, and in forked children.

    Args:
        live: the artifact in memory.
        config: models, deployments and overrides.
        reloader: detects a replaced artifact and switches to the new one in the background; None never looks.
        state_file: see :class:`~semroute.dispatch.Dispatcher`.
        calling: makes the model client of a judge, within the limits of the request.
        log: stores the outcome of every query; None stores none. The router closes it.
        http_client, gates, env, clock, tracer: see :class:`~semroute.router.load.RouterOptions`.
    """

    def __init__(
        self,
        live: LoadedIndex,
        config: Config,
        *,
        reloader: Reloader | None = None,
        state_file: Path | None = None,
        calling: ClientFactory = judging_caller,
        log: OutcomeSink | None = None,
        http_client: HttpClient = None,
        gates: AdmissionControl | None = None,
        env: Mapping[str, str] = os.environ,
        clock: Callable[[], float] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._live, self._chain = live, chain_of(live, config)
        self._answering = Answering(config, self._chain.pool, live.without_models)
        self._share = TrafficShare(config.trial.state, config.trial.share)
        self._trial, self._named = open_trial(live, config, self._share), open_policies(live, config)
        self._comparer = open_comparer(config, log)
        self._config = config
        self._reloader = reloader
        self._state_file = state_file
        self._calling = calling
        self._log = log
        self._recorder = None if log is None else Recorder(log, config, clock or time.time)
        self._http_client, self._gates, self._env, self._clock = http_client, gates, env, clock
        self._tracer, self._closers = tracer, list[Callable[[], object]]()
        self._is_closed = False
        self._dispatcher: Dispatcher | None = None
        self._pool: WorkerPool | None = None
        self._batches: DecisionBatcher | None = None
        self._replacing, self._opening = forks.lock(), forks.lock()

    @classmethod
    def load(
        cls,
        index: Path | str | None = None,
        *,
        reload_every_s: float | None = None,
        encoders: Mapping[str, Any] | None = None,
        **options: Unpack[RouterOptions],
    ) -> Self:
        """Open an artifact.

        Args:
            index: its folder; None takes ``SEMROUTE_INDEX``, the configuration's, or builds the shipped categories'
                once in the user's cache folder.
            reload_every_s: interval of checks for a replaced artifact, seconds; the router switches to the new one in
                the background. None never checks.
            encoders: factories of encoders by name, as the ``strategies`` of ``options``.
            options: any of the keywords of :class:`~semroute.router.load.RouterOptions`: ``config``, ``log``,
                ``state_file``, ``http_client``, ``gates``, ``env``, ``clock``, ``tracer``, ``progress``,
                ``strategies``, ``checks`` and ``providers``.

        Raises:
            ConfigError, ArtifactError, EncoderError, MissingExtraError, PluginError: the message names problem and
                remedy.
            StateError: outcomes are to be stored, and their database belongs to something else or to a newer semroute.
        """
        settings = config_of(options, encoders)
        env, clock = options.get("env", os.environ), options.get("clock") or time.monotonic
        folder = locate_index(index, settings, env) or shipped_index(options.get("progress", silent))
        # Before opening: a replacement that arrives meanwhile must not be mistaken for the opened index.
        reloader = None if reload_every_s is None else Reloader(folder, reload_every_s, clock)
        live = LoadedIndex.open(folder, settings, env)
        close = getattr(getattr(live.encoder, "encoder", None), "close", None)  # of a remote one, within its cache
        return cls._open(live, settings, [close] if callable(close) else [], options, reloader)

    @classmethod
    def from_examples(
        cls,
        examples: Mapping[str, Sequence[str]],
        models: Mapping[str, str | Sequence[str]] | None = None,
        *,
        fallback: str | Sequence[str] | None = None,
        validation: Sequence[tuple[str, str | None]] | None = None,
        encoder: Encoder | None = None,
        background: bool = True,
        **options: Unpack[RouterOptions],
    ) -> Self:
        """Build an index in memory, and open it.

        The result decides as ``semroute build-index`` and :meth:`load` would. Nothing is written to the working folder;
        building takes some seconds, so a program that starts often should build an index once and load it.

        Args:
            examples: example queries of each category, at least five.
            models: model or group of each category, or several, cheapest first. ``categories.NAME.models`` of the
                configuration takes precedence.
            fallback: models for queries that fit no category; None takes the configuration's.
            validation: labelled queries that are not examples, with None for one that is out of scope, from which
                thresholds and calibration are chosen; None chooses them on held-out examples.
            encoder: embeds texts; None takes the configuration's, else the built-in one.
            background: whether the examples are compared with queries of no category, so that fewer of those are
                accepted; it takes most of the time of a small index. An encoder of the program's own does without.
            options: as for :meth:`load`.

        Raises:
            InputError: examples, models or queries cannot be used; the message names category and place.
            ConfigError, EncoderError, StateError: the message names problem and remedy.
            MissingExtraError: the extra "build" is not installed.
        """
        from semroute.router.memory import MemorySource, build_live

        settings = config_of(options)
        source = MemorySource(examples, models, fallback, validation, encoder, background)
        parts = build_live(source, settings, options.get("env", os.environ), options.get("progress", silent))
        return cls._open(parts.live, parts.config, parts.closers, options)

    @classmethod
    def _open(
        cls,
        live: LoadedIndex,
        config: Config,
        closers: list[Callable[[], object]],
        options: RouterOptions,
        reloader: Reloader | None = None,
    ) -> Self:
        """Open the log, then the router; a failure closes both here."""
        env, log = options.get("env", os.environ), options.get("log")
        with ExitStack() as on_failure:
            for close in closers:
                on_failure.callback(close)
            sink = opened_log(log, config, env, on_failure)
            router = cls(
                live,
                config,
                reloader=reloader,
                state_file=options.get("state_file"),
                log=sink,
                http_client=options.get("http_client"),
                gates=options.get("gates"),
                env=env,
                clock=options.get("clock"),
                tracer=options.get("tracer"),
            )
            on_failure.pop_all()
        router._closers = closers
        return router

    @property
    def live(self) -> LoadedIndex:
        """Index that serves at this moment."""
        return self._live

    @property
    def config(self) -> Config:
        """Configuration of this router."""
        return self._config

    def route(
        self,
        query: Query | Request,
        *,
        prefer: Preference | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
    ) -> Decision:
        """Route a string or the last user turn of chat messages to a model.

        Args:
            query: the query; a :class:`~semroute.types.Request` also shows the rules tools, a schema and the caller's
                metadata.
            prefer: ``cheap`` or ``best``: the models that the decision names are called from the lowest price up, or
                from the highest down, without a cascade. ``balanced``, the default, leaves the decision as it is.
            constraints: preference, category or policy of the decision; its other limits are for calls.
            log: False stores nothing of the query, whatever is configured.

        Raises:
            QueryError: the query is empty, or is neither text nor messages.
            InputError: another field of the request cannot be used; the message names its path.
            EncoderError: a remote encoder did not answer.
        """
        request, limits = valid_request(query), valid_constraints(constraints, prefer=prefer)
        with self._traced() as note:
            (decision,) = self._decide([routable_text(request.messages)], [request], limits)
            note(decision := self._answerable(decision, request, limits))
        return self._noted([decision], [request], log)[0]

    def route_many(
        self, queries: Sequence[Query | Request], *, prefer: Preference | None = None, log: bool = True
    ) -> list[Decision]:
        """Route many queries at once, in their order, as :meth:`route` does.

        ``elapsed_ms`` is each query's share of the time.

        Raises:
            InputError: one of them cannot be routed; the message names it.
        """
        requests, limits = valid_queries(queries), valid_constraints(None, prefer=prefer)
        texts = routable_texts(requests)
        if not texts:
            return []
        pairs = zip(self._decide(texts, requests, limits), requests, strict=True)
        return self._noted([self._answerable(*pair, limits) for pair in pairs], requests, log)

    async def aroute(
        self,
        query: Query | Request,
        *,
        prefer: Preference | None = None,
        constraints: Constraints = ANYTHING,
        log: bool = True,
    ) -> Decision:
        """Route as :meth:`route` does, without blocking the event loop.

        ``constraints`` bound a judge's call too.

        Raises:
            DeadlineError: ``constraints.deadline_s`` passed.
        """
        request, limits = valid_request(query), valid_constraints(constraints, prefer=prefer)
        if PolicyPair(self._chain, self._trial, self._named).asks and not limits.is_pinned:
            await self._open_dispatcher()
        with self._traced() as note:
            if limits.deadline_s is None:
                decision = await self._adecide(request, limits, log)
            else:
                decision = await self._decided_within(request, limits, limits.deadline_s, log)
            note(decision)
        return self._noted([decision], [request], log)[0]

    @property
    def dispatcher(self) -> Dispatcher:
        """Dispatcher of all of this router's calls, which share its state.

        HTTP and the wire formats are imported with it on first use: deciding needs neither. A server uses it before it
        forks its workers or takes its first query.
        """
        with self._replacing:
            self._check_open()
            if self._dispatcher is None:
                from semroute.dispatch import Dispatcher

                self._dispatcher = Dispatcher(
                    self._config,
                    gates=self._gates,
                    client=self._http_client,
                    env=self._env,
                    state_file=self._state_file,
                    workers=self._workers,
                    clock=self._clock,
                    tracer=self._tracer,
                )
            return self._dispatcher

    @property
    def log(self) -> OutcomeSink | None:
        """Sink of the outcomes; None where nothing is logged."""
        return self._log

    @property
    def _workers(self) -> WorkerPool:
        """Threads for blocking work; asyncio is imported with them."""
        with self._opening:
            if self._pool is None:
                from semroute.eventloop import WorkerPool

                self._pool = WorkerPool("semroute-decide")
            return self._pool

    @property
    def _batcher(self) -> DecisionBatcher:
        workers = self._workers
        with self._opening:
            if self._batches is None:
                from semroute.router.batching import DecisionBatcher

                self._batches = DecisionBatcher(partial(self._decide, constraints=ANYTHING), workers)
            return self._batches

    def complete(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        prefer: Preference | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
    ) -> Completion:
        """Route a query, call the chosen model and return its completion.

        Args:
            query: the query; a conversation is sent whole. A :class:`~semroute.types.Request` also carries tools,
                a JSON schema, limits and the like.
            model: call this model or group instead of the decision's.
            prefer: as for :meth:`route`.
            constraints: the request's own limits, such as regions, a price ceiling or a deadline.
            log: True stores the outcome if this router has a log; False stores nothing of the query, whatever is
                configured.

        Raises:
            InputError: the query cannot be routed, or a field or a limit cannot be used; the message names its path. Or
                the router is closed.
            DispatchError: no endpoint could answer; :mod:`semroute.errors` lists the subclasses.
        """
        from semroute import _sync

        return _sync.run(self.acomplete(query, model=model, prefer=prefer, constraints=constraints, log=log))

    async def acomplete(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        prefer: Preference | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
        revise: Revision | None = None,
        input_tokens: int | None = None,
    ) -> Completion:
        """Complete as :meth:`complete` does, without blocking the event loop.

        A task that is cancelled ends the call at the provider. Arguments and errors are those of :meth:`complete`.
        ``revise`` returns the decision that is answered and logged in place of the one that it is called with, for a
        server that knows more than the request, such as the cache of a conversation. ``input_tokens`` is the estimate
        of a server that has counted them.
        """
        request, limits = valid_request(query), valid_constraints(constraints, model, prefer)
        return await self._answer(request, limits, log=log, revise=revise, input_tokens=input_tokens)

    def astream(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        prefer: Preference | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
        on_decision: Callable[[Decision], None] | None = None,
        revise: Revision | None = None,
        input_tokens: int | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """Stream the answer's deltas as they arrive, then the completion.

        The query is sent when the first of them is wanted. To stop early, close the generator, as
        :func:`contextlib.aclosing` does: that cancels the call at the provider. After the first delta no other endpoint
        is tried, and a failure is raised. Arguments and errors are those of :meth:`complete`.

        ``on_decision`` is called with the decision before the first delta, for a server that shows it in a header.
        ``revise`` and ``input_tokens`` are those of :meth:`acomplete`.
        """
        from semroute.eventloop import streamed

        async def call(on_delta: OnDelta) -> Completion:
            request, limits = valid_request(query), valid_constraints(constraints, model, prefer)
            return await self._answer(
                request, limits, on_delta, log=log, on_decision=on_decision, revise=revise, input_tokens=input_tokens
            )

        return streamed(call)

    def stream(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        prefer: Preference | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
    ) -> Generator[Delta | Completion]:
        """Stream the answer's deltas as they arrive, then the completion.

        The query is sent when the first of them is wanted. To stop early, by ``break`` or ``close()``, cancels the call
        at the provider. It works inside and outside of a running event loop, which it blocks while it waits; arguments
        and errors are those of :meth:`complete`.
        """
        from semroute import _sync

        self._check_open()
        return _sync.iterate(self.astream(query, model=model, prefer=prefer, constraints=constraints, log=log))

    async def _answer(
        self,
        request: Request,
        limits: Constraints,
        on_delta: OnDelta | None = None,
        *,
        log: bool,
        on_decision: Callable[[Decision], None] | None = None,
        revise: Revision | None = None,
        input_tokens: int | None = None,
    ) -> Completion:
        await self._open_dispatcher()
        started, attempts = time.perf_counter(), list[Attempt]()
        most_s = self._config.retries.deadline_s
        limit_s = most_s if limits.deadline_s is None else min(limits.deadline_s, most_s)
        # One deadline for the decision and the answer.
        with self._traced() as note:
            decision = self._pinned(request, limits)
            if decision is None:
                decision = await self._decided_within(request, replace(limits, deadline_s=limit_s), limit_s, log)
            limits = replace(limits, deadline_s=max(limit_s - (time.perf_counter() - started), 0.0))
            if revise is not None:
                decision = revise(decision)
            note(decision)
        if on_decision is not None:
            on_decision(decision)

        async def call(on_delta: OnDelta | None) -> Completion:
            answering = self._answers(decision, limits)
            return await answering.answer(
                request,
                decision,
                self.dispatcher,
                limits,
                attempts=attempts,
                on_delta=on_delta,
                input_tokens=input_tokens,
            )

        if self._recorder is None or not log:
            completion = replace(await call(on_delta), decision=decision)
        else:
            recorder = self._recorder
            completion = await recorder.answered(call, decision, started, request, attempts, on_delta)
        if self._comparer is not None:
            self._comparer.offer(request, limits, completion, self._answering, self._trial, self.dispatcher)
        return completion

    async def _open_dispatcher(self) -> None:
        """Open the dispatcher in a thread: its imports would block the loop.

        This happens before the first query's time begins, of which a short deadline would leave nothing.
        """
        self._check_open()
        if self._dispatcher is None:
            await self._workers.run(lambda: self.dispatcher)

    @property
    def tracer(self) -> Tracer | None:
        """Tracer of decisions and attempts, which stays its opener's to close."""
        return self._tracer

    def _traced(self) -> AbstractContextManager[NoteDecision]:
        return UNTRACED if self._tracer is None else self._tracer.decision()

    def _answers(self, decision: Decision, limits: Constraints) -> Answering:
        """Return the policy that answers: serving, on trial, or asked for."""
        if limits.policy is not None and (named := self._named.get(limits.policy)) is not None:
            return named.answering
        trial = self._trial
        return trial.answering if trial is not None and is_by_trial(decision) else self._answering

    def feedback(self, outcome_id: str | None, quality: float, comment: str | None = None) -> str:
        """Store a user's feedback on an answer; the latest feedback counts.

        Earlier feedback stays. An outcome recorded a moment ago is found: pending outcomes are written first.

        Args:
            outcome_id: :attr:`Completion.outcome_id`, a unique prefix of it, or ``last``.
            quality: 0 (bad) to 1 (good).
            comment: words of the user.

        Returns:
            The outcome's whole id.

        Raises:
            InputError: the quality is out of range, no outcome or more than one matches, or this router has no log.
            StateError: the log cannot be written.
        """
        self._check_open()
        return store_feedback(self._log, outcome_id, quality, comment)

    async def afeedback(
        self,
        outcome_id: str | None,
        quality: float,
        comment: str | None = None,
        *,
        owner: tuple[str, str] | None = None,
    ) -> str:
        """Store feedback as :meth:`feedback` does, without blocking.

        With an ``owner``, a name and a value of the metadata, any other outcome is unknown, and ids must be whole.
        """
        self._check_open()
        return await self._workers.run(store_feedback, self._log, outcome_id, quality, comment, owner)

    def close(self) -> None:
        """Release log, HTTP connections, Redis, threads and temporary files.

        Pending outcomes are written first. Connections are released on the event loops that opened them, except where
        one of these runs in this thread and cannot be waited for: use :meth:`aclose` there. Calls under way fail. To
        close twice does nothing; every other method of a closed router raises an :class:`~semroute.errors.InputError`.
        What was handed in as ``http_client``, ``gates`` or ``encoder`` stays open.
        """
        if self._begin_closing():
            self._release()

    async def aclose(self) -> None:
        """Close as :meth:`close` does, without blocking the event loop."""
        if not self._begin_closing():
            return
        try:
            if self._comparer is not None:
                await self._comparer.finish()
            if self._dispatcher is not None:
                await self._dispatcher.close_here()
        finally:
            await self._workers.run(self._release)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _begin_closing(self) -> bool:
        """Mark the router as closed; False if it was."""
        with self._replacing:
            was_closed, self._is_closed = self._is_closed, True
        return not was_closed

    def _release(self) -> None:
        """Release everything, the log last, whatever fails on the way."""
        with ExitStack() as stack:
            close = getattr(self._log, "close", None)
            if callable(close):
                stack.callback(close)
            if self._pool is not None:
                stack.callback(self._pool.close)
            if self._batches is not None:
                stack.callback(self._batches.close)
            for closer in self._closers:
                stack.callback(closer)
            if self._dispatcher is not None:
                stack.callback(self._dispatcher.close_everywhere)
            if self._comparer is not None:  # its comparisons use the dispatcher
                stack.callback(self._comparer.finish_everywhere)

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("this router is closed; open another one, or close it only after its last query")

    def reload(self) -> None:
        """Switch to the artifact that the folder now holds.

        Queries under way finish with the old one.

        Raises:
            ArtifactError, EncoderError: the new one cannot be used; the old one goes on serving.
            InputError: the index was built in memory, or the router is closed.
        """
        with self._replacing:
            self._check_open()
            if isinstance(self._live.artifact, MemoryArtifact):
                raise InputError("the index of this router was built in memory: there is no folder to read it from")
            live = LoadedIndex.open(self._live.artifact.folder, self._config, self._env)
            trial, named = open_trial(live, self._config, self._share), open_policies(live, self._config)
            self._chain, self._live, self._trial, self._named = chain_of(live, self._config), live, trial, named
            self._answering.without_models = live.without_models

    def _pinned(self, request: Request, limits: Constraints) -> Decision | None:
        """Return the decision of a pinned call; None if it is to be decided."""
        return self._answering.pinned(routable_text(request.messages), limits) if limits.is_pinned else None

    async def _adecide(self, request: Request, constraints: Constraints, log: bool) -> Decision:
        started, text, asked = time.perf_counter(), routable_text(request.messages), list[Attempt]()
        try:
            policies, offload, is_pinned = self._policies(constraints), self._workers.run, constraints.is_pinned
            category = constraints.category
            is_bound = is_pinned or category is not None or constraints.policy is not None
            if policies.asks and not is_pinned:
                client = self._calling(self.dispatcher, constraints, asked)
                (decision,) = await policies.adecide([text], [request], client, offload, category=category)
            elif is_bound or self._live.waits:
                (decision,) = await offload(policies.decide, [text], [request], is_pinned=is_pinned, category=category)
            else:
                decision = await self._batcher.decide(text, request)
            return self._answerable(decision, request, constraints)
        except BaseException as error:
            if self._recorder is not None and log and asked:
                self._recorder.undecided(text, asked, error, started, request)
            raise

    async def _decided_within(self, request: Request, constraints: Constraints, limit_s: float, log: bool) -> Decision:
        from semroute.eventloop import timeout

        try:
            async with timeout(limit_s):
                return await self._adecide(request, constraints, log)
        except TimeoutError as error:
            if isinstance(error, SemrouteError):
                raise
            message = f"the request's deadline of {limit_s:g} s passed while it was being decided where the query goes"
            raise DeadlineError(message) from None

    def _answerable(self, decision: Decision, request: Request, constraints: Constraints) -> Decision:
        """Return a decision with its cascade, or its models in due order."""
        decision = as_requested(decision, constraints)
        decision = self._answers(decision, constraints).with_tiers(decision, constraints)
        return decision if constraints.is_pinned else ordered(decision, request, constraints, self._config)

    def _noted(self, decisions: list[Decision], requests: Sequence[Request], log: bool) -> list[Decision]:
        if self._recorder is not None and log:
            self._recorder.decided(decisions, requests)
        return decisions

    def _decide(self, texts: Sequence[str], requests: Sequence[Request], constraints: Constraints) -> list[Decision]:
        """Decide for a synchronous caller; models are called on the shared loop."""
        policies = self._policies(constraints)
        client = self._calling(self.dispatcher, ANYTHING, None) if policies.asks else None
        return policies.decide(texts, requests, client, category=constraints.category)

    def _policies(self, constraints: Constraints) -> PolicyPair:
        self._check_open()
        if self._reloader is not None:
            self._reloader.look(self.reload)
        return PolicyPair(self._chain, self._trial, self._named).asked_by(constraints)
