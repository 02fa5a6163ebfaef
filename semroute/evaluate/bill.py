"""What a month costs before and after routing, from five numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bill:
    """A month of queries, input tokens alone.

    Attributes:
        queries: a month.
        tokens: input tokens of a query.
        simple: share of queries that the weak model handles, 0 to 1.
        strong_price, weak_price: USD per million input tokens.
    """

    queries: int
    tokens: float
    simple: float
    strong_price: float
    weak_price: float

    @property
    def before(self) -> float:
        """USD: every query at the strong model."""
        return self._usd(1.0, self.strong_price)

    @property
    def routed(self) -> float:
        """USD: simple queries at the weak model, the others at the strong one, and no mistake."""
        return self._usd(self.simple, self.weak_price) + self._usd(1.0 - self.simple, self.strong_price)

    def cascaded(self, escalated: float) -> float:
        """USD: every query at the weak model first, a share of them at the strong one as well."""
        return self._usd(1.0, self.weak_price) + self._usd(escalated, self.strong_price)

    @property
    def break_even(self) -> float:
        """Share of escalated queries at which a cascade costs as much as the strong model alone.

        ``w + r s = s`` at ``r = 1 - w / s``. Where the weak model is not cheaper, a cascade never pays: 0.
        """
        return max(0.0, 1.0 - self.weak_price / self.strong_price) if self.strong_price > 0 else 0.0

    @property
    def routing_even(self) -> float:
        """Share of escalated queries from which a cascade costs more than routing that makes no mistake."""
        return max(0.0, (self.routed - self.cascaded(0.0)) / self._usd(1.0, self.strong_price)) if self.before else 0.0

    def _usd(self, share: float, price: float) -> float:
        return self.queries * share * self.tokens * price / 1e6
