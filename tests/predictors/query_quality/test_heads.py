from __future__ import annotations

import numpy as np
import pytest
from predictors.query_quality.query_heads import DIMENSIONS, made, no_categories

from semroute.predictors.quality_heads import LEAF, PRIOR, ClusterHead, LinearHead, NeighbourHead, TreesHead
from semroute.predictors.query_features import FEATURES, QueryInputs

AXES = np.eye(DIMENSIONS, dtype=np.float32)


def inputs(vectors: np.ndarray, features: np.ndarray | None = None) -> QueryInputs:
    """Inputs of vectors, with features that are all 0 unless they are given."""
    vectors = np.asarray(vectors, np.float32)
    written = np.zeros((len(vectors), 2), np.float32) if features is None else features
    return QueryInputs(vectors, written, [""] * len(vectors))


def test_inputs_are_vectors_features_and_similarity_to_categories() -> None:
    data = made(3)
    found = QueryInputs.of(data.queries, data.vectors, AXES[:2])
    assert found.features.shape == (3, len(FEATURES) + 2)
    np.testing.assert_allclose(found.features[:, -2:], data.vectors[:, :2], rtol=1e-6)
    assert QueryInputs.of(data.queries, data.vectors, no_categories()).features.shape == (3, len(FEATURES))
    assert len(found.take(np.array([2, 0]))) == 2


def test_the_linear_head_follows_its_formula_and_clips_features() -> None:
    weights = np.zeros((DIMENSIONS + 2, 1))
    weights[0, 0], weights[DIMENSIONS, 0] = 0.01, 0.1
    head = LinearHead(np.array([1.0, 0.0]), np.array([2.0, 1.0]), weights, np.array([0.5]))
    near, far = np.array([[2.0, 0.0], [1000.0, 0.0]], np.float32)
    assert head.predict(inputs(AXES[:1], near[None]))[0, 0] == pytest.approx(0.01 * 20 + 0.1 * 0.5 + 0.5)
    assert head.predict(inputs(AXES[:1], far[None]))[0, 0] == pytest.approx(0.01 * 20 + 0.1 * 3 + 0.5)


def test_neighbours_are_averaged_with_the_prior_and_what_is_not_known_does_not_count() -> None:
    quality = np.array([[1.0, np.nan], [1.0, 0.0], [0.0, 0.0]], np.float32)
    head = NeighbourHead(AXES[[0, 0, 1]].astype(np.float16), quality, np.array([0.5, 0.2]), 2)
    found = head.predict(inputs(AXES[:1]))[0]
    assert found[0] == pytest.approx((2 + PRIOR * 0.5) / (2 + PRIOR))
    assert found[1] == pytest.approx((0 + PRIOR * 0.2) / (1 + PRIOR))
    assert head.predict(inputs(np.zeros((0, DIMENSIONS)))).shape == (0, 2)


def test_clusters_are_averaged_over_their_tables() -> None:
    table = np.array([[[0.2], [0.4]], [[0.6], [0.9]]], np.float32)
    head = ClusterHead(np.stack([AXES[[0, 1]], AXES[[1, 0]]]), table)
    np.testing.assert_allclose(head.predict(inputs(AXES[:2])), [[(0.2 + 0.9) / 2], [(0.4 + 0.6) / 2]], rtol=1e-6)


def _stump() -> TreesHead:
    """One tree that asks whether the second feature is at most 1, and one that is a leaf alone."""
    return TreesHead(
        directions=np.zeros((DIMENSIONS, 1), np.float32),
        feature=np.array([1, LEAF, LEAF, LEAF], np.int32),
        threshold=np.array([1.0, 0, 0, 0], np.float32),
        left=np.array([1, 1, 2, 3], np.int32),
        right=np.array([2, 1, 2, 3], np.int32),
        values=np.array([[9.0], [0.1], [0.3], [0.05]], np.float32),
        roots=np.array([0, 3], np.int32),
        bias=np.array([0.5]),
    )


def test_trees_sum_their_leaf_values() -> None:
    features = np.array([[0.0, 1.0], [0.0, 1.5]], np.float32)
    found = _stump().predict(inputs(AXES[:2], features))
    np.testing.assert_allclose(found, [[0.1 + 0.05 + 0.5], [0.3 + 0.05 + 0.5]], rtol=1e-6)


def test_every_head_comes_back_from_its_arrays() -> None:
    random = np.random.default_rng(0)
    heads = (
        LinearHead(np.zeros(2), np.ones(2), random.normal(size=(DIMENSIONS + 2, 3)), np.ones(3)),
        NeighbourHead(AXES.astype(np.float16), random.random((DIMENSIONS, 3)).astype(np.float32), np.ones(3), 2),
        ClusterHead(AXES[None], random.random((1, DIMENSIONS, 3)).astype(np.float32)),
        _stump(),
    )
    given = inputs(AXES, random.random((DIMENSIONS, 2)).astype(np.float32))
    for head in heads:
        again = type(head).from_arrays(head.arrays())
        np.testing.assert_array_equal(again.predict(given), head.predict(given))


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        ClusterHead.from_arrays({"centroids": AXES[None], "table": np.zeros((1, 2, 3))})
    with pytest.raises(ValueError, match="different lengths"):
        TreesHead.from_arrays({**_stump().arrays(), "left": np.zeros(3)})
    with pytest.raises(KeyError):
        LinearHead.from_arrays({})
