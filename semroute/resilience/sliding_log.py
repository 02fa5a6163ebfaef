"""Requests and tokens of the last minute, exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """One request: when, how many tokens, and whether it is still in the window."""

    at: float
    tokens: int
    counted: bool = True


class SlidingLog:
    """Every request of the last ``window_s`` seconds; one counts in ``[at, at + window_s)``.

    A log and not a counter, because only a log keeps a limit in *every* window of that length and still lets all of it
    be used: buckets are over the limit by up to a bucket, or under it. Running sums make adding, changing and asking
    O(1) amortised. It holds as many entries as requests were admitted in a window, so the limit itself bounds it.
    """

    __slots__ = ("_entries", "tokens", "window_s")

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.tokens = 0
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def add(self, now: float, tokens: int) -> Entry:
        """Log a request; ``now`` is never before that of an earlier one."""
        entry = Entry(now, tokens)
        self._entries.append(entry)
        self.tokens += tokens
        return entry

    def change(self, entry: Entry, tokens: int) -> None:
        """Set the tokens of a request that is logged; one that has left the window no longer matters."""
        if entry.counted:
            self.tokens += tokens - entry.tokens
            entry.tokens = tokens

    def forget(self, now: float) -> None:
        """Drop what has left the window."""
        while self._entries and self._entries[0].at + self.window_s <= now:
            entry = self._entries.popleft()
            entry.counted = False
            self.tokens -= entry.tokens

    def room_for_request_at(self, rpm: int) -> float | None:
        """When fewer than ``rpm`` requests are left, if nothing else comes; None when that is now."""
        over = len(self._entries) - rpm
        return None if over < 0 else self._entries[over].at + self.window_s

    def room_for_tokens_at(self, tokens: int, tpm: int) -> float | None:
        """When ``tokens`` more stay within ``tpm``, if nothing else comes; None when that is now.

        ``tokens`` must be at most ``tpm``. Walks over the entries that have to leave: usually few, as a call is small
        against the limit.
        """
        over = self.tokens + tokens - tpm
        if over <= 0:
            return None
        for entry in self._entries:
            over -= entry.tokens
            if over <= 0:
                return entry.at + self.window_s
        raise AssertionError("the sum of the entries is their running sum")
