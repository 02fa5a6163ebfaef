"""What a tuned policy is worth on the rows that it was tested on, beside the strongest model and its own parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from semroute.evaluate.curves.bootstrap import Interval, Resampling, interval
from semroute.evaluate.risk.promise import Promise
from semroute.learn.policy.part import PolicyData, PolicyOutcomes
from semroute.learn.policy.search import Floor, Point, PromiseTest, frontier, is_alone
from semroute.learn.policy.tuning import Tuned

_HALVINGS = 17
_MOST_PROMISED = 64.0
"""Where the strongest model of the tuning rows is next to never right on the others."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A policy on the held-out rows.

    Attributes:
        quality: mean, with its 95% bootstrap interval.
        cost: mean USD a query.
        of_strongest: quality as a fraction of the strongest model's, paired.
        saved: share of the strongest model's cost, paired.
    """

    quality: Interval
    cost: Interval
    of_strongest: Interval
    saved: Interval


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a tuning.

    Attributes:
        tuning_rows, held_rows: how many.
        strongest: the strongest model alone.
        chosen: None where the goal cannot be reached.
        promised: quality of the next rows, as a fraction of the strongest model's mean, from below at the confidence
            asked for; None without a choice.
        densest: the point of the frontier with most quality per dollar, by the tuning rows.
        densest_figures: of it.
        parts: by family, the figures of what would be chosen with that family and single models alone.
    """

    tuning_rows: int
    held_rows: int
    strongest: Figures
    chosen: Figures | None
    promised: float | None
    densest: Point
    densest_figures: Figures
    parts: Mapping[str, Figures | None]


def summarise(tuned: Tuned, tuning: PolicyData, held: PolicyData, promise: Promise, *, seed: int = 0) -> Summary:
    """The figures of a tuning."""
    resampling = Resampling.draw(len(held), seed=seed, group=held.group)
    single = PolicyOutcomes.of(held, np.full(len(held), tuned.strongest))

    def figures(point: Point | None) -> Figures | None:
        return None if point is None else _figures(point.play(held), single, resampling)

    densest = max(frontier(tuned.points), key=lambda point: point.quality / max(point.cost, 1e-12))
    return Summary(
        tuning_rows=len(tuning),
        held_rows=len(held),
        strongest=_figures(single, single, resampling),
        chosen=figures(tuned.chosen),
        promised=None if tuned.chosen is None else _promised(tuned.chosen, tuned.strongest, tuning, held, promise),
        densest=densest,
        densest_figures=_figures(densest.play(held), single, resampling),
        parts={name: figures(point) for name, point in tuned.by_family.items()},
    )


def _promised(point: Point, strongest: int, tuning: PolicyData, held: PolicyData, promise: Promise) -> float:
    """The highest floor that passes the test by which floors are chosen, to a thousandth of a per cent."""
    if is_alone(point, strongest):
        return 1.0
    played = point.play(held)
    test = PromiseTest(held, lambda _: played, tuning)

    def is_kept(fraction: float) -> bool:
        return test.is_kept(point, Floor(fraction, strongest).shortfall, -1.0, fraction, promise)

    low, high = 0.0, 1.0
    while is_kept(high) and high < _MOST_PROMISED:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_kept(middle) else (low, middle)
    return low


def _figures(played: PolicyOutcomes, single: PolicyOutcomes, resampling: Resampling) -> Figures:
    columns = np.column_stack([played.quality, played.cost, single.quality, single.cost])
    quality, cost, best, most = resampling.means(columns).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return Figures(interval(quality), interval(cost), interval(quality / best), interval(1.0 - cost / most))
