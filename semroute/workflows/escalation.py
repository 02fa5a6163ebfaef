"""Assumed escalation rate of a cascade: the caller's, the log's, or a default."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from semroute.config import Log
from semroute.errors import InputError, MissingExtraError, StateError
from semroute.workflows.estimate import Escalation

LEAST_LOGGED = 30
"""Queries that went up the cascade below which the log says too little."""
MOST_LOGGED = 2000
"""Outcomes that are read from the log, the newest."""
ASSUMED = Escalation(0.1, 0.2, 0.4, "assumed")
_SHAPE = "write a share such as 20% or 0.2, or a range such as 10%-40%"


def parse_escalation(text: str) -> Escalation:
    """Parse a rate, whose range is then from half of it to twice as much, or a range.

    Raises:
        InputError: it is neither.
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
    """Return the escalation rate of the log's newest outcomes with its 95% interval.

    None without a log, and where fewer than :data:`LEAST_LOGGED` of them began with these tiers. What would have come
    after an answer that was accepted is not in the log, and does not matter to how often it is.

    Args:
        log: the database.
        env: where its password is read.
        first: models and groups of the cascade's first tier; outcomes that began with others do not count.
    """
    from semroute.evaluate.metrics import Rate
    from semroute.outcomes.log import open_log

    try:
        with open_log(log, env, must_exist=True) as opened:
            newest = opened.newest(MOST_LOGGED)
    except (StateError, MissingExtraError):
        return None
    climbed = [one for one in newest if next((tier.candidate in first for tier in one.trials if tier.called), False)]
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
