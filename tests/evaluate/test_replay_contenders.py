from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from semroute.errors import InputError
from semroute.evaluate.baselines import (
    PRIOR,
    EvaluationData,
    cluster_table,
    fitted,
    mean_quality,
    out_of_fold,
    prompt_length,
    task_table,
)
from semroute.evaluate.replay import Fold, k_folds
from semroute.types import Matrix, QualityPredictor

EVERY = np.arange(4)


def _known(**changes: object) -> EvaluationData:
    quality = np.array([[0.0, 1.0], [0.5, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
    values = {"queries": ["a", "bb", "cccc", "d" * 8], "tasks": ["t", "t", "u", "u"], "vectors": None}
    return EvaluationData(**values | {"quality": quality} | changes)  # type: ignore[arg-type]


def test_the_mean_is_the_same_for_every_query() -> None:
    assert mean_quality(_known(), np.array([0, 1]), np.array([2, 3])).tolist() == [[0.25, 1.0], [0.25, 1.0]]


def test_length_is_a_line_over_its_logarithm() -> None:
    known = _known(queries=["x" * n for n in (1, 3, 7, 15)])  # log(1 + n) is 1, 2, 3 and 4 times log 2
    quality = np.column_stack([[0.1, 0.2, 0.3, 0.4], [0.9, 0.7, 0.5, 0.3]]).astype(np.float32)
    known = _known(queries=known.queries, quality=quality)
    np.testing.assert_allclose(prompt_length(known, EVERY[:3], EVERY[3:]), [[0.4, 0.3]], atol=1e-5)


def test_a_task_is_its_mean_mixed_with_the_overall_one() -> None:
    found = task_table(_known(), np.array([0, 1, 2]), np.array([0, 3]))
    overall = np.array([0.5, 2 / 3])
    expected = [(np.array([0.5, 2.0]) + PRIOR * overall) / (2 + PRIOR), (np.array([1.0, 0.0]) + PRIOR * overall) / 11]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_task_that_was_never_seen_has_the_overall_mean() -> None:
    np.testing.assert_allclose(task_table(_known(), np.array([0, 1]), np.array([2])), [[0.25, 1.0]])


def test_a_model_that_no_training_row_knows_has_the_mean_of_all_models() -> None:
    quality = np.array([[0.0, np.nan], [0.5, np.nan], [1.0, 0.0], [1.0, 1.0]], np.float32)
    found = task_table(_known(quality=quality), np.array([0, 1]), np.array([2]))
    np.testing.assert_allclose(found, [[0.25, 0.25]])


def test_cluster_table_learns_from_the_vectors() -> None:
    random = np.random.default_rng(0)
    side = random.random(600) < 0.5
    vectors = np.where(side[:, None], [1.0, 0.0], [0.0, 1.0]) + random.normal(0, 0.05, (600, 2))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = np.column_stack([side, ~side]).astype(np.float32)
    known = EvaluationData(["q"] * 600, [""] * 600, vectors.astype(np.float32), quality)
    found = out_of_fold(cluster_table, known, k_folds(np.arange(600), 3, seed=0))
    assert ((found[:, 0] > 0.5) == side).all()
    np.testing.assert_array_equal(found, out_of_fold(cluster_table, known, k_folds(np.arange(600), 3, seed=0)))


def test_few_rows_make_one_cluster() -> None:
    vectors = np.eye(4, dtype=np.float32)
    found = cluster_table(_known(vectors=vectors), np.array([0, 1, 2]), np.array([3]))
    np.testing.assert_allclose(found, [[0.5, 2 / 3]], rtol=1e-6)


def test_without_vectors_there_are_no_clusters() -> None:
    with pytest.raises(InputError, match="vectors"):
        cluster_table(_known(), EVERY, EVERY)


def test_a_trainer_sees_its_training_rows_only() -> None:
    seen: list[list[str]] = []

    class Constant:
        models = ("x", "y")
        needs_vectors = True

        def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
            return np.full((len(texts), 2), 0.25, np.float32)

    def fit(texts: Sequence[str], vectors: Matrix, quality: Matrix) -> QualityPredictor:
        assert len(texts) == len(vectors) == len(quality)
        seen.append(list(texts))
        return Constant()

    known = _known(vectors=np.eye(4, dtype=np.float32))
    folds = [Fold(np.array([0, 1]), np.array([2])), Fold(np.array([2]), np.array([1]))]
    found = out_of_fold(fitted(fit), known, folds)
    assert seen == [["a", "bb"], ["cccc"]]
    assert np.isnan(found[[0, 3]]).all()
    assert (found[[1, 2]] == 0.25).all()
