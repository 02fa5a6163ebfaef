"""Queries that say the same: by their normalised text, and by vectors that all but coincide.

A policy that was fitted on one of them knows the answer to the other, so they belong on the same side of every split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.texts.same import normalize
from semroute.types import Matrix

NEAR = 0.98
"""Cosine from which two queries count as the same; at 0.95 questions from one template begin to."""

MOST_COMPARED = 50_000
"""Rows whose vectors are compared all with all, half a minute on two cores; beyond, texts alone are."""

_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of queries that say the same.

    Attributes:
        group: ``(n,)`` number of each row's group; most groups have one row.
        same_text: rows whose normalised text another row has too.
        near: rows that have a vector within :data:`NEAR` of another row's, those of the same text among them; None
            where vectors were not compared.
    """

    group: NDArray[np.int64]
    same_text: int
    near: int | None


def duplicates(queries: Sequence[str], vectors: Matrix | None = None) -> Duplicates:
    """Group queries by normalised text and, where there are vectors and not too many of them, by cosine.

    Args:
        queries: ``n`` texts.
        vectors: ``(n, d)`` unit rows.
    """
    places: dict[str, int] = {}
    text = np.fromiter((places.setdefault(normalize(query), len(places)) for query in queries), np.int64, len(queries))
    same_text = int((np.bincount(text, minlength=1)[text] > 1).sum()) if len(text) else 0
    if vectors is None or len(queries) > MOST_COMPARED:
        return Duplicates(text, same_text, None)
    pairs = near_pairs(vectors)
    return Duplicates(_joined(text, pairs), same_text, len(np.unique(pairs)))


def shared(group: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``(len(train),)`` whether a training row is in a group that the test rows ``test`` have a part in."""
    return np.isin(group[train], group[test])


def near_pairs(vectors: Matrix, near: float = NEAR) -> NDArray[np.int64]:
    """``(p, 2)`` rows whose cosine is at least ``near``, the lower number first."""
    found = [np.zeros((0, 2), np.int64)]
    block = max(1, _CELLS // max(1, len(vectors)))
    for start in range(0, len(vectors), block):
        rows, columns = np.nonzero(vectors[start : start + block] @ vectors[start:].T >= near)
        later = columns > rows
        found.append(np.column_stack([rows[later], columns[later]]) + start)
    return np.concatenate(found)


def _joined(group: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups that a pair connects made one (union by the lowest number)."""
    parent = np.arange(int(group.max()) + 1 if len(group) else 0)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for one, other in group[pairs].tolist():
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    roots = np.array([root(place) for place in range(len(parent))], np.int64)
    return np.unique(roots[group], return_inverse=True)[1] if len(group) else group
