from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate import duplicates as module
from semroute.evaluate.duplicates import MAX_NEIGHBORS, MIN_OVERLAP, NEAR, duplicates, near_pairs, shared
from semroute.text.normalise import normalize
from semroute.text.templates import own_parts


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
    original = module.MAX_COMPARED
    try:
        module.MAX_COMPARED = 2
        assert duplicates(["a", "b", "c"], vectors).near is None
    finally:
        module.MAX_COMPARED = original


@pytest.mark.slow
@given(st.lists(st.floats(0, 6.28), min_size=1, max_size=30), st.integers(1, 50))
def test_pairs_are_those_of_a_loop_whatever_the_block(angles: list[float], cells: int) -> None:
    vectors = _unit(*angles)
    original = module._CELLS
    try:
        module._CELLS = cells
        found = {tuple(pair) for pairs, _ in near_pairs(vectors) for pair in pairs.tolist()}
    finally:
        module._CELLS = original
    whole = vectors @ vectors.T
    sure = {(i, j) for i in range(len(angles)) for j in range(i + 1, len(angles)) if whole[i, j] >= 0.98 + 1e-5}
    perhaps = {(i, j) for i in range(len(angles)) for j in range(i + 1, len(angles)) if whole[i, j] >= 0.98 - 1e-5}
    assert sure <= found <= perhaps


def test_shared_finds_training_duplicates_of_test_rows() -> None:
    group = np.array([0, 1, 0, 2, 1])
    assert shared(group, np.array([0, 1, 3]), np.array([2])).tolist() == [True, False, False]


WORDS = st.lists(st.sampled_from(["red", "blue", "green", "cat", "dog"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.booleans(), WORDS, st.sampled_from([0.0, 0.1, 0.15, 0.3, 2.0])), min_size=1, max_size=25))
def test_pairs_are_those_of_a_comparison_of_all_with_all(drawn: list[tuple[bool, list[str], float]]) -> None:
    rows = {f"{SHOTS * shot}{' '.join(words)}": angle for shot, words, angle in drawn}
    texts, vectors = list(rows), _unit(*rows.values())
    found, is_near = module._pairs(texts, vectors)
    words = [frozenset(normalize(part or "").split()) for part in own_parts(texts)]
    near = {(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if vectors[i] @ vectors[j] >= NEAR}
    expected = {
        (i, j) for i, j in near
        if not (words[i] and words[j]) or len(words[i] & words[j]) / len(words[i] | words[j]) >= MIN_OVERLAP
    }  # fmt: skip
    assert {tuple(sorted(pair)) for pair in found.tolist()} == expected
    assert len(found) == len(expected)
    assert is_near.nonzero()[0].tolist() == sorted({row for pair in near for row in pair})


ITEMS = 1_500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        # The encoder reads the shots alone, and all have one vector.
        pytest.param([f"{SHOTS}Q: how many are in box {n} of {n % 7}\nA:" for n in range(ITEMS)], 1500, id="shots"),
        pytest.param([f"{SHOTS}Q: {n} {'and so on ' * 30}{n * 7}\nA:" for n in range(ITEMS)], None, id="long parts"),
        pytest.param([f"what is {n} and {n + 1}" for n in range(ITEMS)], None, id="short"),
        pytest.param(["the same"] * ITEMS, 1, id="equal"),
    ],
)
def test_pairs_grow_with_the_queries_and_not_with_their_square(texts: list[str], groups: int | None) -> None:
    vectors = np.ones((len(texts), 1), np.float32)
    found = duplicates(texts, vectors)
    assert found.near == ITEMS
    count = len(np.unique(found.group))
    assert count == groups if groups else ITEMS / 200 < count < ITEMS / 10
    once = list(dict.fromkeys(texts))
    assert len(module._pairs(once, vectors[: len(once)])[0]) <= ITEMS * MAX_NEIGHBORS


def test_of_more_near_texts_than_count_the_nearest_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NEIGHBORS", 1)
    angles = [0.0, 0.15, 0.01, 0.14, 0.02]
    found = duplicates(["a", "d", "b", "e", "c"], _unit(*angles)).group
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert found[0] != found[1]
