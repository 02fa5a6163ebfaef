from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.learn.category_head import HeadPlan, continue_head, train_head, train_logistic
from semroute.learn.few_examples import FEW, NamedRows, few_categories, fit_named, name_texts, words_of
from semroute.learn.fit import FitOptions, fit
from semroute.types import Matrix


def unit(rows: Matrix) -> Matrix:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def examples(categories: int, each: int, spread: float, seed: int = 0) -> tuple[Matrix, np.ndarray]:
    labels = np.repeat(np.arange(categories), each)
    noise = np.random.default_rng(seed).normal(size=(len(labels), 16))
    return unit(np.eye(16)[labels] + spread * noise), labels


def named(vectors: Matrix, labels: np.ndarray, names: NamedRows, **settings: bool):  # type: ignore[no-untyped-def]
    return fit_named(vectors, labels, names, groups=np.arange(len(labels)), options=FitOptions(head=False), **settings)


TRUE_NAMES = NamedRows(np.eye(16, dtype=np.float32)[:8], np.arange(8))
SWAPPED_NAMES = NamedRows(np.eye(16, dtype=np.float32)[:8], np.roll(np.arange(8), 1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("card_arrival", "card arrival"),
        ("card-arrival", "card arrival"),
        ("cardArrival", "card Arrival"),
        ("parseHTMLPage", "parse HTML Page"),
        ("what is.this", "what is this"),
        ("Überweisung_offen", "Überweisung offen"),
        ("\u8a08\u7b97", "\u8a08\u7b97"),
        ("17", ""),
        ("--", ""),
    ],
)
def test_a_name_is_split_into_words(name: str, words: str) -> None:
    assert words_of(name) == words


@given(st.text(max_size=30))
def test_words_of_any_name_are_those_of_their_words(name: str) -> None:
    words = words_of(name)
    assert words == words.strip()
    assert "_" not in words
    assert words_of(words) == words


def test_name_and_description_count_once_each_and_not_what_says_nothing_new() -> None:
    names = ["lost_card", "pin", "3", "fees", "open_hours"]
    descriptions = {"lost_card": "A card is gone", "pin": "PIN", "3": "", "fees": "What it  costs"}
    texts, owners = name_texts(names, descriptions, np.array([0, 1, 2, 3, 4]), ["Open hours", "where is my card"])
    assert texts == ["lost card", "A card is gone", "pin", "fees", "What it costs"]
    assert owners == [0, 0, 1, 3, 3]
    assert name_texts(names, descriptions, np.array([3]), [])[1] == [3, 3]


def test_copies_of_an_example_do_not_make_many_of_few() -> None:
    labels = np.repeat([0, 1, 2], [FEW, FEW + 1, 40])
    groups = np.concatenate([np.arange(2 * FEW + 1), np.full(40, 2 * FEW + 1)])
    assert few_categories(labels, groups).tolist() == [0, 2]


def test_names_move_the_prototypes_where_they_help_and_are_never_held_out() -> None:
    vectors, labels = examples(8, 3, 0.3)
    queries, wanted = examples(8, 50, 0.3, seed=7)
    with_names, without = named(vectors, labels, TRUE_NAMES), fit(vectors, labels, options=FitOptions(head=False))
    assert with_names.report["names"] == 8
    assert (with_names.report["held_out"], with_names.report["groups"]) == (24, 24)
    assert with_names.report["few_examples"] == 3
    right = [(fitted.scorer.scores(queries).argmax(axis=1) == wanted).mean() for fitted in (with_names, without)]
    assert right[0] > right[1]


def test_names_that_harm_held_out_examples_are_left_out() -> None:
    vectors, labels = examples(8, 3, 0.2)
    fitted, plain = named(vectors, labels, SWAPPED_NAMES), fit(vectors, labels, options=FitOptions(head=False))
    assert fitted.report["names"] == 0
    np.testing.assert_array_equal(fitted.scorer.scores(vectors), plain.scorer.scores(vectors))
    np.testing.assert_array_equal(fitted.thresholds, plain.thresholds)


def test_names_count_always_where_nothing_can_be_held_out() -> None:
    vectors, labels = examples(8, 1, 0.3)
    fitted = named(vectors, labels, TRUE_NAMES)
    assert (fitted.report["names"], fitted.report["held_out"], fitted.report["groups"]) == (8, 0, 8)
    middle = unit(vectors + TRUE_NAMES.vectors)
    np.testing.assert_allclose(fitted.scorer.scores(middle).max(axis=1), 1, atol=1e-5)


def test_a_given_plan_stays_that_of_the_examples() -> None:
    vectors, labels = examples(8, 5, 0.2)
    plan = fit(vectors, labels, options=FitOptions(head=False)).report["splits"]
    fitted = named(vectors, labels, TRUE_NAMES)
    assert fitted.report["splits"] == plan
    assert fitted.groups is not None
    assert sorted(fitted.groups.tolist()) == list(range(40))


def test_a_logistic_head_is_at_the_least_of_its_loss() -> None:
    from sklearn.linear_model import LogisticRegression

    vectors, labels = examples(6, 5, 0.3)
    head = train_logistic(vectors, labels, 6)
    expected = LogisticRegression(C=30, max_iter=2000, tol=1e-8).fit(vectors, labels)
    np.testing.assert_allclose(head.probabilities(vectors), expected.predict_proba(vectors), atol=0.02)


def test_a_plan_without_hidden_units_trains_a_logistic_head_and_continues_it_as_anew() -> None:
    vectors, labels = examples(6, 5, 0.3)
    plan = HeadPlan(hidden=0)
    whole = train_head(vectors, labels, 6, plan)
    part = train_head(vectors[:-1], labels[:-1], 6, plan)
    continued = continue_head(part, vectors, labels, np.array([29]), HeadPlan())
    np.testing.assert_allclose(continued.direct, whole.direct, atol=1e-5)
    assert not np.allclose(part.direct, whole.direct, atol=1e-5)
