"""How far two judges of the same answers agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.rate import Rate

GOOD = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one judge with another.

    Attributes:
        same: answers that both call good, or both not.
        kappa: Cohen's (Educational and Psychological Measurement 20, 1960): agreement beyond chance, 1 at most; None
            where one of them never says anything else.
        too_kind: share of what the second calls bad that the first calls good.
        too_strict: share of what the second calls good that the first calls bad.
    """

    same: Rate
    kappa: float | None
    too_kind: Rate
    too_strict: Rate


def agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> Agreement:
    """Of two judgements ``(n,)`` of the same answers, each 0..1; good from 0.5 on."""
    one, other = first >= GOOD, second >= GOOD
    count, same = len(one), int((one == other).sum())
    chance = float(one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())) if count else 1.0
    return Agreement(
        same=Rate.of(same, count),
        kappa=(same / count - chance) / (1.0 - chance) if chance < 1.0 else None,
        too_kind=Rate.of(int((one & ~other).sum()), int((~other).sum())),
        too_strict=Rate.of(int((~one & other).sum()), int(other.sum())),
    )
