from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.errors import InputError
from semroute.evaluate.replay import k_folds, task_folds


@pytest.mark.slow
@given(st.lists(st.integers(0, 30), min_size=8, max_size=80), st.integers(2, 5), st.integers(0, 9))
def test_each_row_is_tested_once_and_never_with_its_duplicates_in_training(names: list[int], k: int, seed: int) -> None:
    group = np.unique(names, return_inverse=True)[1]
    if len(set(names)) < k:
        with pytest.raises(InputError, match="cannot be split"):
            k_folds(group, k, seed=seed)
        return
    folds = k_folds(group, k, seed=seed)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(group)))
    for fold in folds:
        assert not set(group[fold.train]) & set(group[fold.test])
        assert len(fold.train) + len(fold.test) == len(group)
        assert len(fold.test) <= len(group) / k + np.bincount(group).max()


def test_folds_are_of_equal_size_and_drawn_by_the_seed() -> None:
    group = np.arange(103)
    one, same, other = (k_folds(group, 5, seed=seed) for seed in (0, 0, 1))
    assert sorted(len(fold.test) for fold in one) == [20, 20, 21, 21, 21]
    assert all((a.test == b.test).all() for a, b in zip(one, same, strict=True))
    assert not all(len(a.test) == len(b.test) and (a.test == b.test).all() for a, b in zip(one, other, strict=True))


def test_task_folds_leave_whole_tasks_and_their_duplicates_out() -> None:
    tasks = ["a", "a", "b", "b", "c"]
    folds = task_folds(tasks, np.array([0, 1, 0, 2, 3]), 9, seed=0)
    assert len(folds) == 3
    for fold in folds:
        assert len({tasks[row] for row in fold.test}) == 1
        assert not {tasks[row] for row in fold.test} & {tasks[row] for row in fold.train}
    by_task = {tasks[fold.test[0]]: fold for fold in folds}
    assert by_task["a"].train.tolist() == [3, 4]
    assert by_task["b"].train.tolist() == [1, 4]
    assert by_task["c"].train.tolist() == [0, 1, 2, 3]


def test_many_tasks_share_folds() -> None:
    tasks = [str(number) for number in range(14)] * 3
    folds = task_folds(tasks, np.arange(42), 5, seed=0)
    assert sorted(len({tasks[row] for row in fold.test}) for fold in folds) == [2, 3, 3, 3, 3]


def test_one_task_cannot_be_left_out() -> None:
    with pytest.raises(InputError, match="at least two tasks"):
        task_folds(["a", "a"], np.arange(2), 5, seed=0)
