"""Figures of conversations: each policy's cost, and hindsight's least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from semroute.catalog import charge
from semroute.config import Price
from semroute.evaluate.metrics import Interval
from semroute.types import Usage
from session_bench.client import SMALL, STRONG, Call, Played, Policy
from session_bench.vendor import STEP


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """Figures of a policy over the conversations of a mix.

    Attributes:
        usd: mean cost of a conversation.
        of_strong: cost as a part of that of ``always strong``.
        cached: share of the input tokens that came from a cache.
        switches: changes of the model in a conversation, mean.
        underserved: hard asks that the small model answered, as a share of all hard asks.
    """

    usd: float
    of_strong: Interval
    cached: float
    switches: float
    underserved: float


def figures(played: Sequence[Played], baseline: Sequence[Played], resamples: int, seed: int) -> PolicyFigures:
    """Return a policy's figures beside the baseline's, in one order."""
    calls = [call for one in played for call in one.calls]
    hard = sum(not ask.is_easy for one in played for ask in one.conversation.asks)
    return PolicyFigures(
        float(np.mean([one.usd for one in played])),
        ratio([one.usd for one in played], [one.usd for one in baseline], resamples, seed),
        sum(call.usage[1] for call in calls) / sum(call.usage[0] for call in calls),
        float(np.mean([one.switches for one in played])),
        sum(one.underserved for one in played) / max(1, hard),
    )


def ratio(over: Sequence[float], under: Sequence[float], resamples: int, seed: int) -> Interval:
    """Return the ratio of two sums over the same drawn conversations."""
    pairs = np.array([over, under])
    rows = np.random.default_rng(seed).integers(0, pairs.shape[1], (resamples, pairs.shape[1]))
    sums = pairs[:, rows].sum(axis=2)
    low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
    return Interval(float(pairs[0].sum() / pairs[1].sum()), float(low), float(high))


def hindsight(played: Played, prices: Mapping[str, Price]) -> float:
    """Return the least cost of a conversation by hindsight.

    A model is chosen for each easy ask; hard ones are at the strong model.

    All of the conversation is known: a lower bound for any policy that decides ask by ask. What a model has in its
    cache is the prompt of the last ask that it took.

    Args:
        played: the conversation under any policy: the lengths of its calls are the same under all of them.
        prices: prices of the two models; a vendor that charges no writes counts what it reads in steps.
    """
    asks: dict[int, list[Call]] = {}
    for call in played.calls:
        asks.setdefault(call.ask, []).append(call)
    rows = list(asks.values())

    def taken(number: int, model: str, cached: int) -> float:
        usd = 0.0
        for call in rows[number]:
            is_charged = prices[model].cache_write is not None
            read = cached if is_charged else cached - cached % STEP
            written = call.usage[0] - read if is_charged else 0
            usd += charge(prices[model], Usage(call.usage[0], call.usage[3], read, written))
            cached = call.usage[0]
        return usd

    @cache
    def least(number: int, at_small: int, at_strong: int) -> float:
        """Return the least cost from an ask on, by each model's last ask.

        -1 stands for no last ask.
        """
        if number == len(rows):
            return 0.0
        cached = {
            SMALL: rows[at_small][-1].usage[0] if at_small >= 0 else 0,
            STRONG: rows[at_strong][-1].usage[0] if at_strong >= 0 else 0,
        }
        usd = taken(number, STRONG, cached[STRONG]) + least(number + 1, at_small, number)
        if rows[number][0].is_easy:
            usd = min(usd, taken(number, SMALL, cached[SMALL]) + least(number + 1, number, at_strong))
        return usd

    return least(0, -1, -1)


def by_policy(played: Sequence[Played]) -> dict[Policy, list[Played]]:
    """Return the conversations of each policy, in the order of their numbers."""
    found: dict[Policy, list[Played]] = {}
    for one in sorted(played, key=lambda each: each.conversation.number):
        found.setdefault(one.policy, []).append(one)
    return found
