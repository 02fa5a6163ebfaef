"""Which heads a classifier gets, with what weights, and on which rows this was judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.folds import Fold, k_folds
from semroute.heads.queries.head import Quality
from semroute.heads.queries.tuned import TunedHead
from semroute.learn.queries.estimator import Known
from semroute.learn.queries.stacking import STACK, Stack, choose_stack, join, squared_error
from semroute.learn.queries.tuned_part import TunedPart
from semroute.types.vectors import Indices


@dataclass(frozen=True)
class Grouping:
    """How rows are parted.

    Attributes:
        group: ``(n,)`` rows of one group say the same, and lie in one part.
        folds: parts.
        seed: of the draw.
    """

    group: Indices
    folds: int
    seed: int

    @cached_property
    def parts(self) -> list[Fold]:
        """All rows in parts."""
        return k_folds(self.group, self.folds, seed=self.seed)

    @property
    def fold(self) -> Indices:
        """``(n,)`` the number of each row's part."""
        return _numbers(self.parts, len(self.group))

    def of_some(self, rows: Indices) -> Indices:
        """``(k,)`` the number of the part of each of some rows, where these alone are parted."""
        _, own = np.unique(self.group[rows], return_inverse=True)
        return _numbers(k_folds(own, self.folds, seed=self.seed), len(rows))


def _numbers(parts: Sequence[Fold], count: int) -> Indices:
    found = np.zeros(count, np.int64)
    for number, part in enumerate(parts):
        found[part.test] = number
    return found


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """The heads that were chosen.

    Attributes:
        stack: the heads and their weights; ``left_out`` speaks of the judged rows.
        judged: ``(k,)`` numbers of the rows that it was judged on: all, unless a tuned encoder is among the heads.
        fold: ``(k,)`` the part of each.
        compared: rows that the losses are means over.
    """

    stack: Stack
    judged: Indices
    fold: Indices
    compared: int


def choose_heads(
    predictions: Mapping[str, Quality],
    tuned: TunedPart | None,
    quality: Known,
    prior: NDArray[np.float64],
    grouping: Grouping,
) -> HeadChoice:
    """Weigh the heads on all rows; and a tuned encoder against what came of it, on the rows that it has not seen.

    Where the tuned encoder adds next to nothing the choice is what it were without it: few rows can judge it, and the
    others keep the benefit of all.

    Args:
        predictions: by head, ``(n, m)`` what it says of rows that it was not fitted on; may be empty with ``tuned``.
        tuned: an encoder tuned on a part of the rows.
        quality: ``(n, m)``, NaN where it is not known.
        prior: ``(m,)`` mean quality.
        grouping: how rows are parted.

    Raises:
        InputError: fewer groups than folds among the rows.
    """
    every = np.arange(len(quality))
    fold = grouping.fold
    whole = choose_stack(predictions, quality, prior, fold) if predictions else None
    if tuned is None:
        assert whole is not None  # a classifier has a head
        return HeadChoice(whole, every, fold, len(every))
    rows, name = tuned.judged, TunedHead.kind
    known, own_fold = quality[rows], grouping.of_some(rows)
    if whole is None:
        return HeadChoice(choose_stack({name: tuned.predicted}, known, prior, own_fold), rows, own_fold, len(rows))
    here = replace(whole, left_out=whole.left_out[rows])
    found = join(here, name, tuned.predicted, known, prior, own_fold)
    losses = {head: squared_error(said[rows], known) for head, said in predictions.items()}
    losses[name] = squared_error(tuned.predicted, known)
    if found is not here or len(here.weights) > 1:
        losses[STACK] = squared_error(found.left_out, known)
    if found is here:
        return HeadChoice(replace(whole, losses=losses), every, fold, len(rows))
    return HeadChoice(replace(found, losses=losses), rows, own_fold, len(rows))
