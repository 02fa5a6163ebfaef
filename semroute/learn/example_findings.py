"""Findings on the examples of a build that only their groups and vectors show."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semroute.categories import Category, Finding
from semroute.categories.notes import shortened
from semroute.learn.near_twins import template_key
from semroute.types import Matrix

TWINS_FROM = 0.05
"""Share of a category's examples that near twins must be beyond the first of each, to be worth a word."""

SAME_VECTOR = 0.9995
"""Cosine from which an encoder sees no difference; rounding alone takes less."""

NAMED = 3


def example_findings(
    categories: Sequence[Category], labels: NDArray[np.int64], groups: NDArray[np.int64], vectors: Matrix
) -> list[Finding]:
    """Name categories with near twins, and examples that the encoder cannot tell apart.

    Args:
        categories: in the order of their numbers.
        labels: ``(n,)`` category numbers of the examples, which follow the categories' order.
        groups: ``(n,)`` their groups (:func:`~semroute.learn.near_twins.near_twins`).
        vectors: ``(n, d)`` unit rows.
    """
    texts = [text for category in categories for text in category.examples]
    indistinct = _indistinct(texts, labels, vectors)
    named = [row for rows in indistinct for row in rows.tolist()]
    twins = _twins(categories, texts, labels, groups, np.isin(np.arange(len(texts)), named))
    return [*twins, *(_told(rows, categories, texts, labels) for rows in indistinct)]


def _twins(
    categories: Sequence[Category],
    texts: Sequence[str],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    named: NDArray[np.bool_],
) -> list[Finding]:
    sizes = np.bincount(groups)
    found = []
    for number, category in enumerate(categories):
        rows = np.flatnonzero((labels == number) & ~named)
        spare = len(rows) - len(np.unique(groups[rows]))
        if spare == 0 or spare < TWINS_FROM * len(rows):
            continue
        largest = rows[sizes[groups[rows]].argmax()]
        alike = " and ".join(shortened(texts[row]) for row in rows[groups[rows] == groups[largest]][:2])
        message = (
            f"{spare} of {len(rows)} examples say nearly the same as another one, such as {alike}; what says nearly "
            "the same counts once; put it in other words"
        )
        found.append(Finding(message, category.source))
    return found


def _indistinct(texts: Sequence[str], labels: NDArray[np.int64], vectors: Matrix) -> list[NDArray[np.int64]]:
    """Sets of rows that are different texts with one vector, in several categories or at least three in one."""
    found = []
    for rows in _same_vectors(vectors):
        different = len({_plain(texts[row]) for row in rows})
        if different >= NAMED or (different > 1 and len(np.unique(labels[rows])) > 1):
            found.append(rows)
    return found


def _told(
    rows: NDArray[np.int64], categories: Sequence[Category], texts: Sequence[str], labels: NDArray[np.int64]
) -> Finding:
    owners = list(dict.fromkeys(labels[rows].tolist()))
    # One of each category first, for that is where it matters.
    first = [int(rows[labels[rows] == owner][0]) for owner in owners]
    named = ", ".join(shortened(texts[row]) for row in [*first, *(r for r in rows.tolist() if r not in first)][:NAMED])
    names = " and ".join(f'"{categories[number].name}"' for number in owners[:NAMED])
    message = (
        f"the encoder cannot tell {len(rows)} examples of {names} apart, such as {named}: to it they are the "
        "same text; use words that it knows, a rule on keywords, or an encoder that knows the language"
    )
    return Finding(message, categories[owners[0]].source)


def _same_vectors(vectors: Matrix) -> list[NDArray[np.int64]]:
    """Rows of equal vectors, each set in ascending order; found by their order along a fixed direction."""
    direction = np.random.default_rng(0).standard_normal(vectors.shape[1], dtype=np.float32)
    along = vectors @ (direction / np.linalg.norm(direction))
    order = np.argsort(along, kind="stable")
    # Vectors of that cosine are no further apart than this, and so are their places along any direction.
    reach = (2 - 2 * SAME_VECTOR) ** 0.5
    seen = np.zeros(len(vectors), dtype=np.bool_)
    ends = np.searchsorted(along[order], along[order] + reach, side="right")
    sets = []
    for place, row in enumerate(order.tolist()):
        if seen[row]:
            continue
        near = order[place : ends[place]]
        same = near[(vectors[near] @ vectors[row] >= SAME_VECTOR) & ~seen[near]]
        seen[same] = True
        if len(same) > 1:
            sets.append(np.sort(same))
    return sorted(sets, key=lambda rows: int(rows[0]))


def _plain(text: str) -> str:
    """Return a text as most encoders read it: without case, accents, punctuation and courtesy."""
    apart = unicodedata.normalize("NFKD", template_key(text))
    return "".join(character for character in apart if not unicodedata.combining(character))
