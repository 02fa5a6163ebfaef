from __future__ import annotations

import functools
import json
from dataclasses import fields

import numpy as np
import pytest

from semroute.heads import MlpHead
from semroute.learn import fit as module
from semroute.learn.fit import UNVALIDATED_CALIBRATION, UNVALIDATED_THRESHOLD, fit
from semroute.learn.head_training import HeadPlan
from semroute.learn.validation import Split
from semroute.types import Matrix


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HeadPlan", functools.partial(HeadPlan, hidden=8, fewest_steps=40, most_steps=40))


def examples(sizes: list[int], seed: int = 0) -> tuple[Matrix, np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(8, dtype=np.float32)[labels] + 0.2 * np.random.default_rng(seed).normal(size=(len(labels), 8))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32), labels


def test_the_same_input_gives_the_same_arrays() -> None:
    vectors, labels = examples([12, 9, 15])
    a, b = fit(vectors, labels, seed=3), fit(vectors, labels, seed=3)
    assert a.report == b.report
    assert a.scorer.calibration == b.scorer.calibration
    np.testing.assert_array_equal(a.thresholds, b.thresholds)
    assert isinstance(a.scorer.head, MlpHead)
    assert isinstance(b.scorer.head, MlpHead)
    for field in fields(MlpHead):
        np.testing.assert_array_equal(getattr(a.scorer.head, field.name), getattr(b.scorer.head, field.name))
    np.testing.assert_array_equal(a.scorer.scores(vectors), b.scorer.scores(vectors))


def test_what_is_fitted_tells_the_categories_apart() -> None:
    fitted = fit(*examples([12, 9, 15]))
    vectors, labels = examples([20, 20, 20], seed=9)
    scores = fitted.scorer.scores(vectors)
    assert (scores.argmax(axis=1) == labels).mean() > 0.9
    assert np.all(np.isfinite(fitted.thresholds))
    assert fitted.report["held_out"] == 36
    assert fitted.report["accuracy_in_scope"] > 0.9
    assert json.loads(json.dumps(fitted.report)) == fitted.report


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("sizes", [[1, 12], [2, 12], [12], [2], [2, 2], [1, 1, 6], [3, 1]])
def test_small_and_lonely_categories_are_fitted(sizes: list[int], head: bool) -> None:
    vectors, labels = examples(sizes)
    fitted = fit(vectors, labels, head=head)
    assert fitted.thresholds.shape == (len(sizes),)
    scores = fitted.scorer.scores(vectors)
    assert scores.shape == (len(labels), len(sizes))
    assert np.all(np.isfinite(scores))
    confidence = fitted.scorer.confidence(scores)
    assert np.all((confidence > 0) & (confidence < 1))
    assert fitted.report["held_out"] == sum(size for size in sizes if size > 1)


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1]])
def test_where_nothing_can_be_held_out_typical_values_are_taken_and_said(sizes: list[int]) -> None:
    vectors, labels = examples(sizes)
    fitted = fit(vectors, labels)
    assert fitted.scorer.head is None
    assert fitted.scorer.calibration == UNVALIDATED_CALIBRATION
    assert fitted.thresholds.tolist() == [UNVALIDATED_THRESHOLD] * len(sizes)
    assert fitted.report["held_out"] == 0
    np.testing.assert_array_equal(fitted.scorer.scores(vectors).argmax(axis=1), labels)


def test_one_category_gets_no_head() -> None:
    fitted = fit(*examples([12]))
    assert fitted.scorer.head is None
    assert fitted.scorer.weight == 0.0


def test_equal_vectors_are_no_error() -> None:
    vectors = np.repeat(np.eye(8, dtype=np.float32)[:2], 8, axis=0)
    fitted = fit(vectors, np.repeat([0, 1], 8))
    np.testing.assert_array_equal(fitted.scorer.scores(vectors).argmax(axis=1), np.repeat([0, 1], 8))


def test_the_same_text_in_two_categories_is_no_error() -> None:
    vectors = np.repeat(np.eye(8, dtype=np.float32)[:1], 16, axis=0)
    fitted = fit(vectors, np.repeat([0, 1], 8))
    assert np.all(np.isfinite(fitted.scorer.scores(vectors)))


def test_without_a_head_the_score_is_the_cosine() -> None:
    vectors, labels = examples([12, 12])
    fitted = fit(vectors, labels, head=False)
    assert fitted.scorer.head is None
    assert fitted.report["accuracy_of_head"] is None
    np.testing.assert_array_equal(fitted.scorer.scores(vectors), fitted.scorer.prototypes.similarities(vectors))


def test_a_given_plan_is_what_is_held_out() -> None:
    vectors, labels = examples([12, 12])
    rows = np.arange(24)
    fitted = fit(vectors, labels, head=False, plan=[Split(rows[rows % 6 != 0], rows[rows % 6 == 0])])
    assert (fitted.report["held_out"], fitted.report["splits"]) == (4, 1)


def test_the_order_of_the_examples_hardly_matters_and_that_of_the_categories_not_at_all() -> None:
    vectors, labels = examples([30, 30, 30])
    query = examples([10, 10, 10], seed=5)[0]
    straight = fit(vectors, labels, head=False)
    turned = fit(vectors, 2 - labels, head=False)
    assert (straight.scorer.scores(query).argmax(axis=1) == 2 - turned.scorer.scores(query).argmax(axis=1)).all()
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = fit(vectors[order], labels[order], head=False)
    assert (straight.scorer.scores(query).argmax(axis=1) == shuffled.scorer.scores(query).argmax(axis=1)).all()
    np.testing.assert_allclose(straight.thresholds, shuffled.thresholds, atol=0.15)
