"""Cascade of tiers: calls with their cost, escalation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypedDict

from semroute.cascade.acceptance import Acceptance, ScorerOf, acceptance_of, no_scorer, said, score
from semroute.cascade.checks import Asker, CheckInput, Sampler, UncheckableError, can_stream_early
from semroute.config.cascade import CascadeConfig
from semroute.errors import (
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DeadlineError,
    DispatchError,
    Fault,
    NoDeploymentError,
    RequestError,
)
from semroute.types import (
    Attempt,
    CallEstimate,
    CheckResult,
    Completion,
    Delta,
    ModelClient,
    Request,
    TierResult,
    tier_label,
    total_cost,
)
from semroute.types.protocols import OnDelta
from semroute.types.tracing import current_tier

# Tiers of a cascade, made once from the configuration.

ModelsOf: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
Kept: TypeAlias = Callable[[Sequence[str], Sequence[str]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Tier:
    """Tier of a cascade.

    Attributes:
        position: position in the configuration; 0 is the cheapest.
        candidates: models and groups that it calls, in order.
        acceptance: checks of its answers.
        quality: share of queries that it answers well, if known.
        effort: reasoning effort of its calls, unless the request sets its own.
    """

    position: int
    candidates: tuple[str, ...]
    acceptance: Acceptance
    quality: float | None = None
    effort: str | None = None

    @property
    def name(self) -> str:
        """Display name: the models and groups it calls."""
        return ", ".join(self.candidates)

    @property
    def label(self) -> str:
        """Display name with the effort, which no other tier has."""
        return tier_label(self.name, self.effort)


OWN_EFFORT = frozenset({"reasoning", "thinking", "thinkingConfig"})
"""Parameters of single wire formats by which a request sets the effort itself."""


def with_effort(request: Request, effort: str | None) -> Request:
    """Return a request with a tier's reasoning effort, unless it sets its own.

    A budget of thinking that is left to the model is no effort. A deployment that takes no effort is called without.
    """
    has_own = request.reasoning_effort is not None or request.thinking_budget not in (None, -1)
    if effort is None or has_own or not OWN_EFFORT.isdisjoint(request.extra):
        return request
    droppable = request.droppable | {"reasoning_effort", "thinking_budget"}
    return replace(request, reasoning_effort=effort, droppable=droppable)


def asked_effort(request: Request, effort: str | None) -> str | None:
    """Return the effort at which a tier sends a request.

    It is the request's own, or the tier's; "" for none at all.

    None where the request sets it in another way, as by a budget of thinking.
    """
    asked = with_effort(request, effort).reasoning_effort
    if asked is not None:
        return asked
    has_own = request.thinking_budget not in (None, -1) or not OWN_EFFORT.isdisjoint(request.extra)
    return None if has_own else ""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Tiers from the cheapest up, with the rules of escalation.

    Safe to share between requests.

    Attributes:
        tiers: the tiers.
        stream_after_tokens, value_per_quality, max_usd: see :class:`semroute.config.cascade.CascadeConfig`.
        bounds: functions that filter the names of models that are asked to agree, as the tiers were filtered.
        without_logprobs: labels of tiers that refused log probabilities; these are not requested there again.
    """

    tiers: tuple[Tier, ...]
    stream_after_tokens: int | None = None
    value_per_quality: float | None = None
    max_usd: float | None = None
    bounds: tuple[Callable[[Sequence[str]], tuple[str, ...]], ...] = ()
    without_logprobs: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, cascade: CascadeConfig, scorer_of: ScorerOf = no_scorer) -> Cascade:
        """Return the cascade of a section ``cascade``.

        ``scorer_of`` reads the classifier in a folder.

        Raises:
            MissingExtraError: a check needs an extra that is not installed.
            ArtifactError: a classifier cannot be read.
        """
        accepts = [cascade.accept if tier.accept is None else tier.accept for tier in cascade.tiers]
        tiers = (
            Tier(position, (tier.use,), acceptance_of(accept, scorer_of, tier.use), tier.quality, tier.effort)
            for position, (tier, accept) in enumerate(zip(cascade.tiers, accepts, strict=True))
        )
        return cls(tuple(tiers), cascade.stream_after_tokens, cascade.value_per_quality, cascade.max_usd)

    @property
    def efforts(self) -> tuple[str | None, ...]:
        """Reasoning effort of each tier; empty where no tier has one."""
        efforts = tuple(tier.effort for tier in self.tiers)
        return efforts if any(efforts) else ()

    def within(self, allowed: Sequence[str], kept: Kept) -> Cascade:
        """Return the cascade of the allowed models, without empty tiers.

        Args:
            allowed: models and groups.
            kept: function that filters names by the allowed ones.
        """
        tiers = (replace(tier, candidates=kept(tier.candidates, allowed)) for tier in self.tiers)
        bounds = (*self.bounds, lambda names: kept(names, allowed))
        return replace(self, tiers=tuple(tier for tier in tiers if tier.candidates), bounds=bounds)

    def starting_at(self, model: str, models: ModelsOf) -> Cascade:
        """Return the cascade from the first tier that calls ``model``.

        It is empty if no tier does.

        Args:
            model: name of a model or group.
            models: function that resolves names of models and groups to models.
        """
        found = (number for number, tier in enumerate(self.tiers) if model in models(tier.candidates))
        return replace(self, tiers=self.tiers[next(found, len(self.tiers)) :])

    async def run(
        self,
        text: str,
        request: Request,
        client: ModelClient,
        *,
        deadline_s: float,
        on_delta: OnDelta | None = None,
        spent_usd: float = 0.0,
    ) -> Completion:
        """Call tier after tier, and return the accepted answer, else the best.

        The completion has every attempt of every tier, the tier results, and the position of the tier that gave the
        answer. There is no escalation after the first piece was streamed.

        Args:
            text: the routed text.
            request: the request to send.
            client: client that calls the models.
            deadline_s: longest time for all tiers together, seconds.
            on_delta: streams the answer: it is awaited with each piece; None does not stream.
            spent_usd: cost of the query so far, USD; counts towards ``max_usd``.

        Raises:
            NoDeploymentError: no tier may be called; the message gives the reason for each.
            DispatchError: no tier answered: the last tier's error, with the attempts of all.
        """
        calls = Calls(self, request, client, deadline_s, on_delta, spent_usd)
        return await CascadeRun(self, text, calls).answer()


