"""Blind comparison of a trial's answers on live traffic, on a budget.

After a request was answered, the policy that was not followed answers it as well, and a judge compares the two without
their names. It is asked in both orders, since judges prefer an answer for its place (Zheng et al., "Judging
LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023, 3.3): a preference that changes with the order is a tie.
That costs a second short call, unless the first one is a tie already; one order alone would count the judge's habit as
wins and losses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from semroute import forks
from semroute._sync import run_on
from semroute.config import Config
from semroute.dispatch.constraints import Constraints
from semroute.errors import SemrouteError, unquoted
from semroute.router.complete import CANCELLED, DIRECT
from semroute.router.experiment import is_by_trial
from semroute.router.query import judging_caller
from semroute.text.conversation import message_field, parts_of, text_of
from semroute.text.normalise import hash_fraction
from semroute.types import (
    TRIAL,
    Attempt,
    ComparisonResult,
    Completion,
    Decision,
    LoggedComparison,
    ModelClient,
    OutcomeSink,
    Request,
    total_cost,
)

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher
    from semroute.router.complete import Answering
    from semroute.router.experiment import Experiment

AT_ONCE = 4
"""Comparisons of a process at once; a request beyond them is not compared."""
FINISH_S = 3.0
"""Longest wait at the end for comparisons under way; then they are cancelled, and what they cost is written."""

CLOSE_S = 5.0
"""Longest wait for another thread's event loop to end its comparisons, seconds."""

log = logging.getLogger("semroute")


@runtime_checkable
class ComparisonLog(Protocol):
    """Log that keeps comparisons, and so what their budget has spent."""

    def reserve_comparison(self, comparison: LoggedComparison, max_usd: float) -> bool:
        """Write a comparison with its estimated cost, if the budget allows it."""
        ...

    def settle_comparison(self, comparison: LoggedComparison) -> None:
        """Write how it ended."""
        ...


class NoResultError(SemrouteError):
    """Comparison without a result, whose kind is its only argument."""


@dataclass(slots=True)
class _Case:
    """One answered request, and the decision that was not followed.

    Attributes:
        request: the request.
        limits: its limits, which hold for the other answer and the judge as well.
        completion: the answer that the caller got.
        other: decision of the policy that was not followed.
        by_trial: whether the policy on trial was followed.
        answering: answers the other decision.
        dispatcher: makes the calls.
        comparison: as it was reserved.
        attempts: every call that is made for it.
    """

    request: Request
    limits: Constraints
    completion: Completion
    other: Decision
    by_trial: bool
    answering: Answering
    dispatcher: Dispatcher
    comparison: LoggedComparison
    attempts: list[Attempt] = field(default_factory=list)


