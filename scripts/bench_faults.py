"""Measure answers, latency and cost under faults, by checkout.

Faults are those of providers, clients, names and Redis:

    python scripts/bench_faults.py --index DIR [--before CHECKOUT] [--only outage,silence,...] [--out results.md]

Providers are :class:`semroute.testing.FakeProvider`; each scenario runs in a process of its own, once with this
checkout's semroute and once with that of ``--before`` (a git worktree), one after the other, so that both are measured
in one run. ``--index`` is any index, such as that of ``semroute build-index categories/``. The scenarios:

- ``outage``: two providers behind one key, 1,000 requests at 100 a second; from a quarter to three quarters of the run
  one of them answers 307, hangs, or answers 403 or 413, in three wire formats, whole and streamed;
- ``silence``: an endpoint, a judge and a first tier that hang, with requests whose own limit is shorter than the
  deployment's ``timeout_s``;
- ``readers``: five readers that pause for longer than ``timeout_s``, and a blocked event loop of this process;
- ``names``: look-ups of one provider's name that hang while other queries are decided;
- ``single``: a model with one endpoint, a share of whose calls fails at random, with the breaker and without;
- ``cents``: the log's dollars against the provider's own count;
- ``redis``: bursts of calls through admission control in Redis; needs the extra "redis" and a ``redis-server`` on the
  path.

About 15 minutes on 2 cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import click
from dispatch_bench.workers import Redis
from fault_bench.places import FORMATS, KEY, PRICE, base_url, config_of, deployment, outage_reply
from harness.processes import SCRIPTS, environment
from harness.report import BEFORE as BEFORE_OPTION
from harness.report import INDEX, OUT, head, publish, row

from semroute.testing import FakeProvider, RecordedRequest, Reply, answer, fail, hang

AFTER, BEFORE = "after", "before"
ANSWERED = "answered"
OUTAGES = ("307", "hang", "403", "413")
RATE, REQUESTS = 100.0, 1000
BURSTS, BURST_SIZES = 5, (200, 1000)
NEVER = {"in_a_row": 10**6, "least_calls": 10**6}
"""Settings under which a breaker never opens: the baseline without a breaker."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Checkouts to measure, and the index that they route by."""

    checkouts: dict[str, Path]
    index: Path

    def ask(self, checkout: str, scenario: str, config: dict[str, Any], **arguments: Any) -> Any:
        """Run a scenario of :mod:`fault_bench.contender` on a checkout."""
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / "fault_bench" / "contender.py")],
            input=json.dumps({"scenario": scenario, "config": config, **arguments}),
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment(self.checkouts[checkout], **{KEY: "bench"}),
            check=False,
        )
        return json.loads(done.stdout) if done.stdout else {"failed": done.returncode}


Row = tuple[str, dict[str, str]]
"""Measured quantity and its value by checkout."""


def outage(bench: Bench) -> Iterator[Row]:
    """Measure answered requests through an outage of one of two providers."""
    for fault in OUTAGES:
        for wire in FORMATS:
            for streaming in (False, True):
                found = {name: _outage(bench, name, fault, wire, streaming) for name in bench.checkouts}
                yield f"answered of {REQUESTS:,}, {fault}, {wire}, {'streamed' if streaming else 'whole'}", found


def _outage(bench: Bench, checkout: str, fault: str, wire: str, streaming: bool) -> str:
    with FakeProvider(latency_s=0.02) as bad, FakeProvider(latency_s=0.02) as good:
        first, last = REQUESTS / 4, 3 * REQUESTS / 4
        bad.always(lambda record: outage_reply(fault, wire) if first <= _number(record) < last else None)
        places = (
            deployment("bad", base_url(bad, wire), wire=wire),
            deployment("good", base_url(good, wire), wire=wire),
        )
        more = {"requests": REQUESTS, "rate": RATE, "streaming": streaming, "deadline_s": 3.0}
        return _endings(bench.ask(checkout, "outage", config_of(*places), **more))


def _number(record: RecordedRequest) -> int:
    """Return the number of a request: the last word of its prompt."""
    text = json.dumps(record.body)
    return int(text.split("epsilon ")[1].split('"')[0])


