"""The strategy that asks a small model which of the candidates should answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from semroute import forks
from semroute.config import Config
from semroute.errors import DispatchError
from semroute.eventloop import stall_meter, timeout
from semroute.strategies.judge.prompt import Question, question
from semroute.strategies.judge.recall import Recall, SharedCalls
from semroute.strategies.pool import Pool
from semroute.strategies.strategy import RoutingContext
from semroute.types import Attempt, CallResult, Completion, ModelClient, StrategyResult

GRACE_S = 0.5
"""Beyond its time limit, for a caller to end a call by itself and tell what it cost, seconds."""
WAITED = 0.9
"""Share of its time limit after which a judge that has not answered has failed; what ended earlier was cut short by the
request, or is the matter of the deployment's own breaker."""


class CallBreaker(Protocol):
    """A circuit breaker, such as :class:`semroute.resilience.breaker.Breaker`."""

    def enter(self, now: float) -> Any:
        """Let a call through and return its ticket; None where none may be made."""
        ...

    def leave(self, ticket: Any, ending: CallResult, now: float) -> None:
        """Take a call's ending."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of asking.

    Attributes:
        choice: the candidate; None where there was no usable answer.
        reason: one sentence for a person.
        attempts: the calls.
        is_final: whether the same question would most likely get the same; what only failed may work the next time.
    """

    choice: str | None
    reason: str
    attempts: tuple[Attempt, ...] = ()
    is_final: bool = False


class JudgeStrategy:
    """Asks a model once for each query that is new; whatever goes wrong, the query goes where it would go without.

    A malformed answer is not asked for again: at temperature 0 it would come again, and take the time of the query.
    Safe to share between threads and event loops.

    Args:
        config: its section ``judge`` must name a model.
        pool: what the names of models and groups stand for.
        candidates: what it chooses from, unless strategies before it have left something else.
        about: a description of everything that may be offered: what ``pool`` names, and its groups' members.
        breaker: opens when the judge does not answer within its time again and again: a deployment that is healthy for
            answers may be too slow for judgements. None asks it for ever.
        clock: monotonic time, seconds, for the age of remembered answers.

    Raises:
        ValueError: no model is named.
    """

    name = "judge"

    def __init__(
        self,
        config: Config,
        pool: Pool,
        candidates: Sequence[str],
        about: Mapping[str, str],
        *,
        breaker: CallBreaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if config.judge.model is None:
            raise ValueError("judge.model names no model")
        self._judge = config.judge
        self._model = config.judge.model
        self._pool = pool
        self._candidates = tuple(candidates)
        self._about = about
        self._as_json = _answers_in_json(self._model, config)
        self._recall: Recall[Judgement] = Recall(config.judge.cache, config.judge.cache_ttl_s, clock)
        self._breaker = breaker
        self._breaker_lock = forks.lock()
        self._clock = clock
        self._calls: SharedCalls[Judgement] = SharedCalls()

    async def ask(self, case: RoutingContext, caller: ModelClient) -> StrategyResult:
        """Its opinion: decided on one candidate, with where the query would go without it after that; or passed."""
        offered = self._pool.kept(self._candidates, case.left) or case.left or ()
        if len(offered) < 2:
            return StrategyResult(
                self.name, "passed", f"there is nothing to choose: only {', '.join(offered) or 'nothing'}"
            )
        asked = question(
            case.text,
            case.request,
            offered,
            self._about,
            as_json=self._as_json,
            most_chars=self._judge.max_chars,
        )
        key = asked.digest
        judgement = self._recall.get(key)
        attempts: tuple[Attempt, ...] = ()
        if judgement is None:
            judgement, is_ours = await self._calls.get(key, lambda: self._judgement(asked, key, caller))
            attempts = judgement.attempts if is_ours else ()
        if judgement.choice is None:
            return StrategyResult(self.name, "passed", judgement.reason, attempts=attempts)
        # Should the choice fail, the query goes on as it would have gone without a judge.
        others = self._pool.without(case.default, [judgement.choice])
        return StrategyResult(self.name, "decided", judgement.reason, (judgement.choice, *others), attempts=attempts)

    async def _judgement(self, asked: Question, key: bytes, caller: ModelClient) -> Judgement:
        ticket = self._enter()
        if ticket is None:
            return Judgement(None, f"{self._model} did not answer in time again and again, and is not asked for now")
        started, is_answered = self._clock(), False
        meter = stall_meter()
        meter.start()
        stalled_before = meter.seconds()
        try:
            async with timeout(self._judge.timeout_s + GRACE_S):
                judgement = await self._call(asked, caller)
            is_answered = judgement.is_final
        except DispatchError as error:
            judgement = Judgement(None, f"{self._model} did not answer: {error}", error.attempts)
        except TimeoutError:
            judgement = Judgement(None, f"{self._model} did not answer within {self._judge.timeout_s:g} s")
        finally:
            meter.stop()
            waited_s = self._clock() - started - (meter.seconds() - stalled_before)
            self._leave(ticket, waited_s, is_answered)
        if judgement.is_final:
            self._recall.put(key, judgement)
        return judgement

    def _enter(self) -> object | None:
        if self._breaker is None:
            return self
        with self._breaker_lock:
            ticket: object | None = self._breaker.enter(self._clock())
            return ticket

    def _leave(self, ticket: object, waited_s: float, is_answered: bool) -> None:
        if self._breaker is None:
            return
        is_late = waited_s >= WAITED * self._judge.timeout_s
        ending = CallResult.SUCCESS if is_answered else CallResult.FAILURE if is_late else CallResult.NEUTRAL
        with self._breaker_lock:
            self._breaker.leave(ticket, ending, self._clock())

    async def _call(self, asked: Question, caller: ModelClient) -> Judgement:
        ceiling = self._judge.max_usd
        if ceiling is not None:
            outlook = await caller.outlook(asked.request, [self._model])
            if outlook.usd is not None and outlook.usd > ceiling:
                reason = f"{self._model} may cost {outlook.usd:.6f} USD, above judge.max_usd of {ceiling:g}"
                return Judgement(None, reason)
        answer = await caller.complete(asked.request, [self._model], deadline_s=self._judge.timeout_s)
        return self._read(asked, answer)

    def _read(self, asked: Question, answer: Completion) -> Judgement:
        def nothing(reason: str) -> Judgement:
            return Judgement(None, f"{self._model} {reason}", answer.attempts, is_final=True)

        if answer.refusal is not None or answer.finish_reason in ("refusal", "content_filter"):
            return nothing("refused to judge")
        choice = asked.read(answer.text)
        if choice is None:
            return nothing("answered with something that is not the number of a candidate")
        return Judgement(choice, f"{self._model} chose {choice}", answer.attempts, is_final=True)


def _answers_in_json(name: str, config: Config) -> bool:
    """Whether every model that the name stands for is said to follow a JSON schema."""
    specs = [config.models.get(model) for model in config.members(name)]
    return all(spec is not None and "json_schema" in (spec.capabilities or ()) for spec in specs)
