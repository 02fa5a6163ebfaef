"""Accounts of a run, which must agree: clients, providers, log."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.report import head, row

from gateway_faults.load import CUT, Asked
from semroute.testing import RecordedRequest
from semroute.types import LoggedOutcome

_CASE = re.compile(r"case-(\d+) ")
ROUNDING_USD = 1e-8
"""Of the costs in headers, which have eight decimals."""
CHARGED_USD = 1e-6
"""Rounding of a key's spending."""


@dataclass(slots=True)
class Case:
    """One request in all three accounts.

    Attributes:
        asked: what the client got.
        calls: the providers' records of it.
        logged: outcomes of it.
    """

    asked: Asked
    calls: list[RecordedRequest] = field(default_factory=list)
    logged: list[LoggedOutcome] = field(default_factory=list)

    def billed_usd(self, price: Mapping[str, float]) -> float:
        """Return what the providers bill."""
        tokens = [call.charged for call in self.calls]
        return sum(one * price["input"] + two * price["output"] for one, two in tokens) / 1e6

    @property
    def logged_usd(self) -> float:
        """Sum of the costs in the log, USD."""
        return sum(one.cost_usd or 0.0 for one in self.logged)

    @property
    def times_answered(self) -> int:
        """Return whole provider answers, without those cut on their way.

        The log has the latter as failed.
        """
        whole = sum(call.status == 200 and not call.disconnected for call in self.calls)
        calls = (call for one in self.logged for call in one.calls)
        return whole - sum(call.error_kind is not None and call.status in (None, 200) for call in calls)

    @property
    def is_estimated(self) -> bool:
        """True where a cost is estimated: nobody reports a cut call's tokens."""
        return any(one.cost_estimated for one in self.logged)


def cases_of(
    asked: Sequence[Asked], calls: Iterable[RecordedRequest], logged: Iterable[LoggedOutcome]
) -> Mapping[int, Case]:
    """Return every request in all accounts, by its number."""
    found = {one.number: Case(one) for one in asked}
    for call in calls:
        text = "" if call.body is None else str(call.body["messages"][-1]["content"])
        if (match := _CASE.search(text)) is not None:
            found[int(match[1])].calls.append(call)
    for outcome in logged:
        if (match := _CASE.search(f"{outcome.query} ")) is not None:
            found[int(match[1])].logged.append(outcome)
    return found


@dataclass(frozen=True, slots=True)
class Account:
    """Account of one phase: counts, and requests that break an invariant.

    Attributes:
        sent: requests.
        answered: those whose whole answer came.
        retried: those with more than one call, of which some may have found their provider gone.
        cut: connections that broke with their worker.
        broken_streams: streams that a provider cut after their first piece, which nobody can answer anew.
        lost: requests without their answer, for none of these reasons.
        twice: requests that two providers' calls answered whole.
        wrong_key: requests that the log has under another key.
        unlogged: requests with a provider's call, and without an outcome.
        logged_twice: requests with several outcomes.
        miscounted: requests whose log has another number of calls than the providers.
        wrong_usd: requests whose logged cost is not what the providers bill, or what the answer's header has; cut and
            given-up calls, whose tokens are estimates, are not among them.
        billed_usd, logged_usd: of all requests.
        estimated_usd: billed, of those requests with an estimate.
        unlogged_usd: billed, of those without an outcome.
        shown_usd, shown_logged_usd: in the headers of the whole answers, and in the log of the same requests.
    """

    sent: int
    answered: int
    retried: int
    cut: Sequence[int]
    broken_streams: Sequence[int]
    lost: Sequence[int]
    twice: Sequence[int]
    wrong_key: Sequence[int]
    unlogged: Sequence[int]
    logged_twice: Sequence[int]
    miscounted: Sequence[int]
    wrong_usd: Sequence[int]
    billed_usd: float
    logged_usd: float
    estimated_usd: float
    unlogged_usd: float
    shown_usd: float
    shown_logged_usd: float

    def broken(self, *, may_lose: bool) -> Mapping[str, Sequence[int]]:
        """Return the broken invariants, with their requests.

        What a killed worker takes along may be lost.
        """
        found = {
            "lost": self.lost,
            "answered twice": self.twice,
            "charged to another key": self.wrong_key,
            "logged twice": self.logged_twice,
            "calls in the log": self.miscounted,
            "cost in the log": self.wrong_usd,
        }
        if not may_lose:
            found |= {"not in the log": self.unlogged, "connection cut": self.cut}
        return {name: numbers for name, numbers in found.items() if numbers}


