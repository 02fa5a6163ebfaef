from __future__ import annotations

import functools
import json
from dataclasses import fields

import numpy as np
import pytest

from semroute.learn import fit as module
from semroute.learn.category_head import HeadPlan
from semroute.learn.fit import UNVALIDATED_CALIBRATION, UNVALIDATED_THRESHOLD, FitOptions, Split, fit
from semroute.predictors.category_head import MlpHead
from semroute.types import Matrix


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HeadPlan", functools.partial(HeadPlan, hidden=8, fewest_steps=40, most_steps=40))


def examples(sizes: list[int], seed: int = 0) -> tuple[Matrix, np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.eye(8, dtype=np.float32)[labels] + 0.2 * np.random.default_rng(seed).normal(size=(len(labels), 8))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32), labels


@pytest.mark.slow
def test_the_same_input_gives_the_same_arrays() -> None:
    vectors, labels = examples([12, 9, 15])
    a, b = fit(vectors, labels, options=FitOptions(seed=3)), fit(vectors, labels, options=FitOptions(seed=3))
    assert a.report == b.report
    assert a.scorer.calibration == b.scorer.calibration
    np.testing.assert_array_equal(a.thresholds, b.thresholds)
    assert isinstance(a.scorer.head, MlpHead)
    assert isinstance(b.scorer.head, MlpHead)
    for field in fields(MlpHead):
        np.testing.assert_array_equal(getattr(a.scorer.head, field.name), getattr(b.scorer.head, field.name))
    np.testing.assert_array_equal(a.scorer.scores(vectors), b.scorer.scores(vectors))


@pytest.mark.slow
def test_the_fitted_scorer_separates_the_categories() -> None:
    fitted = fit(*examples([12, 9, 15]))
    vectors, labels = examples([20, 20, 20], seed=9)
    scores = fitted.scorer.scores(vectors)
    assert (scores.argmax(axis=1) == labels).mean() > 0.9
    assert np.all(np.isfinite(fitted.thresholds))
    assert fitted.report["held_out"] == 36
    assert fitted.report["accuracy_in_scope"] > 0.9
    assert json.loads(json.dumps(fitted.report)) == fitted.report


@pytest.mark.slow
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("sizes", [[1, 12], [2, 12], [12], [2], [2, 2], [1, 1, 6], [3, 1]])
def test_small_and_lonely_categories_are_fitted(sizes: list[int], head: bool) -> None:
    vectors, labels = examples(sizes)
    fitted = fit(vectors, labels, options=FitOptions(head=head))
    assert fitted.thresholds.shape == (len(sizes),)
    scores = fitted.scorer.scores(vectors)
    assert scores.shape == (len(labels), len(sizes))
    assert np.all(np.isfinite(scores))
    confidence = fitted.scorer.confidence(scores)
    assert np.all((confidence > 0) & (confidence < 1))
    assert fitted.report["held_out"] == sum(size for size in sizes if size > 1)


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1]])
def test_without_held_out_rows_typical_values_are_used_and_reported(sizes: list[int]) -> None:
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


@pytest.mark.slow
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
    fitted = fit(vectors, labels, options=FitOptions(head=False))
    assert fitted.scorer.head is None
    assert fitted.report["accuracy_of_head"] is None
    np.testing.assert_array_equal(fitted.scorer.scores(vectors), fitted.scorer.prototypes.similarities(vectors))


def test_a_given_plan_is_what_is_held_out() -> None:
    vectors, labels = examples([12, 12])
    rows = np.arange(24)
    fitted = fit(
        vectors, labels, options=FitOptions(head=False, plan=[Split(rows[rows % 6 != 0], rows[rows % 6 == 0])])
    )
    assert (fitted.report["held_out"], fitted.report["splits"]) == (4, 1)


def test_the_order_of_the_examples_hardly_matters_and_that_of_the_categories_not_at_all() -> None:
    vectors, labels = examples([30, 30, 30])
    query = examples([10, 10, 10], seed=5)[0]
    straight = fit(vectors, labels, options=FitOptions(head=False))
    turned = fit(vectors, 2 - labels, options=FitOptions(head=False))
    assert (straight.scorer.scores(query).argmax(axis=1) == 2 - turned.scorer.scores(query).argmax(axis=1)).all()
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = fit(vectors[order], labels[order], options=FitOptions(head=False))
    assert (straight.scorer.scores(query).argmax(axis=1) == shuffled.scorer.scores(query).argmax(axis=1)).all()
    np.testing.assert_allclose(straight.thresholds, shuffled.thresholds, atol=0.15)


def test_repeated_examples_count_once() -> None:
    vectors, labels = examples([12, 9, 15])
    twice, owners = np.repeat(vectors, 3, axis=0), np.repeat(labels, 3)
    plain = fit(vectors, labels, options=FitOptions(head=False))
    grouped = fit(twice, owners, groups=np.repeat(np.arange(36), 3), options=FitOptions(head=False))
    blind = fit(twice, owners, options=FitOptions(head=False))
    np.testing.assert_allclose(grouped.thresholds, plain.thresholds, atol=1e-5)
    assert grouped.report["accuracy_in_scope"] == plain.report["accuracy_in_scope"]
    assert (grouped.report["held_out"], grouped.report["groups"]) == (36, 36)
    assert grouped.report["prototypes_per_category"] == plain.report["prototypes_per_category"]
    assert np.all(blind.thresholds > plain.thresholds + 0.02)  # each was judged by its own copy


def test_a_category_of_one_example_does_not_take_the_threshold_of_others() -> None:
    tight = np.eye(8, dtype=np.float32)[0] + 0.01 * np.random.default_rng(0).normal(size=(40, 8))
    rows = np.concatenate([tight, np.eye(8)[1:2]]).astype(np.float32)
    vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    fitted = fit(vectors, np.repeat([0, 1], [40, 1]), options=FitOptions(head=False))
    assert fitted.thresholds[0] > 0.9
    assert fitted.thresholds[1] <= UNVALIDATED_THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize(("each", "logistic"), [(4, True), (10, True), (11, False)])
def test_many_categories_with_few_examples_get_a_logistic_head(each: int, logistic: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 8)).repeat(each, axis=0)
    rows += 0.05 * np.random.default_rng(1).normal(size=rows.shape)
    vectors = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
    fitted = fit(vectors, np.repeat(np.arange(100), each))
    assert fitted.report["logistic_head"] == logistic
    if logistic:  # the other one is trained for so few steps here that it gets no weight
        assert fitted.report["accuracy_of_head"] > 0.9
        assert isinstance(fitted.scorer.head, MlpHead)
        assert fitted.scorer.head.hidden.shape == (8, 0)
        assert fitted.scorer.weight > 0


@pytest.mark.parametrize(("each", "few"), [(1, 1.0), (10, 10.0), (11, None)])
def test_the_report_says_so_where_examples_are_few(each: int, few: float | None) -> None:
    assert fit(*examples([each, each]), options=FitOptions(head=False)).report.get("few_examples") == few
