"""Chain of strategies: each selects, filters the candidates, or abstains."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from semroute.strategies.base import AskingStrategy, LocalStrategy, Pool, RoutingContext, Strategy
from semroute.text.conversation import attachment_types
from semroute.types import Decision, Matrix, ModelClient, Request, StrategyResult

TOGETHER = 16
"""Queries of a batch for which a model is called concurrently."""

FALLBACK = "fallback"
"""Strategy name of a decision that no strategy has made."""

Offload: TypeAlias = Callable[..., Awaitable[Any]]
"""Function that runs another in a thread, with its arguments, and returns its result."""


class Chain:
    """Chain that runs strategies in order until one decides.

    Safe to share between threads.

    Args:
        strategies: in the order in which they run.
        pool: resolves the names of candidates.
        fallback: models for queries on which no strategy decides.
        models: models of each category, for a strategy that only filters.
        embed: embeds texts, ``(n, d)``, for a strategy that needs vectors.

    Attributes:
        strategies: see above.
        pool: see above.
        asks: True if a strategy calls a model.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        pool: Pool,
        fallback: tuple[str, ...],
        models: Mapping[str, tuple[str, ...]],
        embed: Callable[[Sequence[str]], Matrix],
    ) -> None:
        self.strategies = tuple(strategies)
        # Asked once: a protocol's isinstance looks at every member.
        self._is_local = tuple(isinstance(strategy, LocalStrategy) for strategy in strategies)
        self.asks = not all(self._is_local)
        self.pool = pool
        self._fallback = fallback
        self._models = models
        self._embed = embed

    def decide(
        self, texts: Sequence[str], requests: Sequence[Request], client: ModelClient | None = None
    ) -> list[Decision]:
        """Decide which candidates answer each query.

        The same query and configuration give the same decision.

        Args:
            texts: the routed texts; empty ones of conversations without text, on which only rules can decide.
            requests: the whole request of each.
            client: model client for strategies that call a model, on the shared event loop; None: they abstain.
        """
        contexts = self._contexts(texts, requests)
        number = self._decide_locally(contexts)
        while number < len(self.strategies):
            strategy, undecided = cast(AskingStrategy, self.strategies[number]), self._undecided(number, contexts)
            if client is None:
                result = StrategyResult(strategy.name, "passed", "there is nothing to call a model by")
                self._store(undecided, [result] * len(undecided))
            else:
                from semroute import _sync

                self._store(undecided, _sync.run(_ask_all(strategy, undecided, client)))
            number = self._decide_locally(contexts, number + 1)
        return [self._decision(context) for context in contexts]

    async def adecide(
        self, texts: Sequence[str], requests: Sequence[Request], client: ModelClient, offload: Offload
    ) -> list[Decision]:
        """Decide as :meth:`decide` does, and call the models that strategies need.

        Args:
            texts: the routed texts.
            requests: the whole request of each.
            client: model client for strategies that call a model.
            offload: runs in a thread what computes.
        """
        contexts = self._contexts(texts, requests)
        number = await offload(self._decide_locally, contexts)
        while number < len(self.strategies):
            strategy, undecided = cast(AskingStrategy, self.strategies[number]), self._undecided(number, contexts)
            self._store(undecided, await _ask_all(strategy, undecided, client))
            number = await offload(self._decide_locally, contexts, number + 1)
        return [self._decision(context) for context in contexts]

    def _contexts(self, texts: Sequence[str], requests: Sequence[Request]) -> list[RoutingContext]:
        pairs = zip(texts, requests, strict=True)
        return [RoutingContext(text, request, self._fallback) for text, request in pairs]

    def _decide_locally(self, contexts: Sequence[RoutingContext], start: int = 0) -> int:
        """Run strategies from ``start`` on up to one that calls a model.

        Returns:
            The number of that strategy; the number of all strategies if none is left.
        """
        for number in range(start, len(self.strategies)):
            undecided = self._undecided(number, contexts)
            if not undecided:
                continue
            if not self._is_local[number]:
                return number
            self._store(undecided, self._consult(cast(LocalStrategy, self.strategies[number]), undecided))
        return len(self.strategies)

    def _undecided(self, number: int, contexts: Sequence[RoutingContext]) -> list[RoutingContext]:
        """Return the contexts on which a strategy is to decide."""
        needs_text = getattr(self.strategies[number], "needs_text", True)
        return [one for one in contexts if one.decision is None and (one.text or not needs_text)]

    def _store(self, contexts: Sequence[RoutingContext], results: Sequence[StrategyResult]) -> None:
        for context, result in zip(contexts, results, strict=True):
            self._take(context, result)

    def _consult(self, strategy: LocalStrategy, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        if strategy.needs_vectors:
            self._fill_vectors(cases)
        start = time.perf_counter()
        opinions = strategy.consult(cases)
        if opinions[0].elapsed_ms:  # it has measured its steps itself
            return opinions
        spent_ms = (time.perf_counter() - start) * 1000.0 / len(cases)
        for case in cases:
            case.steps_ms[strategy.name] = spent_ms
        return [replace(opinion, elapsed_ms=spent_ms) for opinion in opinions]

    def _fill_vectors(self, cases: Sequence[RoutingContext]) -> None:
        missing = [case for case in cases if case.vector is None]
        if not missing:
            return
        start = time.perf_counter()
        vectors = self._embed([case.text for case in missing])
        spent_ms = (time.perf_counter() - start) * 1000.0 / len(missing)
        for case, vector in zip(missing, vectors, strict=True):
            case.vector = vector
            case.steps_ms["encode"] = case.steps_ms.get("encode", 0.0) + spent_ms

    def _take(self, case: RoutingContext, opinion: StrategyResult) -> None:
        """Store a result, restricted to what earlier strategies have left."""
        bounded = opinion if opinion.kind == "passed" else self._bounded(case, opinion)
        case.opinions.append(bounded)
        if bounded.kind == "decided":
            case.decision = bounded
        elif bounded.kind == "narrowed":
            case.left = bounded.candidates
            case.category = bounded.category or case.category
            case.default = self._default(case)

    def _bounded(self, case: RoutingContext, opinion: StrategyResult) -> StrategyResult:
        kept = self.pool.kept(opinion.candidates, case.left)
        if kept == opinion.candidates and kept:
            return opinion
        if kept:
            reason = f"{opinion.reason}; of its models only {', '.join(kept)} may be used"
            return replace(opinion, candidates=kept, reason=reason)
        if case.left is None:
            return replace(opinion, kind="passed", reason=f"{opinion.reason}; it leaves no model")
        # What was left before is a limit that the user has set: no strategy exceeds it.
        reason = f"{opinion.reason}; none of its models may be used, so those that may are: {', '.join(case.left)}"
        return replace(opinion, candidates=case.left, reason=reason)

    def _default(self, case: RoutingContext) -> tuple[str, ...]:
        names = self._fallback if case.category is None else self._models[case.category]
        return self.pool.kept(names, case.left) or case.left or names

    def _decision(self, case: RoutingContext) -> Decision:
        verdict, opinion = case.verdict, case.decision
        if opinion is not None:
            candidates, category = opinion.candidates, opinion.category or case.category
            strategy, reason = opinion.strategy, opinion.reason
        else:
            candidates, category = case.default, case.category
            strategy, reason = _undecided(case)
        return Decision(
            query=case.text,
            category=category,
            model=candidates[0],
            score=None if verdict is None else verdict.score,
            threshold=None if verdict is None else verdict.threshold,
            confidence=None if verdict is None else verdict.confidence,
            is_fallback=opinion is None and category is None,
            categories=() if verdict is None else verdict.categories,
            candidates=candidates,
            strategy=strategy,
            reason=reason,
            elapsed_ms=sum(case.steps_ms.values()),
            steps_ms=case.steps_ms,
            opinions=tuple(case.opinions),
        )


def _undecided(case: RoutingContext) -> tuple[str, str]:
    """Return strategy name and reason of a query on which none has decided."""
    reason = _without_text(case) if case.verdict is None else case.verdict.reason
    narrowed = [opinion for opinion in case.opinions if opinion.kind == "narrowed"]
    if case.category is not None:
        reason = f"{reason}; no strategy after it has decided, so the order of its models stands"
    elif narrowed:
        reason = f"{reason}; {narrowed[-1].reason}"
    return FALLBACK if case.verdict is None else "semantic", reason


def _without_text(case: RoutingContext) -> str:
    if case.text:
        return "no strategy has decided"
    kinds = list(dict.fromkeys(kind for message in case.request.messages for kind in attachment_types(message)))
    there = f", only {', '.join(kinds[:5])}" if kinds else ""
    return f"the conversation has no text of the user's to route by{there}"


async def _ask_all(
    strategy: AskingStrategy, cases: Sequence[RoutingContext], caller: ModelClient
) -> list[StrategyResult]:
    import asyncio

    turn = asyncio.Semaphore(TOGETHER)

    async def ask(case: RoutingContext) -> StrategyResult:
        async with turn:
            start = time.perf_counter()
            opinion = await strategy.ask(case, caller)
            spent_ms = (time.perf_counter() - start) * 1000.0
            case.steps_ms[strategy.name] = spent_ms
            return replace(opinion, elapsed_ms=spent_ms)

    return list(await asyncio.gather(*map(ask, cases)))