def _endings(found: dict[str, int]) -> str:
    lost = ", ".join(f"{count} {name}" for name, count in sorted(found.items()) if name != ANSWERED)
    return f"{found.get(ANSWERED, 0)}{f' ({lost})' if lost else ''}"


def silence(bench: Bench) -> Iterator[Row]:
    """Measure the cost of a hanging endpoint, judge and first tier."""

    def place(checkout: str) -> str:
        with _hanging() as (bad, good):
            config = config_of(deployment("bad", bad), deployment("good", good))
            return _endings(bench.ask(checkout, "one_by_one", config, requests=30, deadline_s=2.0))

    def judge(checkout: str) -> str:
        with _hanging() as (bad, good):
            judged = {"model": "judge", "candidates": ["bench", "other"]}
            places = (deployment("judge", bad, model="judge"), deployment("good", good))
            config = config_of(*places, strategies=["judge"], judge=judged, fallback={"models": ["bench"]})
            found = bench.ask(checkout, "routed", config, requests=12, deadline_s=10.0, index=str(bench.index))
            return f"{found['late_s']:.2f} s"

    def tier(checkout: str) -> str:
        with _hanging() as (bad, good):
            places = (deployment("small", bad, model="small"), deployment("large", good, model="large"))
            config = config_of(*places, strategies=["rules"], cascade={"tiers": ["small", "large"]})
            found = bench.ask(checkout, "routed", config, requests=12, deadline_s=2.0, index=str(bench.index))
            return f"{_endings(found['endings'])}, later half {found['late_s']:.2f} s each"

    yield "answered of 30, one of two places hangs, limit 2 s", _both(bench, place)
    yield "time of a query with a hanging judge (timeout_s 3), later half of 12", _both(bench, judge)
    yield "answered of 12, tier 0 hangs, limit 2 s", _both(bench, tier)


@contextmanager
def _hanging() -> Iterator[tuple[str, str]]:
    with FakeProvider() as bad, FakeProvider(latency_s=0.02) as good:
        bad.always(hang())
        yield bad.base_url, good.base_url


def _both(bench: Bench, measure: Callable[[str], str]) -> dict[str, str]:
    return {checkout: measure(checkout) for checkout in bench.checkouts}


def readers(bench: Bench) -> Iterator[Row]:
    """Measure healthy endpoints with paused readers and a blocked loop."""

    def slow(checkout: str) -> str:
        with FakeProvider(token_s=0.005) as provider:
            provider.always(answer("word " * 80))  # 0.4 s of tokens, which must not all be delivered before a pause
            config = config_of(deployment("healthy", provider.base_url, timeout_s=1.0))
            found = bench.ask(checkout, "slow_readers", config, readers=5, pause_s=1.5, requests=10)
            return f"{_endings(found['slow'])} of 5 readers, then {_endings(found['others'])} of 10"

    def stall(checkout: str) -> str:
        with FakeProvider(latency_s=0.5) as one, FakeProvider(latency_s=0.5) as two:
            config = config_of(
                *(deployment(name, double.base_url, timeout_s=3.0) for name, double in (("one", one), ("two", two)))
            )
            found = bench.ask(checkout, "stalled", config, stall_s=4.0, calls=20, requests=10)
            return f"{_endings(found['stalled'])} of 20 under way, then {_endings(found['others'])} of 10"

    yield "answered, five readers pause 1.5 s at timeout_s 1", _both(bench, slow)
    yield "answered, own loop stands still for 4 s at timeout_s 3", _both(bench, stall)


def names(bench: Bench) -> Iterator[Row]:
    """Measure decisions while one provider's name cannot be looked up."""

    def measure(checkout: str) -> str:
        with FakeProvider() as good:
            places = (
                deployment("good", good.base_url),
                deployment("hanging", "http://hanging.test/v1", model="hanging", timeouts={"connect_s": 60.0}),
            )
            more = {"calls": 32, "queries": 20, "hang_s": 3.0, "index": str(bench.index)}
            found = bench.ask(checkout, "hanging_names", config_of(*places), **more)
            return f"{found['median_ms']:,.1f} ms, at most {found['most_ms']:,.1f} ms"

    yield "median decision while 32 look-ups of another provider hang", _both(bench, measure)


