from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.strategies import CategoryMatcher, SemanticMatch
from semroute.strategies.semantic import Ranking
from semroute.types import CategoryScore


def ranking(scores: list[float], names: tuple[str, ...] = ("art", "code", "law")) -> Ranking:
    return Ranking(names, np.array(scores, dtype=np.float32), np.array([0.1, 0.2, 0.3]))


def decide(
    scores: list[float], thresholds: list[float], names: tuple[str, ...] = ("art", "code", "law")
) -> SemanticMatch:
    strategy = CategoryMatcher(names, np.array(thresholds))
    (verdict,) = strategy.decide(np.array([scores], dtype=np.float32), np.full(1, 0.5), np.zeros(1, dtype=np.bool_))
    return verdict


def test_the_best_category_above_its_threshold_wins() -> None:
    verdict = decide([0.25, 0.75, 0.5], [0.5, 0.5, 0.5])
    assert (verdict.category, verdict.score, verdict.threshold, verdict.confidence) == ("code", 0.75, 0.5, 0.5)
    assert verdict.reason == "closest to code: 0.750 reaches its threshold 0.500"


def test_a_rejected_winner_is_not_replaced_by_a_worse_category_with_a_lower_bar() -> None:
    verdict = decide([0.5, 0.75, 0.25], [0.125, 0.875, 0.125])
    assert verdict.category is None
    assert (verdict.score, verdict.threshold) == (0.75, 0.875)
    assert verdict.reason == "nothing here fits: closest to code, but 0.750 is below its threshold 0.875"


@pytest.mark.parametrize(("score", "category"), [(0.0, "art"), (0.125, "art"), (-0.125, None)])
def test_a_threshold_of_zero_is_a_threshold(score: float, category: str | None) -> None:
    assert decide([score, -0.5, -0.5], [0.0, 0.0, 0.0]).category == category


def test_a_score_that_equals_its_threshold_reaches_it() -> None:
    assert decide([0.5, 0.0, 0.0], [0.5, 0.0, 0.0]).category == "art"


def test_a_threshold_below_every_score_accepts_everything() -> None:
    assert decide([-0.9, -0.95, -1.0], [-1.0, -1.0, -1.0]).category == "art"


def test_equal_scores_stand_in_alphabetical_order() -> None:
    verdict = decide([0.5, 0.75, 0.75], [0.0, 0.0, 0.0])
    assert verdict.category == "code"
    assert [entry.category for entry in verdict.categories] == ["code", "law", "art"]


def test_one_category_alone_is_decided_by_its_threshold() -> None:
    assert decide([0.5], [0.4], ("only",)).category == "only"
    assert decide([0.5], [0.6], ("only",)).category is None


def test_a_batch_is_decided_row_by_row_and_none_gives_none() -> None:
    strategy = CategoryMatcher(("art", "code"), np.array([0.5, 0.5]))
    scores = np.array([[0.75, 0.25], [0.25, 0.75], [0.25, 0.125]], dtype=np.float32)
    verdicts = strategy.decide(scores, np.array([0.75, 0.5, 0.25]), np.zeros(3, dtype=np.bool_))
    assert [verdict.category for verdict in verdicts] == ["art", "code", None]
    assert [verdict.confidence for verdict in verdicts] == [0.75, 0.5, 0.25]
    assert strategy.decide(np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0, dtype=np.bool_)) == []


def test_the_reason_says_when_the_first_stage_answered() -> None:
    strategy = CategoryMatcher(("art", "code"), np.array([0.5, 0.5]))
    scores = np.array([[0.75, 0.25], [0.75, 0.25]], dtype=np.float32)
    by_first, by_second = strategy.decide(scores, np.full(2, 0.5), np.array([True, False]))
    assert by_first.reason == "the first stage is sure: closest to art: 0.750 reaches its threshold 0.500"
    assert by_second.reason == "closest to art: 0.750 reaches its threshold 0.500"


@pytest.mark.slow
@given(st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=8), st.data())
@settings(deadline=None, max_examples=60)
def test_the_lazy_ranking_is_the_sorted_list(scores: list[float], data: st.DataObject) -> None:
    names = tuple(f"c{number}" for number in range(len(scores)))
    thresholds = np.linspace(0, 1, len(scores))
    lazy = Ranking(names, np.array(scores, dtype=np.float32), thresholds)
    entries = [CategoryScore(n, s, float(t)) for n, s, t in zip(names, scores, thresholds, strict=True)]
    expected = sorted(entries, key=lambda entry: (-entry.score, entry.category))
    assert list(lazy) == expected
    assert lazy == expected
    assert lazy == tuple(expected)
    assert len(lazy) == len(expected)
    cut = data.draw(st.slices(len(scores)))
    assert lazy[cut] == tuple(expected[cut])
    assert lazy[-1] == expected[-1]
    assert repr(lazy) == repr(tuple(expected))


def test_a_ranking_is_a_sequence_like_any_other() -> None:
    found = ranking([0.5, 0.75, 0.25])
    assert found == ranking([0.5, 0.75, 0.25])
    assert hash(found) == hash(ranking([0.5, 0.75, 0.25])) == hash(tuple(found))
    assert found != ranking([0.5, 0.75, 0.0])
    assert found != found[:2]
    assert found != "not a ranking"
    assert found[1] in found
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.slow
@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=6, unique=True))
@settings(deadline=None, max_examples=60)
def test_a_threshold_of_another_category_never_changes_the_decision(scores: list[float]) -> None:
    names = tuple(f"c{number}" for number in range(len(scores)))
    best = int(np.argmax(scores))
    low = [-1.0] * len(scores)
    high = [2.0] * len(scores)
    low[best] = high[best] = 0.25
    assert decide(scores, low, names).category == decide(scores, high, names).category
