"""Bill of a month of requests, estimated without any model call."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from semroute.config import Config, Log, Price
from semroute.errors import DataError, InputError, MissingExtraError, SemrouteError, StateError
from semroute.outcomes.costs import read_prices
from semroute.router import Router
from semroute.types.protocols import Progress, silent
from semroute.workflows.assumptions import assumptions, gaps
from semroute.workflows.estimate import Escalation, Estimate, EstimateTally, tally_requests, without_calls
from semroute.workflows.pool import PricedPool
from semroute.workflows.requests import RequestRow, read_requests
from semroute.workflows.workspace import Workspace

SHOWN_ERRORS = 5
"""Unreadable rows that are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class BillSource:
    """Requests and assumptions of a bill.

    Attributes:
        requests: file of requests; ``-`` takes ``stdin``.
        stdin: requests as bytes, where the file is ``-``.
        now: model of requests that name none; None takes the strongest of the pool.
        per_month: requests a month; None takes that of timestamps in the rows.
        given_prices: USD per million tokens by name; over those of the file.
        prices: file of prices; None takes those of the configuration.
        output_tokens: of an answer of unknown length.
        cascade: tiers of every request; None takes those of the configuration.
        escalation: share of a tier's answers that go on; None takes that of the log, else a default.
        text: key or column of the queries.
        encoding: of the file; None takes UTF-8.
    """

    requests: Path
    stdin: BinaryIO | None = None
    now: str | None = None
    per_month: float | None = None
    given_prices: Mapping[str, Price] | None = None
    prices: Path | None = None
    output_tokens: int = 300
    cascade: Sequence[str] | None = None
    escalation: Escalation | None = None
    text: str | None = None
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class BillEstimate:
    """Estimated bill, with its assumptions and gaps.

    Attributes:
        estimate: the figures.
        pool: models with their prices.
        assumed: assumptions, a sentence each.
        warnings: unreadable rows, unused prices and ignored settings, a sentence each.
        unreadable: number of unreadable rows.
        first_unreadable: the first of them.
    """

    estimate: Estimate
    pool: PricedPool
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    unreadable: int
    first_unreadable: tuple[SemrouteError, ...]

    @property
    def gaps(self) -> list[str]:
        """Return requests missing from the bills, and remedies, a sentence each."""
        return list(gaps(self.estimate, self.pool))

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            **self.estimate.to_dict(),
            "unreadable": {"rows": self.unreadable, "first": [str(error) for error in self.first_unreadable]},
            "assumed": list(self.assumed),
            "warnings": [*self.warnings, *self.gaps],
        }


def estimate_bill(source: BillSource, workspace: Workspace, progress: Progress = silent) -> BillEstimate:
    """Estimate what a month of requests costs now, routed, and with a cascade.

    No language model is called.

    Args:
        source: requests and assumptions.
        workspace: index, configuration and log.
        progress: called with a step's name, the number done and the total.

    Raises:
        InputError: a file cannot be used, or a cascade has fewer than two tiers.
        DataError: the file holds no requests.
    """
    if source.cascade is not None and len(source.cascade) < 2:
        raise InputError("a cascade needs two tiers at least, cheapest first")
    prices = {**({} if source.prices is None else read_prices(source.prices)), **(source.given_prices or {})}
    config = workspace.config
    router = workspace.with_config(without_calls(config)).router(progress=progress)
    pool = router_pool(router, config, prices)
    tiers = source.cascade or ()
    tally = EstimateTally(config, pool, now=source.now, output_tokens=source.output_tokens, tiers=tiers)
    stdin = source.stdin if source.stdin is not None else io.BytesIO()
    rows = read_requests(source.requests, stdin, text=source.text, encoding=source.encoding)
    unreadable, first = _tally(tally, router, rows, progress)
    if not tally.rows:
        raise first[0] if first else DataError("holds no requests", path=source.requests)
    escalation = source.escalation or configured_escalation(tally, config)
    made = tally.estimate(per_month=source.per_month, escalation=escalation)
    more = unreadable - len(first)
    warnings = [*map(str, first), *([f"{more:,} more rows cannot be read"] if more else [])]
    return BillEstimate(
        estimate=made,
        pool=pool,
        assumed=tuple(assumptions(made, pool, now_is_given=source.now is not None)),
        warnings=(*warnings, *_unused(prices, made, pool), *_ignored(config, tally)),
        unreadable=unreadable,
        first_unreadable=tuple(first),
    )


def router_pool(router: Router, config: Config, prices: Mapping[str, Price]) -> PricedPool:
    """Return the models that a router's queries may go to, with their prices."""
    names = (name for models in router.live.models.values() for name in models)
    return PricedPool(config, prices, (*names, *router.live.fallback))


def _tally(
    tally: EstimateTally, router: Router, rows: Iterable[RequestRow | SemrouteError], progress: Progress
) -> tuple[int, list[SemrouteError]]:
    """Add all requests; return the number of unreadable rows, and the first."""
    count, first = 0, list[SemrouteError]()
    for found in tally_requests(tally, router, rows):
        if isinstance(found, SemrouteError):
            count += 1
            if len(first) < SHOWN_ERRORS:
                first.append(found)
        else:
            progress("estimate", found, 0)
    return count, first


def configured_escalation(tally: EstimateTally, config: Config) -> Escalation:
    """Return the log's escalation rate for these tiers; else the default."""
    if not tally.has_cascade or config.log.enabled is False:
        return ASSUMED
    return logged_escalation(config.log, os.environ, tally.first_tiers) or ASSUMED


def _unused(prices: Mapping[str, Price], made: Estimate, pool: PricedPool) -> list[str]:
    used = {share.model for share in (*made.routed, *made.now)} | set(made.cascade.tiers if made.cascade else ())
    found = []
    for name in prices:
        if name not in used and not pool.knows(name):
            meant = pool.meant(name)
            hint = "" if meant is None else f'; did you mean "{meant}"?'
            found.append(f'--price: no request goes to "{name}"{hint}')
    return found


def _ignored(config: Config, tally: EstimateTally) -> list[str]:
    """Return the parts of the configuration that the figures ignore."""
    found = [] if config.judge.model is None else ["the judge is not asked, since that calls a model"]
    if config.trial.policy is not None:
        found.append("the policy on trial has no say")
    if config.cascade.tiers and not tally.has_cascade:
        found.append("no request goes up the cascade: the models of its category leave no two tiers; see --cascade")
    return found


# Escalation rate of an estimate: the caller's, the log's, or a default.

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
