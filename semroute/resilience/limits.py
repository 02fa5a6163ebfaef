"""Rate limits of an endpoint, and monthly budgets of credentials.

Requests and tokens per minute are exact sliding windows; budgets are per calendar month (UTC).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from semroute.config import BreakerRules
from semroute.resilience.breaker import ASK_AGAIN_S, Wait, longest, until
from semroute.types import CallResult, Permit

# Plausible counts of tokens and money: never negative, never absurd.
#
# Numbers of callers and providers are not trusted. A negative reservation would lift a limit for all others, and a
# provider that reports 10^12 tokens would close its endpoint, or its key's budget for a month.

# Sums of floats drift, so that a budget would be over or under by a hair; whole billionths of a dollar do not, and are
# fine enough for a token of the cheapest model.
PER_USD = 1_000_000_000

MOST_USD = 4_000_000.0
"""Largest amount, USD: more would not fit the integers that Lua's floats hold exactly (2^53)."""

MOST_TOKENS = 1_000_000_000
"""Largest number of tokens of one call."""

UNFORESEEN_TOKENS = 200_000
"""Tokens that a call may use beyond twice its reservation before its count is rejected as a mistake: the longest
answers of reasoning models (128,000), for requests that set no limit, and images, whose size is estimated."""

UNFORESEEN = 1000.0
"""Multiple of its reservation that a call may cost before the cost is rejected as a mistake: an answer of 128,000
tokens where 1,024 were reserved, at eight times the price of the input."""

UNFORESEEN_USD = 1.0
"""Cost that is accepted whatever was reserved, USD."""


def counted_tokens(tokens: float) -> int:
    """Clamp a token count to what a call may reserve."""
    return int(min(tokens, MOST_TOKENS)) if tokens > 0 else 0


def counted_usd(usd: float) -> float:
    """Clamp an amount of USD to what a call may reserve."""
    return min(usd, MOST_USD) if usd > 0.0 else 0.0


def amount_of(usd: float) -> int:
    """Convert USD to whole billionths."""
    return round(counted_usd(usd) * PER_USD)


def settled(permit: Permit, tokens: float | None, usd: float | None) -> tuple[int | None, float | None]:
    """Return the tokens and USD to which a call is settled.

    None keeps the reservation: if a number is not known, or is implausible for such a call. With implausible tokens the
    cost that follows from them is implausible too.
    """
    if tokens is not None and not tokens <= 2 * counted_tokens(permit.tokens) + UNFORESEEN_TOKENS:
        return None, None
    if usd is not None and not usd <= UNFORESEEN * counted_usd(permit.usd) + UNFORESEEN_USD:
        usd = None
    return None if tokens is None else counted_tokens(tokens), None if usd is None else counted_usd(usd)


@dataclass(frozen=True, slots=True)
class Charge:
    """Charge reserved for one call in one month, in billionths of a dollar."""

    account: str
    month: str
    amount: int


class MonthlySpending:
    """Spending of the current month by account; a new month begins at zero.

    The month only moves forward: a wall clock that is set back over its beginning opens no new budget.

    Args:
        wall: time of creation, seconds since 1970.
    """

    def __init__(self, wall: float) -> None:
        self._spent: dict[str, int] = {}
        self._begin(wall)

    def month(self, wall: float) -> str:
        """Return the current month, such as ``2026-11``."""
        self._start_month(wall)
        return self._month

    def spent(self, wall: float) -> dict[str, float]:
        """Return USD spent or reserved this month, by account."""
        self._start_month(wall)
        return {account: amount / PER_USD for account, amount in self._spent.items()}

    def spent_by(self, account: str, wall: float) -> float:
        """Return USD that an account has spent or reserved this month."""
        self._start_month(wall)
        return self._spent.get(account, 0) / PER_USD

    def wait(self, account: str, usd: float, budget_usd: float, wall: float) -> Wait | None:
        """Return the wait of a call of ``usd`` expected cost; None if it fits.

        ``wait_s`` reaches to the next month.
        """
        amount, budget = amount_of(usd), amount_of(budget_usd)
        if amount > budget:
            return Wait(
                None, f"a call of {usd:g} USD is dearer than the monthly budget of {account}, {budget_usd:g} USD"
            )
        self._start_month(wall)
        spent = self._spent.get(account, 0)
        if spent + amount <= budget:
            return None
        reason = f"{spent / PER_USD:.2f} of {budget_usd:g} USD are spent of the monthly budget of {account}"
        return Wait(until(self._ends, wall), reason)

    def reserve(self, account: str, usd: float, wall: float) -> Charge:
        """Reserve the expected cost of a call."""
        self._start_month(wall)
        charge = Charge(account, self._month, amount_of(usd))
        self._spent[account] = self._spent.get(account, 0) + charge.amount
        return charge

    def settle(self, charge: Charge, usd: float, wall: float) -> None:
        """Settle a charge to the call's cost; one of a past month changes nothing."""
        self._start_month(wall)
        if charge.month == self._month:
            self._spent[charge.account] = self._spent.get(charge.account, 0) - charge.amount + amount_of(usd)

    def restore(self, month: str, spent: Mapping[str, float], wall: float) -> None:
        """Restore saved spending of the current month; higher amounts stay."""
        self._start_month(wall)
        if month == self._month:
            for account, usd in spent.items():
                self._spent[account] = max(self._spent.get(account, 0), amount_of(usd))

    def _start_month(self, wall: float) -> None:
        if wall >= self._ends:
            self._begin(wall)

    def _begin(self, wall: float) -> None:
        today = datetime.fromtimestamp(wall, UTC)
        self._month = f"{today:%Y-%m}"
        self._ends = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC).timestamp()
        self._spent.clear()


