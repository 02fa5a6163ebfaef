"""Admitted requests and tokens by sliding window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Admission:
    """Call that admission control permitted.

    It was decided at some moment from ``asked`` to ``told``, seconds by one clock. For a call that was observed at one
    moment, such as its arrival, the two are equal.
    """

    asked: float
    told: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Most:
    """Maxima of requests and tokens, not necessarily of the same window."""

    requests: int
    tokens: int


def fullest(admissions: Sequence[Admission], window_s: float = MINUTE_S) -> Most:
    """Return the maximum requests and tokens certainly admitted in any window.

    A window is shorter than ``window_s`` and begins with the request for one permit; it contains all calls asked for
    later and permitted before its end. So the bound is never too high, and at most too low by the calls in flight then.
    """
    if not admissions:
        return Most(0, 0)
    rows = sorted(admissions, key=lambda admission: admission.asked)
    asked = np.array([row.asked for row in rows])
    told = np.array([row.told for row in rows])
    tokens = np.array([row.tokens for row in rows])
    counts, sums = [], []
    for first, start in enumerate(asked):
        last = int(np.searchsorted(asked, start + window_s, side="left"))
        inside = told[first:last] < start + window_s
        counts.append(int(inside.sum()))
        sums.append(int(tokens[first:last][inside].sum()))
    return Most(max(counts), max(sums))


def used(admissions: Sequence[Admission], start: float, end: float, window_s: float = MINUTE_S) -> list[Most]:
    """Return the use of each window, one ending every tenth of a second.

    Calls count by the time told. Windows lie wholly between ``start`` and ``end``.
    """
    told = np.sort([row.told for row in admissions])
    order = np.argsort([row.told for row in admissions], kind="stable")
    sums = np.concatenate([[0], np.cumsum(np.array([row.tokens for row in admissions])[order])])
    found = []
    for closing in np.arange(start + window_s, end, 0.1):
        low, high = np.searchsorted(told, [closing - window_s, closing], side="right")
        found.append(Most(int(high - low), int(sums[high] - sums[low])))
    return found


def by_calendar_minute(moments: Sequence[float], offset_s: float) -> int:
    """Return the maximum requests in one minute of the wall clock.

    ``offset_s`` converts the moments' clock to Unix time.
    """
    if not moments:
        return 0
    minutes = ((np.array(moments) + offset_s) // MINUTE_S).astype(int)
    return int(np.bincount(minutes - minutes.min()).max())
