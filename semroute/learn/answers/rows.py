"""Judged answers, as they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.outcomes.groups import numbered
from semroute.outcomes.judging import check_judged, judging_remedy
from semroute.outcomes.table import OutcomeTable

LEAST = 20
"""Answers of each kind, acceptable and not, below which nothing is trained."""


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """``n`` answers.

    Attributes:
        queries, answers: texts.
        logprobs: of the answers' tokens; empty where they are not known.
        acceptable: ``(n,)`` bool.
        group: ``(n,)`` int64; answers to the same text are in one group, and on one side of every split.
    """

    queries: list[str]
    answers: list[str]
    logprobs: list[Sequence[float]]
    acceptable: NDArray[np.bool_]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: NDArray[np.int64]) -> JudgedAnswers:
        """Some of them, by row number."""
        kept = rows.tolist()
        return JudgedAnswers(
            [self.queries[row] for row in kept],
            [self.answers[row] for row in kept],
            [self.logprobs[row] for row in kept],
            self.acceptable[rows],
            self.group[rows],
        )


def judged_answers(table: OutcomeTable, models: Sequence[str], accept: float) -> JudgedAnswers:
    """The answers of some models whose text and quality are known; acceptable from a quality of ``accept`` on.

    Raises:
        InputError: a model is unknown, or there are too few answers of a kind, or nobody has judged them.
    """
    chosen = table.with_models(models)
    check_judged(chosen)
    queries, answers, logprobs, quality = [], [], [], []
    responses = chosen.responses or []
    told = chosen.logprobs or [(None,) * len(models)] * len(responses)
    for row, texts in enumerate(responses):
        for column, text in enumerate(texts):
            if text is not None and np.isfinite(chosen.quality[row, column]):
                queries.append(chosen.queries[row])
                answers.append(text)
                logprobs.append(told[row][column] or ())
                quality.append(float(chosen.quality[row, column]))
    acceptable = np.array(quality) >= accept
    good = int(acceptable.sum())
    for count, kind in ((good, "acceptable"), (len(quality) - good, "not acceptable")):
        if count < LEAST:
            of = ", ".join(models)
            raise InputError(
                f"{count} of {len(quality):,} judged answers of {of} are {kind}, and at least {LEAST} are needed: "
                f'{judging_remedy(chosen)}give more outcomes with "response" and "quality", or another --accept than '
                f"{accept:g}"
            )
    _, group = numbered([query.casefold() for query in queries])
    return JudgedAnswers(queries, answers, logprobs, acceptable, group)