# Exact sliding window of requests and tokens.


@dataclass(slots=True)
class Entry:
    """Entry of a request: time, tokens, and if it is still in the window."""

    at: float
    tokens: int
    counted: bool = True


class SlidingLog:
    """Sliding log of the requests of the last ``window_s`` seconds.

    A request counts in ``[at, at + window_s)``. A log and not a counter, because only a log keeps a limit in *every*
    window of that length and still lets all of it be used: buckets are over the limit by up to a bucket, or under it.
    Running sums make adding, changing and asking O(1) amortised. It holds as many entries as requests were admitted in
    a window, so the limit itself bounds it.
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
        """Add a request; ``now`` is never before that of an earlier one."""
        entry = Entry(now, tokens)
        self._entries.append(entry)
        self.tokens += tokens
        return entry

    def change(self, entry: Entry, tokens: int) -> None:
        """Set the tokens of a logged request, if it is still in the window."""
        if entry.counted:
            self.tokens += tokens - entry.tokens
            entry.tokens = tokens

    def forget(self, now: float) -> None:
        """Drop requests that have left the window."""
        while self._entries and self._entries[0].at + self.window_s <= now:
            entry = self._entries.popleft()
            entry.counted = False
            self.tokens -= entry.tokens

    def room_for_request_at(self, rpm: int) -> float | None:
        """Return the time of room for a request under ``rpm``; None if now."""
        over = len(self._entries) - rpm
        return None if over < 0 else self._entries[over].at + self.window_s

    def room_for_tokens_at(self, tokens: int, tpm: int) -> float | None:
        """Return the time of room for ``tokens`` under ``tpm``; None if now.

        It holds if nothing else comes. ``tokens`` must be at most ``tpm``. Walks over the entries that have to leave:
        usually few, as a call is small against the limit.
        """
        over = self.tokens + tokens - tpm
        if over <= 0:
            return None
        for entry in self._entries:
            over -= entry.tokens
            if over <= 0:
                return entry.at + self.window_s
        raise AssertionError("the sum of the entries is their running sum")


# Throttle of one endpoint: keeps *our* calls within the provider's limits, and respects its hints.

WINDOW_S = 60.0
"""Window of requests and tokens a minute, seconds."""


def heeded_s(rules: BreakerRules, result: CallResult, wait_s: float | None) -> float | None:
    """Return the seconds to respect a provider's wait hint; None without."""
    if wait_s is None or math.isnan(wait_s):
        return None
    most_s = rules.most_failure_hint_s if result is CallResult.FAILURE else rules.most_hint_s
    return min(max(wait_s, 0.0), most_s)


@dataclass(slots=True)
class Reservation:
    """Reservation of one call; ``entry`` is None if there is no rate limit."""

    entry: Entry | None
    running: bool = True


