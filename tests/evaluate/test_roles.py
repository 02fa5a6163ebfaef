from __future__ import annotations

import numpy as np
import pytest

from semroute.errors import InputError
from semroute.evaluate.comparison_results import best_single, chosen_shares, roles
from semroute.evaluate.replay import Fold

QUALITY = np.array([[0.2, 0.9, 0.5], [0.4, 0.7, 0.5]], np.float32)
COST = np.array([[1.0, 5.0, 5.0], [1.0, 5.0, 5.0]], np.float32)


def test_roles_take_the_cheapest_and_most_expensive_and_break_ties_by_quality() -> None:
    found = roles(("a", "b", "c"), QUALITY, COST)
    assert (found.cheapest, found.strongest, found.pair) == (0, 1, None)
    assert roles(("a", "b", "c"), QUALITY, np.ones_like(COST)).cheapest == 1


def test_the_strongest_may_be_named_but_must_be_there() -> None:
    assert roles(("a", "b", "c"), QUALITY, COST, "c").strongest == 2
    with pytest.raises(InputError, match='no model "d" among the outcomes; they hold a, b, c'):
        roles(("a", "b", "c"), QUALITY, COST, "d")


def test_two_models_are_a_pair_whatever_their_order() -> None:
    assert roles(("a", "b"), QUALITY[:, :2], COST[:, :2]).pair == (0, 1)
    assert roles(("b", "a"), QUALITY[:, [1, 0]], COST[:, :2]).pair == (1, 0)


def test_the_best_single_model_is_chosen_without_the_rows_it_is_judged_on() -> None:
    quality = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    cost = np.ones((3, 2), np.float32)
    folds = [Fold(np.array([1, 2]), np.array([0])), Fold(np.array([0]), np.array([1, 2]))]
    assert best_single(quality, cost, folds).tolist() == [0, 1, 1]


def test_chosen_shares_list_only_chosen_models() -> None:
    shares = chosen_shares(("a", "b", "c"), np.array([2, 0, 2, 2]))
    assert list(shares.items()) == [("c", 0.75), ("a", 0.25)]


def test_of_equally_good_models_the_cheaper_is_the_best_single_one() -> None:
    same, cost = np.ones((2, 2), np.float32), np.array([[2.0, 1.0]] * 2, np.float32)
    assert best_single(same, cost, [Fold(np.array([0]), np.array([1]))])[1] == 1