RESERVED = 0.5
"""Share of a query's remaining time that a silent tier must leave to later tiers, if one can be called."""
LEAST_S = 0.001
"""Time limit of a call after the deadline, seconds: the call's own error is more specific than ours."""


class _Limits(TypedDict):
    deadline_s: float
    reserve_s: float
    total_usd: float | None


class Calls:
    """Calls of the tiers for one query, with their cost.

    Attributes:
        attempts: every attempt of every tier, including failed ones and samples.
        has_streamed: True once a piece of an answer was streamed: no other tier may be called then.
    """

    def __init__(
        self,
        cascade: Cascade,
        request: Request,
        client: ModelClient,
        deadline_s: float,
        on_delta: OnDelta | None,
        spent_usd: float,
    ) -> None:
        self.attempts: list[Attempt] = []
        self.has_streamed = False
        self._cascade = cascade
        self._request = request
        self._client = client
        self._deadline = time.monotonic() + deadline_s
        self._on_delta = on_delta
        self._reserved = 0.0
        self._before_usd = spent_usd
        # By the models and groups that were called, as the tiers name them: a narrowed group is its models.
        self._known: dict[tuple[tuple[str, ...], str | None], Completion] = {}
        self._failed: dict[tuple[tuple[str, ...], str | None], DispatchError] = {}

    @property
    def spent_usd(self) -> float:
        """Cost of the query so far, including the routing decision, USD."""
        spent = total_cost(self.attempts)
        return self._before_usd + (0.0 if spent is None else spent.usd)

    @property
    def _left_usd(self) -> float | None:
        most = self._cascade.max_usd
        return None if most is None else most - self.spent_usd

    @property
    def left_s(self) -> float:
        """Time left for the query, seconds; negative after the deadline."""
        return self._deadline - time.monotonic()

    async def prepare(self, tier: Tier) -> tuple[Request, CallEstimate]:
        """Return a tier's request and call estimate; logprobs only if available.

        Raises:
            CapabilityError: the request asks for several answers; a cascade checks and returns one.
        """
        if self._request.n not in (None, 1):
            raise CapabilityError(f"n={self._request.n}: a cascade checks and gives one answer; leave n out")
        self._reserved = RESERVED if await self._can_escalate(tier) else 0.0
        wants, request = tier.acceptance.wants_logprobs or self._may_be_early(tier), self._request_of(tier)
        if wants and not request.logprobs and tier.label not in self._cascade.without_logprobs:
            asked = replace(request, logprobs=True)
            estimate = await self._client.estimate(asked, tier.candidates)
            if estimate.closed is None:
                return asked, estimate
        return request, await self._client.estimate(request, tier.candidates)

    def _request_of(self, tier: Tier) -> Request:
        return with_effort(self._request, tier.effort)

    async def _can_escalate(self, tier: Tier) -> bool:
        """Return True if a later tier can be called now."""
        for later in self._cascade.tiers:
            if later.position > tier.position:
                estimate = await self._client.estimate(self._request_of(later), later.candidates)
                if estimate.closed is None:
                    return True
        return False

    def _limits(self) -> _Limits:
        left_s = max(self.left_s, LEAST_S)
        return {"deadline_s": left_s, "reserve_s": self._reserved * left_s, "total_usd": self._left_usd}

    async def answer(self, tier: Tier, request: Request) -> Completion:
        """Return the tier's answer, streamed if it is the last or may be early.

        If the provider refuses log probabilities, the call is repeated without, and they are not requested again.

        Raises:
            DispatchError: no endpoint of the tier answered.
        """
        is_our_own = request.logprobs and not self._request.logprobs
        known = self._known.get((tier.candidates, tier.effort))
        if known is not None and not (request.logprobs and known.logprobs is None):
            return known  # it was asked whether it agrees with another tier
        others = tier.acceptance.asked_at_once
        if others and not self._must_wait(tier):
            from asyncio import TaskGroup

            async with TaskGroup() as group:
                for model in others:
                    group.create_task(self._ask_ahead(tier, model))
                # Not raised in the group: what the others cost must be known before the next tier is called.
                result = await self._result(tier, request, is_our_own)
        else:
            result = await self._result(tier, request, is_our_own)
        if isinstance(result, DispatchError):
            raise result
        self._known[tier.candidates, tier.effort] = result
        return result

    def _must_wait(self, tier: Tier) -> bool:
        """Return True if other models are asked only after the tier.

        A budget counts each call before it is made.
        """
        return self._cascade.max_usd is not None or self._may_be_early(tier) or self.sampler(tier) is None

    async def _ask_ahead(self, tier: Tier, model: str) -> None:
        names = self._bounded(model)
        if names and (names, tier.effort) not in self._known:
            await self._ask(tier, names)

    async def _result(self, tier: Tier, request: Request, is_our_own: bool) -> Completion | DispatchError:
        try:
            return await self._answer(tier, request, is_our_own)
        except DispatchError as error:
            return error

    async def _answer(self, tier: Tier, request: Request, is_our_own: bool) -> Completion:
        try:
            return await self._complete(tier, request, self._stream_of(tier))
        except DispatchError as error:
            if not (is_our_own and _may_refuse_logprobs(error)) or self.has_streamed:
                raise
        answer = await self._complete(tier, self._request_of(tier), self._stream_of(tier))
        # Only now is it certain that nothing else was wrong with the request.
        self._cascade.without_logprobs.add(tier.label)
        return answer

    async def stream_whole(self, answer: Completion) -> None:
        """Stream an answer that was held until it was accepted."""
        if self._on_delta is not None and not self.has_streamed and (whole := Delta.of(answer)).is_answer:
            await self._on_delta(whole)

    def sampler(self, tier: Tier) -> Sampler | None:
        """Return a sampler of further answers.

        None if a rejection would have no effect.
        """
        if self.has_streamed or tier is self._cascade.tiers[-1]:
            return None

        async def sample(temperature: float) -> Completion | str:
            if self.left_s <= 0:
                return "the deadline has passed"
            try:
                request = self._request_of(tier)
                droppable = request.droppable | {"temperature"}  # models without one vary by themselves
                asked = replace(request, temperature=temperature, droppable=droppable)
                return await self._complete(tier, asked)
            except DispatchError as error:
                return str(error)

        return sample

    def asker(self, tier: Tier) -> Asker | None:
        """Return a function that asks another model; None like the sampler.

        An answer that is known already is not asked for again. Filters of the tiers hold for the model too.
        """
        if self.sampler(tier) is None:
            return None

        async def ask(model: str) -> Completion | str:
            names = self._bounded(model)
            if not names:
                return "it is not among the models of this query"
            key = names, tier.effort
            if key not in self._known and key not in self._failed:
                if self.left_s <= 0:
                    return "the deadline has passed"
                await self._ask(tier, names)
            if key in self._known:
                return self._known[key]
            error = self._failed[key]
            if isinstance(error, ContentFilterError):
                raise UncheckableError(f"a content filter rejected the query: {error}")
            return str(error)

        return ask

    def _bounded(self, model: str) -> tuple[str, ...]:
        """Return the client of an agreement check, bounded as the tiers are."""
        names: tuple[str, ...] = (model,)
        for bound in self._cascade.bounds:
            names = bound(names)
        return names

    async def _ask(self, tier: Tier, names: tuple[str, ...]) -> None:
        try:
            self._known[names, tier.effort] = await self._complete(
                replace(tier, candidates=names), self._request_of(tier)
            )
        except DispatchError as error:
            self._failed[names, tier.effort] = error

    async def _complete(self, tier: Tier, request: Request, on_delta: OnDelta | None = None) -> Completion:
        try:
            answer = await self._client.complete(request, tier.candidates, on_delta=on_delta, **self._limits())
        except DispatchError as error:
            self.attempts += error.attempts
            raise
        self.attempts += answer.attempts
        return answer

    def _stream_of(self, tier: Tier) -> OnDelta | None:
        """Return a callback that holds a tier's pieces until they may stream.

        None if the tier is not streamed: its whole answer is checked first.
        """
        stream, is_last = self._on_delta, tier is self._cascade.tiers[-1]
        if stream is None or not (is_last or self._may_be_early(tier)):
            return None
        after, least, held = self._cascade.stream_after_tokens, tier.acceptance.least_confidence, list[Delta]()

        async def receive(delta: Delta) -> None:
            if is_last and not delta.is_answer:
                await stream(delta)  # reasoning alone is no answer: if the tier fails, a cheaper tier's may be given
                return
            held.append(delta)
            if self.has_streamed or is_last or can_stream_early(held, after, least):
                self.has_streamed = True
                pieces, held[:] = tuple(held), ()
                for piece in pieces:
                    await stream(piece)

        return receive

    def _may_be_early(self, tier: Tier) -> bool:
        after = self._cascade.stream_after_tokens
        return self._on_delta is not None and after is not None and tier.acceptance.least_confidence is not None


