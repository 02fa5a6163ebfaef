from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate import routing
from semroute.evaluate.routing import overlaps
from semroute.types import Matrix


def unit(*degrees: float) -> Matrix:
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def test_an_example_that_lies_in_another_category_is_found_with_both_cosines() -> None:
    vectors, labels = unit(0, 5, 88, 90, 90.5), np.array([0, 0, 0, 1, 1])
    (pair,) = overlaps(vectors, labels)
    assert (pair.category, pair.other, pair.count) == (0, 1, 1)
    assert pair.share == pytest.approx(1 / 3)
    (stray,) = pair.worst
    assert (stray.row, stray.rival) == (2, 3)
    assert stray.own == pytest.approx(np.cos(np.radians(83)), abs=1e-5)
    assert stray.other == pytest.approx(np.cos(np.radians(2)), abs=1e-5)


def test_separate_categories_do_not_overlap() -> None:
    assert overlaps(unit(0, 5, 90, 95), np.array([0, 0, 1, 1])) == []


def test_the_only_example_of_a_category_is_not_counted() -> None:
    assert overlaps(unit(0, 5, 20), np.array([0, 0, 1])) == []


def test_a_text_in_two_categories_is_an_overlap_of_both() -> None:
    found = overlaps(unit(0, 30, 30, 70), np.array([0, 0, 1, 1]))
    assert [(pair.category, pair.other, pair.count) for pair in found] == [(0, 1, 1), (1, 0, 1)]


def test_the_worst_examples_are_listed_worst_first() -> None:
    vectors, labels = unit(0, 1, 60, 70, 80, 60.5, 71, 82), np.array([0, 0, 0, 0, 0, 1, 1, 1])
    found = next(pair for pair in overlaps(vectors, labels, worst=2) if pair.category == 0)
    assert found.count == 3
    assert len(found.worst) == 2
    first, second = found.worst
    assert first.other - first.own >= second.other - second.own


@pytest.mark.slow
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 4))
def test_the_block_size_does_not_change_the_overlaps(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = random.integers(0, classes, count)
    whole = overlaps(vectors, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "MAX_CELLS", 1)
        single = overlaps(vectors, labels)
    assert [(p.category, p.other, p.count) for p in single] == [(p.category, p.other, p.count) for p in whole]
    for pair in whole:
        assert 0 < pair.share <= 1
        for stray in pair.worst:
            assert stray.other > stray.own
            assert (labels[stray.row], labels[stray.rival]) == (pair.category, pair.other)
            assert pair.category != pair.other
