"""What a classifier of queries learns from kinds that were left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from predictors.query_quality.query_heads import DIMENSIONS, MODELS, costs_of, no_categories

from semroute.learn.estimators import LinearEstimator, NeighbourEstimator, TrainingRows
from semroute.learn.novelty import LENGTH, PARTS, fit_unseen, kind_folds
from semroute.learn.query_quality import Setting, TrainedQueries, train_queries
from semroute.predictors.novelty import log_lengths
from semroute.types import Matrix

HEADS = {"linear": LinearEstimator(), "neighbours": NeighbourEstimator(k=10)}
TOPICS = 6


def made(n: int, *, named: bool = True, seed: int = 0) -> TrainingRows:
    """Queries of six topics; a topic's mean quality is its own, and says nothing of the next one's."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, TOPICS, n)
    vectors = np.eye(TOPICS, DIMENSIONS)[topic] + random.normal(0, 0.1, (n, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    small = random.random(n) < np.array([0.1, 0.9, 0.1, 0.9, 0.1, 0.9])[topic]
    queries = [f"about {number} " + "word " * size for number, size in enumerate(random.integers(1, 40, n).tolist())]
    quality = np.column_stack([small, random.random(n) < 0.95]).astype(np.float64)
    tasks = [f"topic {number}" for number in topic.tolist()] if named else None
    return TrainingRows.of(queries, vectors.astype(np.float32), quality, MODELS, no_categories(), tasks)


def train(rows: TrainingRows) -> TrainedQueries:
    return train_queries(rows, Setting("print", costs_of(), no_categories()), heads=HEADS)


def elsewhere(n: int) -> Matrix:
    """Vectors of a direction that no training query has."""
    vectors = np.eye(DIMENSIONS)[np.full(n, DIMENSIONS - 1)] + np.random.default_rng(1).normal(0, 0.05, (n, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
def test_a_query_unlike_all_others_is_told_and_predicted_near_the_mean() -> None:
    rows = made(400)
    classifier = train(rows).classifier
    quality, unlike = classifier.assess(["about something else"] * 20, elsewhere(20))
    known_quality, known_unlike = classifier.assess(rows.queries, rows.inputs.vectors)
    assert unlike is not None
    assert known_unlike is not None
    assert unlike.all()
    assert known_unlike.mean() < 0.05
    # Topics carry nothing over to a new one, so that its estimate is the mean, and never a topic's.
    assert np.abs(quality[:, 0] - classifier.prior[0]).max() < 0.2
    assert np.ptp(known_quality[:, 0]) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_kinds_left_out_are_predicted_better_than_by_the_stack_for_near_queries(named: bool) -> None:
    figures = train(made(400, named=named)).novelty
    assert figures is not None
    assert figures.by == ("tasks" if named else "clusters")
    assert figures.parts == PARTS
    assert figures.squared_error < figures.squared_error_before
    assert 0 < figures.perfect_calibration_error < 0.1


@pytest.mark.slow
def test_where_nothing_carries_over_the_longer_query_goes_to_the_stronger_model() -> None:
    classifier = train(made(400)).classifier
    assert classifier.novelty is not None
    quality, _ = classifier.assess(["short", "a much longer query than the other one is " * 9], elsewhere(2))
    gain = quality[:, 1] - quality[:, 0]
    assert gain[1] > gain[0]
    assert classifier.novelty.unseen.length[1] == LENGTH


def test_a_head_that_predicts_kinds_that_were_left_out_keeps_its_weight() -> None:
    random = np.random.default_rng(0)
    truth = random.random((500, 2))
    quality = (random.random((500, 2)) < truth).astype(np.float64)
    useless = random.random((500, 2))
    prior, lengths = quality.mean(axis=0), log_lengths(["some text"] * 500)
    stack = fit_unseen([truth, useless], quality, prior, lengths, float(lengths.mean()))
    assert stack.weights[0] > 0.7
    assert stack.weights[1] < 0.1


def test_few_rows_or_one_kind_alone_leave_nothing_out() -> None:
    rows = made(40)
    assert kind_folds(rows, np.arange(40), 0) is None
    assert train(rows).classifier.novelty is None
    assert train(rows).classifier.assess(rows.queries, rows.inputs.vectors)[1] is None


@pytest.mark.slow
def test_out_of_fold_predictions_are_those_of_a_decision_without_the_row() -> None:
    trained = train(made(400))
    assert trained.classifier.novelty is not None
    assert np.isfinite(trained.left_out).all()
    assert ((trained.left_out >= 0) & (trained.left_out <= 1)).all()


@pytest.mark.slow
def test_a_stack_that_does_not_predict_new_kinds_better_takes_over_nothing() -> None:
    trained = train(made(400))
    assert trained.novelty is not None
    assert trained.novelty.pays
    assert not replace(trained.novelty, squared_error=trained.novelty.squared_error_before).pays
    assert not replace(trained.novelty, calibration_error=trained.novelty.calibration_error_before + 0.01).pays
    classifier = trained.classifier
    assert classifier.novelty is not None
    assert classifier.novelty.takes_over
    marking = replace(classifier, novelty=replace(classifier.novelty, takes_over=False))
    quality, unlike = marking.assess(["about something else"] * 5, elsewhere(5))
    assert unlike is not None
    assert unlike.all()
    alone = replace(classifier, novelty=None).predict(["about something else"] * 5, elsewhere(5))
    np.testing.assert_array_equal(quality, alone)
