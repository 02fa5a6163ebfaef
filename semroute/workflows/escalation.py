"""Escalation rate for an estimate: the caller's, the log's, or a default."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from semroute.config import Log
from semroute.errors import InputError, MissingExtraError, StateError
from semroute.workflows.estimate import Escalation

LEAST_LOGGED = 30
"""Minimum number of queries through the cascade for a rate from the log."""
MOST_LOGGED = 2000
"""Maximum outcomes read from the log, the newest."""
ASSUMED = Escalation(0.1, 0.2, 0.4, "assumed")
_SHAPE = "write a share such as 20% or 0.2, or a range such as 10%-40%"


def parse_escalation(text: str) -> Escalation:
    """Parse a rate or a range; a rate's range is half to twice the rate.

    Raises:
        InputError: the text is neither.
    """
    low, dash, high = text.strip().replace("..", "-").replace("\u2013", "-").partition("-")
    if not dash:
        rate = _share(low)
        return Escalation(rate / 2, rate, min(2 * rate, 1.0), "--escalation")
    first, last = _share(low if "%" in low or "%" not in high else f"{low.strip()}%"), _share(high)
    if first > last:
        raise InputError(f"--escalation: {text} ends below its start; {_SHAPE}")
    return Escalation(first, (first + last) / 2, last, "--escalation")


def logged_escalation(log: Log, env: Mapping[str, str], first: Collection[str]) -> Escalation | None:
    """Return the log's escalation rate with its 95% interval.

    It is that of the newest outcomes. None without a log, and if fewer than :data:`LEAST_LOGGED` began with these
    tiers. The log has no results of tiers after an accepted answer, which do not affect the rate.

    Args:
        log: configuration of the database.
        env: environment with its password.
        first: models and groups of the cascade's first tier; outcomes that began with others are ignored.
    """
    from semroute.evaluate.metrics import Rate
    from semroute.outcomes.log import open_log

    try:
        with open_log(log, env, must_exist=True) as opened:
            newest = opened.newest(MOST_LOGGED)
    except (StateError, MissingExtraError):
        return None
    climbed = [one for one in newest if next((tier.candidate in first for tier in one.tiers if tier.called), False)]
    if len(climbed) < LEAST_LOGGED:
        return None
    rate = Rate.of(sum(one.escalated for one in climbed), len(climbed))
    return Escalation(rate.low, rate.value, rate.high, f"the log, {len(climbed):,} queries")


def _share(text: str) -> float:
    word = text.strip()
    try:
        share = float(word.removesuffix("%")) / (100.0 if word.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise InputError(f'--escalation: "{word}" is no share; {_SHAPE}')
    return share
