from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.learn.stacking import STACK, choose_stack, join, squared_error

N = 300
FOLD = np.arange(N) % 3


def truth(seed: int = 0) -> np.ndarray:
    """Quality of two models."""
    return np.random.default_rng(seed).random((N, 2))


def test_two_heads_with_independent_errors_are_better_together() -> None:
    quality, random = truth(), np.random.default_rng(1)
    heads = {name: quality + random.normal(0, 0.3, (N, 2)) for name in ("one", "other")}
    stack = choose_stack(heads, quality, quality.mean(axis=0), FOLD)
    assert stack.chosen == STACK
    assert set(stack.weights) == {"one", "other"}
    assert stack.losses[STACK] < min(stack.losses["one"], stack.losses["other"])
    assert squared_error(stack.left_out, quality) == pytest.approx(stack.losses[STACK])


def test_a_perfect_head_is_chosen_alone() -> None:
    quality = truth()
    heads = {"knows": quality.copy(), "noise": np.random.default_rng(2).random((N, 2))}
    stack = choose_stack(heads, quality, quality.mean(axis=0), FOLD)
    assert stack.chosen in ("knows", STACK)
    assert stack.weights["knows"] == pytest.approx(1.0, abs=1e-6)
    alone = choose_stack({"noise": heads["noise"]}, quality, quality.mean(axis=0), FOLD)
    assert (alone.chosen, alone.weights) == ("noise", {"noise": 1.0})


def test_a_stack_of_useless_heads_predicts_the_prior() -> None:
    random = np.random.default_rng(3)
    quality, prior = truth(), truth().mean(axis=0)
    heads = {name: random.normal(0.5, 2.0, (N, 2)) for name in "ab"}
    stack = choose_stack(heads, quality, prior, FOLD)
    assert stack.losses[STACK] < 0.12, "the heads alone are off by more than 4"


def test_a_head_of_negligible_weight_is_dropped() -> None:
    quality, random = truth(), np.random.default_rng(5)
    heads = {name: quality + random.normal(0, 0.3, (N, 2)) for name in ("one", "other")}
    heads["noise"] = random.random((N, 2))
    stack = choose_stack(heads, quality, quality.mean(axis=0), FOLD)
    assert stack.chosen == STACK
    assert set(stack.weights) == {"one", "other"}
    alone = choose_stack({"one": heads["one"], "other": heads["other"]}, quality, quality.mean(axis=0), FOLD)
    assert stack.losses[STACK] == alone.losses[STACK]
    assert stack.weights == alone.weights


@pytest.mark.slow
@given(st.integers(0, 1000))
def test_weights_are_never_below_zero_and_unknown_cells_do_not_count(seed: int) -> None:
    quality, random = truth(seed), np.random.default_rng(seed)
    heads = {name: random.random((N, 2)) for name in "abc"}
    holes = np.where(random.random((N, 2)) < 0.3, np.nan, quality)
    stack = choose_stack(heads, holes, np.nanmean(holes, axis=0), FOLD)
    assert all(weight >= 0 for weight in stack.weights.values())
    assert stack.losses[stack.chosen] <= min(stack.losses[name] for name in heads)
    assert np.isfinite(stack.left_out).all()


def test_a_head_that_joins_leaves_the_others_weights_among_themselves() -> None:
    quality, random = truth(), np.random.default_rng(6)
    prior = quality.mean(axis=0)
    heads = {name: quality + random.normal(0, 0.3, (N, 2)) for name in ("one", "other")}
    stack = choose_stack(heads, quality, prior, FOLD)
    joined = join(stack, "new", quality + random.normal(0, 0.2, (N, 2)), quality, prior, FOLD)
    assert joined.chosen == STACK
    assert set(joined.weights) == {"one", "other", "new"}
    ratio = stack.weights["one"] / stack.weights["other"]
    assert joined.weights["one"] / joined.weights["other"] == pytest.approx(ratio)
    assert squared_error(joined.left_out, quality) < squared_error(stack.left_out, quality)


def test_a_useless_or_perfect_head_joins_with_all_or_no_weight() -> None:
    quality, random = truth(), np.random.default_rng(7)
    prior = quality.mean(axis=0)
    heads = {name: quality + random.normal(0, 0.1, (N, 2)) for name in ("one", "other")}
    stack = choose_stack(heads, quality, prior, FOLD)
    assert join(stack, "new", random.random((N, 2)), quality, prior, FOLD) is stack
    knows = join(stack, "new", quality.copy(), quality, prior, FOLD)
    assert (knows.chosen, knows.weights) == ("new", {"new": pytest.approx(1.0)})
