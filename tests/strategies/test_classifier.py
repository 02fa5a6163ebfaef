from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.replay import choose
from semroute.server.explanation import explanation
from semroute.strategies import Chain
from semroute.strategies.base import LocalStrategy, Pool, RoutingContext
from semroute.strategies.classifier import ClassifierStrategy, best_first
from semroute.types import Matrix, QualityPredictor, Request

GROUPS = {"frontier": ("large", "huge")}
COSTS = np.array([0.001, 0.01, 0.1])


class Predictor:
    """Easy queries are easy for all; hard ones are not."""

    models = ("small", "large", "huge")

    def __init__(self, dimensions: int = 2) -> None:
        self.dimensions = dimensions
        self.needs_vectors = dimensions > 0

    def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
        assert vectors.shape == (len(texts), self.dimensions)
        rows = [[0.9, 0.92, 0.93] if text == "easy" else [0.2, 0.8, 0.9] for text in texts]
        return np.array(rows, np.float32)


def strategy(
    value: float, candidates: Sequence[str] = ("small", "large", "huge"), predictor: Predictor | None = None
) -> ClassifierStrategy:
    pool = Pool(lambda name: GROUPS.get(name, (name,)), candidates)
    predictor = predictor or Predictor()
    return ClassifierStrategy(predictor, lambda requests: np.tile(COSTS, (len(requests), 1)), pool, candidates, value)


def case(text: str, left: tuple[str, ...] | None = None) -> RoutingContext:
    request = Request(({"role": "user", "content": text},))
    return RoutingContext(text, request, ("large",), left=left, vector=np.array([1.0, 0.0], np.float32))


def test_it_is_a_local_strategy_that_wants_vectors() -> None:
    assert isinstance(strategy(1.0), LocalStrategy)
    assert isinstance(Predictor(), QualityPredictor)
    assert strategy(1.0).needs_vectors


def test_a_predictor_that_looks_at_texts_alone_is_asked_without_vectors() -> None:
    alone = strategy(0.1, predictor=Predictor(dimensions=0))
    assert not alone.needs_vectors
    bare = replace(case("easy"), vector=None)
    assert alone.decide([bare])[0].candidates == ("small", "large", "huge")


def test_an_easy_query_goes_to_the_cheap_model_and_a_hard_one_to_what_is_worth_its_price() -> None:
    easy, hard = strategy(0.1).decide([case("easy"), case("hard")])
    assert easy.kind == hard.kind == "decided"
    assert easy.candidates == ("small", "large", "huge")
    assert hard.candidates == ("large", "small", "huge")
    assert "0.80 of large for USD 0.01" in hard.reason


@pytest.mark.parametrize(("value", "first"), [(0.0, "small"), (math.inf, "huge")])
def test_the_ends_are_cost_alone_and_quality_alone(value: float, first: str) -> None:
    assert strategy(value).decide([case("hard")])[0].candidates[0] == first


def test_it_chooses_among_what_is_left_and_members_of_groups() -> None:
    opinion = strategy(math.inf).decide([case("hard", left=("small", "frontier"))])[0]
    assert opinion.candidates == ("huge", "large", "small")
    assert strategy(math.inf).decide([case("hard", left=("large",))])[0].candidates == ("large",)


def test_what_it_knows_nothing_of_it_leaves_to_others() -> None:
    opinion = strategy(1.0).decide([case("hard", left=("stranger",))])[0]
    assert opinion.kind == "passed"
    assert "stranger" in opinion.reason


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=6),
    st.floats(0, 1e3) | st.just(math.inf),
)
def test_the_first_is_worth_most_and_of_equals_the_cheapest(models: list[tuple[float, float]], value: float) -> None:
    quality, cost = (np.array(column) for column in zip(*models, strict=True))
    order = best_first(quality, cost, value)
    assert sorted(order) == list(range(len(models)))
    worth = quality if math.isinf(value) else value * quality - cost
    assert worth[order[0]] == worth.max()
    assert cost[order[0]] == cost[worth == worth.max()].min()


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 8, width=32)), min_size=1, max_size=6),
    st.floats(0, 1e3) | st.just(math.inf),
)
def test_it_chooses_as_the_replay_does(models: list[tuple[float, float]], value: float) -> None:
    quality, cost = (np.array([column]) for column in zip(*models, strict=True))
    assert best_first(quality[0], cost[0], value)[0] == choose(quality, cost, value)[0]


class FarPredictor(Predictor):
    """Hard queries are unlike its training queries."""

    def assess(
        self, texts: Sequence[str], vectors: Matrix
    ) -> tuple[Matrix, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        return self.predict(texts, vectors), np.array([text == "hard" for text in texts])


def test_a_query_unlike_the_training_queries_is_told_in_the_result() -> None:
    known, far = strategy(0.1, predictor=FarPredictor()).decide([case("easy"), case("hard")])
    assert not known.unlike_training
    assert "unlike" not in known.reason
    assert "unlike_training" not in known.to_dict()
    assert far.unlike_training
    assert far.reason.endswith("; the query is unlike what it was trained on")
    assert far.to_dict()["unlike_training"] is True


def test_a_decision_tells_that_its_query_is_unlike_the_training_queries() -> None:
    pool = Pool(lambda name: (name,), FarPredictor.models)
    far = strategy(0.1, predictor=FarPredictor())
    chain = Chain([far], pool, ("small",), {}, lambda texts: np.ones((len(texts), 2), np.float32))
    requests = [Request(({"role": "user", "content": text},)) for text in ("easy", "hard")]
    easy, hard = chain.decide(["easy", "hard"], requests)
    assert not easy.unlike_training
    assert "unlike_training" not in easy.to_dict()
    assert hard.unlike_training
    assert hard.to_dict()["unlike_training"] is True
    assert json.loads(explanation(hard))["unlike_training"] is True
    assert "unlike what it was trained on" in hard.reason
