"""What the server saw: every request, and the sums."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)  # not frozen: how a request ended is known later
class RecordedRequest:
    """A request as it arrived, and how it ended.

    Attributes:
        method: of HTTP.
        path: with the query, as sent.
        headers: names in lower case.
        body: the parsed JSON, or None where it was not JSON.
        at: when it arrived, ``time.time()``.
        status: HTTP status that was answered; None until then.
        charged: input and output tokens that it is billed for, whether or not the client stayed for the answer.
        ended: when the answer was sent or given up, ``time.time()``; None until then.
        disconnected: whether the client left before the answer was complete.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: float = field(default_factory=time.time)
    status: int | None = None
    charged: tuple[int, int] = (0, 0)
    ended: float | None = None
    disconnected: bool = False


class Records:
    """The last requests and the counts of all. Used from the server's thread alone, but for reading."""

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self.clear()

    def clear(self) -> None:
        """Forget everything but what is in flight."""
        self.requests: deque[RecordedRequest] = deque(maxlen=self._keep)
        self.count = self.disconnected = self.input_tokens = self.output_tokens = 0
        self.in_flight = getattr(self, "in_flight", 0)
        self.most_in_flight = self.in_flight
        self.statuses: Counter[int] = Counter()

    def begin(self, record: RecordedRequest) -> None:
        """A request arrived."""
        self.requests.append(record)
        self.count += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def finish(self, record: RecordedRequest) -> None:
        """Its answer was sent or given up."""
        record.ended = time.time()
        self.in_flight -= 1
        self.disconnected += record.disconnected
        if record.status is not None:
            self.statuses[record.status] += 1

    def stats(self) -> dict[str, Any]:
        """The counts, ready for JSON."""
        return {
            "requests": self.count,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "disconnected": self.disconnected,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
