from __future__ import annotations

import time

import pytest

from semroute.predictors.query_features import KINDS, question_kinds


def kinds(text: str) -> set[str]:
    return {kind for kind, is_one in zip(KINDS, question_kinds(text), strict=True) if is_one}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", {"what"}),
        ("How many legs has a spider?", {"how many"}),
        ("How do I boil an egg?", {"how"}),
        ("Is Pluto a planet?", {"yes or no"}),
        ("Where was he born?", {"when or where"}),
        ("Calculate the area of the circle.", {"compute"}),
        ("Write a poem about rain.", {"write"}),
        ("Explain gravity.", {"explain"}),
        ("The first president of the USA was", {"complete"}),
        ("The colour of the sky is ____.", {"complete"}),
        ("Warum ist der Himmel blau?", set()),
    ],
)
def test_the_kind_of_a_question_follows_from_its_words(text: str, expected: set[str]) -> None:
    assert kinds(text) == expected


def test_hostile_texts_take_linear_time() -> None:
    for text in ("is " * 3000, "_" * 9000, "a " * 4500, "how " * 2000, "?" * 9000):
        start = time.process_time()
        question_kinds(text)
        assert time.process_time() - start < 0.5
