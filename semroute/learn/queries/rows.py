"""The rows that a classifier of queries is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.heads.queries.inputs import QueryInputs
from semroute.learn.queries.estimator import Known
from semroute.outcomes.judging import check_judged, judging_remedy
from semroute.outcomes.table import OutcomeTable
from semroute.types import Matrix

LEAST_QUERIES = 50
"""Queries below which nothing is trained."""
LEAST_KNOWN = 30
"""Answers of a model below which it is not trained on."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What is trained on.

    Attributes:
        queries: ``n`` texts.
        inputs: their vectors and features.
        quality: ``(n, m)``, NaN where it is not known; every row and every model is known somewhere.
        models: ``m`` names.
    """

    queries: Sequence[str]
    inputs: QueryInputs
    quality: Known
    models: tuple[str, ...]

    @classmethod
    def of(
        cls, queries: Sequence[str], vectors: Matrix, quality: Known, models: tuple[str, ...], categories: Matrix
    ) -> TrainingRows:
        """The rows of ``n`` texts and their ``(n, d)`` unit vectors; ``categories`` as of :class:`Setting`."""
        return cls(queries, QueryInputs.of(queries, vectors, categories), quality, models)


@dataclass(frozen=True, slots=True)
class Usable:
    """Which rows can be trained on.

    Attributes:
        rows: their numbers in the table.
        left_out: rows that were left out: those that know no quality, and those beyond the most.
    """

    rows: NDArray[np.int64]
    left_out: int


def usable_rows(table: OutcomeTable, *, most: int, seed: int) -> Usable:
    """The rows that know the quality of a model; a sample of them where there are more than ``most``.

    Raises:
        InputError: too few, or a model with too few answers, or nobody has judged them.
    """
    check_judged(table)
    known = np.isfinite(table.quality)
    rows = np.flatnonzero(known.any(axis=1))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    if len(rows) < LEAST_QUERIES:
        raise InputError(
            f"{len(rows)} queries with the quality of an answer, and at least {LEAST_QUERIES} are needed to train; "
            f"{judging_remedy(table)}give more outcomes"
        )
    _check_models(table.take(rows))
    return Usable(rows, len(table) - len(rows))


def _check_models(table: OutcomeTable) -> None:
    models, counts = table.models, np.isfinite(table.quality).sum(axis=0)
    few = [(model, int(count)) for model, count in zip(models, counts, strict=True) if count < LEAST_KNOWN]
    if few:
        model, count = few[0]
        others = ",".join(name for name in models if name not in dict(few))
        raise InputError(
            f'the quality of "{model}" is known for {count} queries, and at least {LEAST_KNOWN} are needed; '
            f"{judging_remedy(table.with_models([model]))}give more outcomes of it, or leave it out with "
            f"--models {others or 'A,B'}"
        )
