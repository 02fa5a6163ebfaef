"""Time as the gates see it: a clock that is handed in, and how long to wait."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Seconds since some fixed moment; never runs backwards."""

ASK_AGAIN_S = 0.25
"""The wait for what ends when a running call ends: nobody knows when, so ask again soon."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. ``wait_s``: seconds until it is worth asking again; None when no waiting helps."""

    wait_s: float | None
    reason: str


def longest(one: Wait | None, other: Wait | None) -> Wait | None:
    """The wait that decides when both have to be over; None is no wait."""
    if one is None or other is None:
        return other if one is None else one
    if one.wait_s is None or other.wait_s is None:
        return one if one.wait_s is None else other
    return one if one.wait_s >= other.wait_s else other


def until(moment: float, now: float) -> float:
    """Seconds from ``now`` to ``moment``, 0 where it has passed.

    Never a rounding error short: ``now + until(moment, now) >= moment`` in floating point too, so that who waits
    exactly this long is not sent away again.
    """
    wait = max(moment - now, 0.0)
    while now + wait < moment:
        wait = math.nextafter(wait, math.inf)
    return wait
