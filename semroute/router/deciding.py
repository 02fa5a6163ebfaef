"""The chain of strategies over one index and one configuration, and the ways to run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from semroute.config import Config
from semroute.config.deciding import StrategyName
from semroute.dispatch.constraints import Constraints
from semroute.router.live import LoadedIndex
from semroute.router.staged import score_texts
from semroute.strategies import Chain, Pool, SemanticMatch, Strategy
from semroute.strategies.chain import Asking, Deciding
from semroute.strategies.strategy import RoutingContext, Vector
from semroute.types import Attempt, Decision, ModelClient, StrategyResult, StrategyResultKind

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher
    from semroute.eventloop import WorkerPool
    from semroute.strategies.rules import RulesStrategy

NOT_KNOWN = "the index's encoder knows no word of the text"

Maker: TypeAlias = Callable[[LoadedIndex, Config, Pool], "Strategy | None"]
"""Makes a strategy; None where the configuration or the index has nothing for it, and it is left out in silence."""


ClientFactory: TypeAlias = Callable[["Dispatcher", Constraints, "list[Attempt] | None"], ModelClient]
"""Makes what a judge calls models by, within the limits of one request; the list takes every attempt when it ends."""


class SemanticStep:
    """The categories' scores as a strategy: embeds, scores, and decides or narrows.

    Args:
        live: what scores.
        narrows: whether the category's models are left to the strategies after it.
    """

    name = "semantic"
    needs_vectors = False

    def __init__(self, live: LoadedIndex, *, narrows: bool) -> None:
        self._live = live
        self._narrows = narrows

    def consult(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        """An opinion on each case; leaves verdict, steps and, where it was made, the vector with it."""
        staged = score_texts(self._live, [case.text for case in cases])
        scored = time.perf_counter()
        verdicts = self._live.semantic.decide(staged.scores, staged.confidence, staged.first)
        for row in np.flatnonzero(staged.unknown).tolist():
            verdicts[row] = self._unknown(verdicts[row], cases[row].text)
        for row in staged.by_ask:
            verdicts[row] = replace(verdicts[row], reason=f"the question beside a pasted text: {verdicts[row].reason}")
        by_first, by_second = staged.steps_ms(time.perf_counter() - scored)
        vectors = iter(staged.vectors)
        rows = zip(cases, verdicts, staged.first.tolist(), strict=True)
        return [
            self._opinion(case, verdict, by_first) if first else self._opinion(case, verdict, by_second, next(vectors))
            for case, verdict, first in rows
        ]

    def _unknown(self, verdict: SemanticMatch, text: str) -> SemanticMatch:
        category = self._live.examples.category(text)
        known = next((entry for entry in verdict.categories if entry.category == category), None)
        if known is None:
            chance = 1.0 / len(verdict.categories)
            return replace(
                verdict, category=None, confidence=chance, reason=f"{NOT_KNOWN}, so that it fits no category"
            )
        reason = f"{NOT_KNOWN}, but it is an example of {category} as it stands"
        return replace(verdict, category=category, score=known.score, threshold=known.threshold, reason=reason)

    def _opinion(
        self, case: RoutingContext, verdict: SemanticMatch, steps: Mapping[str, float], vector: Vector | None = None
    ) -> StrategyResult:
        case.verdict, case.vector = verdict, vector
        case.steps_ms.update(steps)
        elapsed_ms = sum(steps.values())
        if verdict.category is None:
            return StrategyResult(self.name, "passed", verdict.reason, elapsed_ms=elapsed_ms)
        kind: StrategyResultKind = "narrowed" if self._narrows else "decided"
        models = self._live.models[verdict.category]
        return StrategyResult(self.name, kind, verdict.reason, models, verdict.category, elapsed_ms)


def _rules(live: LoadedIndex, config: Config, pool: Pool) -> RulesStrategy | None:
    if not config.rules:
        return None
    from semroute.strategies.rules import RulesStrategy

    return RulesStrategy(config.rules, pool, live.models)


def _semantic(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
    return SemanticStep(live, narrows=config.semantic.mode == "narrow")


def _judge(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
    if config.judge.model is None:
        return None
    from semroute.resilience.breaker import Breaker
    from semroute.strategies.judge import JudgeStrategy, descriptions

    candidates = config.judge.candidates or judged(live, config, pool)
    about = descriptions((*pool.names, *pool.models(pool.names)), config, live.models)
    return JudgeStrategy(config, pool, candidates, about, breaker=Breaker(config.breaker, Random()))


def _classifier(live: LoadedIndex, config: Config, pool: Pool) -> Strategy | None:
    if config.classifier.folder is None:
        return None
    from semroute.router.classifying import classifier_strategy

    return classifier_strategy(live, config, pool, config.classifier.folder)


MAKERS: dict[StrategyName, Maker] = {
    "rules": _rules,
    "semantic": _semantic,
    "classifier": _classifier,
    "judge": _judge,
}
"""How each strategy of the configuration is made; one that has nothing to do is left out."""


def chain_of(live: LoadedIndex, config: Config) -> Chain:
    """The strategies that the configuration names and that have something to do, in its order.

    Raises:
        ConfigError: a rule names a category that the index lacks, or the classifier knows none of the models.
        ArtifactError: the classifier cannot be used with this index.
        MissingExtraError: a rule needs an extra that is not installed.
    """
    pool = Pool(config.members, _names(live, config))
    made = [MAKERS[name](live, config, pool) for name in config.strategies]
    strategies = [strategy for strategy in made if strategy is not None]
    return Chain(strategies, pool, live.fallback, live.models, live.encoder.encode)


def rules_of(live: LoadedIndex, config: Config) -> RulesStrategy:
    """The rules alone, to see what becomes of each.

    Raises:
        ConfigError, MissingExtraError: as :func:`chain_of`.
    """
    from semroute.strategies.rules import RulesStrategy

    return RulesStrategy(config.rules, Pool(config.members, _names(live, config)), live.models)


def judged(live: LoadedIndex, config: Config, pool: Pool) -> tuple[str, ...]:
    """What a judge chooses from unless it is told: what a category or the fallback names, and can be called."""
    callable_models = {deployment.model for deployment in config.deployments}
    named = dict.fromkeys((*chain.from_iterable(live.models.values()), *live.fallback))
    return tuple(name for name in named if not callable_models.isdisjoint(pool.models([name])))


def _names(live: LoadedIndex, config: Config) -> Iterator[str]:
    """Every model and group that a query can go to: of categories, fallback, rules and judge, and with a deployment."""
    yield from chain.from_iterable(live.models.values())
    yield from live.fallback
    yield from chain.from_iterable(rule.use or rule.only or () for rule in config.rules)
    yield from config.classifier.candidates or ()
    yield from config.judge.candidates or ()
    yield from (deployment.model for deployment in config.deployments)


def run(deciding: Deciding) -> list[Decision]:
    """Decide from synchronous code; what has to be awaited runs on the shared loop."""
    try:
        asking = next(deciding)
        from semroute import bridge

        while True:
            asking = deciding.send(bridge.run(asking))
    except StopIteration as end:
        return cast(list[Decision], end.value)


async def arun(deciding: Deciding, workers: WorkerPool) -> list[Decision]:
    """Decide without blocking the event loop: what computes runs in a thread, what calls a model on this loop.

    The threads are not those of asyncio's default executor, where look-ups of hosts wait for name servers.
    """
    from asyncio import CancelledError

    steps = _Steps(deciding)
    try:
        asking, decisions = await workers.run(steps.next, None)
        while asking is not None:
            asking, decisions = await workers.run(steps.next, await asking)
    except CancelledError:
        steps.leave()
        raise
    return decisions


class _Steps:
    """A decision step by step, in threads that cannot be cancelled with whoever waits for them."""

    def __init__(self, deciding: Deciding) -> None:
        self._deciding = deciding
        self._asking: Asking | None = None
        self._is_left = False

    def next(self, answer: list[StrategyResult] | None) -> tuple[Asking | None, list[Decision]]:
        """What has to be awaited next, or None and the decisions: StopIteration must not leave a thread of a loop."""
        try:
            # A generator that has not begun takes nothing but None.
            self._asking = self._deciding.send(cast(list[StrategyResult], answer))
        except StopIteration as end:
            return None, end.value
        if self._is_left:
            self._asking.close()
        return self._asking, []

    def leave(self) -> None:
        """Close what nobody will await: a step that still runs closes what it comes to."""
        self._is_left = True
        if self._asking is not None:
            self._asking.close()
