from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.learn import fit
from semroute.learn.category_head import HeadPlan
from semroute.learn.fit import FOLDS, held_out_scores, prototype_choices, splits
from semroute.types import Matrix

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
TINY = HeadPlan(hidden=4, fewest_steps=5, most_steps=5)


def labels_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def unit(count: int, seed: int = 0) -> Matrix:
    rows = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.slow
@given(SIZES, st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_every_example_is_held_out_once_unless_it_is_alone(sizes: list[int], seed: int) -> None:
    labels = labels_of(sizes)
    found = splits(labels, seed=seed)
    held = np.concatenate([split.held for split in found]) if found else np.zeros(0, np.int64)
    assert sorted(held) == [row for row, label in enumerate(labels) if sizes[label] > 1]
    for split in found:
        assert sorted([*split.fit, *split.held]) == list(range(len(labels)))
        assert set(labels[split.fit]) == set(labels)  # nothing is judged without its category


@pytest.mark.slow
@given(SIZES, st.integers(0, 5), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_a_group_lies_in_one_fold_and_is_held_out_unless_it_is_alone(sizes: list[int], seed: int, twins: int) -> None:
    labels = np.repeat(labels_of(sizes), twins)
    groups = np.repeat(np.arange(sum(sizes)), twins)
    order = np.random.default_rng(seed).permutation(len(labels))
    labels, groups = labels[order], groups[order]
    found = splits(labels, groups, seed=seed)
    for split in found:
        assert not set(groups[split.fit]) & set(groups[split.held])
        assert set(labels[split.fit]) == set(labels)
    held = np.concatenate([split.held for split in found]) if found else np.zeros(0, np.int64)
    assert sorted(held) == [row for row, label in enumerate(labels) if sizes[label] > 1]


def test_a_group_counts_once_with_the_mean_score_of_its_members() -> None:
    vectors = np.eye(6, dtype=np.float32)[[0, 0, 1, 2, 3]]
    labels, groups = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 3])
    held = held_out_scores(vectors, labels, splits(labels, groups, seed=0), groups=groups, head=None, seed=0)
    assert sorted(held.labels) == [0, 0, 1, 1]
    assert np.all(held.similarities[1] == 0.0)  # a twin in the other fold would give 1


def test_many_examples_are_held_out_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "ONE_SPLIT_FROM", 50)
    (split,) = splits(labels_of([30, 30]), seed=0)
    assert len(split.held) == 60 / FOLDS
    assert len(splits(labels_of([20, 20]), seed=0)) == FOLDS


def test_the_same_seed_gives_the_same_splits_and_another_one_others() -> None:
    labels = labels_of([20, 20])
    first, again, other = (splits(labels, seed=seed)[0].held.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_held_out_example_does_not_score_itself() -> None:
    # Two examples at right angles: whoever knew them would give them a similarity of 1.
    vectors = np.eye(6, dtype=np.float32)[[0, 1, 2, 3]]
    held = held_out_scores(vectors, labels_of([2, 2]), splits(labels_of([2, 2]), seed=0), head=None, seed=0)
    assert len(held.labels) == 4
    assert np.all(held.similarities[1] == 0.0)
    assert held.probabilities is None


def test_held_out_scores_cover_all_choices_with_their_labels() -> None:
    labels = labels_of([12, 6])
    seen: list[tuple[str, int, int]] = []
    plan = splits(labels, seed=0)
    held = held_out_scores(unit(18), labels, plan, head=TINY, seed=0, progress=lambda *step: seen.append(step))
    assert set(held.similarities) == {1, 2, 4}
    assert all(scores.shape == (18, 2) for scores in held.similarities.values())
    assert held.probabilities is not None
    assert held.probabilities.shape == (18, 2)
    assert sorted(held.labels) == sorted(labels)
    assert seen == sorted(seen)
    assert seen[-1] == ("validating", 5, 5)


@pytest.mark.parametrize(("sizes", "choices"), [([1], [1]), ([5, 5], [1]), ([6], [1, 2]), ([3, 24], [1, 2, 4, 8])])
def test_only_prototypes_that_a_category_can_fill_are_tried(sizes: list[int], choices: list[int]) -> None:
    assert prototype_choices(labels_of(sizes)) == choices
