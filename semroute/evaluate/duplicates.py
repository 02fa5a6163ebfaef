"""Duplicate queries, by their text and by nearly identical vectors.

A policy that was fitted on one duplicate has seen the other's answer, so both belong on the same side of a split.

Memory grows with the number of queries, and not with that of their pairs: in a set made from one template, such as a
few-shot prompt that is longer than the encoder reads, every query is near every other.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from semroute.text.normalise import normalize
from semroute.text.templates import own_parts
from semroute.types import Matrix
from semroute.types.protocols import Indices

NEAR = 0.98
"""Cosine from which two queries count as duplicates; at 0.95 questions from one template begin to."""

MIN_OVERLAP = 0.8
"""Jaccard index of the words from which own parts of one template say the same."""

MAX_COMPARED = 50_000
"""Maximum number of rows whose vectors are compared pairwise (half a minute on two cores); beyond, texts alone are."""

MAX_NEIGHBORS = 64
"""Near texts of one text that count, the nearest; among more, groups are smaller than they could be."""

MAX_CANDIDATES = 2_000
"""Own parts that one own part is compared with, those that share its rarest words first."""

_CELLS = 1_000_000
_BLOCK = 50_000
_Words = frozenset[str]
_NO_PAIRS = np.zeros((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of duplicate queries.

    Attributes:
        group: ``(n,)`` number of each row's group; most groups have one row.
        same_text: rows whose normalised text another row has too.
        near: rows with a vector within :data:`NEAR` of another row's, those of the same text included; None where
            vectors were not compared.
    """

    group: NDArray[np.int64]
    same_text: int
    near: int | None


def duplicates(queries: Sequence[str], vectors: Matrix | None = None) -> Duplicates:
    """Group queries by normalised text and, if given, by cosine of vectors.

    Queries of one template, such as a few-shot prompt, are grouped where their own parts are nearly the same, see
    :mod:`~semroute.text.templates`. Vectors are compared up to :data:`MAX_COMPARED` rows.

    Args:
        queries: ``n`` texts.
        vectors: ``(n, d)`` unit rows; those of equal texts are equal.
    """
    numbers: dict[str, int] = {}
    text = np.fromiter(
        (numbers.setdefault(normalize(query), len(numbers)) for query in queries), np.int64, len(queries)
    )
    same_text = int((np.bincount(text, minlength=1)[text] > 1).sum()) if len(text) else 0
    if vectors is None or len(queries) > MAX_COMPARED:
        return Duplicates(text, same_text, None)
    # Each text is compared once, in the order of texts, so that the order of the rows does not matter.
    rows: dict[str, int] = {}
    for row, query in enumerate(queries):
        rows.setdefault(query, row)
    rows = dict(sorted(rows.items()))
    first = np.fromiter(rows.values(), np.int64, len(rows))
    pairs, is_near = _pairs(list(rows), vectors[first])
    times = Counter(queries)
    near = sum(times[query] for query, found in zip(rows, is_near, strict=True) if found or times[query] > 1)
    named = np.sort(text[first[pairs]], axis=1)
    kept, place = np.unique(named, axis=0, return_index=True)
    pairs = first[pairs[np.sort(place[kept[:, 0] != kept[:, 1]])]]
    return Duplicates(_merge_groups(text, pairs, queries, vectors), same_text, near)


