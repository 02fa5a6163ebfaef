"""Cascades: how quality rises with the share of queries that go on to the larger model.

Gupta et al., "Language Model Cascades: Token-level uncertainty and beyond", ICLR 2024,
https://arxiv.org/abs/2404.10136; Jitkrittum et al., "When Does Confidence-Based Cascade Deferral Suffice?",
NeurIPS 2023, https://arxiv.org/abs/2307.02764.
"""

from __future__ import annotations

from semroute.evaluate.curves.shapes import ratio, trapezoid
from semroute.types.vectors import Doubles


def deferral_area(deferred: Doubles, quality: Doubles) -> Doubles:
    """Area under the deferral curve: the mean quality over all shares of queries deferred, from 0 to 1.

    Args:
        deferred: ``(..., k)`` share of queries deferred, ascending from 0 to 1.
        quality: ``(..., k)`` mean quality; straight lines between the points, which is what deferring at random among
            queries of equal confidence gives.
    """
    return trapezoid(deferred, quality)


def deferral_gain(deferred: Doubles, quality: Doubles) -> Doubles:
    """:func:`deferral_area` relative to deferring at random, whose curve is the straight line: ``area / random - 1``.

    NaN where random deferral has no quality at all.
    """
    random = (quality[..., 0] + quality[..., -1]) / 2
    return ratio(deferral_area(deferred, quality), random) - 1
