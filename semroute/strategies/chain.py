"""Chain of strategies: each selects, filters the candidates, or abstains."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from semroute.strategies.base import LocalStrategy, ModelStrategy, Pool, RoutingContext, Strategy
from semroute.text.conversation import attachment_types
from semroute.types import Decision, Matrix, ModelClient, Request, StrategyResult, StrategyResultKind

TOGETHER = 16
"""Queries of a batch for which a model is called concurrently."""

FALLBACK = "fallback"
"""Strategy name of a decision that no strategy has made."""

REQUESTED = "requested"
"""Strategy name of a category that the caller asks for: it stands in for ``semantic``, after the rules."""

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
        narrows: True if a category that the caller asks for leaves the choice among its models to later strategies.

    Attributes:
        strategies: see above.
        pool: see above.
        models: see above.
        asks: True if a strategy calls a model.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        pool: Pool,
        fallback: tuple[str, ...],
        models: Mapping[str, tuple[str, ...]],
        embed: Callable[[Sequence[str]], Matrix],
        *,
        narrows: bool = False,
    ) -> None:
        self.strategies = tuple(strategies)
        # Asked once: a protocol's isinstance looks at every member.
        self._is_local = tuple(isinstance(strategy, LocalStrategy) for strategy in strategies)
        self.asks = not all(self._is_local)
        self.pool = pool
        self.models = models
        self._fallback = fallback
        self._embed = embed
        self._narrows = narrows
        self._requested_at = _requested_at([strategy.name for strategy in strategies])

    def decide(
        self,
        texts: Sequence[str],
        requests: Sequence[Request],
        client: ModelClient | None = None,
        *,
        category: str | None = None,
    ) -> list[Decision]:
        """Decide which candidates answer each query.

        The same query and configuration give the same decision.

        Args:
            texts: the routed texts; empty ones of conversations without text, on which only rules can decide.
            requests: the whole request of each.
            client: model client for strategies that call a model, on the shared event loop; None: they abstain.
            category: the category that the caller asks for, one of :attr:`models`; None finds it.
        """
        contexts = self._contexts(texts, requests, category)
        number = self._decide_locally(contexts)
        while number < len(self.strategies):
            strategy, undecided = cast(ModelStrategy, self.strategies[number]), self._undecided(number, contexts)
            if client is None:
                result = StrategyResult(strategy.name, "passed", "there is nothing to call a model by")
                self._store(undecided, [result] * len(undecided))
            else:
                from semroute import _sync

                self._store(undecided, _sync.run(_ask_all(strategy, undecided, client)))
            number = self._decide_locally(contexts, number + 1)
        return [self._decision(context) for context in contexts]

    async def adecide(
        self,
        texts: Sequence[str],
        requests: Sequence[Request],
        client: ModelClient,
        offload: Offload,
        *,
        category: str | None = None,
    ) -> list[Decision]:
        """Decide as :meth:`decide` does, and call the models that strategies need.

        Args:
            texts: the routed texts.
            requests: the whole request of each.
            client: model client for strategies that call a model.
            offload: runs in a thread what computes.
            category: as for :meth:`decide`.
        """
        contexts = self._contexts(texts, requests, category)
        number = await offload(self._decide_locally, contexts)
        while number < len(self.strategies):
            strategy, undecided = cast(ModelStrategy, self.strategies[number]), self._undecided(number, contexts)
            self._store(undecided, await _ask_all(strategy, undecided, client))
            number = await offload(self._decide_locally, contexts, number + 1)
        return [self._decision(context) for context in contexts]

    def _contexts(
        self, texts: Sequence[str], requests: Sequence[Request], category: str | None
    ) -> list[RoutingContext]:
        pairs = zip(texts, requests, strict=True)
        return [RoutingContext(text, request, self._fallback, requested=category) for text, request in pairs]

    def _decide_locally(self, contexts: Sequence[RoutingContext], start: int = 0) -> int:
        """Run strategies from ``start`` on up to one that calls a model.

        Returns:
            The number of that strategy; the number of all strategies if none is left.
        """
        for number in range(start, len(self.strategies)):
            if number == self._requested_at:
                self._take_requested(contexts)
            undecided = self._undecided(number, contexts)
            if not undecided:
                continue
            if not self._is_local[number]:
                return number
            self._store(undecided, self._decide_with(cast(LocalStrategy, self.strategies[number]), undecided))
        if self._requested_at == len(self.strategies):  # the rules are the last of them
            self._take_requested(contexts)
        return len(self.strategies)

    def _undecided(self, number: int, contexts: Sequence[RoutingContext]) -> list[RoutingContext]:
        """Return the contexts on which a strategy is to decide."""
        strategy = self.strategies[number]
        needs_text, finds_category = getattr(strategy, "needs_text", True), strategy.name == "semantic"
        return [
            one
            for one in contexts
            if one.selected is None and (one.text or not needs_text) and not (finds_category and one.requested)
        ]

    def _take_requested(self, contexts: Sequence[RoutingContext]) -> None:
        """Store the category that the caller asks for as if it had been found."""
        for context in contexts:
            if context.requested is None or context.selected is not None:
                continue
            category = context.requested
            kind: StrategyResultKind = "narrowed" if self._narrows else "decided"
            reason = f"the caller asks for {category}"
            self._take(context, StrategyResult(REQUESTED, kind, reason, self.models[category], category))

    def _store(self, contexts: Sequence[RoutingContext], results: Sequence[StrategyResult]) -> None:
        for context, result in zip(contexts, results, strict=True):
            self._take(context, result)

    def _decide_with(self, strategy: LocalStrategy, contexts: Sequence[RoutingContext]) -> list[StrategyResult]:
        if strategy.needs_vectors:
            self._fill_vectors(contexts)
        start = time.perf_counter()
        results = strategy.decide(contexts)
        if results[0].elapsed_ms:  # it has measured its steps itself
            return results
        spent_ms = (time.perf_counter() - start) * 1000.0 / len(contexts)
        for context in contexts:
            context.steps_ms[strategy.name] = spent_ms
        return [replace(result, elapsed_ms=spent_ms) for result in results]

    def _fill_vectors(self, contexts: Sequence[RoutingContext]) -> None:
        missing = [context for context in contexts if context.vector is None]
        if not missing:
            return
        start = time.perf_counter()
        vectors = self._embed([context.text for context in missing])
        spent_ms = (time.perf_counter() - start) * 1000.0 / len(missing)
        for context, vector in zip(missing, vectors, strict=True):
            context.vector = vector
            context.steps_ms["encode"] = context.steps_ms.get("encode", 0.0) + spent_ms

    def _take(self, context: RoutingContext, result: StrategyResult) -> None:
        """Store a result, restricted to what earlier strategies have left."""
        bounded = result if result.kind == "passed" else self._bounded(context, result)
        context.results.append(bounded)
        if bounded.kind == "decided":
            context.selected = bounded
        elif bounded.kind == "narrowed":
            context.left = bounded.candidates
            context.category = bounded.category or context.category
            context.default = self._default(context)

    def _bounded(self, context: RoutingContext, result: StrategyResult) -> StrategyResult:
        kept = self.pool.kept(result.candidates, context.left)
        if kept == result.candidates and kept:
            return result
        if kept:
            reason = f"{result.reason}; of its models only {', '.join(kept)} may be used"
            return replace(result, candidates=kept, reason=reason)
        if context.left is None:
            return replace(result, kind="passed", reason=f"{result.reason}; it leaves no model")
        # What was left before is a limit that the user has set: no strategy exceeds it.
        reason = f"{result.reason}; none of its models may be used, so those that may are: {', '.join(context.left)}"
        return replace(result, candidates=context.left, reason=reason)

    def _default(self, context: RoutingContext) -> tuple[str, ...]:
        names = self._fallback if context.category is None else self.models[context.category]
        return self.pool.kept(names, context.left) or context.left or names

    def _decision(self, context: RoutingContext) -> Decision:
        match, result = context.match, context.selected
        if result is not None:
            candidates, category = result.candidates, result.category or context.category
            strategy, reason = result.strategy, result.reason
        else:
            candidates, category = context.default, context.category
            strategy, reason = _undecided(context)
        return Decision(
            query=context.text,
            category=category,
            model=candidates[0],
            score=None if match is None else match.score,
            threshold=None if match is None else match.threshold,
            confidence=None if match is None else match.confidence,
            is_fallback=result is None and category is None,
            categories=() if match is None else match.categories,
            candidates=candidates,
            strategy=strategy,
            reason=reason,
            elapsed_ms=sum(context.steps_ms.values()),
            steps_ms=context.steps_ms,
            opinions=tuple(context.results),
        )


def _requested_at(names: Sequence[str]) -> int:
    """Return the position of a category that the caller asks for.

    It is that of ``semantic``, else after the rules.
    """
    if "semantic" in names:
        return names.index("semantic")
    return names.index("rules") + 1 if "rules" in names else 0


def _undecided(context: RoutingContext) -> tuple[str, str]:
    """Return strategy name and reason of a query on which none has decided."""
    if context.requested is not None and context.category is not None:
        reason = f"the caller asks for {context.category}"
    else:
        reason = _without_text(context) if context.match is None else context.match.reason
    narrowed = [result for result in context.results if result.kind == "narrowed"]
    if context.category is not None:
        reason = f"{reason}; no strategy after it has decided, so the order of its models stands"
    elif narrowed:
        reason = f"{reason}; {narrowed[-1].reason}"
    if context.requested is not None and context.category is not None:
        return REQUESTED, reason
    return FALLBACK if context.match is None else "semantic", reason


def _without_text(context: RoutingContext) -> str:
    if context.text:
        return "no strategy has decided"
    kinds = list(dict.fromkeys(kind for message in context.request.messages for kind in attachment_types(message)))
    there = f", only {', '.join(kinds[:5])}" if kinds else ""
    return f"the conversation has no text of the user's to route by{there}"


async def _ask_all(
    strategy: ModelStrategy, contexts: Sequence[RoutingContext], client: ModelClient
) -> list[StrategyResult]:
    import asyncio

    turn = asyncio.Semaphore(TOGETHER)

    async def adecide(context: RoutingContext) -> StrategyResult:
        async with turn:
            start = time.perf_counter()
            result = await strategy.adecide(context, client)
            spent_ms = (time.perf_counter() - start) * 1000.0
            context.steps_ms[strategy.name] = spent_ms
            return replace(result, elapsed_ms=spent_ms)

    return list(await asyncio.gather(*map(adecide, contexts)))
