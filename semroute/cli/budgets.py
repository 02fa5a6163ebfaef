"""What a budget that ended a run is said to have done, in the same words everywhere."""

from __future__ import annotations


def ended_by(budget: float, spent: float, needed: float, what: str) -> str:
    """Why a run that keeps to a budget did not go on.

    Args:
        budget: USD that may be spent.
        spent: USD that were.
        needed: USD that the next step may cost at most.
        what: that step costs, for people, such as "the longest answers to the next query".
    """
    rest = budget - spent
    if rest <= 0:
        return f"the budget of USD {budget:g} is spent"
    return f"of the budget of USD {budget:g}, the rest of USD {rest:.4g} would not cover {what} (USD {needed:.4g})"
