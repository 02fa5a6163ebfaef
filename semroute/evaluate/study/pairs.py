"""The figures of RouteLLM for two models: how well predictions tell the queries that call for the stronger one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semroute.evaluate.curves.bootstrap import Interval, Resampling, interval
from semroute.evaluate.curves.deferral import deferral_area
from semroute.evaluate.curves.pair import apgr, cpt
from semroute.evaluate.curves.resampled import strong_share_curves
from semroute.types import Matrix
from semroute.types.vectors import Doubles

RECOVERED = (0.2, 0.5, 0.8)


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Two models ordered by the predicted gap between them.

    Attributes:
        apgr: average performance gap recovered.
        apgr_gain: ``apgr`` less that of prompt length alone, paired; None for prompt length itself.
        cpt: by share of the gap recovered, the smallest share of calls of the stronger model.
        area: area under the curve of quality over the share of calls of the stronger model.
        share: ``(k,)`` of that curve.
        quality: ``(k,)`` of that curve.
    """

    apgr: Interval
    apgr_gain: Interval | None
    cpt: dict[float, Interval]
    area: Interval
    share: Doubles
    quality: Doubles


def gap(predicted: Matrix, weak: int, strong: int) -> Doubles:
    """``(n,)`` by how much the stronger model's answer is predicted to be better, from ``(n, m)`` predictions."""
    return predicted[:, strong].astype(np.float64) - predicted[:, weak]


def pair_figures(
    score: Doubles, weak: Matrix, strong: Matrix, resampling: Resampling, length: Doubles | None
) -> PairFigures:
    """The figures of an order of queries for two models.

    Args:
        score: ``(n,)`` how much a query calls for the stronger model.
        weak: ``(n,)`` quality of the weaker one.
        strong: ``(n,)`` quality of the stronger one.
        resampling: of the ``n`` rows.
        length: ``(n,)`` lengths of the queries to hold it against, the longest to the stronger model; None for none.
    """
    share, quality = strong_share_curves(resampling, score, weak, strong)
    recovered = apgr(share, quality)
    gain = None
    if length is not None:
        gain = interval(recovered - apgr(*strong_share_curves(resampling, length, weak, strong)))
    return PairFigures(
        apgr=interval(recovered),
        apgr_gain=gain,
        cpt={level: interval(cpt(share, quality, level)) for level in RECOVERED},
        area=interval(deferral_area(share, quality)),
        share=share[0],
        quality=quality[0],
    )
