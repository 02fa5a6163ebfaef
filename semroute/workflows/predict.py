"""Prediction of each model's quality for queries, and the choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.catalog import estimate_tokens
from semroute.data.queries import QueryRow, iter_query_rows
from semroute.errors import DataError, InputError, QueryError
from semroute.evaluate.replay import choose, value_within
from semroute.outcomes.costs import read_prices
from semroute.predictors.query_quality import QueryClassifier, check_encoder, read_query_classifier
from semroute.router.query import as_messages, routed_text
from semroute.text.names import known_names
from semroute.text.signals import NO_SIGNALS, Signals, signals_of
from semroute.types import Matrix, Query, Request
from semroute.types.protocols import Progress, silent
from semroute.workflows.workspace import Warn, Workspace, unheard


@dataclass(frozen=True, slots=True)
class QueryPrediction:
    """Predicted quality and expected cost of one query, by model.

    Attributes:
        query: text or messages.
        quality: predicted quality by model.
        model: the chosen model.
        cost_usd: expected cost at that model.
        seen: whether the classifier was trained on the query; None if unknown.
        unlike_training: whether the query is unlike what it was trained on; None if unknown.
        signals: of its conversation, as far as the classifier takes them.
    """

    query: Query
    quality: dict[str, float]
    model: str
    cost_usd: float
    seen: bool | None
    unlike_training: bool | None = None
    signals: Signals = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return the prediction as JSON-ready values."""
        quality = {name: round(value, 6) for name, value in self.quality.items()}
        seen = {} if self.seen is None else {"seen": self.seen}
        unlike = {} if self.unlike_training is None else {"unlike_training": self.unlike_training}
        chosen = {"model": self.model, "cost_usd": self.cost_usd}
        signals = {"signals": dict(self.signals)} if self.signals else {}
        return {"query": self.query, **signals, "quality": quality, **chosen, **seen, **unlike}


@dataclass(frozen=True, slots=True)
class QueryPredictions:
    """Predictions for all queries of a file.

    Attributes:
        models: names, in the order of columns.
        queries: ``n`` queries.
        quality: ``(n, models)`` predicted quality.
        cost: ``(n, models)`` expected USD.
        choice: ``n`` columns of the chosen models.
        seen: ``(n,)`` whether the classifier was trained on the query; None if unknown.
        value: USD that +1.0 of quality is worth in the choice.
        unlike: ``(n,)`` whether the query is unlike what the classifier was trained on; None if unknown.
        signals: ``n`` signals of the conversations; None for a classifier that takes none.
    """

    models: tuple[str, ...]
    queries: Sequence[Query]
    quality: Matrix
    cost: NDArray[np.float64]
    choice: Sequence[int]
    seen: NDArray[np.bool_] | None
    value: float
    unlike: NDArray[np.bool_] | None = None
    signals: Sequence[Signals] | None = None

    def __iter__(self) -> Iterator[QueryPrediction]:
        """Yield the predictions in the order of the file."""
        unknown: list[bool | None] = [None] * len(self.queries)
        seen, unlike = (unknown if mask is None else mask.tolist() for mask in (self.seen, self.unlike))
        signals = [NO_SIGNALS] * len(self.queries) if self.signals is None else self.signals
        quality, cost = self.quality.tolist(), self.cost.tolist()
        rows = zip(self.queries, quality, cost, self.choice, seen, unlike, signals, strict=True)
        for query, predicted, expected, column, known, is_unlike, of in rows:
            by_model = dict(zip(self.models, predicted, strict=True))
            yield QueryPrediction(query, by_model, self.models[column], expected[column], known, is_unlike, of)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def trained_on(self) -> int:
        """Return the number of queries that the classifier was trained on."""
        return 0 if self.seen is None else int(self.seen.sum())

    def to_dict(self) -> dict[str, object]:
        """Return all predictions as JSON-ready values."""
        return {"models": list(self.models), "predictions": [one.to_dict() for one in self]}


