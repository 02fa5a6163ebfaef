from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictors.answer_quality.answer_heads import made

from semroute.learn.answer_quality import train
from semroute.predictors.answer_quality import (
    BUCKETS,
    MIN_LOGPROB,
    SHAPE,
    TOKENS,
    AnswerClassifier,
    dense,
    feature_names,
    hashed,
    no_words,
    scaled,
    shape,
    token_features,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained() -> AnswerClassifier:
    return train(made(200, logprobs=True), ("shape", "words", "tokens"), folds=3).classifier


def test_the_surface_features_of_an_answer() -> None:
    found = shape("What is 3 times 60?", "It is 3 x 60 = 190. I am not sure, however.\n")
    assert (found["wrong sums"], found["right sums"], found["a wrong sum"]) == (1.0, 0.0, 1.0)
    assert (found["hedges"], found["denials"], found["ends a line"], found["ends a sentence"]) == (2.0, 1.0, 1.0, 1.0)
    assert found["given numbers used"] == 1.0
    assert found["last number"] == pytest.approx(math.log1p(190))
    assert shape("q", "```python\nprint(1)")["open fence"] == 1.0
    assert shape("q", "a << b")["open brackets"] == 1.0


@given(st.text(), st.text())
def test_features_are_finite_and_always_the_same_in_number(query: str, answer: str) -> None:
    found = shape(query, answer)
    assert tuple(found) == SHAPE
    assert all(math.isfinite(value) for value in found.values())


@given(st.lists(st.floats(-1e5, 0.0)))
def test_log_probabilities_become_a_fixed_number_of_features(logprobs: list[float]) -> None:
    found = token_features(logprobs)
    assert len(found) == len(TOKENS)
    if logprobs:
        assert all(value >= MIN_LOGPROB for value in found)
        assert found[0] <= found[4]
    else:
        assert found[-1] == 1.0
        assert all(math.isnan(value) for value in found[:-1])


@given(st.text())
def test_hashed_words_have_length_one_or_are_none(text: str) -> None:
    buckets, weights = hashed(text)
    assert len(buckets) == len(weights)
    assert not len(buckets) or np.linalg.norm(weights) == pytest.approx(1.0)
    assert ((buckets >= 0) & (buckets < BUCKETS)).all()


def test_words_are_hashed_the_same_everywhere() -> None:
    buckets, weights = hashed("the cat, the hat")
    assert buckets.tolist() == [555, 878, 936, 1065, 3016, 3145, 3558, 3794]
    assert sorted(weights.round(3).tolist()) == [0.302] * 7 + [0.603], '"the" is there twice'
    assert hashed("THE CAT, the hat")[0].tolist() == buckets.tolist()


def test_the_score_follows_its_formula() -> None:
    names = feature_names(("shape",))
    width, place = len(names), names.index("a wrong sum")
    weights = np.zeros(width)
    weights[place] = -2.0
    mean, scale = np.full(width, 0.25), np.full(width, 0.5)
    classifier = AnswerClassifier(("shape",), mean, scale, weights, no_words(), no_words(), bias=0.3)
    right, wrong = (classifier.probability("1 and 1?", f"1 + 1 = {value}") for value in (2, 5))
    assert right == pytest.approx(1 / (1 + math.exp(-(0.3 - 2 * (0 - 0.25) / 0.5))))
    assert wrong == pytest.approx(1 / (1 + math.exp(-(0.3 - 2 * (1 - 0.25) / 0.5))))


def test_extreme_features_are_clipped_and_unknown_ones_are_the_mean() -> None:
    width = len(TOKENS)
    by = AnswerClassifier(("tokens",), np.zeros(width), np.ones(width), np.ones(width), no_words(), no_words(), 0.0)
    assert scaled(dense(("tokens",), "", "", []), by)[:-1].tolist() == [0.0] * (width - 1)
    assert scaled(np.full(width, 1e9), by).tolist() == [5.0] * width


@given(st.text(), st.text(), st.lists(st.floats(-1e6, 0)))
def test_a_probability_is_one_whatever_the_texts(
    trained: AnswerClassifier, query: str, answer: str, logprobs: list[float]
) -> None:
    assert 0.0 < trained.probability(query, answer, logprobs) < 1.0


def test_the_classifier_separates_good_from_bad_answers(trained: AnswerClassifier) -> None:
    assert trained.wants_logprobs
    sure, unsure = [-0.05] * 20, [-1.0] * 20
    good = trained.probability("Query: what is 12 and 30 together?", "That is 12 + 30 = 42.", sure)
    bad = trained.probability("Query: what is 12 and 30 together?", "That is 12 + 30 = 52.", unsure)
    assert good > 0.8 > 0.2 > bad