def _may_refuse_logprobs(error: DispatchError) -> bool:
    """Return True if the provider may have refused the log probabilities.

    Only the cascade asked for them.
    """
    if not isinstance(error, RequestError) or isinstance(error, ContentFilterError | ContextLengthError):
        return False
    return error.fault in (Fault.REQUEST, Fault.MODEL) and error.status != 413


# One run of a cascade.


@dataclass(frozen=True, slots=True)
class _Best:
    """Best answer so far; on a tie, the later tier's."""

    completion: Completion
    tier: int
    score: float


class CascadeRun:
    """One run of a cascade, see :meth:`Cascade.run`."""

    def __init__(self, cascade: Cascade, text: str, calls: Calls) -> None:
        self._cascade = cascade
        self._text = text
        self._calls = calls
        self._started = time.monotonic()
        self._results: list[TierResult] = []
        self._best: _Best | None = None
        self._error: DispatchError | None = None

    async def answer(self) -> Completion:
        """Call tier after tier until an answer is accepted or streamed."""
        for tier in self._cascade.tiers:
            request, estimate = await self._calls.prepare(tier)
            reason = self._skipped(tier, estimate)
            if reason is not None:
                why = f"left out: {reason}"
                result = TierResult(tier.position, tier.name, None, (), (), False, why, 0.0, tier.effort)
                self._results.append(result)
                continue
            try:
                await self._try(tier, request)
            except DispatchError as error:
                self._error = error
                if self._calls.has_streamed:
                    raise self._failure() from None
            if self._is_settled():
                break
        completion = self._completion()
        await self._calls.stream_whole(completion)
        return completion

    def _is_settled(self) -> bool:
        fails_everywhere = self._error is not None and _fails_everywhere(self._error)
        return self._results[-1].accepted or self._calls.has_streamed or fails_everywhere

    def _skipped(self, tier: Tier, estimate: CallEstimate) -> str | None:
        """Return the reason to skip a tier, or None to call it.

        The last tier is called if no tier has answered: its error is more specific than ours.
        """
        most = self._cascade.max_usd
        if most is not None and estimate.closed is None:
            if estimate.usd is None:
                return f"its price is not known, and cascade.max_usd is {most:g}: add price"
            expected = self._calls.spent_usd + estimate.usd
            if expected > most:
                return f"{expected:.6f} USD would be spent, above cascade.max_usd of {most:g}"
        left_s = self._calls.left_s
        if self._best is None and tier is self._cascade.tiers[-1]:
            return None
        if left_s <= 0:
            return "the deadline has passed"
        if estimate.closed is not None:
            return estimate.closed
        if estimate.expected_s is not None and estimate.expected_s > left_s:
            return f"it takes {estimate.expected_s:.1f} s, and {left_s:.1f} s are left"
        return self._not_worth_it(tier, estimate)

    def _not_worth_it(self, tier: Tier, estimate: CallEstimate) -> str | None:
        """Return a reason if a tier's quality gain is not worth its price."""
        value = self._cascade.value_per_quality
        if value is None or self._best is None or tier.quality is None or estimate.usd is None:
            return None
        gain = max(0.0, tier.quality - self._best.score)
        if gain * value >= estimate.usd:
            return None
        return f"{gain:.2f} of quality more is worth {gain * value:.6f} USD, and costs {estimate.usd:.6f}"

    async def _try(self, tier: Tier, request: Request) -> None:
        """Call a tier and check its answer."""
        started, before = time.monotonic(), len(self._calls.attempts)
        answer: Completion | None = None
        checks: tuple[CheckResult, ...] = ()
        reason = "given up: the query was cancelled"
        outer = current_tier.set(tier.position)
        try:
            answer = await self._calls.answer(tier, request)
            sampler, asker = self._calls.sampler(tier), self._calls.asker(tier)
            checks = await tier.acceptance.judge(CheckInput(self._text, request, answer, sampler, asker))
            reason = f"{'accepted' if _passed(checks) else 'rejected'}: {said(checks)}"
            self._keep(answer, tier, checks)
        except DispatchError as error:
            reason = f"failed: {error}"
            raise
        finally:
            current_tier.reset(outer)
            spent_ms = (time.monotonic() - started) * 1000
            attempts = tuple(self._calls.attempts[before:])
            accepted = answer is not None and _passed(checks)
            self._results.append(
                TierResult(tier.position, tier.name, answer, attempts, checks, accepted, reason, spent_ms, tier.effort)
            )

    def _keep(self, answer: Completion, tier: Tier, checks: tuple[CheckResult, ...]) -> None:
        good = score(checks)
        is_chosen = _passed(checks) or self._calls.has_streamed
        if is_chosen or self._best is None or good >= self._best.score:
            self._best = _Best(answer, tier.position, good)

    def _completion(self) -> Completion:
        """Return the accepted answer, or the best of the rejected ones.

        Raises:
            DispatchError: there is no answer.
        """
        if self._best is None:
            raise self._failure()
        return replace(
            self._best.completion,
            attempts=tuple(self._calls.attempts),
            tiers=tuple(self._results),
            tier=self._best.tier,
            latency_ms=(time.monotonic() - self._started) * 1000,
        )

    def _failure(self) -> DispatchError:
        error = self._error
        if error is None:
            reasons = "; ".join(f"{result.label}: {result.reason}" for result in self._results) or "it has no tiers"
            kind = DeadlineError if self._calls.left_s <= 0 else NoDeploymentError
            error = kind(f"no tier of the cascade was called ({reasons})")
        error.attempts = tuple(self._calls.attempts)
        return error


def _fails_everywhere(error: DispatchError) -> bool:
    """Return True if the next tier would fail as well.

    This holds for an error before any call and for a content filter: another model may accept what one provider calls a
    bad request, but filtered content is not forwarded to another provider.
    """
    return error.is_final and (error.status is None or isinstance(error, ContentFilterError))


def _passed(checks: tuple[CheckResult, ...]) -> bool:
    return all(check.accepted for check in checks)
