"""Baselines that decide which answers of the weak model are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay import k_folds
from semroute.learn.answer_quality import JudgedAnswers, judged_answers, train
from semroute.outcomes.table import OutcomeTable

Vector = NDArray[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """Baseline of escalation.

    Attributes:
        name: for the table.
        score: ``(n,)``; the weak model's answer is kept where it is high. None keeps at random.
        asks_first: True if the weak model is called for every query, as in a cascade; a router calls one model.
    """

    name: str
    score: Vector | None
    asks_first: bool = True


def contenders(
    table: OutcomeTable, weak: int, strong: int, *, folds: int, seed: int, progress: Progress
) -> Iterator[Contender]:
    """Yield all baselines, the learned ones out-of-fold."""
    rows = judged_answers(table, [table.models[weak]], 0.5)
    assert len(rows) == len(table), "an answer of the weak model is missing"
    unseen = [replace(rows, answers=[""] * len(rows))]
    shuffled: Vector | None = None
    for name, data, blocks in (
        ("cascade, quality classifier", rows, ("shape", "words")),
        ("  its features of form and sums alone", rows, ("shape",)),
        ("  its words alone", rows, ("words",)),
    ):
        progress(name)
        score = learned(data, blocks, folds, seed)
        # The same scores on other answers: what remains is due to their distribution, not to the check.
        shuffled = np.random.default_rng(seed).permutation(score) if shuffled is None else shuffled
        yield Contender(name, score)
    yield Contender("cascade, quality classifier shuffled", shuffled)
    yield Contender("cascade, shorter answers kept", -np.array([len(answer) for answer in rows.answers], float))
    yield Contender("cascade, shorter queries kept", -np.array([len(query) for query in rows.queries], float))
    yield Contender("cascade, random escalation", None)
    gain = (table.quality[:, weak] - table.quality[:, strong]).astype(np.float64)
    yield Contender("cascade, oracle", gain)
    progress("router, learned from the query")
    query_alone = learned(unseen[0], ("shape", "words"), folds, seed)
    yield Contender("router, learned from the query alone", query_alone, asks_first=False)
    yield Contender("router, prompt length", -np.array([len(query) for query in rows.queries], float), asks_first=False)
    yield Contender("router, random", None, asks_first=False)
    yield Contender("router, oracle", gain, asks_first=False)


def learned(rows: JudgedAnswers, blocks: tuple[str, ...], folds: int, seed: int) -> Vector:
    """Return ``(n,)`` out-of-fold probabilities of a trained classifier.

    Its settings are chosen on the other folds.
    """
    said = np.empty(len(rows))
    for fold in k_folds(rows.group, folds, seed=seed):
        classifier = train(rows.take(fold.train), blocks, folds=folds, seed=seed).classifier
        for row in fold.test.tolist():
            said[row] = classifier.probability(rows.queries[row], rows.answers[row])
    return said