class Throttle:
    """Throttle: rate limits, parallel calls, and the provider's hints.

    Requests and tokens a minute are exact sliding windows. Tokens are reserved before the call (input and most output)
    and settled to its usage, at the moment of the reservation. So the sum of reservations never exceeds ``tpm`` in any
    window; if a call used more than was reserved, the excess counts from then on and holds the next calls back.

    Args:
        rpm: requests a minute; None is no limit.
        tpm: tokens a minute; None is no limit.
        parallel: calls at the same time; None is no limit.
        window_s: length of the minute. A little more than 60 makes up for calls that overtake each other on their way
            to a provider that counts as exactly.
    """

    def __init__(
        self,
        rpm: int | None = None,
        tpm: int | None = None,
        parallel: int | None = None,
        *,
        window_s: float = WINDOW_S,
    ) -> None:
        self.rpm = rpm
        self.tpm = tpm
        self.parallel = parallel
        self.in_flight = 0
        self._closed_until = -math.inf
        self._log = SlidingLog(window_s)

    def used(self, now: float) -> tuple[int, int]:
        """Return requests and tokens in the window that ends now."""
        self._log.forget(now)
        return len(self._log), self._log.tokens

    def wait(self, now: float, tokens: int) -> Wait | None:
        """Return the wait of a call of ``tokens`` tokens; None if it fits now.

        ``wait_s`` is exact for rates and hints: the earliest time at which the call is permitted if nothing else comes.
        For parallel calls it is :data:`~semroute.resilience.breaker.ASK_AGAIN_S`.
        """
        found = None
        if now < self._closed_until:
            found = Wait(until(self._closed_until, now), "the provider asked to wait")
        if self.parallel is not None and self.in_flight >= self.parallel:
            found = longest(found, Wait(ASK_AGAIN_S, f"{self.in_flight} of {self.parallel} parallel calls are running"))
        if self.rpm is None and self.tpm is None:
            return found
        self._log.forget(now)
        if self.rpm is not None:
            moment = self._log.room_for_request_at(self.rpm)
            if moment is not None:
                found = longest(found, Wait(until(moment, now), f"{self.rpm} requests a minute are used up"))
        if self.tpm is not None:
            found = longest(found, self._wait_for_tokens(now, tokens, self.tpm))
        return found

    def reserve(self, now: float, tokens: int) -> Reservation | Wait:
        """Permit and count a call, or return its wait."""
        return self.wait(now, tokens) or self.admit(now, tokens)

    def admit(self, now: float, tokens: int) -> Reservation:
        """Count a call for which :meth:`wait` has just returned None."""
        self.in_flight += 1
        if self.rpm is None and self.tpm is None:
            return Reservation(None)
        return Reservation(self._log.add(now, tokens))

    def settle(self, reservation: Reservation, tokens: int | None = None) -> None:
        """Give a reservation back; a second time does nothing.

        Args:
            reservation: from :meth:`reserve`.
            tokens: tokens that the call used, 0 if none; None keeps the reservation. The request itself stays counted:
                it was made.
        """
        if not reservation.running:
            return
        reservation.running = False
        self.in_flight -= 1
        if tokens is not None and reservation.entry is not None:
            self._log.change(reservation.entry, max(tokens, 0))

    def hint(self, now: float, wait_s: float) -> None:
        """Reject calls for ``wait_s`` seconds; never shorten an earlier hint."""
        if math.isfinite(wait_s):
            self._closed_until = max(self._closed_until, now + wait_s)

    def forget_hint(self) -> None:
        """Drop the provider's wait hints."""
        self._closed_until = -math.inf

    def headroom(self, now: float, tokens: int) -> float:
        """Return the headroom left after a call of ``tokens`` tokens, 0 to 1."""
        room = 1.0
        if self.parallel is not None:
            room = min(room, 1.0 - (self.in_flight + 1) / self.parallel)
        if self.rpm is not None or self.tpm is not None:
            self._log.forget(now)
            if self.rpm is not None:
                room = min(room, 1.0 - (len(self._log) + 1) / self.rpm)
            if self.tpm is not None:
                room = min(room, 1.0 - (self._log.tokens + tokens) / self.tpm)
        return max(room, 0.0)

    def _wait_for_tokens(self, now: float, tokens: int, tpm: int) -> Wait | None:
        if tokens > tpm:
            return Wait(None, f"a call of {tokens} tokens is larger than the limit of {tpm} tokens a minute")
        moment = self._log.room_for_tokens_at(tokens, tpm)
        if moment is None:
            return None
        left = max(tpm - self._log.tokens, 0)
        return Wait(until(moment, now), f"{left} of {tpm} tokens a minute are left, the call needs {tokens}")
