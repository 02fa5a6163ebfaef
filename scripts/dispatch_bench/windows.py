"""What was let through, by sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Admission:
    """One call that a gate let through.

    The gate decided at some moment from ``asked`` to ``told``, seconds by one clock. Of a call that was seen at one
    moment, such as its arrival, the two are equal.
    """

    asked: float
    told: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Most:
    """The fullest window: requests, tokens; not necessarily the same window."""

    requests: int
    tokens: int


def fullest(admissions: Sequence[Admission], window_s: float = MINUTE_S) -> Most:
    """The most requests and tokens that were certainly let through within less than ``window_s``, in any window.

    A window begins with the question of one call; in it are all that were asked for later and told before its end. So
    the bound is never too high, and too low by no more than what was under way at the window's end.
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
    """What each window of the run held, one window ending every tenth of a second; by the times told.

    Windows lie wholly between ``start`` and ``end``.
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
    """The most requests in one minute of the wall clock; ``offset_s`` leads from the moments' clock to Unix time."""
    if not moments:
        return 0
    minutes = ((np.array(moments) + offset_s) // MINUTE_S).astype(int)
    return int(np.bincount(minutes - minutes.min()).max())