class BlindComparer:
    """Comparer of the answers of both policies of a trial.

    Safe to share between threads and event loops; a comparison runs on the loop of its request.

    Args:
        config: deployments, and the section ``trial`` with judge and budget.
        log: keeps comparisons.
    """

    def __init__(self, config: Config, log: ComparisonLog) -> None:
        self._config, self._log, self._trial = config, log, config.trial
        specs = [config.models.get(name) for name in config.members(config.trial.judge or "")]
        abilities = [() if one is None else one.capabilities or () for one in specs]
        self._as_json = all("json_schema" in known for known in abilities)
        self._tasks: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}
        self._is_closing = self._has_warned = False
        forks.in_child(self, BlindComparer._after_fork)

    @classmethod
    def of(cls, config: Config, log: OutcomeSink | None) -> BlindComparer | None:
        """Return the configured comparer.

        None without one, or without a log that keeps it.
        """
        trial = config.trial
        if trial.policy is None or trial.judge is None or trial.max_usd is None or not isinstance(log, ComparisonLog):
            return None
        return cls(config, log)

    @property
    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Event loops with comparisons under way."""
        return list(dict.fromkeys(self._tasks.copy().values()))

    def offer(
        self,
        request: Request,
        limits: Constraints,
        completion: Completion,
        serving: Answering,
        trial: Experiment | None,
        dispatcher: Dispatcher,
    ) -> None:
        """Compare an answered request in the background, if it is to be.

        It returns at once and never raises.

        Args:
            request: the request.
            limits: its limits.
            completion: its answer, with decision and outcome id.
            serving: answers decisions of the serving policy.
            trial: the policy on trial; None compares nothing.
            dispatcher: makes the calls.
        """
        try:
            if trial is None or self._is_closing or len(self._tasks) >= AT_ONCE:
                return
            by_trial = completion.decision is not None and is_by_trial(completion.decision)
            answering = serving if by_trial else trial.answering
            case = self._case(request, limits, completion, answering, dispatcher)
            if case is not None:
                loop = asyncio.get_running_loop()
                task = loop.create_task(self._compare(case))
                self._tasks[task] = loop
                task.add_done_callback(lambda done: self._tasks.pop(done, None))
        except Exception as error:  # the request has its answer: nothing of this may fail it
            log.warning("a request was not compared: %s", _kind(error))

    def _case(
        self,
        request: Request,
        limits: Constraints,
        completion: Completion,
        answering: Answering,
        dispatcher: Dispatcher,
    ) -> _Case | None:
        decision, outcome = completion.decision, completion.outcome_id
        found = () if decision is None else (one for one in decision.opinions if one.strategy == TRIAL)
        opinion = next(iter(found), None)
        if decision is None or outcome is None or opinion is None or opinion.other is None or opinion.draw is None:
            return None
        other = opinion.other
        if decision.strategy in DIRECT:
            return None  # a server has chosen the model, and neither policy
        # Reversed, as the beginning of an id is the time, and hashed apart from the order of the answers.
        if limits.is_pinned or not _has_text(completion) or hash_fraction(outcome[::-1]) >= self._trial.compare:
            return None
        other = answering.with_tiers(other, limits)
        tiers = other.cascade
        if not tiers and self._config.members(other.model) == (completion.model,):
            return None  # it would have been the same model
        if tiers == decision.cascade and other.candidates == decision.candidates:
            return None
        by_trial = is_by_trial(decision)
        serving, trying = (other.model, completion.model) if by_trial else (completion.model, other.model)
        policy, judge = opinion.draw.policy, self._trial.judge or ""
        comparison = LoggedComparison(token_hex(16), datetime.now(UTC), policy, outcome, serving, trying, judge, 0.0)
        limits = replace(limits, deadline_s=None)
        return _Case(request, limits, completion, other, by_trial, answering, dispatcher, comparison)

    async def _compare(self, case: _Case) -> None:
        """Compare within the budget, and log the end.

        It never raises but when cancelled.
        """
        try:
            estimate = await self._estimate(case)
            if estimate is None:
                return
            case.comparison = replace(case.comparison, cost_usd=estimate)
            if not await asyncio.to_thread(
                self._log.reserve_comparison, case.comparison, cast(float, self._trial.max_usd)
            ):
                return
        except NoResultError:
            return  # this was logged, once
        except Exception as error:
            log.warning("a request was not compared: %s", _kind(error))
            return
        result: ComparisonResult | None = None
        kind: str | None = CANCELLED
        try:
            result, kind = await self._result(case), None
        except NoResultError as error:
            kind = str(error)
        except Exception as error:
            kind = type(error).__name__
        finally:
            cost = total_cost(case.attempts)
            usd = 0.0 if cost is None else cost.usd
            await self._settle(replace(case.comparison, result=result, error_kind=kind, cost_usd=usd))

    async def _settle(self, comparison: LoggedComparison) -> None:
        try:
            await asyncio.to_thread(self._log.settle_comparison, comparison)
        except Exception as error:  # the estimate stays in the log
            log.warning("the cost of a comparison could not be written: %s", _kind(error))

    async def _estimate(self, case: _Case) -> float | None:
        """Return the highest expected cost of a comparison, USD.

        None if it cannot be made now.
        """
        from semroute.learn.labelling import MAX_CHARACTERS

        tiers = case.other.cascade or (case.other.candidates,)
        usd = 0.0
        for candidates in tiers:
            estimate = await case.dispatcher.estimate(case.request, candidates, case.limits)
            if estimate.closed is not None:
                return None
            usd += self._priced(estimate.usd, candidates[0])
        # The other answer is not known yet: it is taken to be as long as the judge gets to see.
        text = case.completion.text
        question = self._question(case, text, (text * (MAX_CHARACTERS // len(text) + 1))[:MAX_CHARACTERS])
        judge = await self._client(case).estimate(question, (case.comparison.judge,))
        if judge.closed is not None:
            return None
        return usd + 2 * self._priced(judge.usd, case.comparison.judge)

    def _priced(self, usd: float | None, name: str) -> float:
        """Return a price.

        Raises:
            NoResultError: it is not known, so that no budget could be kept; this is logged once.
        """
        if usd is not None:
            return usd
        if not self._has_warned:
            self._has_warned = True
            log.warning("answers of the trial are not compared: no price is known of %s; set models.NAME.price", name)
        raise NoResultError("NoPrice")

    async def _result(self, case: _Case) -> ComparisonResult:
        """Return the result of the two answers.

        Raises:
            DispatchError, NoResultError: there is none.
        """
        left = case.comparison.cost_usd
        limits = replace(case.limits, total_usd=min(left, case.limits.total_usd or left))
        other = await case.answering.answer(case.request, case.other, case.dispatcher, limits, attempts=case.attempts)
        if not _has_text(other):
            raise NoResultError("NoText")
        if case.by_trial:
            case.comparison = replace(case.comparison, serving=other.model)
            trying, serving = case.completion.text, other.text
        else:
            case.comparison = replace(case.comparison, trying=other.model)
            trying, serving = other.text, case.completion.text
        if case.comparison.serving == case.comparison.trying or trying == serving:
            return "tied"
        is_first = hash_fraction(case.comparison.outcome_id) < 0.5
        preferred = await self._prefers(case, trying, serving, trying_first=is_first)
        if preferred == "tied":
            return "tied"
        again = await self._prefers(case, trying, serving, trying_first=not is_first)
        return preferred if again == preferred else "tied"

    async def _prefers(self, case: _Case, trying: str, serving: str, *, trying_first: bool) -> ComparisonResult:
        """Ask the judge once.

        Raises:
            DispatchError: it did not answer.
            NoResultError: its answer is no preference.
        """
        from semroute.learn.labelling import read_preference

        first, second = (trying, serving) if trying_first else (serving, trying)
        reply = await self._client(case).complete(self._question(case, first, second), (case.comparison.judge,))
        found = read_preference(reply.text)
        if found is None:
            raise NoResultError("UnreadablePreference")
        if found == "tie":
            return "tied"
        return "won" if (found == "A") is trying_first else "lost"

    def _question(self, case: _Case, first: str, second: str) -> Request:
        from semroute.learn.labelling import comparing_request

        return comparing_request(conversation(case.request), first, second, as_json=self._as_json)

    def _client(self, case: _Case) -> ModelClient:
        return judging_caller(case.dispatcher, case.limits, case.attempts)

    async def finish(self) -> None:
        """Let the running loop's comparisons end, and cancel late ones.

        No further ones are taken.
        """
        self._is_closing = True
        loop = asyncio.get_running_loop()
        tasks = {task for task, its in self._tasks.copy().items() if its is loop}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=FINISH_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def finish_everywhere(self) -> None:
        """Let the comparisons end on every loop, as :meth:`finish` does on one."""
        for loop in self.loops:
            try:
                run_on(loop, self.finish(), CLOSE_S)
            except TimeoutError:
                log.warning("an event loop did not end its comparisons within %g s", CLOSE_S)

    def _after_fork(self) -> None:
        """Leave the comparisons under way to the parent."""
        forks.leave_behind(self._tasks)
        self._tasks = {}


def conversation(request: Request) -> str:
    """Return a request's texts for a judge.

    One message is as it is, several have their roles.
    """
    texts = [(str(message_field(one, "role")), _text(one)) for one in request.messages]
    if len(texts) == 1:
        return texts[0][1]
    return "\n\n".join(f"{role}: {text}" for role, text in texts if text)


def _text(message: Mapping[str, Any]) -> str:
    return "\n".join(filter(None, map(text_of, parts_of(message))))


def _has_text(completion: Completion) -> bool:
    """Return True for text alone: calls of tools are not compared."""
    return bool(completion.text.strip()) and not completion.tool_calls


def _kind(error: Exception) -> str:
    return unquoted(error) if isinstance(error, SemrouteError) else type(error).__name__
