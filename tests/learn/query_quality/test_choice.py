from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from semroute.learn.finetuning import TunedPart
from semroute.learn.stacking import Grouping, HeadChoice, choose_heads

N = 400
UNSEEN = np.arange(0, N, 5)
GROUPING = Grouping(np.arange(N), folds=3, seed=0)
QUALITY = np.random.default_rng(0).random((N, 2))
PRIOR = QUALITY.mean(axis=0)


def said(error: float, seed: int) -> np.ndarray:
    return QUALITY + np.random.default_rng(seed).normal(0, error, (N, 2))


def chosen(heads: dict[str, np.ndarray], tuned: np.ndarray | None) -> HeadChoice:
    # The head itself is not looked at in a choice.
    head: Any = None
    part = None if tuned is None else TunedPart(head, UNSEEN, tuned[UNSEEN])
    return choose_heads(heads, part, QUALITY, PRIOR, GROUPING)


def test_a_useless_tuned_encoder_does_not_change_the_stack() -> None:
    heads = {"one": said(0.3, 1), "other": said(0.3, 2)}
    without, beside = chosen(heads, None), chosen(heads, np.random.default_rng(3).random((N, 2)))
    assert beside.stack.weights == without.stack.weights
    np.testing.assert_array_equal(beside.stack.left_out, without.stack.left_out)
    np.testing.assert_array_equal(beside.judged, np.arange(N))
    assert (without.compared, beside.compared) == (N, len(UNSEEN))
    assert set(beside.stack.losses) == {"one", "other", "tuned", "stack"}


def test_a_good_tuned_encoder_joins_and_is_validated_on_rows_left_out_of_its_tuning() -> None:
    found = chosen({"one": said(0.3, 1), "other": said(0.3, 2)}, said(0.3, 4))
    assert set(found.stack.weights) == {"one", "other", "tuned"}
    np.testing.assert_array_equal(found.judged, UNSEEN)
    assert found.stack.left_out.shape == (len(UNSEEN), 2)
    assert found.stack.losses["stack"] < min(found.stack.losses[name] for name in ("one", "other", "tuned"))


def test_a_tuned_encoder_may_be_the_only_head() -> None:
    found = chosen({}, said(0.2, 4))
    assert found.stack.weights == {"tuned": pytest.approx(1.0)}
    np.testing.assert_array_equal(found.judged, UNSEEN)


def test_duplicates_lie_in_one_part() -> None:
    group = np.repeat(np.arange(100), 4)
    numbers = Grouping(group, folds=3, seed=1).of_some(np.arange(0, N, 2))
    assert set(numbers.tolist()) == {0, 1, 2}
    pairs = numbers.reshape(-1, 2)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
