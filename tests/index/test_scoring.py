from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semroute.index import Calibration, PrototypeIndex, Scorer
from semroute.index.scoring import best_and_margin, blend
from semroute.types import Matrix

SCORES = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-1, 1, width=32))
POSITIVE = st.floats(0, 1000)
AXES = np.eye(3, dtype=np.float32)


@dataclass(frozen=True)
class FixedHead:
    rows: Matrix
    kind: str = "fixed"

    def probabilities(self, vectors: Matrix) -> Matrix:
        return np.repeat(self.rows, len(vectors), axis=0)

    def write(self, path: Path) -> None:
        raise NotImplementedError


def scorer(head: FixedHead | None, weight: float) -> Scorer:
    return Scorer(PrototypeIndex.build(AXES, [1, 1, 1]), head, weight, Calibration(0.0, 1.0, 1.0))


HEAD = FixedHead(np.array([[0.1, 0.2, 0.7]], dtype=np.float32))
QUERY = np.array([[0.6, 0.8, 0.0]], dtype=np.float32)


@pytest.mark.parametrize(("head", "weight"), [(HEAD, 0.0), (None, 0.0), (None, 0.7)])
def test_without_a_share_of_a_head_the_score_is_the_plain_cosine(head: FixedHead | None, weight: float) -> None:
    np.testing.assert_array_equal(scorer(head, weight).scores(QUERY), QUERY)


def test_a_head_is_blended_by_its_share() -> None:
    found = scorer(HEAD, 0.25).scores(QUERY)
    np.testing.assert_allclose(found, [[0.475, 0.65, 0.175]], atol=1e-6)
    assert found.dtype == np.float32


def test_a_share_of_one_is_the_head_alone() -> None:
    np.testing.assert_allclose(blend(QUERY, HEAD.rows, 1.0), HEAD.rows, atol=1e-7)


def test_the_lead_is_over_the_next_best() -> None:
    best, margin = best_and_margin(np.array([[0.1, 0.9, 0.6], [0.5, 0.5, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(best, [0.9, 0.5], atol=1e-7)
    np.testing.assert_allclose(margin, [0.3, 0.0], atol=1e-7)


def test_with_one_category_the_lead_is_one() -> None:
    best, margin = best_and_margin(np.array([[0.25], [-0.5]], dtype=np.float32))
    assert (best.tolist(), margin.tolist()) == ([0.25, -0.5], [1.0, 1.0])


def test_the_confidence_is_the_logistic_function_by_hand() -> None:
    found = Calibration(bias=-1.0, score=2.0, margin=3.0).confidence(np.array([[0.5, 0.25]], dtype=np.float32))
    assert found[0] == pytest.approx(1 / (1 + np.exp(-0.75)))


@pytest.mark.slow
@given(SCORES, st.floats(-1000, 1000), POSITIVE, POSITIVE)
@settings(deadline=None, max_examples=80)
def test_confidence_is_never_certainty(scores: Matrix, bias: float, score: float, margin: float) -> None:
    found = Calibration(bias, score, margin).confidence(scores)
    assert found.shape == (len(scores),)
    assert np.all((found > 0) & (found < 1))


@pytest.mark.slow
@given(SCORES, st.floats(-5, 5), POSITIVE, POSITIVE, st.floats(0, 1, width=32))
@settings(deadline=None, max_examples=80)
def test_a_better_best_score_never_lowers_the_confidence(
    scores: Matrix, bias: float, score: float, margin: float, gain: float
) -> None:
    calibration = Calibration(bias, score, margin)
    better = scores.copy()
    better[np.arange(len(scores)), scores.argmax(axis=1)] += np.float32(gain)
    assert np.all(calibration.confidence(better) >= calibration.confidence(scores) - 1e-9)
