"""What was let through while Redis was away, until Redis knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from semroute import forks
from semroute.resilience.clock import Clock
from semroute.types import CallResult, Endpoint, Permit


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended, with the arguments of ``AdmissionControl.release``; ``at`` is when."""

    at: float
    ending: CallResult
    tokens: int | None = None
    usd: float | None = None
    wait_s: float | None = None
    reason: str | None = None
    refused: str | None = None


LASTING = (CallResult.SUSPEND, CallResult.DISABLE)
"""Endings that matter for longer than a minute."""


@dataclass(slots=True)
class Line:
    """One pass that this process gave; ``end`` where it has come back."""

    leave: Permit
    since: float
    end: End | None = None


class PendingReleases:
    """The passes given while Redis was away, oldest first.

    A line of more than a minute ago that has ended no longer matters to any limit; what it cost is added up by place
    and the line goes, unless its credential was refused or it brought a hint that still holds. So the ledger does not
    grow with the time that Redis is away.

    Args:
        clock: seconds, monotonic.
        window_s: the throttle's minute.
        lease_s: a call that has not come back after this is forgotten, seconds; it cost what it reserved.
    """

    def __init__(self, clock: Clock, window_s: float, lease_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._lease_s = lease_s
        self._lines: dict[str, Line] = {}
        self._spent: dict[Endpoint, float] = {}
        self._telling: str | None = None  # the line that Redis is just being told of, which must not go twice
        self._lock = forks.lock()

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, leave: Permit) -> None:
        """Note a pass."""
        with self._lock:
            self._lines[leave.id] = Line(leave, self._clock())
            self._drop_old()

    def end(self, id: str, end: Callable[[float], End]) -> bool:
        """Note how a call ended, given the time; False where its pass is not in here."""
        with self._lock:
            line = self._lines.get(id)
            if line is None:
                return False
            if line.end is None:
                line.end = end(self._clock())
            return True

    def first(self) -> tuple[Line, float] | None:
        """The oldest line that still matters and the seconds since then; None when there is none."""
        with self._lock:
            self._drop_old()
            for line in self._lines.values():
                self._telling = line.leave.id
                return line, self._clock() - line.since
            return None

    def told(self, id: str) -> tuple[End, float] | None:
        """Drop a line that Redis knows now: its ending, where it has one, and the seconds since then."""
        with self._lock:
            self._telling = None
            end = self._lines.pop(id).end
            return None if end is None else (end, self._clock() - end.at)

    def spent(self) -> tuple[Endpoint, float] | None:
        """A place and the USD that the lines cost there that are gone; None when there is none."""
        with self._lock:
            self._drop_old()
            return next(iter(self._spent.items()), None)

    def told_spent(self, place: Endpoint, usd: float) -> None:
        """Take off what Redis knows now."""
        with self._lock:
            self._spent[place] -= usd
            if self._spent[place] <= 0.0:
                del self._spent[place]

    def _drop_old(self) -> None:
        while self._lines:
            line = next(iter(self._lines.values()))
            if line.leave.id == self._telling or self._matters(line):
                return
            del self._lines[line.leave.id]
            cost = line.leave.usd if line.end is None or line.end.usd is None else line.end.usd
            if cost > 0.0:
                self._spent[line.leave.place] = self._spent.get(line.leave.place, 0.0) + cost

    def _matters(self, line: Line) -> bool:
        now, end = self._clock(), line.end
        if end is None:
            return now < line.since + self._lease_s
        if end.ending in LASTING or now < line.since + self._window_s:
            return True
        return end.wait_s is not None and now < end.at + end.wait_s
