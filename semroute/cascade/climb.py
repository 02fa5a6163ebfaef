"""One query on its way up a ladder."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from semroute.cascade.acceptance import said, score
from semroute.cascade.calls import Calls
from semroute.cascade.check import CheckInput
from semroute.cascade.ladder import Cascade, Tier
from semroute.errors import ContentFilterError, DeadlineError, DispatchError, NoDeploymentError
from semroute.types import CallEstimate, CheckResult, Completion, Delta, Request, TierResult


@dataclass(frozen=True, slots=True)
class _Best:
    """The best answer so far: of two that are equally good, the later tier's."""

    completion: Completion
    tier: int
    score: float


class CascadeRun:
    """See :meth:`semroute.cascade.Cascade.climb`; made for one query."""

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
        """Tier after tier, until an answer is accepted or given out."""
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
        """Why a tier is not called. The last one is, where nothing has answered: its error says more than we can."""
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
        """Whether the quality that a tier is expected to add is worth less than its price."""
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
        """The accepted answer, or the best of those that were rejected.

        Raises:
            DispatchError: there is none.
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
    """True if the next tier would fail as well: a request that no provider was asked with, or a filter's refusal.

    What one provider calls a bad request, another model may take; a filter's refusal is not carried from one provider
    to the next.
    """
    return error.is_final and (error.status is None or isinstance(error, ContentFilterError))


def _passed(checks: tuple[CheckResult, ...]) -> bool:
    return all(check.accepted for check in checks)
