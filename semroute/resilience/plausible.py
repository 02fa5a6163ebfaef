"""Counts of tokens and money as the gates take them: never negative, never absurd.

What a caller asks for and a provider reports is somebody else's number. A negative reservation would lift a limit for
all others, and a provider that reports 10^12 tokens would close its place, or its key's budget for a month.
"""

from __future__ import annotations

from semroute.types import Permit

# Sums of floats drift, so that a budget would be over or under by a hair; whole billionths of a dollar do not, and are
# fine enough for a token of the cheapest model.
PER_USD = 1_000_000_000

MOST_USD = 4_000_000.0
"""Most USD of one amount: more would not fit the whole numbers that Lua's floats hold exactly (2^53)."""

MOST_TOKENS = 1_000_000_000
"""Most tokens of one call."""

UNFORESEEN_TOKENS = 200_000
"""Tokens that a call may take beyond twice its reservation before its count is held to be a mistake: the longest
answers of reasoning models (128,000), for requests that set no limit, and images, whose size is estimated."""

UNFORESEEN = 1000.0
"""Times its reservation that a call may cost before the cost is held to be a mistake: an answer of 128,000 tokens where
1,024 were reserved, at eight times the price of the input."""

UNFORESEEN_USD = 1.0
"""A cost that is believed whatever was reserved, USD."""


def counted_tokens(tokens: float) -> int:
    """The tokens that a call reserves."""
    return int(min(tokens, MOST_TOKENS)) if tokens > 0 else 0


def counted_usd(usd: float) -> float:
    """The USD that a call reserves."""
    return min(usd, MOST_USD) if usd > 0.0 else 0.0


def amount_of(usd: float) -> int:
    """USD in whole billionths."""
    return round(counted_usd(usd) * PER_USD)


def settled(leave: Permit, tokens: float | None, usd: float | None) -> tuple[int | None, float | None]:
    """The tokens and USD that a call is settled to.

    None keeps the reservation: where a number is not known, or is one that no such call can have come to. Where the
    tokens are not believed, neither is the cost that follows from them.
    """
    if tokens is not None and not tokens <= 2 * counted_tokens(leave.tokens) + UNFORESEEN_TOKENS:
        return None, None
    if usd is not None and not usd <= UNFORESEEN * counted_usd(leave.usd) + UNFORESEEN_USD:
        usd = None
    return None if tokens is None else counted_tokens(tokens), None if usd is None else counted_usd(usd)
