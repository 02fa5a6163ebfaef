"""Two models, one strong and one weak: what share of queries goes to the strong one, and what quality that gives.

Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", 2024, https://arxiv.org/abs/2406.18665.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.shapes import first_reaching, ratio, trapezoid
from semroute.types.vectors import Doubles

_NO_GAP = 1e-12
"""Below it the difference of two means is rounding."""


def strong_share_curve(
    score: NDArray[np.floating], weak: NDArray[np.floating], strong: NDArray[np.floating]
) -> tuple[Doubles, Doubles]:
    """Mean quality over the share of queries that go to the strong model, those of the highest score first.

    The curve runs from all queries at the weak model to all at the strong one, exactly: a point for each threshold that
    tells queries apart. Queries of equal score cannot be told apart: a share of them is taken at random, which is the
    straight line between the points on either side.

    Args:
        score: ``(n,)`` how much a query calls for the strong model.
        weak: ``(n,)`` quality of the weak model's answers.
        strong: ``(n,)`` quality of the strong model's answers.

    Returns:
        ``(k,)`` share in 0..1, ascending from 0 to 1, and ``(k,)`` mean quality.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    gain = np.cumsum((np.asarray(strong, np.float64) - weak)[order])
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    n = len(score)
    share = np.append(0.0, (np.flatnonzero(is_last) + 1) / n)
    quality = np.mean(weak, dtype=np.float64) + np.append(0.0, gain[is_last] / n)
    return share, quality


def pgr(quality: Doubles, weak: Doubles | float, strong: Doubles | float) -> Doubles:
    """Performance gap recovered: ``(quality - weak) / (strong - weak)``; 0 as good as the weak model, 1 as the strong.

    NaN where the strong model is not better than the weak one: there is no gap to recover.
    """
    gap = np.asarray(strong, np.float64) - weak
    return ratio(np.asarray(quality, np.float64) - weak, np.where(gap > _NO_GAP, gap, 0.0))


def apgr(share: Doubles, quality: Doubles) -> Doubles:
    """Average performance gap recovered: the mean of :func:`pgr` over all shares from 0 to 1.

    RouteLLM's measure as the exact area under the piecewise linear curve; the authors' program takes the trapezoids
    of ten thresholds at equal numbers of queries. 0.5 is what random routing gives; NaN where there is no gap.

    Args:
        share: ``(..., k)`` as of :func:`strong_share_curve`.
        quality: ``(..., k)`` as of :func:`strong_share_curve`.
    """
    return pgr(trapezoid(share, quality), quality[..., 0], quality[..., -1])


def cpt(share: Doubles, quality: Doubles, recovered: float) -> Doubles:
    """Call-performance threshold: the smallest share of strong calls with which :func:`pgr` is ``recovered``.

    CPT(50%) is ``cpt(share, quality, 0.5)``. Between points of the curve it is interpolated, and
    where the curve passes the level more than once, the first time counts. (The authors' program interpolates share
    over quality, which takes the quality to ascend.) NaN where there is no gap or the level is not reached.
    """
    gaps = pgr(quality, quality[..., :1], quality[..., -1:])
    reached = first_reaching(share, gaps, recovered)
    return np.where(np.isfinite(gaps[..., 0]), reached, np.nan)
