"""Requests and tokens in a sliding window: an honest rate limit, and the measure of how near a client came to one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What may be taken in every window of ``window_s`` seconds; None is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    window_s: float = 60.0


class Window:
    """What was taken in the last ``window_s`` seconds. The most that it ever held is in ``peak``."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.peak = (0, 0)
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def take(self, tokens: int, now: float) -> float | None:
        """Take one request of so many tokens: None, or the seconds until there may be room for it."""
        while self._taken and self._taken[0][0] + self.limit.window_s <= now:
            self._tokens -= self._taken.popleft()[1]
        wait = self._wait(tokens, now)
        if wait is None:
            self._taken.append((now, tokens))
            self._tokens += tokens
            self.peak = (max(self.peak[0], len(self._taken)), max(self.peak[1], self._tokens))
        return wait

    def _wait(self, tokens: int, now: float) -> float | None:
        rpm, tpm, window_s = self.limit.rpm, self.limit.tpm, self.limit.window_s
        too_many = 0 if rpm is None else len(self._taken) + 1 - rpm
        too_much = 0 if tpm is None else self._tokens + tokens - tpm
        if too_many <= 0 and too_much <= 0:
            return None
        for taken_at, freed in self._taken:  # the oldest leave the window first
            too_many, too_much = too_many - 1, too_much - freed
            if too_many <= 0 and too_much <= 0:
                return taken_at + window_s - now
        return window_s  # larger than the limit itself: it never fits
