"""Cascade of tiers: acceptance checks, calls with their cost, escalation."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

from semroute.cascade.checks import Check, CheckInput, Sampler, UncheckableError, can_stream_early, unforeseen
from semroute.config.cascade import Accept, CascadeConfig, Unmeasured
from semroute.errors import (
    ArtifactError,
    CapabilityError,
    ConfigError,
    ContentFilterError,
    ContextLengthError,
    DeadlineError,
    DispatchError,
    Fault,
    NoDeploymentError,
    RequestError,
)
from semroute.types import (
    AnswerScorer,
    Attempt,
    CallEstimate,
    CheckResult,
    Completion,
    Delta,
    ModelClient,
    Request,
    TierResult,
    total_cost,
)

# Acceptance: the configured checks of an answer, and the aggregation of their results.

ScorerOf: TypeAlias = Callable[[Path], AnswerScorer]
"""Function that reads the quality classifier in a folder."""

USUAL_AGREEMENT = 0.7
"""Default agreement threshold of the consistency check that replaces missing log probabilities."""


class Acceptance:
    """Checks of an answer in order: free ones first, none after a rejection.

    Attributes:
        wants_logprobs: True if a check needs log probabilities.
        least_confidence: confidence threshold; None if there is none.
    """

    def __init__(self, checks: Sequence[Check], least_confidence: float | None = None) -> None:
        self._checks = tuple(checks)
        self.least_confidence = least_confidence
        self.wants_logprobs = any(check.wants_logprobs for check in checks)

    async def judge(self, answered: CheckInput) -> tuple[CheckResult, ...]:
        """Return the check results up to the first rejection.

        A check that fails is skipped, whatever it raises: the answer is paid for, and other checks and tiers remain.
        """
        verdicts: list[CheckResult] = []
        for check in self._checks:
            verdicts.append(await _verdict(check, answered))
            if not verdicts[-1].accepted:
                break
        return tuple(verdicts)


async def _verdict(check: Check, answered: CheckInput) -> CheckResult:
    from asyncio import CancelledError

    try:
        return await check.judge(answered)
    except UncheckableError as error:
        reason = f"it cannot be checked ({error})"
    except (CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    # Not only Exception: a panic of an extension written in Rust is a BaseException.
    except BaseException as error:
        reason = f"it cannot be checked ({unforeseen(error)})"
    return CheckResult(check.name, True, reason, skipped=True)


def no_scorer(folder: Path) -> AnswerScorer:
    """Fail to read a classifier: default for a cascade without one."""
    raise ConfigError(f"nothing here reads the classifier {folder}", key="cascade.accept.quality")


def acceptance_of(accept: Accept, scorer_of: ScorerOf = no_scorer) -> Acceptance:
    """Return the checks configured by a section ``accept``.

    Args:
        accept: the section.
        scorer_of: function that reads the classifier in a folder.

    Raises:
        MissingExtraError: one of them needs an extra that is not installed.
        ArtifactError: a classifier cannot be read.
        PluginError: the check of a plugin cannot be made.
    """
    # Imported only for a cascade with tiers: most decisions need none of them.
    from semroute.cascade.checks import ConfidenceCheck, ConsistencyCheck, QualityCheck, plugin_check
    from semroute.cascade.format import FormatCheck

    checks: list[Check] = []
    if accept.format is not None:
        checks.append(FormatCheck(accept.format))
    quality = None
    if accept.quality is not None:
        try:
            scorer = scorer_of(accept.quality.classifier)
        except ArtifactError as error:
            raise ArtifactError(f"cascade.accept.quality: {error}") from error
        quality = QualityCheck(scorer, accept.quality.threshold)
        if not accept.asks_quality_instead:
            checks.append(quality)
    agreement = USUAL_AGREEMENT if accept.consistency is None else accept.consistency
    consistency = ConsistencyCheck(agreement, accept.sample_temperature)
    if accept.confidence is not None:
        checks.append(ConfidenceCheck(accept.confidence, _instead(accept.without_logprobs, consistency, quality)))
    checks += [plugin_check(section.plugin, section.options) for section in accept.plugin_checks]
    if accept.consistency is not None:  # last, since it costs a call
        checks.append(consistency)
    return Acceptance(checks, accept.confidence)


def _instead(named: Unmeasured, consistency: Check, quality: Check | None) -> Check | Literal["accept", "escalate"]:
    if named == "consistency":
        return consistency
    if named == "quality":
        assert quality is not None  # the configuration has been checked
        return quality
    return named


def score(checks: Sequence[CheckResult]) -> float:
    """Return the least check score, 0 to 1.

    A result without score counts 0 or 1.

    Checks look for different faults, so the worst one decides. Skipped checks are ignored.
    """
    made = [check for check in checks if not check.skipped]
    return min((float(check.accepted) if check.score is None else check.score for check in made), default=1.0)


def said(checks: Sequence[CheckResult]) -> str:
    """Format the check results: reason of rejection, or checks passed."""
    if not checks:
        return "nothing is checked"
    rejected = [check.reason for check in checks if not check.accepted]
    return "; ".join(rejected) if rejected else "; ".join(check.reason for check in checks)


# Tiers of a cascade, made once from the configuration.

ModelsOf: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
Kept: TypeAlias = Callable[[Sequence[str], Sequence[str]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Tier:
    """Tier of a cascade.

    Attributes:
        tier: position in the configuration; 0 is the cheapest.
        candidates: models and groups that it calls, in order.
        acceptance: checks of its answers.
        quality: share of queries that it answers well, if known.
    """

    tier: int
    candidates: tuple[str, ...]
    acceptance: Acceptance
    quality: float | None = None

    @property
    def name(self) -> str:
        """Display name: the models and groups it calls."""
        return ", ".join(self.candidates)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Tiers from the cheapest up, with the rules of escalation.

    Safe to share between requests.

    Attributes:
        rungs: the tiers.
        stream_after_tokens, value_per_quality, max_usd: see :class:`semroute.config.cascade.Cascade`.
        refusing: names of tiers that refused log probabilities; these are not requested there again.
    """

    rungs: tuple[Tier, ...]
    stream_after_tokens: int | None = None
    value_per_quality: float | None = None
    max_usd: float | None = None
    refusing: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, cascade: CascadeConfig, scorer_of: ScorerOf = no_scorer) -> Cascade:
        """Return the cascade of a section ``cascade``.

        ``scorer_of`` reads the classifier in a folder.

        Raises:
            MissingExtraError: a check needs an extra that is not installed.
            ArtifactError: a classifier cannot be read.
        """
        accepts = [cascade.accept if tier.accept is None else tier.accept for tier in cascade.tiers]
        rungs = (
            Tier(position, (tier.use,), acceptance_of(accept, scorer_of), tier.quality)
            for position, (tier, accept) in enumerate(zip(cascade.tiers, accepts, strict=True))
        )
        return cls(tuple(rungs), cascade.stream_after_tokens, cascade.value_per_quality, cascade.max_usd)

    def within(self, allowed: Sequence[str], kept: Kept) -> Cascade:
        """Return the cascade of the allowed models, without empty tiers.

        Args:
            allowed: models and groups.
            kept: function that filters names by the allowed ones.
        """
        rungs = (replace(rung, candidates=kept(rung.candidates, allowed)) for rung in self.rungs)
        return replace(self, rungs=tuple(rung for rung in rungs if rung.candidates))

    def starting_at(self, model: str, models: ModelsOf) -> Cascade:
        """Return the cascade from the first tier that calls ``model``.

        It is empty if no tier does.

        Args:
            model: name of a model or group.
            models: function that resolves names of models and groups to models.
        """
        places = (place for place, rung in enumerate(self.rungs) if model in models(rung.candidates))
        return replace(self, rungs=self.rungs[next(places, len(self.rungs)) :])

    def climb(
        self,
        text: str,
        request: Request,
        caller: ModelClient,
        *,
        deadline_s: float,
        streaming: bool = False,
        spent_usd: float = 0.0,
    ) -> AsyncGenerator[Delta | Completion]:
        """Run the cascade: yield chunks if ``streaming``, and last the completion.

        The completion has every attempt of every tier, the tier results, and the position of the tier that gave the
        answer: the accepted one, else the best. There is no escalation after the first chunk was yielded.

        Args:
            text: the routed text.
            request: the request to send.
            caller: client that calls the models.
            deadline_s: longest time for all tiers together, seconds.
            streaming: True to yield chunks.
            spent_usd: cost of the query so far, USD; counts towards ``max_usd``.

        Raises:
            NoDeploymentError: no tier may be called; the message gives the reason for each.
            DispatchError: no tier answered: the last tier's error, with the attempts of all.
        """
        calls = Calls(self, request, caller, deadline_s, streaming, spent_usd)
        return CascadeRun(self, text, request, calls, streaming=streaming).events()


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
        is_given_out: True once a chunk of an answer was yielded: no other tier may be called then.
    """

    def __init__(
        self,
        ladder: Cascade,
        request: Request,
        caller: ModelClient,
        deadline_s: float,
        streaming: bool,
        spent_usd: float = 0.0,
    ) -> None:
        self.attempts: list[Attempt] = []
        self.is_given_out = False
        self._ladder = ladder
        self._request = request
        self._caller = caller
        self._deadline = time.monotonic() + deadline_s
        self._streaming = streaming
        self._reserved = 0.0
        self._before_usd = spent_usd

    @property
    def spent_usd(self) -> float:
        """Cost of the query so far, including the routing decision, USD."""
        spent = total_cost(self.attempts)
        return self._before_usd + (0.0 if spent is None else spent.usd)

    @property
    def _left_usd(self) -> float | None:
        most = self._ladder.max_usd
        return None if most is None else most - self.spent_usd

    @property
    def left_s(self) -> float:
        """Time left for the query, seconds; negative after the deadline."""
        return self._deadline - time.monotonic()

    async def prepare(self, rung: Tier) -> tuple[Request, CallEstimate]:
        """Return a tier's request and call estimate; logprobs only if available.

        Raises:
            CapabilityError: the request asks for several answers; a cascade checks and returns one.
        """
        if self._request.n not in (None, 1):
            raise CapabilityError(f"n={self._request.n}: a cascade checks and gives one answer; leave n out")
        self._reserved = RESERVED if await self._can_climb(rung) else 0.0
        wants = rung.acceptance.wants_logprobs or self._may_be_early(rung)
        if wants and not self._request.logprobs and rung.name not in self._ladder.refusing:
            asked = replace(self._request, logprobs=True)
            outlook = await self._caller.outlook(asked, rung.candidates)
            if outlook.closed is None:
                return asked, outlook
        return self._request, await self._caller.outlook(self._request, rung.candidates)

    async def _can_climb(self, rung: Tier) -> bool:
        """Return True if a later tier can be called now."""
        for later in self._ladder.rungs:
            if later.tier > rung.tier:
                outlook = await self._caller.outlook(self._request, later.candidates)
                if outlook.closed is None:
                    return True
        return False

    def _limits(self) -> _Limits:
        left_s = max(self.left_s, LEAST_S)
        return {"deadline_s": left_s, "reserve_s": self._reserved * left_s, "total_usd": self._left_usd}

    async def answer(self, rung: Tier, request: Request) -> AsyncGenerator[Delta | Completion]:
        """Yield the tier's answer last, after the chunks of one streamed early.

        If the provider refuses log probabilities, the call is repeated without, and they are not requested again.

        Raises:
            DispatchError: no endpoint of the tier answered.
        """
        is_our_wish = request.logprobs and not self._request.logprobs
        try:
            async with aclosing(self._call(rung, request)) as events:
                async for event in events:
                    yield event
            return
        except DispatchError as error:
            if not (is_our_wish and _may_mean_the_wish(error)) or self.is_given_out:
                raise
        async with aclosing(self._call(rung, self._request)) as events:
            async for event in events:
                yield event
        # Only now is it certain that nothing else was wrong with the request.
        self._ladder.refusing.add(rung.name)

    def sampler(self, rung: Tier) -> Sampler | None:
        """Return a sampler of further answers.

        None if a rejection would have no effect.
        """
        if self.is_given_out or rung is self._ladder.rungs[-1]:
            return None

        async def sample(temperature: float) -> Completion | str:
            if self.left_s <= 0:
                return "the deadline has passed"
            try:
                droppable = self._request.droppable | {"temperature"}  # models without one vary by themselves
                asked = replace(self._request, temperature=temperature, droppable=droppable)
                return await self._complete(rung, asked)
            except DispatchError as error:
                return str(error)

        return sample

    async def _call(self, rung: Tier, request: Request) -> AsyncGenerator[Delta | Completion]:
        passes = self._streaming and rung is self._ladder.rungs[-1]
        if not passes and not self._may_be_early(rung):
            yield await self._complete(rung, request)
            return
        events = self._caller.stream(request, rung.candidates, **self._limits())
        try:
            async with aclosing(events):
                async for event in self._let_out(rung, events, at_once=passes):
                    yield event
        except DispatchError as error:
            self.attempts += error.attempts
            raise

    async def _complete(self, rung: Tier, request: Request) -> Completion:
        try:
            answer = await self._caller.complete(request, rung.candidates, **self._limits())
        except DispatchError as error:
            self.attempts += error.attempts
            raise
        self.attempts += answer.attempts
        return answer

    async def _let_out(
        self, rung: Tier, events: AsyncIterator[Delta | Completion], *, at_once: bool
    ) -> AsyncGenerator[Delta | Completion]:
        """Hold chunks until they may stream early or the answer is complete."""
        held: list[Delta] = []
        async for event in events:
            if isinstance(event, Completion):
                self.attempts += event.attempts
                yield event
            elif self.is_given_out:
                yield event
            else:
                held.append(event)
                if at_once or can_stream_early(
                    held, self._ladder.stream_after_tokens, rung.acceptance.least_confidence
                ):
                    self.is_given_out = True
                    for piece in held:
                        yield piece

    def _may_be_early(self, rung: Tier) -> bool:
        after = self._ladder.stream_after_tokens
        return self._streaming and after is not None and rung.acceptance.least_confidence is not None


def _may_mean_the_wish(error: DispatchError) -> bool:
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
    """One run of a cascade, see :meth:`semroute.cascade.Cascade.climb`."""

    def __init__(self, ladder: Cascade, text: str, request: Request, calls: Calls, *, streaming: bool) -> None:
        self._ladder = ladder
        self._text = text
        self._request = request
        self._calls = calls
        self._streaming = streaming
        self._started = time.monotonic()
        self._trials: list[TierResult] = []
        self._best: _Best | None = None
        self._error: DispatchError | None = None

    async def events(self) -> AsyncGenerator[Delta | Completion]:
        """Call tier after tier until an answer is accepted or streamed."""
        for rung in self._ladder.rungs:
            request, outlook = await self._calls.prepare(rung)
            reason = self._left_out(rung, outlook)
            if reason is not None:
                self._trials.append(TierResult(rung.tier, rung.name, None, (), (), False, f"left out: {reason}", 0.0))
                continue
            try:
                async with aclosing(self._try(rung, request)) as pieces:
                    async for piece in pieces:
                        yield piece
            except DispatchError as error:
                self._error = error
                if self._calls.is_given_out:
                    raise self._failure() from None
            if self._is_settled():
                break
        completion = self._completion()
        if self._streaming and not self._calls.is_given_out and completion.text:
            yield Delta(completion.text)
        yield completion

    def _is_settled(self) -> bool:
        fails_everywhere = self._error is not None and _fails_everywhere(self._error)
        return self._trials[-1].accepted or self._calls.is_given_out or fails_everywhere

    def _left_out(self, rung: Tier, outlook: CallEstimate) -> str | None:
        """Return the reason to skip a tier, or None to call it.

        The last tier is called if no tier has answered: its error is more specific than ours.
        """
        most = self._ladder.max_usd
        if most is not None and outlook.closed is None:
            if outlook.usd is None:
                return f"its price is not known, and cascade.max_usd is {most:g}: add price"
            expected = self._calls.spent_usd + outlook.usd
            if expected > most:
                return f"{expected:.6f} USD would be spent, above cascade.max_usd of {most:g}"
        left_s = self._calls.left_s
        if self._best is None and rung is self._ladder.rungs[-1]:
            return None
        if left_s <= 0:
            return "the deadline has passed"
        if outlook.closed is not None:
            return outlook.closed
        if outlook.expected_s is not None and outlook.expected_s > left_s:
            return f"it takes {outlook.expected_s:.1f} s, and {left_s:.1f} s are left"
        return self._not_worth_it(rung, outlook)

    def _not_worth_it(self, rung: Tier, outlook: CallEstimate) -> str | None:
        """Return a reason if a tier's quality gain is not worth its price."""
        value = self._ladder.value_per_quality
        if value is None or self._best is None or rung.quality is None or outlook.usd is None:
            return None
        gain = max(0.0, rung.quality - self._best.score)
        if gain * value >= outlook.usd:
            return None
        return f"{gain:.2f} of quality more is worth {gain * value:.6f} USD, and costs {outlook.usd:.6f}"

    async def _try(self, rung: Tier, request: Request) -> AsyncGenerator[Delta]:
        """Call a tier and check its answer."""
        started, before = time.monotonic(), len(self._calls.attempts)
        answer: Completion | None = None
        checks: tuple[CheckResult, ...] = ()
        reason = "given up: the query was cancelled"
        try:
            async with aclosing(self._calls.answer(rung, request)) as events:
                async for event in events:
                    if isinstance(event, Completion):
                        answer = event
                    else:
                        yield event
            assert answer is not None  # a tier ends with a completion or raises
            checks = await rung.acceptance.judge(CheckInput(self._text, request, answer, self._calls.sampler(rung)))
            reason = f"{'accepted' if _passed(checks) else 'rejected'}: {said(checks)}"
            self._keep(answer, rung, checks)
        except DispatchError as error:
            reason = f"failed: {error}"
            raise
        finally:
            spent_ms = (time.monotonic() - started) * 1000
            attempts = tuple(self._calls.attempts[before:])
            accepted = answer is not None and _passed(checks)
            self._trials.append(TierResult(rung.tier, rung.name, answer, attempts, checks, accepted, reason, spent_ms))

    def _keep(self, answer: Completion, rung: Tier, checks: tuple[CheckResult, ...]) -> None:
        good = score(checks)
        is_chosen = _passed(checks) or self._calls.is_given_out
        if is_chosen or self._best is None or good >= self._best.score:
            self._best = _Best(answer, rung.tier, good)

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
            tiers=tuple(self._trials),
            tier=self._best.tier,
            latency_ms=(time.monotonic() - self._started) * 1000,
        )

    def _failure(self) -> DispatchError:
        error = self._error
        if error is None:
            reasons = "; ".join(f"{trial.candidate}: {trial.reason}" for trial in self._trials) or "it has no tiers"
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