def shared(group: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return ``(len(train),)`` True where a row shares a group with ``test``."""
    return np.isin(group[train], group[test])


def near_pairs(vectors: Matrix, min_cosine: float = NEAR) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield ``(p, 2)`` rows that are near, and their ``(p,)`` cosines.

    Near is a cosine of at least ``min_cosine``. The lower number is first, and its pairs come together.
    """
    block = max(1, _CELLS // max(1, len(vectors)))
    for start in range(0, len(vectors), block):
        cosine = vectors[start : start + block] @ vectors[start:].T
        rows, columns = np.nonzero(cosine >= min_cosine)
        later = columns > rows
        rows, columns = rows[later], columns[later]
        yield np.column_stack([rows, columns]) + start, cosine[rows, columns]


def _pairs(texts: Sequence[str], vectors: Matrix) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ``(p, 2)`` duplicate rows, and the ``(n,)`` near rows."""
    words = [frozenset(normalize(part or "").split()) for part in own_parts(texts)]
    has_own = np.array([bool(one) for one in words], np.bool_)
    is_near = np.zeros(len(texts), np.bool_)
    found = [_NO_PAIRS]
    for pairs, cosine in near_pairs(vectors):
        is_near[pairs] = True
        # Of two texts of templates the own parts decide, which are compared without the pairs of their vectors.
        compared = ~has_own[pairs].all(axis=1)
        found.append(_nearest(pairs[compared], cosine[compared]))
    of_templates = np.array(list(_same_parts(words)), np.int64).reshape(-1, 2)
    found.append(of_templates[_cosine(vectors, of_templates) >= NEAR])
    return np.concatenate(found), is_near


def _nearest(pairs: NDArray[np.int64], cosine: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return :data:`MAX_NEIGHBORS` pairs of each first row, the nearest."""
    if not len(pairs) or np.bincount(pairs[:, 0] - pairs[0, 0]).max() <= MAX_NEIGHBORS:
        return pairs
    order = np.lexsort((pairs[:, 1], -cosine.round(5), pairs[:, 0]))
    ordered = pairs[order, 0]
    rank: NDArray[np.int64] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    kept: NDArray[np.int64] = order[rank < MAX_NEIGHBORS]
    return pairs[kept]


def _same_parts(words: Sequence[_Words]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows of nearly the same words, a bounded number a row."""
    rows: defaultdict[_Words, list[int]] = defaultdict(list)
    for row, part in enumerate(words):
        if part:
            rows[part].append(row)
    for part, others in _similar(list(rows)).items():
        similar = list(islice((row for other in others for row in rows[other]), MAX_NEIGHBORS))
        for position, row in enumerate(rows[part]):
            same = rows[part][position + 1 : position + 1 + MAX_NEIGHBORS]
            yield from ((row, other) for other in [*same, *similar][:MAX_NEIGHBORS])


def _similar(parts: Sequence[_Words]) -> Mapping[_Words, list[_Words]]:
    """Return each part's earlier parts of nearly the same words.

    Their Jaccard index is :data:`MIN_OVERLAP` or more. They are at most :data:`MAX_NEIGHBORS` of at most
    :data:`MAX_CANDIDATES` that were compared.

    Two such parts share one of their rarest words: of ``k`` words the ``k - ceil(MIN_OVERLAP * k) + 1`` rarest (prefix
    filtering; R. Bayardo, Y. Ma and R. Srikant, "Scaling Up All Pairs Similarity Search", WWW 2007).
    """
    frequency = Counter(word for part in parts for word in part)
    holders: defaultdict[str, list[int]] = defaultdict(list)
    found: dict[_Words, list[_Words]] = {}
    for number, part in enumerate(parts):
        rarest = sorted(part, key=lambda word: (frequency[word], word))
        rarest = rarest[: len(part) - math.ceil(MIN_OVERLAP * len(part) - 1e-9) + 1]
        candidates = dict.fromkeys(other for word in rarest for other in holders[word][-MAX_CANDIDATES:])
        compared = (parts[other] for other in islice(candidates, MAX_CANDIDATES))
        found[part] = list(islice((one for one in compared if _overlap(part, one) >= MIN_OVERLAP), MAX_NEIGHBORS))
        for word in rarest:
            holders[word].append(number)
    return found


def _overlap(first: _Words, second: _Words) -> float:
    """Return the Jaccard index of the words."""
    return len(first & second) / len(first | second)


def _cosine(vectors: Matrix, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ``(p,)`` cosines of pairs of unit rows."""
    cosine = np.zeros(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        rows = pairs[start : start + _BLOCK]
        cosine[start : start + _BLOCK] = np.einsum("ij,ij->i", vectors[rows[:, 0]], vectors[rows[:, 1]])
    return cosine


def _merge_groups(group: Indices, pairs: NDArray[np.int64], queries: Sequence[str], vectors: Matrix) -> Indices:
    """Merge groups by complete linkage.

    All texts of a group are near each other, so that no chain joins strangers.

    The nearest pairs come first, equal ones by their texts, so that the order of the rows does not matter.
    """
    near: dict[int, set[int]] = {}
    for first, second in group[pairs].tolist():
        near.setdefault(first, {first}).add(second)
        near.setdefault(second, {second}).add(first)
    texts: dict[int, str] = {}
    for number, query in zip(group.tolist(), queries, strict=True):
        texts.setdefault(number, normalize(query))
    cosine = _cosine(vectors, pairs)
    rank = {number: position for position, number in enumerate(sorted(texts, key=texts.__getitem__))}
    links = sorted(
        (-round(float(cosine[row]), 5), *sorted((rank[first], rank[second])), first, second)
        for row, (first, second) in enumerate(group[pairs].tolist())
    )
    members = {number: {number} for number in near}
    common = {number: set(neighbours) for number, neighbours in near.items()}  # near all members
    home = {number: number for number in near}
    for *_, first, second in links:
        kept, moved = sorted((home[first], home[second]), key=lambda cluster: -len(members[cluster]))
        if kept == moved or not members[moved] <= common[kept]:
            continue
        members[kept] |= members.pop(moved)
        common[kept] &= common.pop(moved)
        home.update(dict.fromkeys(members[kept], kept))
    lowest = {number: min(members[cluster]) for number, cluster in home.items()}
    merged = np.array([lowest.get(number, number) for number in group.tolist()], np.int64)
    return np.unique(merged, return_inverse=True)[1] if len(group) else group