def predict_quality(
    queries: Path,
    classifier: Path,
    workspace: Workspace,
    *,
    prices: Path | None = None,
    models: tuple[str, ...] | None = None,
    value: float | None = None,
    max_cost: float | None = None,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> QueryPredictions:
    """Predict the quality of each model's answers; choose a model a query.

    Args:
        queries: file of queries; ``-`` is standard input.
        classifier: folder of the classifier.
        workspace: index, configuration and encoder.
        prices: file of prices; None takes those of the training.
        models: models to choose among; None takes all.
        value: USD that +1.0 of quality is worth; None takes the classifier's.
        max_cost: mean USD a query that the choice keeps to; excludes ``value``.
        progress: called with a step's name, the number done and the total.
        warn: receives the reasons of rows that are left out.

    Raises:
        InputError: a file cannot be used, a model is unknown, or ``max_cost`` cannot be kept.
    """
    if value is not None and max_cost is not None:
        raise InputError("a value and a maximum cost exclude each other; give one of them")
    predictor = read_query_classifier(classifier)
    check_encoder(predictor, workspace.encoder, classifier)
    rows, texts = _read(queries, warn)
    signals = [_signals(row) for row in rows] if predictor.needs_signals else None
    quality, unlike = _quality(predictor, texts, signals, workspace, progress)
    expected = _expected(predictor, rows, prices)
    columns = _columns(predictor, models)
    among = quality[:, columns], expected[:, columns].astype("float32")
    worth = _value(predictor, value, max_cost, *among)
    choice = [columns[place] for place in choose(*among, worth).tolist()]
    seen = predictor.has_seen(texts)
    return QueryPredictions(
        predictor.models, [row.query for row in rows], quality, expected, choice, seen, worth, unlike, signals
    )


def _read(queries: Path, warn: Warn) -> tuple[list[QueryRow], list[str]]:
    """Return the routable rows, and their texts.

    Raises:
        DataError: there is none.
    """
    rows, texts = [], []
    for row in iter_query_rows(queries):
        try:
            texts.append(routed_text(row.query))
        except QueryError as error:
            warn(f"{queries}:{row.line}: {error}; the row is left out")
        else:
            rows.append(row)
    if not rows:
        raise DataError("holds no queries", path=queries)
    return rows, texts


def _quality(
    classifier: QueryClassifier,
    texts: list[str],
    signals: Sequence[Signals] | None,
    workspace: Workspace,
    progress: Progress,
) -> tuple[Matrix, NDArray[np.bool_] | None]:
    """Return ``(n, models)`` predicted quality, and a mask of novelty.

    Texts are embedded only for a classifier that uses vectors.
    """
    if not classifier.needs_vectors:
        return classifier.assess(texts, np.zeros((len(texts), 0), np.float32))
    return classifier.assess(texts, workspace.vectors(texts, None, progress), signals)


def _signals(row: QueryRow) -> Signals:
    """Return a row's signals: its messages', or those beside its text."""
    return row.signals if isinstance(row.query, str) else signals_of(row.query)


def _expected(classifier: QueryClassifier, rows: Sequence[QueryRow], prices: Path | None) -> NDArray[np.float64]:
    """Return ``(n, models)`` expected cost, USD."""
    costs = classifier.costs if prices is None else classifier.costs.with_prices(read_prices(prices))
    asked = [estimate_tokens(Request(as_messages(row.query))) for row in rows]
    # Without tasks: the router does not know a query's task. A row asks for no effort.
    return costs.expected(asked, efforts=[[""] * len(costs.models)] * len(asked))


def _columns(classifier: QueryClassifier, models: tuple[str, ...] | None) -> list[int]:
    if models is None:
        return list(range(len(classifier.models)))
    unknown = [name for name in models if name not in classifier.models]
    if unknown:
        known = known_names(unknown[0], classifier.models, "it knows")
        raise InputError(f'the classifier knows no model "{unknown[0]}"; {known}')
    return [classifier.models.index(name) for name in models]


def _value(
    classifier: QueryClassifier, value: float | None, max_cost: float | None, predicted: Matrix, expected: Matrix
) -> float:
    """Return the value of quality, in USD.

    Raises:
        InputError: even the cheapest choices cost more than ``max_cost``.
    """
    if max_cost is None:
        return classifier.value if value is None else value
    found = value_within(predicted, expected, max_cost) if len(predicted) else 0.0
    if found is None:
        least = float(expected.min(axis=1).mean(dtype="float64"))
        raise InputError(f"not reachable: the cheapest models cost USD {least:.3g} a query, more than {max_cost:.3g}")
    return found
