"""From a decision to an answer: by the cascade of its category, or by its candidates in their order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from semroute.cascade import Cascade
from semroute.config import Config
from semroute.dispatch.constraints import ANYTHING, Constraints
from semroute.router.calling import ConstrainedClient
from semroute.strategies import Pool
from semroute.types import AnswerScorer, Attempt, Completion, Decision, Delta, Request

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher

CHOSEN = frozenset({"judge", "classifier"})
"""Strategies that choose a model and not a category: what they have chosen is called, and no tier below it; and none
above it but where ``cascade.start`` is ``decided``."""

PINNED = "pinned"
"""Named as the strategy where the caller, and no strategy, has chosen."""


class Answering:
    """Answers decided queries. Safe to share between threads.

    Args:
        config: cascades, and the deadline.
        pool: what the names of models and groups stand for.
        without_models: categories that name no models, and so have the fallback's.

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

    def answer(
        self,
        request: Request,
        decision: Decision,
        dispatcher: Dispatcher,
        limits: Constraints,
        *,
        streaming: bool,
        attempts: list[Attempt] | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """The answer, last; before it pieces, where ``streaming``.

        Args:
            request: what to ask.
            decision: where it goes.
            dispatcher: makes the calls.
            limits: the request's own.
            streaming: whether pieces are wanted.
            attempts: takes every attempt when it ends, whatever becomes of the query.

        Raises:
            DispatchError: no place could answer.
        """
        own = self._config.categories.get(decision.category or "")
        if own is not None and own.wants:
            limits = replace(limits, wants=limits.wants.union(own.wants))
        ladder = self._ladder(decision, limits)
        if ladder is None:
            return dispatched(request, decision, dispatcher, limits, streaming, attempts)
        most_s = self._config.retries.deadline_s
        deadline_s = most_s if limits.deadline_s is None else min(limits.deadline_s, most_s)
        caller = ConstrainedClient(dispatcher, limits, [] if attempts is None else attempts)
        spent_usd = 0.0 if decision.cost is None else decision.cost.usd
        return ladder.climb(
            decision.query, request, caller, deadline_s=deadline_s, streaming=streaming, spent_usd=spent_usd
        )

    def tiers(self, decision: Decision, limits: Constraints = ANYTHING) -> tuple[tuple[str, ...], ...]:
        """Return the models and groups of each tier that a decision's answer would climb; empty without a cascade."""
        ladder = self._ladder(decision, limits)
        return () if ladder is None else tuple(rung.candidates for rung in ladder.rungs)

    def _ladder(self, decision: Decision, limits: Constraints) -> Cascade | None:
        """The cascade that a decision goes through; None where there is none, or the decision needs no other model."""
        if limits.model is not None or limits.deployment is not None:
            return None
        if decision.strategy in CHOSEN:
            ladder = self._narrowed(self._from_chosen(decision.candidates[0]), decision, by=("rules", "semantic"))
        elif decision.strategy == "rules" and decision.category is None:
            return None
        elif decision.category in self._own:
            ladder = self._narrowed(self._own[decision.category], decision, by=("rules",))
        else:
            ladder = self._within_candidates(decision)
        return ladder if ladder.rungs else None

    def _within_candidates(self, decision: Decision) -> Cascade:
        """Bound the general cascade by the models of the category, or of the fallback.

        One tier alone is no cascade: then the models are called in their order, those that are no tier among them.
        """
        has_fallbacks = decision.category is None or decision.category in self.without_models
        if has_fallbacks and self._is_fallbacks(decision):
            return self._narrowed(self._general, decision, by=("rules",))
        ladder = self._general.within(decision.candidates, self._pool.kept)
        is_cascade = len(ladder.rungs) >= min(2, len(self._general.rungs))
        return ladder if is_cascade else Cascade(())

    def _is_fallbacks(self, decision: Decision) -> bool:
        """True if nothing but the fallback has the general cascade, or nobody has said what the fallback's models are.

        Every category that is reached has a cascade of its own then: so tuned policies are written.
        """
        if not self._config.fallback.is_written:
            return True
        if decision.category is not None:
            return False
        reached = {entry.category for entry in decision.categories}
        reached.update(rule.category for rule in self._config.rules if rule.category is not None)
        return reached <= self._own.keys()

    def _narrowed(self, ladder: Cascade, decision: Decision, *, by: Collection[str]) -> Cascade:
        """Bound a cascade by what strategies have left to choose from."""
        for opinion in decision.opinions:
            if opinion.strategy in by and opinion.kind == "narrowed":
                ladder = ladder.within(opinion.candidates, self._pool.kept)
        return ladder

    def _from_chosen(self, model: str) -> Cascade:
        """The tiers from the one that has been chosen on; none where that is not wanted."""
        is_wanted = self._config.cascade.start == "decided"
        return self._general.starting_at(model, self._pool.models) if is_wanted else Cascade(())


def _classifier(folder: Path) -> AnswerScorer:
    from semroute.heads.answers import read_classifier

    return read_classifier(folder)


def pinned_decision(text: str, limits: Constraints, config: Config) -> Decision:
    """The decision of a caller who pins a model or a deployment: nothing was routed."""
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


async def dispatched(
    request: Request,
    decision: Decision,
    dispatcher: Dispatcher,
    limits: Constraints,
    streaming: bool,
    attempts: list[Attempt] | None = None,
) -> AsyncGenerator[Delta | Completion]:
    """The answer by the decision's candidates in their order, without a cascade; arguments as of ``answer``.

    Raises:
        DispatchError: no place could answer.
    """
    if not streaming:
        yield await dispatcher.complete(request, decision.candidates, limits, attempts=attempts)
        return
    # Closed with this: what was charged is known only when the call has ended.
    async with aclosing(dispatcher.stream(request, decision.candidates, limits, attempts=attempts)) as events:
        async for event in events:
            yield event