def single(bench: Bench) -> Iterator[Row]:
    """Measure answers and calls with one endpoint that fails.

    Answers are counted where it fails at random, calls where it is down.
    """
    for share in (0.2, 0.4, 0.6, 1.0):
        for label, breaker in (("", {}), (", without a breaker", NEVER)):
            found = {name: _single(bench, name, share, breaker) for name in bench.checkouts}
            yield f"answered of 1,000, one endpoint fails {share:.0%}{label}", found


def _single(bench: Bench, checkout: str, share: float, breaker: dict[str, Any]) -> str:
    random = Random(0)

    def reply(record: RecordedRequest) -> Reply | None:
        return fail(500) if random.random() < share else None

    with FakeProvider(latency_s=0.02) as provider:
        provider.always(reply)
        config = config_of(deployment("only", provider.base_url), breaker=breaker)
        more = {"requests": REQUESTS, "rate": RATE, "streaming": False, "deadline_s": 3.0}
        found = bench.ask(checkout, "outage", config, **more)
        return f"{found.get(ANSWERED, 0)}, {len(provider.requests):,} calls"


def cents(bench: Bench) -> Iterator[Row]:
    """Measure the log's dollars against the provider's count."""

    def measure(checkout: str, leave_after: int | None) -> str:
        with FakeProvider(token_s=0.002 if leave_after else 0.0) as provider:
            provider.always(_sometimes_failing())
            places = (
                deployment("small", provider.base_url, model="small"),
                deployment("large", provider.base_url, model="large"),
            )
            accept = {"confidence": 0.999, "without_logprobs": "consistency"}
            cascade = {} if leave_after else {"cascade": {"tiers": ["small", "large"], "accept": accept}}
            config = config_of(*places, strategies=["rules"], **cascade)
            more = {"queries": 200, "leave_after": leave_after, "index": str(bench.index)}
            found = bench.ask(checkout, "charged", config, **more)
            provider.wait_idle()
            told = provider.stats()
            usd = (told["input_tokens"] * PRICE["input"] + told["output_tokens"] * PRICE["output"]) / 1e6
            calls = f"{found['attempts']} of {len(provider.requests)} calls"
            return f"{found['usd']:.6f} of {usd:.6f} USD, {calls} ({found['estimated']} estimated)"

    yield "in the log, cascades with second samples and failures", _both(bench, lambda name: measure(name, None))
    yield "in the log, clients leave after two pieces", _both(bench, lambda name: measure(name, 2))


def _sometimes_failing() -> Callable[[RecordedRequest], Reply | None]:
    random = Random(0)
    return lambda record: fail(500) if random.random() < 0.1 else None


def redis(bench: Bench) -> Iterator[Row]:
    """Measure bursts of calls through admission control in Redis."""
    for size in BURST_SIZES:
        found = {}
        for checkout in bench.checkouts:
            away, answered = 0, 0
            for _ in range(BURSTS):
                with Redis() as server, FakeProvider(latency_s=0.05) as provider:
                    config = config_of(
                        deployment("only", provider.base_url), state=f"redis://127.0.0.1:{server.port}/0"
                    )
                    result = bench.ask(checkout, "burst", config, calls=size)
                    away += result["away"]
                    answered += result["endings"].get(ANSWERED, 0)
            found[checkout] = f"taken for away in {away} of {BURSTS}, {answered:,} of {BURSTS * size:,} answered"
        yield f"{size:,} calls at once over Redis", found


SCENARIOS = {found.__name__: found for found in (outage, silence, readers, names, single, cents, redis)}


@click.command()
@INDEX
@BEFORE_OPTION
@click.option("--only", default=",".join(SCENARIOS), show_default=True, help="Scenarios.")
@OUT
def main(index: Path, before: Path | None, only: str, out: Path | None) -> None:
    """Measure, and print a Markdown table."""
    checkouts = {} if before is None else {BEFORE: before.resolve()}
    bench = Bench({**checkouts, AFTER: SCRIPTS.parent}, index.resolve())
    unknown = [name for name in only.split(",") if name not in SCENARIOS]
    if unknown:
        raise click.UsageError(f"--only: no scenario is named {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    found = (measured for name in only.split(",") for measured in SCENARIOS[name](bench))
    rows = (row(measured, *(values[checkout] for checkout in bench.checkouts)) for measured, values in found)
    publish(chain(head("measured", *bench.checkouts), rows), out)


if __name__ == "__main__":
    main()
