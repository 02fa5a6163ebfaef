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
    found = duplicates(["a", "b", "c", "d", "C"], _unit(0.0, 0.1, 1.0, 2.0, 0.15))
    assert found.group[0] == found.group[1] == found.group[4] == found.group[2]
    assert found.group[3] != found.group[0]
    assert found.same_text == 2
    assert found.near == 3


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
