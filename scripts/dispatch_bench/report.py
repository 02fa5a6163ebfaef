"""Results of the dispatch benchmark as Markdown."""

from __future__ import annotations

from typing import Any

from harness.report import head, judged, machine_line

from dispatch_bench import limit, shift
from dispatch_bench.cost import Whole, Work
from dispatch_bench.failover import Failover
from dispatch_bench.limit import Limited
from dispatch_bench.shift import Shift
from dispatch_bench.workers import OURS

PACKAGES = ("semroute-router", "httpx", "redis")
HEAD = head("figure", "contender", "value", "goal", "")


def markdown(results: dict[str, Any]) -> str:
    """Return figures against their goals, with a section per scenario."""
    lines = [
        machine_line(results["machine"]),
    ]
    for key, section in (("a", _failover), ("b", _limit), ("c", _cost), ("d", _shift)):
        if key in results:
            lines += ["", *section(results[key])]
    return "\n".join(lines)


def _row(figure: str, contender: str, value: str, goal: str = "", met: bool | None = None) -> str:
    return judged(figure, contender, value, goal=goal, met=met)


def _failover(found: dict[str, Failover]) -> list[str]:
    lines = [
        "(a) Failover: two providers that answer in 50 ms, 50 requests/s; after a quarter of the run one of them "
        "starts to answer 500 at once. Latency from when a request was due to its answer.",
        "",
        *HEAD,
    ]
    for name, one in found.items():
        share = one.answered / one.requests
        goal = ("99.9%", share >= 0.999) if name == OURS else ("", None)
        lost = ", ".join(f"{count} {ending}" for ending, count in one.endings.items() if ending != "answered")
        lines += [
            _row(f"answered of {one.requests:,}", name, f"{share:.2%}{f' ({lost})' if lost else ''}", *goal),
            _row("extra calls", name, f"{one.extra_calls}"),
            _row("p50, p99, slowest", name, f"{one.p50_ms:.0f}, {one.p99_ms:.0f}, {one.slowest_ms:.0f} ms"),
            _row("p50, p99 while one fails", name, f"{one.p50_failing_ms:.0f}, {one.p99_failing_ms:.0f} ms"),
        ]
    return lines


def _limit(found: dict[str, Limited]) -> list[str]:
    lines = [
        f"(b) One limit of {limit.RPM} requests and {limit.TPM:,} tokens a minute, shared by {limit.PROCESSES} "
        f"processes through Redis; {limit.RATE * limit.PROCESSES:.0f} requests/s are offered, of "
        f"{2 * limit.WORDS['requests']} or {2 * limit.WORDS['tokens']} tokens. At the gates: what was certainly let "
        "through within 60 s, by the times just before and just after each answer of the gates. At the provider: calls "
        "as they arrived; they may overtake each other on their way, so also in windows that are "
        f"{limit.GUARD_S * 1000:.0f} ms shorter.",
        "",
        *HEAD,
    ]
    for name, one in found.items():
        lines += _limited(name, one)
    return lines


def _limited(name: str, one: Limited) -> list[str]:
    is_ours, is_steady = name.startswith(OURS), one.away_s is None
    has_goal = is_ours and is_steady
    rows = []
    if one.at_gate is not None:
        kept = one.at_gate.requests <= limit.RPM and one.at_gate.tokens <= limit.TPM
        rows.append(_row("fullest 60 s at the gates", name, _most(one.at_gate), *_judged(has_goal, "the limit", kept)))
    rows += [
        _row("fullest 60 s at the provider", name, _most(one.at_double)),
        _row(f"fullest {60 - limit.GUARD_S:g} s at the provider", name, _most(one.at_double_less)),
        _row("most requests in a calendar minute", name, f"{one.calendar_minute}"),
        _row(
            f"used share of the {one.binds}, mean and least of all 60 s windows",
            name,
            f"{one.used_mean:.2%}, {one.used_least:.2%}",
            *_judged(has_goal, "99%", one.used_mean >= 0.99),
        ),
        _row(
            f"lost of {one.offered:,} requests ({one.answered:,} answered, the rest told when to come back)",
            name,
            ", ".join(f"{count} {ending}" for ending, count in one.lost.items()) or "0",
            *_judged(is_ours, "0", not one.lost),
        ),
    ]
    if one.away_s is not None:
        over = max(one.at_double.requests / limit.RPM, one.at_double.tokens / limit.TPM)
        start, end = one.away_s
        rows.append(_row(f"fullest 60 s with Redis away from {start:.0f} to {end:.0f} s", name, f"{over:.2f} limits"))
    return rows


def _judged(has_goal: bool, goal: str, met: bool) -> tuple[str, bool | None]:
    return (goal, met) if has_goal else ("", None)


def _most(most: Any) -> str:
    return f"{most.requests} requests, {most.tokens:,} tokens"


def _cost(found: dict[str, Any]) -> list[str]:
    work: dict[str, Work] = found["work"]
    whole: dict[str, Whole] = found["whole"]
    lines = [
        "(c) Cost of choosing and of the gates, three deployments with limits. Own work: from the request to the "
        "choice, into the gates, and out of them with cost and latency noted, without the call between. Whole calls: "
        "one after the other, of a provider that answers at once; beyond httpx alone: median difference of the rounds.",
        "",
        *HEAD,
    ]
    for name, one in work.items():
        goal = 100.0 if name == "in process" else 1000.0
        parts = f"plan {one.plan:.0f}, turn {one.turn:.0f}, end {one.end:.0f}"
        lines += [
            _row(f"own work, {name}, p50", OURS, f"{one.whole:.0f} µs ({parts})", f"{goal:.0f} µs", one.whole < goal),
            _row(f"own work, {name}, p99", OURS, f"{one.whole_p99:.0f} µs"),
        ]
    for name, call in whole.items():
        lines.append(
            _row(
                "whole call p50, p99; processor time; beyond httpx alone: p50, processor time",
                name,
                f"{call.p50_ms:.2f}, {call.p99_ms:.2f} ms; {call.cpu_ms:.2f} ms; "
                f"{call.beyond_bare_ms:+.2f}, {call.beyond_bare_cpu_ms:+.2f} ms",
            )
        )
    return lines


def _shift(one: Shift) -> list[str]:
    settled = "never" if one.settled_after_s is None else f"{one.settled_after_s:.0f} s"
    met = one.settled_after_s is not None and one.settled_after_s <= one.window_s
    tens = [one.shares[start : start + 10] for start in range(0, len(one.shares), 10)]
    course = ", ".join(f"{sum(ten) / len(ten):.0%}" for ten in tens if ten)
    return [
        f"(d) Two equal providers at {shift.RATE:.0f} requests/s, latencies counting for {one.window_s:.0f} s; after "
        f"{one.at_s:.0f} s one is {shift.SLOWER:g} times slower. Settled: the mean of {shift.SMOOTH_S} s has come "
        f"{1 - shift.SETTLED:.0%} of the way from the share before to the final one.",
        "",
        *HEAD,
        _row("its share before, and at the end", OURS, f"{one.before:.1%}, {one.final:.1%}"),
        _row("settled after", OURS, settled, f"{one.window_s:.0f} s", met),
        _row("its share in each 10 s", OURS, course),
        _row("not answered", OURS, f"{one.other_than_answered}", "0", not one.other_than_answered),
    ]
