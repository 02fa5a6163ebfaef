"""What each credential may spend in a calendar month (UTC)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from semroute.resilience.clock import Wait, until
from semroute.resilience.plausible import PER_USD, amount_of


@dataclass(frozen=True, slots=True)
class Charge:
    """Money reserved for one call, in billionths of a dollar, in the books of one month."""

    account: str
    month: str
    amount: int


class MonthlySpending:
    """The books of the running month, by account; a new month begins with empty ones.

    The month only moves forward: a wall clock that is set back over its beginning opens no new budget.

    Args:
        wall: the time at which it is made, seconds since 1970.
    """

    def __init__(self, wall: float) -> None:
        self._spent: dict[str, int] = {}
        self._begin(wall)

    def month(self, wall: float) -> str:
        """The running month, such as ``2026-11``."""
        self._turn(wall)
        return self._month

    def spent(self, wall: float) -> dict[str, float]:
        """USD spent or reserved this month, by account."""
        self._turn(wall)
        return {account: amount / PER_USD for account, amount in self._spent.items()}

    def spent_by(self, account: str, wall: float) -> float:
        """USD that an account has spent or reserved this month."""
        self._turn(wall)
        return self._spent.get(account, 0) / PER_USD

    def wait(self, account: str, usd: float, budget_usd: float, wall: float) -> Wait | None:
        """Why a call of ``usd`` expected cost may not be made; None when it may. ``wait_s`` leads to the next month."""
        amount, budget = amount_of(usd), amount_of(budget_usd)
        if amount > budget:
            return Wait(
                None, f"a call of {usd:g} USD is dearer than the monthly budget of {account}, {budget_usd:g} USD"
            )
        self._turn(wall)
        spent = self._spent.get(account, 0)
        if spent + amount <= budget:
            return None
        reason = f"{spent / PER_USD:.2f} of {budget_usd:g} USD are spent of the monthly budget of {account}"
        return Wait(until(self._ends, wall), reason)

    def reserve(self, account: str, usd: float, wall: float) -> Charge:
        """Charge the expected cost of a call."""
        self._turn(wall)
        charge = Charge(account, self._month, amount_of(usd))
        self._spent[account] = self._spent.get(account, 0) + charge.amount
        return charge

    def settle(self, charge: Charge, usd: float, wall: float) -> None:
        """Set a charge to what the call cost; one of a month that is over changes nothing."""
        self._turn(wall)
        if charge.month == self._month:
            self._spent[charge.account] = self._spent.get(charge.account, 0) - charge.amount + amount_of(usd)

    def restore(self, month: str, spent: Mapping[str, float], wall: float) -> None:
        """Go on from saved books, where they are of the running month; what is higher already stays."""
        self._turn(wall)
        if month == self._month:
            for account, usd in spent.items():
                self._spent[account] = max(self._spent.get(account, 0), amount_of(usd))

    def _turn(self, wall: float) -> None:
        if wall >= self._ends:
            self._begin(wall)

    def _begin(self, wall: float) -> None:
        today = datetime.fromtimestamp(wall, UTC)
        self._month = f"{today:%Y-%m}"
        self._ends = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC).timestamp()
        self._spent.clear()
