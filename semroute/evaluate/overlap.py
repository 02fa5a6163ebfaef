"""Categories that overlap, and the examples that make them do so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.types import Matrix

CELLS = 4_000_000
"""Similarities held at once, some 16 MB: all pairs of 100,000 examples would be 40 GB."""


@dataclass(frozen=True, slots=True)
class Stray:
    """An example that lies nearer to another category than to its own.

    Attributes:
        row: the example.
        rival: row of the nearest example of the other category.
        own: cosine to the nearest other example of its own category.
        other: cosine to ``rival``.
    """

    row: int
    rival: int
    own: float
    other: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """Examples of one category that lie in another.

    Attributes:
        category: number of the category that the examples belong to.
        other: number of the category that they are nearest to.
        share: of the examples of ``category``.
        count: how many they are.
        worst: those that lie deepest in ``other``, worst first.
    """

    category: int
    other: int
    share: float
    count: int
    worst: tuple[Stray, ...]


def overlaps(vectors: Matrix, labels: NDArray[np.int64], *, worst: int = 3) -> list[Overlap]:
    """Pairs of categories by the share of examples whose nearest neighbour is of the other category.

    An example is compared with every other one: with its own category's nearest, itself left out, and with the nearest
    of any other category. The only example of a category has nothing to be compared with and is not counted.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        worst: examples named for each pair.

    Returns:
        Pairs with at least one such example, largest share first; equal shares by number of category.
    """
    strays = _strays(vectors, labels)
    sizes = np.bincount(labels) if len(labels) else np.zeros(0, np.int64)
    pairs: dict[tuple[int, int], list[Stray]] = {}
    for stray in strays:
        pairs.setdefault((int(labels[stray.row]), int(labels[stray.rival])), []).append(stray)
    found = []
    for (category, other), members in pairs.items():
        deepest = sorted(members, key=lambda stray: (stray.own - stray.other, stray.row))[:worst]
        share = len(members) / float(sizes[category])
        found.append(Overlap(category, other, share, len(members), tuple(deepest)))
    return sorted(found, key=lambda pair: (-pair.share, pair.category, pair.other))


def _strays(vectors: Matrix, labels: NDArray[np.int64]) -> Sequence[Stray]:
    count = len(vectors)
    block = max(1, CELLS // max(1, count))
    found = []
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        similarities = vectors[rows] @ vectors.T
        same = labels[rows][:, None] == labels[None, :]
        foreign = np.where(same, -np.inf, similarities)
        same[np.arange(len(rows)), rows] = False  # nothing is its own neighbour
        own = np.where(same, similarities, -np.inf).max(axis=1)
        rival = foreign.argmax(axis=1)
        other = foreign[np.arange(len(rows)), rival]
        for place in np.flatnonzero((other > own) & np.isfinite(own)):
            found.append(Stray(int(rows[place]), int(rival[place]), float(own[place]), float(other[place])))
    return found
