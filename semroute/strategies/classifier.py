"""Classifier strategy: rank models by predicted quality against cost.

With quality worth ``value`` USD per +1.0, models are ranked by ``value * quality - cost`` (Hu et al., RouterBench,
2024: willingness to pay). Prices enter here and not in training, so they may change at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.strategies.base import Pool, RoutingContext
from semroute.text.signals import NO_SIGNALS, Signals, signal_words, signals_of
from semroute.types import (
    Matrix,
    NoveltyPredictor,
    QualityPredictor,
    Request,
    SignalPredictor,
    StrategyResult,
    tier_label,
)

UNLIKE = "the query is unlike what it was trained on"

ExpectedCost: TypeAlias = Callable[[Sequence[Request]], NDArray[np.float64]]
"""Function of ``n`` requests: ``(n, m)`` USD, expected cost of a call of each of the predictor's models."""

PricedEffort: TypeAlias = Callable[[Request, str], str | None]
"""Function of a request and a model: the reasoning effort by which its cost is expected; "" for none, None where the
model's mean over all efforts is taken."""


class ClassifierStrategy:
    """Strategy that selects by predicted quality and expected cost.

    Args:
        predictor: predicts the quality of its models.
        expected_cost: expected cost of a call of each of them.
        pool: resolves names of groups.
        candidates: models and groups to choose from if no earlier strategy has filtered them.
        value: USD that +1.0 of quality is worth; infinity if only quality counts.
        priced_effort: effort by which a cost is expected, for the reason.

    Attributes:
        name: its name in ``strategies`` of the configuration.
        needs_vectors: True if the predictor needs vectors.
    """

    name = "classifier"

    def __init__(
        self,
        predictor: QualityPredictor,
        expected_cost: ExpectedCost,
        pool: Pool,
        candidates: Sequence[str],
        value: float,
        priced_effort: PricedEffort = lambda request, model: None,
    ) -> None:
        self.needs_vectors = predictor.needs_vectors
        self._predictor = predictor
        # Asked once: a protocol's isinstance looks at every member.
        self._assess = predictor.assess if isinstance(predictor, NoveltyPredictor) else None
        takes_signals = isinstance(predictor, SignalPredictor) and predictor.needs_signals
        self._assess_signals = predictor.assess if isinstance(predictor, SignalPredictor) and takes_signals else None
        self._expected_cost = expected_cost
        self._pool = pool
        self._candidates = tuple(candidates)
        self._value = value
        self._priced_effort = priced_effort
        self._places = {model: place for place, model in enumerate(predictor.models)}

    def decide(self, contexts: Sequence[RoutingContext]) -> list[StrategyResult]:
        """Return a result for each context, in their order."""
        texts, signals = [context.text for context in contexts], self._signals(contexts)
        predicted, unlike = self._predicted(texts, self._vectors(contexts), signals)
        costs = self._expected_cost([context.request for context in contexts])
        return [self._result(*one) for one in zip(contexts, predicted, costs, unlike, signals, strict=True)]

    def _signals(self, contexts: Sequence[RoutingContext]) -> list[Signals]:
        """Return the conversations' signals; none for a predictor without."""
        if self._assess_signals is None:
            return [NO_SIGNALS] * len(contexts)
        requests = [context.request for context in contexts]
        return [signals_of(request.messages, has_tools=bool(request.tools)) for request in requests]

    def _predicted(
        self, texts: Sequence[str], vectors: Matrix, signals: Sequence[Signals]
    ) -> tuple[NDArray[np.float64], list[bool]]:
        """Return the predicted quality, and which texts are novel."""
        if self._assess_signals is not None:
            quality, unlike = self._assess_signals(texts, vectors, signals)
        elif self._assess is not None:
            quality, unlike = self._assess(texts, vectors)
        else:
            quality, unlike = self._predictor.predict(texts, vectors), None
        return quality.astype(np.float64), [False] * len(texts) if unlike is None else unlike.tolist()

    def _vectors(self, contexts: Sequence[RoutingContext]) -> Matrix:
        if not self.needs_vectors:
            return np.zeros((len(contexts), 0), np.float32)
        return np.stack([context.vector for context in contexts if context.vector is not None])

    def _result(
        self,
        context: RoutingContext,
        quality: NDArray[np.float64],
        cost: NDArray[np.float64],
        unlike: bool,
        signals: Signals,
    ) -> StrategyResult:
        allowed = self._candidates if context.left is None else context.left
        known = [model for model in self._pool.models(allowed) if model in self._places]
        if not known:
            return StrategyResult(self.name, "passed", f"it knows none of {', '.join(allowed)}")
        places = [self._places[model] for model in known]
        order = best_first(quality[places], cost[places], self._value)
        best, price = known[order[0]], float(cost[places][order[0]])
        first = self._label(context, best)
        reason = f"quality {quality[self._places[best]]:.2f} of {first} for USD {price:.2g} is worth most"
        if len(order) > 1:
            second = known[order[1]]
            other = self._label(context, second)
            reason += f", before {quality[self._places[second]]:.2f} of {other} for {cost[self._places[second]]:.2g}"
        if signals:
            reason += f"; of a conversation with {signal_words(signals)}"
        if unlike:
            reason += f"; {UNLIKE}"
        models = tuple(known[place] for place in order)
        return StrategyResult(self.name, "decided", reason, models, unlike_training=unlike)

    def _label(self, context: RoutingContext, model: str) -> str:
        return tier_label(model, self._priced_effort(context.request, model) or None)


def best_first(quality: NDArray[np.float64], cost: NDArray[np.float64], value: float) -> list[int]:
    """Rank ``(m,)`` models by net value, best first; return their positions.

    Of equal ones the cheaper comes first, then the earlier.
    """
    worth = quality if math.isinf(value) else value * quality - cost
    return [int(place) for place in np.lexsort((cost, -worth))]
