from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.learn.labelling import RANDOM, disagreement, picks, rarity


def test_answers_without_a_common_word_disagree_fully() -> None:
    assert disagreement(["yes it is", "no never"]) == 1.0
    assert disagreement(["Yes it is", "yes it is"]) == 0.0
    assert disagreement(["a b", "a c"]) == 1 - 1 / 3
    assert disagreement(["alone"]) == disagreement([]) == 0.0


def test_distant_queries_are_rare() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
    found = rarity(vectors)
    assert found.argmax() == 3
    assert found[:3].max() < found[3]


def test_every_other_pick_is_random_and_the_rest_begin_with_the_hardest() -> None:
    answers = [["same", "same"]] * 6 + [["one", "other"]] * 2
    draws = np.array([0.5, 0.1, 0.3, 0.7, 0.2, 0.6, 0.0, 0.4])
    found = picks(answers, None, None, draws=draws)
    assert [pick.reason == RANDOM for pick in found] == [False, True] * 4
    assert found[0].row == 6
    assert found[0].reason == "disagreeing"
    assert {pick.row for pick in found[:3] if pick.reason != RANDOM} <= {6, 7}
    at_random = [pick.draw for pick in found if pick.reason == RANDOM]
    assert at_random == sorted(at_random), "the smallest draws come first, but for those that are judged as hard"
    assert [pick.draw for pick in found] == draws[[pick.row for pick in found]].tolist()


def test_uncertain_queries_come_first_among_agreeing_ones() -> None:
    predicted = np.array([[0.99, 0.98], [0.5, 0.5], [0.9, 0.95]], np.float32)
    first = picks([["same", "same"]] * 3, None, predicted, draws=np.array([0.1, 0.2, 0.3]))[0]
    assert (first.row, first.reason) == (1, "uncertain")


@pytest.mark.slow
@given(st.integers(0, 30), st.integers(0, 100))
def test_every_row_is_picked_once_in_order_of_its_draw(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 4)).astype(np.float32)
    answers = [[f"word{random.integers(9)}" for _ in range(2)] for _ in range(count)]
    draws = random.random(count)
    found = picks(answers, vectors, None, draws=draws)
    assert sorted(pick.row for pick in found) == list(range(count))
    assert found == picks(answers, vectors, None, draws=draws)