def account(cases: Sequence[Case], price: Mapping[str, float], *, may_break: bool) -> Account:
    """Return the account of a phase.

    Args:
        cases: its requests.
        price: USD for a million tokens.
        may_break: whether providers break streams off in this phase.
    """
    found = defaultdict[str, list[int]](list)
    for case in cases:
        for name in _findings(case, price, may_break=may_break):
            found[name].append(case.asked.number)
    return Account(
        sent=len(cases),
        answered=sum(case.asked.is_answered for case in cases),
        retried=sum(max(len(case.calls), sum(len(one.calls) for one in case.logged)) > 1 for case in cases),
        cut=found["cut"],
        broken_streams=found["broken_streams"],
        lost=found["lost"],
        twice=found["twice"],
        wrong_key=found["wrong_key"],
        unlogged=found["unlogged"],
        logged_twice=found["logged_twice"],
        miscounted=found["miscounted"],
        wrong_usd=found["wrong_usd"],
        billed_usd=sum(case.billed_usd(price) for case in cases),
        logged_usd=sum(case.logged_usd for case in cases),
        estimated_usd=sum(case.billed_usd(price) for case in cases if case.is_estimated),
        unlogged_usd=sum(case.billed_usd(price) for case in cases if not case.logged),
        shown_usd=sum(case.asked.usd or 0.0 for case in cases),
        shown_logged_usd=sum(case.logged_usd for case in cases if case.asked.usd is not None),
    )


def _findings(case: Case, price: Mapping[str, float], *, may_break: bool) -> Iterator[str]:
    asked = case.asked
    if not asked.is_answered:
        is_cut_stream = may_break and asked.streaming and asked.status == 200 and asked.text != ""
        yield "cut" if (asked.error or "").startswith(CUT) else "broken_streams" if is_cut_stream else "lost"
    if case.times_answered > 1:
        yield "twice"
    if any(one.metadata.get("key") != asked.key for one in case.logged):
        yield "wrong_key"
    if not case.logged:
        if case.calls:
            yield "unlogged"
        return
    if len(case.logged) > 1:
        yield "logged_twice"
    # A call that no provider took, since it was down, is in the log alone.
    if sum(len(one.calls) for one in case.logged) < len(case.calls):
        yield "miscounted"
    is_billed = case.is_estimated or abs(case.logged_usd - case.billed_usd(price)) <= ROUNDING_USD
    is_shown = asked.usd is None or abs(asked.usd - case.logged_usd) <= ROUNDING_USD
    if not (is_billed and is_shown):
        yield "wrong_usd"


def table(accounts: Mapping[str, Account], may_lose: frozenset[str]) -> Iterator[str]:
    """Yield a row for each phase, and whether every invariant holds in it."""
    yield from head(
        "phase", "sent", "answered", "with a second call", "cut with the worker", "streams cut by the provider", "lost",
        "answered twice", "wrong key", "not in the log", "billed USD", "in the log", "billed, and estimated in the log",
        "billed, not in the log", "in headers USD", "in the log of these", "invariants",
    )  # fmt: skip
    for phase, one in accounts.items():
        broken = one.broken(may_lose=phase in may_lose)
        shown = "hold" if not broken else "; ".join(f"{name}: {_some(numbers)}" for name, numbers in broken.items())
        usd = (
            one.billed_usd, one.logged_usd, one.estimated_usd, one.unlogged_usd, one.shown_usd, one.shown_logged_usd,
        )  # fmt: skip
        lists = (one.cut, one.broken_streams, one.lost, one.twice, one.wrong_key, one.unlogged)
        counts = (one.sent, one.answered, one.retried, *map(len, lists))
        yield row(phase, *counts, *(f"{value:.6f}" for value in usd), shown)


def charges(
    spent: Mapping[str, float], cases: Iterable[Case], keys: Iterable[str]
) -> Mapping[str, tuple[float, float]]:
    """Return each key's counted and logged charges, USD."""
    logged = dict.fromkeys(keys, 0.0)
    for case in cases:
        logged[case.asked.key] += case.logged_usd
    return {key: (spent[key], usd) for key, usd in logged.items()}


def agree(charge: tuple[float, float]) -> bool:
    """Return True if both accounts of a key are the same."""
    return abs(charge[0] - charge[1]) <= CHARGED_USD


def charge_table(charged: Mapping[str, tuple[float, float]], *, is_counted: bool) -> Iterator[str]:
    """Yield a row for each key."""
    yield from head("key", "spent by GET /v1/keys, USD", "in the log", "invariant")
    for key, charge in charged.items():
        shown = "counts were killed" if not is_counted else "holds" if agree(charge) else "BROKEN"
        yield row(key, *(f"{usd:.6f}" for usd in charge), shown)


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
