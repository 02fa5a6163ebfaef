from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from predictors.query_quality.query_heads import DIMENSIONS, MODELS, costs_of, made, no_categories

from semroute.errors import ArtifactError
from semroute.predictors.novelty import Novelty, UnseenStack
from semroute.predictors.quality_heads import LinearHead
from semroute.predictors.query_features import FEATURES
from semroute.predictors.query_quality import QueryClassifier, read_query_classifier, write_query_classifier

KEPT = Path(__file__).parents[2] / "samples" / "kept" / "classifier"
"""Written at commit 803adc8, before distances were stored."""

NEVER = UnseenStack(np.zeros(1), np.ones(2), np.zeros(2), (3.0, 0.0))
"""Without a head: every query has the models' means."""


def classifier_with(novelty: Novelty | None) -> QueryClassifier:
    """A classifier whose only head says .9 and .2 of each query, and whose means are .5 and .6."""
    count = len(FEATURES)
    head = LinearHead(np.zeros(count), np.ones(count), np.zeros((DIMENSIONS + count, 2)), np.array([0.9, 0.2]))
    return QueryClassifier(
        MODELS, np.array([0.5, 0.6]), (head,), np.ones(1), np.ones(2), np.zeros(2), no_categories(), "print",
        costs_of(), novelty=novelty,
    )  # fmt: skip


def novelty_of(unseen: UnseenStack = NEVER) -> Novelty:
    """One training query in five places; distances are those from it."""
    return Novelty(np.eye(1, DIMENSIONS, dtype=np.float16).repeat(5, axis=0), 0.2, 0.6, 0.7, unseen)


def at(distance: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """A vector of this distance from the training query."""
    vector = np.zeros((1, DIMENSIONS), np.float32)
    vector[0, :2] = 1.0 - distance, np.sqrt(1.0 - (1.0 - distance) ** 2)
    return vector


@pytest.mark.parametrize(
    ("distance", "expected", "is_unlike"),
    [(0.1, 0.9, False), (0.4, 0.8, False), (0.65, 0.7, False), (0.9, 0.5, True)],
)
def test_the_unseen_stack_takes_over_with_distance(distance: float, expected: float, is_unlike: bool) -> None:
    quality, unlike = classifier_with(novelty_of()).assess(["some text"], at(distance))
    assert quality[0, 0] == pytest.approx(expected, abs=0.005)
    assert unlike is not None
    assert unlike.tolist() == [is_unlike]


def test_errors_of_all_models_grow_in_proportion_with_the_length() -> None:
    classifier = classifier_with(novelty_of(replace(NEVER, length=(np.log1p(20), 0.2))))
    (short, long), _ = classifier.assess(["x" * 20, "x" * 100], at(0.9).repeat(2, axis=0))
    assert short.tolist() == pytest.approx([0.5, 0.6], abs=0.005)
    factor = 1.0 + 0.2 * (np.log1p(100) - np.log1p(20))
    assert long.tolist() == pytest.approx([1 - 0.5 * factor, 1 - 0.4 * factor], abs=0.005)


def test_a_batch_of_no_queries_has_no_distances() -> None:
    assert novelty_of().distances(np.zeros((0, DIMENSIONS), np.float32)).shape == (0,)


def test_the_distances_are_stored_with_the_classifier(tmp_path: Path) -> None:
    classifier = classifier_with(novelty_of())
    write_query_classifier(classifier, tmp_path, report={})
    again, vectors = read_query_classifier(tmp_path), np.concatenate([at(step / 10) for step in range(10)])
    texts = [f"number {number}" for number in range(10)]
    for found, wanted in zip(again.assess(texts, vectors), classifier.assess(texts, vectors), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_classifier_of_before_predicts_as_it_did_and_tells_no_distance() -> None:
    classifier, data = read_query_classifier(KEPT), made(4, seed=1)
    quality, unlike = classifier.assess(data.queries, data.vectors)
    assert unlike is None
    expected = [[0.76235, 0.94801795], [0.10178519, 0.9246914], [0.61898035, 0.94801795], [0.18946426, 0.92078245]]
    np.testing.assert_allclose(quality, expected, atol=1e-5)


@pytest.mark.parametrize(
    "broken",
    [
        replace(novelty_of(), limit=float("nan")),
        novelty_of(replace(NEVER, weights=np.zeros(2))),
        novelty_of(replace(NEVER, slope=np.ones(3))),
        Novelty(np.ones((5, DIMENSIONS + 1), np.float16), 0.2, 0.6, 0.7, NEVER),
    ],
)
def test_damaged_distances_are_refused(broken: Novelty, tmp_path: Path) -> None:
    write_query_classifier(classifier_with(broken), tmp_path, report={})
    with pytest.raises(ArtifactError, match="novelty"):
        read_query_classifier(tmp_path)
