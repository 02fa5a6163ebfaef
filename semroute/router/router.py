"""Router: from a query to a decision, and on to a completion."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from semroute import forks
from semroute.config import Config, load_config
from semroute.config.schema import DEFAULT_INDEX
from semroute.dispatch.constraints import ANYTHING, Constraints
from semroute.dispatch.validation import valid_constraints, valid_queries, valid_request
from semroute.errors import DeadlineError, QueryError, SemrouteError
from semroute.index.manifest import MANIFEST
from semroute.router.complete import Answering, Recorder, judge, opened_log
from semroute.router.decide import ClientFactory, PolicyPair, chain_of
from semroute.router.experiment import Experiment, Propensities, TrafficShare, is_by_trial, tried_config
from semroute.router.load import ENVIRONMENT, LoadedIndex, Reloader, locate_index, shipped_index
from semroute.router.query import judging_caller, routable_text
from semroute.types import Attempt, Completion, Decision, Delta, OutcomeSink, Query, Request
from semroute.types.protocols import OnDelta, Progress

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher
    from semroute.eventloop import WorkerPool


class Router:
    """Router of queries by one artifact and one configuration.

    Safe to share between threads.

    Args:
        live: the artifact in memory.
        config: models, deployments and overrides.
        reloader: detects a replaced artifact and switches to the new one in the background; None never looks.
        state_file: see :class:`~semroute.dispatch.Dispatcher`.
        calling: makes the model client of a judge, within the limits of the request.
        log: stores the outcome of every query; None stores none. The router closes it.
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
    ) -> None:
        self._live, self._chain = live, chain_of(live, config)
        self._answering = Answering(config, self._chain.pool, live.without_models)
        self._share = TrafficShare(config.trial.state, config.trial.share)
        self._trial = self._trial_of(live, config)
        self._config = config
        self._reloader = reloader
        self._state_file = state_file
        self._calling = calling
        self._log = log
        self._recorder = None if log is None else Recorder(log, config)
        self._dispatcher: Dispatcher | None = None
        self._pool: WorkerPool | None = None
        self._replacing, self._opening = forks.lock(), forks.lock()

    @classmethod
    def load(
        cls,
        index: Path | str | None = None,
        *,
        config: Config | Path | str | None = None,
        reload_every_s: float | None = None,
        state_file: Path | None = None,
        log: OutcomeSink | bool | None = None,
        progress: Progress = lambda step, done, total: None,
    ) -> Router:
        """Open an artifact.

        Args:
            index: its folder; None takes ``SEMROUTE_INDEX``, the configuration's, or builds the shipped categories'
                once in the user's cache folder.
            config: a configuration or its file; None takes ``semroute.yaml`` of the working folder if there is one.
            reload_every_s: interval of checks for a replaced artifact, seconds; the router switches to the new one in
                the background. None never checks.
            state_file: where the state of the deployments is left and taken up again; None neither reads nor writes.
            log: True stores outcomes in the configured database; or a sink that stores them; None takes
                ``log.enabled``, which is off by default.
            progress: called with step, done and total while the shipped index is built.

        Raises:
            ConfigError, ArtifactError, EncoderError, MissingExtraError: the message names problem and remedy.
            StateError: outcomes are to be stored, and their database belongs to something else or to a newer semroute.
        """
        settings = config if isinstance(config, Config) else load_config(config)
        folder = locate_index(index, settings) or shipped_index(progress)
        # Before opening: a replacement that arrives meanwhile must not be mistaken for the opened index.
        reloader = None if reload_every_s is None else Reloader(folder, reload_every_s)
        live, sink = LoadedIndex.open(folder, settings), opened_log(log, settings)
        return cls(live, settings, reloader=reloader, state_file=state_file, log=sink)

    @property
    def live(self) -> LoadedIndex:
        """Index that serves at this moment."""
        return self._live

    @property
    def config(self) -> Config:
        """Configuration of this router."""
        return self._config

    def route(self, query: Query | Request, *, log: bool = True) -> Decision:
        """Route a string or the last user turn of chat messages to a model.

        A :class:`~semroute.types.Request` also shows the rules tools, a schema and the caller's metadata. With
        ``log=False`` nothing of the query is stored, whatever is configured.

        Raises:
            QueryError: the query is empty, or is neither text nor messages.
            InputError: another field of the request cannot be used; the message names its path.
            EncoderError: a remote encoder did not answer.
        """
        request = valid_request(query)
        (decision,) = self._decide([routable_text(request.messages)], [request])
        return self._noted([self._with_cascade(decision)], [request], log)[0]

    def route_many(self, queries: Sequence[Query | Request], *, log: bool = True) -> list[Decision]:
        """Route many queries at once, in their order, as :meth:`route` does.

        ``elapsed_ms`` is each query's share of the time.

        Raises:
            InputError: one of them cannot be routed; the message names it.
        """
        requests = valid_queries(queries)
        texts = [_text_of(request, place) for place, request in enumerate(requests)]
        decisions = self._decide(texts, requests) if texts else []
        return self._noted([self._with_cascade(one) for one in decisions], requests, log) if texts else []

    async def aroute(
        self, query: Query | Request, *, constraints: Constraints = ANYTHING, log: bool = True
    ) -> Decision:
        """Route as :meth:`route` does, without blocking the event loop.

        ``constraints`` bound a judge's call too.

        Raises:
            DeadlineError: ``constraints.deadline_s`` passed.
        """
        request, limits = valid_request(query), valid_constraints(constraints)
        if PolicyPair(self._chain, self._trial).asks and not _is_pinned(limits):
            await self._open_dispatcher()
        if limits.deadline_s is None:
            decision = await self._adecide(request, limits, log)
        else:
            decision = await self._decided_within(request, limits, limits.deadline_s, log)
        return self._noted([decision], [request], log)[0]

    @property
    def dispatcher(self) -> Dispatcher:
        """Dispatcher of all of this router's calls, which share its state.

        HTTP and the wire formats are imported with it on first use: deciding needs neither. A server uses it before it
        forks its workers or takes its first query.
        """
        with self._replacing:
            if self._dispatcher is None:
                from semroute.dispatch import Dispatcher

                self._dispatcher = Dispatcher(self._config, state_file=self._state_file, workers=self._workers)
            return self._dispatcher

    @property
    def _workers(self) -> WorkerPool:
        """Threads for blocking work; asyncio is imported with them."""
        with self._opening:
            if self._pool is None:
                from semroute.eventloop import WorkerPool

                self._pool = WorkerPool("semroute-decide")
            return self._pool

    def complete(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
    ) -> Completion:
        """Route a query, call the chosen model and return its completion.

        Args:
            query: the query; a conversation is sent whole. A :class:`~semroute.types.Request` also carries tools,
                a JSON schema, limits and the like.
            model: call this model or group instead of the decision's.
            constraints: the request's own limits, such as regions, a price ceiling or a deadline.
            log: True stores the outcome if this router has a log; False stores nothing of the query, whatever is
                configured.

        Raises:
            InputError: the query cannot be routed, or a field or a limit cannot be used; the message names its path.
            DispatchError: no endpoint could answer; :mod:`semroute.errors` lists the subclasses.
        """
        from semroute import _sync

        return _sync.run(self.acomplete(query, model=model, constraints=constraints, log=log))

    async def acomplete(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
    ) -> Completion:
        """Complete as :meth:`complete` does, without blocking the event loop."""
        request, limits = valid_request(query), valid_constraints(constraints, model)
        return await self._answer(request, limits, log=log)

    def astream(
        self,
        query: Query | Request,
        *,
        model: str | None = None,
        constraints: Constraints | None = None,
        log: bool = True,
    ) -> AsyncGenerator[Delta | Completion]:
        """Stream the answer's deltas as they arrive, then the completion."""
        from semroute.eventloop import streamed

        async def call(on_delta: OnDelta) -> Completion:
            request, limits = valid_request(query), valid_constraints(constraints, model)
            return await self._answer(request, limits, on_delta, log=log)

        return streamed(call)

    async def _answer(
        self, request: Request, limits: Constraints, on_delta: OnDelta | None = None, *, log: bool
    ) -> Completion:
        await self._open_dispatcher()
        started, attempts = time.perf_counter(), list[Attempt]()
        most_s = self._config.retries.deadline_s
        limit_s = most_s if limits.deadline_s is None else min(limits.deadline_s, most_s)
        # One deadline for the decision and the answer.
        decision = await self._decided_within(request, replace(limits, deadline_s=limit_s), limit_s, log)
        limits = replace(limits, deadline_s=max(limit_s - (time.perf_counter() - started), 0.0))

        async def call(on_delta: OnDelta | None) -> Completion:
            answering = self._answers(decision)
            return await answering.answer(
                request, decision, self.dispatcher, limits, attempts=attempts, on_delta=on_delta
            )

        if self._recorder is None or not log:
            completion = await call(on_delta)
        else:
            recorder = self._recorder
            completion = await recorder.answered(call, decision, started, request.metadata, attempts, on_delta)
        return replace(completion, decision=decision)

    async def _open_dispatcher(self) -> None:
        """Open the dispatcher in a thread: its imports would block the loop.

        This happens before the first query's time begins, of which a short deadline would leave nothing.
        """
        if self._dispatcher is None:
            await self._workers.run(lambda: self.dispatcher)

    def _answers(self, decision: Decision) -> Answering:
        """Return the policy that answers a decision: serving or on trial."""
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
        return judge(self._log, outcome_id, quality, comment)

    async def afeedback(self, outcome_id: str | None, quality: float, comment: str | None = None) -> str:
        """Store feedback as :meth:`feedback` does, without blocking."""
        return await self._workers.run(judge, self._log, outcome_id, quality, comment)

    def close(self) -> None:
        """Flush and close the log; threads end with their work."""
        if self._pool is not None:
            self._pool.close()
        close = getattr(self._log, "close", None)
        if close is not None:
            close()

    def reload(self) -> None:
        """Switch to the artifact that the folder now holds.

        Queries under way finish with the old one.

        Raises:
            ArtifactError, EncoderError: the new one cannot be used; the old one goes on serving.
        """
        with self._replacing:
            live = LoadedIndex.open(self._live.artifact.folder, self._config)
            trial = self._trial_of(live, self._config)
            self._chain, self._live, self._trial = chain_of(live, self._config), live, trial
            self._answering.without_models = live.without_models

    def _trial_of(self, live: LoadedIndex, config: Config) -> Experiment | None:
        tried = tried_config(config)
        if tried is None:
            return None
        live = live.with_config(tried)
        chain = chain_of(live, tried)
        answering = Answering(tried, chain.pool, live.without_models)
        return Experiment(chain, answering, self._share, Propensities(config, tried))

    async def _adecide(self, request: Request, constraints: Constraints, log: bool) -> Decision:
        started, text, asked = time.perf_counter(), routable_text(request.messages), list[Attempt]()
        try:
            policies, offload, is_pinned = self._policies(), self._workers.run, _is_pinned(constraints)
            if policies.asks and not is_pinned:
                client = self._calling(self.dispatcher, constraints, asked)
                (decision,) = await policies.adecide([text], [request], client, offload)
            else:
                (decision,) = await offload(policies.decide, [text], [request], is_pinned=is_pinned)
            return self._with_cascade(decision, constraints)
        except BaseException as error:
            if self._recorder is not None and log and asked:
                self._recorder.undecided(text, asked, error, started, request.metadata)
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

    def _with_cascade(self, decision: Decision, constraints: Constraints = ANYTHING) -> Decision:
        tiers = self._answers(decision).tiers(decision, constraints)
        return replace(decision, cascade=tiers) if tiers else decision

    def _noted(self, decisions: list[Decision], requests: Sequence[Request], log: bool) -> list[Decision]:
        if self._recorder is not None and log:
            self._recorder.decided(decisions, [request.metadata for request in requests])
        return decisions

    def _decide(self, texts: Sequence[str], requests: Sequence[Request]) -> list[Decision]:
        """Decide for a synchronous caller; models are called on the shared loop."""
        policies = self._policies()
        client = self._calling(self.dispatcher, ANYTHING, None) if policies.asks else None
        return policies.decide(texts, requests, client)

    def _policies(self) -> PolicyPair:
        if self._reloader is not None:
            self._reloader.look(self.reload)
        return PolicyPair(self._chain, self._trial)


def _is_pinned(constraints: Constraints) -> bool:
    return constraints.model is not None or constraints.deployment is not None


def _text_of(request: Request, place: int) -> str:
    try:
        return routable_text(request.messages)
    except QueryError as error:
        raise QueryError(f"queries[{place}]: {error}") from None


def route(query: Query, *, index: Path | str | None = None, config: Path | str | None = None) -> Decision:
    """Route one query by the artifact that :meth:`Router.load` finds.

    It is loaded once and kept. The artifact, ``SEMROUTE_INDEX`` and the working folder are looked up at every call, so
    another folder is another router; an artifact replaced on disk is picked up within a second.
    """
    configured = Path("semroute.yaml" if config is None else config)
    key = (
        None if index is None else str(index),
        os.environ.get(ENVIRONMENT),
        str(Path.cwd()),
        None if config is None else str(config),
        _changed(configured),
        # An index that is built after the first call must be found by the next one.
        (DEFAULT_INDEX / MANIFEST).exists(),
    )
    return _kept(key).route(query)


@lru_cache(maxsize=8)
def _kept(key: tuple[str | None, str | None, str, str | None, int | None, bool]) -> Router:
    return Router.load(key[0], config=key[3], reload_every_s=1.0)


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
