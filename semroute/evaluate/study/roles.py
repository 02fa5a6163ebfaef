"""Which of the models a comparison calls the cheapest, the strongest, the best single one, and a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.replay.folds import Fold
from semroute.texts.nearest import known_names
from semroute.types import Matrix


@dataclass(frozen=True, slots=True)
class Roles:
    """Columns of models.

    Attributes:
        cheapest: lowest mean cost; of equally cheap ones the better.
        strongest: the one that is named, else that of the highest mean cost; of equally dear ones the better.
        pair: of two models the worse and the better by mean quality; None with another number of models.
    """

    cheapest: int
    strongest: int
    pair: tuple[int, int] | None


def roles(models: Sequence[str], quality: Matrix, cost: Matrix, strongest: str | None = None) -> Roles:
    """The roles that the models have.

    Args:
        models: ``m`` names.
        quality: ``(n, m)``.
        cost: ``(n, m)`` USD.
        strongest: name of the model that would be called without a router.

    Raises:
        InputError: there is no model of that name.
    """
    if strongest is not None and strongest not in models:
        raise InputError(f'no model "{strongest}" among the outcomes; {known_names(strongest, models, "they hold")}')
    means, prices = quality.mean(axis=0, dtype=np.float64), cost.mean(axis=0, dtype=np.float64)
    by_cost = np.lexsort((-means, prices))
    by_dearness = np.lexsort((-means, -prices))
    weak, strong = np.argsort(means, kind="stable")[[0, -1]].tolist()
    return Roles(
        cheapest=int(by_cost[0]),
        strongest=int(by_dearness[0]) if strongest is None else models.index(strongest),
        pair=(weak, strong) if len(models) == 2 else None,
    )


def best_single(quality: Matrix, cost: Matrix, folds: Sequence[Fold]) -> NDArray[np.int64]:
    """``(n,)`` the model that was best on the training rows of each row's fold; of equally good ones the cheaper.

    Chosen without the rows that it is judged on, so that it is a policy one could have had.
    """
    choice = np.zeros(len(quality), np.int64)
    for fold in folds:
        means = quality[fold.train].mean(axis=0, dtype=np.float64)
        prices = cost[fold.train].mean(axis=0, dtype=np.float64)
        choice[fold.test] = np.lexsort((prices, -means))[0]
    return choice


def chosen_shares(models: Sequence[str], choice: NDArray[np.int64]) -> dict[str, float]:
    """By model, the share of the ``(n,)`` choices that fall on it, most first; only those that any falls on."""
    counts = np.bincount(choice, minlength=len(models))
    return {
        models[column]: counts[column] / len(choice) for column in np.argsort(-counts, kind="stable") if counts[column]
    }
