from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from semroute.learn.category_head import BLOCK, HeadPlan, _Network, continue_head, one_cycle, train_head
from semroute.predictors.category_head import MlpHead
from semroute.types import Matrix

pytestmark = pytest.mark.slow

PLAN = HeadPlan(hidden=16, noise=0.2, learning_rate=0.01, fewest_steps=200, most_steps=200)
CENTRES = np.eye(6, dtype=np.float32)[:3]
LABELS = np.arange(60) % 3


def vectors(spread: float = 0.2) -> Matrix:
    rows = CENTRES[LABELS] + spread * np.random.default_rng(0).normal(size=(60, 6))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def equal(a: MlpHead, b: MlpHead) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(MlpHead))


def test_fine_tuning_learns_to_separate_categories() -> None:
    head = train_head(vectors(), LABELS, 3, PLAN)
    assert (head.probabilities(CENTRES).argmax(axis=1) == [0, 1, 2]).all()
    assert (head.probabilities(vectors()).argmax(axis=1) == LABELS).mean() > 0.95


def test_the_same_seed_gives_the_same_head_and_another_one_another() -> None:
    first = train_head(vectors(), LABELS, 3, PLAN)
    assert equal(first, train_head(vectors(), LABELS, 3, PLAN))
    assert not equal(first, train_head(vectors(), LABELS, 3, replace(PLAN, seed=1)))


def test_the_callers_random_numbers_are_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # the state that all of a process share
    train_head(vectors(), LABELS, 3, PLAN)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_fewer_examples_than_a_batch_are_enough() -> None:
    head = train_head(CENTRES[:2], np.array([0, 1]), 2, replace(PLAN, fewest_steps=30, most_steps=30))
    assert head.probabilities(CENTRES[:2]).shape == (2, 2)


def test_a_category_without_examples_still_has_a_column() -> None:
    assert train_head(vectors(), LABELS, 5, PLAN).probabilities(CENTRES).shape == (3, 5)


def test_steps_grow_with_the_examples_between_their_bounds() -> None:
    plan = HeadPlan(epochs=10, batch=100, fewest_steps=50, most_steps=400)
    assert [plan.steps_for(examples) for examples in (1, 1000, 10**6)] == [50, 100, 400]


def test_continued_training_learns_new_examples_and_keeps_old_ones() -> None:
    rows, new = vectors(), np.array([58, 59])
    rows[new] = np.eye(6, dtype=np.float32)[[4, 4]]  # where the head has seen nothing
    labels = LABELS.copy()
    labels[new] = 2
    before = train_head(rows[:58], labels[:58], 3, PLAN)
    after = continue_head(before, rows, labels, new, PLAN)
    assert (after.probabilities(rows[new])[:, 2] > before.probabilities(rows[new])[:, 2]).all()
    assert (after.probabilities(rows[:58]).argmax(axis=1) == labels[:58]).mean() > 0.95
    assert equal(after, continue_head(before, rows, labels, new, PLAN))


def test_a_head_of_another_size_than_the_plan_is_trained_on() -> None:
    before = train_head(vectors(), LABELS, 3, replace(PLAN, hidden=5))
    after = continue_head(before, vectors(), LABELS, np.zeros(0, np.int64), PLAN)
    assert after.hidden.shape == (6, 5)
    assert (after.probabilities(vectors()).argmax(axis=1) == LABELS).mean() > 0.95


@pytest.mark.torch
def test_the_optimizer_takes_the_steps_of_adamw_in_every_block() -> None:
    import torch

    random = np.random.default_rng(0)
    network = _Network(300, 40, 128, random)
    count = len(network._flat)
    assert count > BLOCK  # more than one block
    weights = torch.tensor(network._flat.astype(np.float64), requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    for step in range(5):
        rate, _ = one_cycle(step, 5, 2e-3)
        slope = random.standard_normal(count).astype(np.float32)
        network._slope[...] = slope
        network.update(rate, 0.9, 0.01)
        weights.grad = torch.tensor(slope.astype(np.float64))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    np.testing.assert_allclose(network._flat, weights.detach().numpy(), atol=2e-6)
