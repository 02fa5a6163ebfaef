from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate import replay
from semroute.evaluate.replay import duplicates, near_pairs, shared
from semroute.text.normalise import normalize


def _unit(*angles: float) -> np.ndarray:
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def test_duplicates_ignore_case_whitespace_and_compatibility_characters() -> None:
    assert normalize(" What IS\n\tx\N{NO-BREAK SPACE}? ") == "what is x ?"
    assert normalize("\N{LATIN SMALL LIGATURE FI}ne") == "fine"
    found = duplicates(["A b", "a  B", "c", "A b"])
    assert found.group.tolist() == [0, 0, 1, 0]
    assert (found.same_text, found.near) == (3, None)


def test_near_equal_vectors_merge_groups() -> None:
    # 0.1 apart is a cosine of 0.995, 0.3 apart one of 0.955; the text of the last is that of the third.
    found = duplicates(["a", "b", "c", "d", "C"], _unit(0.0, 0.1, 0.15, 2.0, 0.15))
    assert found.group[0] == found.group[1] == found.group[4] == found.group[2]
    assert found.group[3] != found.group[0]
    assert found.same_text == 2
    assert found.near == 4


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_a_chain_of_near_queries_does_not_join_its_ends(order: list[int]) -> None:
    texts, angles = ["a", "b", "c", "d"], [0.0, 0.15, 0.301, 0.452]
    found = duplicates([texts[place] for place in order], _unit(*(angles[place] for place in order))).group
    group = {texts[place]: number for place, number in zip(order, found.tolist(), strict=True)}
    assert group["a"] == group["b"]
    assert group["c"] == group["d"]
    assert group["a"] != group["c"]


SHOTS = "Q: What is two and two?\nA: four\n\nQ: Which colour has the sky at noon?\nA: blue\n\n"
PLACES = ("box", "jar", "van", "hall", "yard", "ship")
QUESTIONS = [f"how many {thing} fit into a {place}" for thing in ("cats", "cups", "cars") for place in PLACES]


@pytest.mark.parametrize(
    "template",
    [
        SHOTS + "Q: {}\nA:",
        "You are a careful assistant of a large shop, and answer in one line, without any greeting. {}",
        "{}\n\nThink step by step, then write the letter of the right option alone on the last line, with no dot.",
    ],
)
def test_questions_of_one_template_are_different_queries(template: str) -> None:
    texts = [template.format(question) for question in QUESTIONS]
    alike = np.ones((len(texts), 1), np.float32)
    assert len(np.unique(duplicates(texts, alike).group)) == len(texts)
    again = [*texts, template.format(QUESTIONS[0].upper()), template.format(f"{QUESTIONS[0]} now")]
    found = duplicates(again, np.ones((len(again), 1), np.float32)).group
    assert found[-1] == found[-2] == found[0], "the same question in other letters, and with one more word"


def test_a_few_long_spellings_of_one_question_are_no_template() -> None:
    texts = [
        f"Please tell me, as soon as you can, at what time the office in the old town opens on {day}s"
        for day in ("Monday", "monday", "Mon")
    ]
    assert len(np.unique(duplicates(texts, np.ones((3, 1), np.float32)).group)) == 1


def test_many_rows_are_compared_by_text_alone() -> None:
    vectors = _unit(0.0, 0.0, 1.0)
    original = replay.MAX_COMPARED
    try:
        replay.MAX_COMPARED = 2
        assert duplicates(["a", "b", "c"], vectors).near is None
    finally:
        replay.MAX_COMPARED = original


@pytest.mark.slow
@given(st.lists(st.floats(0, 6.28), min_size=1, max_size=30), st.integers(1, 50))
def test_pairs_are_those_of_a_loop_whatever_the_block(angles: list[float], cells: int) -> None:
    vectors = _unit(*angles)
    original = replay._CELLS
    try:
        replay._CELLS = cells
        found = set(map(tuple, near_pairs(vectors).tolist()))
    finally:
        replay._CELLS = original
    whole = vectors @ vectors.T
    sure = {(i, j) for i in range(len(angles)) for j in range(i + 1, len(angles)) if whole[i, j] >= 0.98 + 1e-5}
    perhaps = {(i, j) for i in range(len(angles)) for j in range(i + 1, len(angles)) if whole[i, j] >= 0.98 - 1e-5}
    assert sure <= found <= perhaps


def test_shared_finds_training_duplicates_of_test_rows() -> None:
    group = np.array([0, 1, 0, 2, 1])
    assert shared(group, np.array([0, 1, 3]), np.array([2])).tolist() == [True, False, False]
