"""Which queries are worth a person's time: those whose answers disagree, that are rare, or that nobody is sure of.

Every other one comes at random all the same. What is chosen for being hard says nothing of the rest: figures that are
to hold for all queries must be taken on a random sample (:mod:`semroute.learn.labelling.sample`). The random order is
one of all queries and fixed before anything is judged; it passes over those that were judged for being hard, which are
in the sample all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.types import Matrix

NEIGHBOURS = 5
RANDOM = "random"

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pick:
    """A query to be judged.

    Attributes:
        row: its number.
        reason: :data:`RANDOM`, or what is remarkable about it: ``disagreeing``, ``rare`` or ``uncertain``.
        draw: its place in the random order, 0 to 1; whether the sample holds it does not depend on the reason.
    """

    row: int
    reason: str
    draw: float


def picks(
    answers: Sequence[Sequence[str]], vectors: Matrix | None, predicted: Matrix | None, *, draws: Numbers
) -> list[Pick]:
    """All queries in the order in which they should be judged.

    Args:
        answers: of ``n`` queries, the answers of its models.
        vectors: ``(n, d)`` unit rows; None where rarity is not known.
        predicted: ``(n, m)`` predicted quality; None where uncertainty is not known.
        draws: ``(n,)`` float64: the queries come at random in the order of these.
    """
    count = len(answers)
    signals = {"disagreeing": np.array([disagreement(one) for one in answers])}
    if vectors is not None and count > 1:
        signals["rare"] = rarity(vectors)
    if predicted is not None:
        signals["uncertain"] = (4.0 * predicted.astype(np.float64) * (1.0 - predicted)).mean(axis=1)
    ranks = {name: _ranks(values) for name, values in signals.items()}
    total = np.mean(list(ranks.values()), axis=0) if count else np.zeros(0)
    hard = iter(np.argsort(-total, kind="stable").tolist())
    drawn = iter(np.argsort(draws, kind="stable").tolist())
    seen: set[int] = set()
    found: list[Pick] = []
    while len(found) < count:
        is_random = len(found) % 2 == 1
        row = next(one for one in (drawn if is_random else hard) if one not in seen)
        seen.add(row)
        reason = RANDOM if is_random else max(ranks, key=lambda name: float(ranks[name][row]))
        found.append(Pick(row, reason, float(draws[row])))
    return found


def disagreement(answers: Sequence[str]) -> float:
    """One less the mean share of words that two answers have in common (Jaccard); 0 for fewer than two."""
    sets = [frozenset(answer.casefold().split()) for answer in answers]
    pairs = [len(one & other) / max(1, len(one | other)) for one, other in combinations(sets, 2)]
    return 1.0 - sum(pairs) / len(pairs) if pairs else 0.0


def rarity(vectors: Matrix) -> Numbers:
    """``(n,)`` one less the mean cosine to the nearest others."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    near, _ = index.search(np.ascontiguousarray(vectors, np.float32), min(NEIGHBOURS + 1, len(vectors)))
    return np.asarray(1.0 - near[:, 1:].mean(axis=1), np.float64)


def _ranks(values: Numbers) -> Numbers:
    """Ranks from 0 to 1; equal values share theirs."""
    rankdata = require("scipy.stats", what="ordering queries to label", extra="build").rankdata
    return np.asarray((rankdata(values) - 1.0) / max(1, len(values) - 1))
