"""Measure the throughput of the outcome log and its cost for routing.

    python scripts/bench_log.py [--index INDEX] [--postgres URL] [--rate 10000] [--seconds 30] [--rounds 5]

Four parts, as Markdown: (a) the writer alone, fed at a rate and as fast as it goes; an outcome is one query with one
tier, one call and one check, so four rows, and its decision names twelve categories. (b) A process is killed (SIGKILL)
while it records: the number of missing outcomes, against the limit of its writer's queue, without and with a spool. (c)
CPU time of an outcome, the thread that writes it included, without and with a spool, in turns. (d) ``Router.route``
with and without the log, in turns; needs --index. ``--postgres`` names an empty database, such as
``postgresql://postgres@127.0.0.1/bench``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
from harness.processes import SCRIPTS
from harness.report import head, publish
from log_bench.made import outcome

from semroute.config import Log
from semroute.outcomes.log import open_log
from semroute.outcomes.log.writer import BATCH, FLUSH_S
from semroute.router import Router

BLOCK, PAIRS = 250, 8
QUERIES = ["how do I boil an egg", "my loop never ends", "is my lease binding", "integrate x squared", "hello there"]


@click.command()
@click.option("--index", type=click.Path(exists=True, file_okay=False, path_type=Path), help="For part (d).")
@click.option("--postgres", metavar="URL", help="An empty database.")
@click.option("--rate", type=click.IntRange(1), default=10_000, show_default=True, help="Outcomes a second.")
@click.option("--seconds", type=click.IntRange(1), default=30, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(index: Path | None, postgres: str | None, rate: int, seconds: int, rounds: int) -> None:
    """Measure, and print."""
    with TemporaryDirectory() as folder:
        places = {"SQLite": f"sqlite:///{folder}/log.db", **({"PostgreSQL": postgres} if postgres else {})}
        publish(head("writer alone", "fed", "written a second", "most waiting", "dropped"), None)
        for name, url in places.items():
            for paced in (True, False):
                click.echo(f"| {name} | {_alone(url, rate if paced else None, seconds)} |")
        click.echo(f"\n| killed while recording | recorded | missing | the writer waits {FLUSH_S:g} s or {BATCH} |")
        click.echo("| --- | --- | --- | --- |")
        for name, url in places.items():
            click.echo(f"| {name} | {_killed(url)} | |")
            click.echo(f"| {name}, with a spool | {_killed(url, Path(folder) / name)} | |")
        click.echo("\n| an outcome | CPU µs, without and with a spool | more: median (quartiles) |")
        click.echo("| --- | --- | --- |")
        for name, url in places.items():
            click.echo(f"| {name} | {_spooled(url, Path(folder) / name, rounds)} |")
        if index is not None:
            click.echo("\n| route() | ms a query, without and with the log | more time with it: median (quartiles) |")
            click.echo("| --- | --- | --- |")
            for name, url in places.items():
                click.echo(f"| {name} | {_routed(index, url, rounds)} |")


def _alone(url: str, rate: int | None, seconds: int) -> str:
    made = [outcome() for _ in range(1000)]
    with open_log(Log(url=url, keep_days="forever"), {}) as log:
        before, most, fed = log.count()[0], 0, 0
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            due = int(spent * rate) if rate else fed + (1000 if log.counts.waiting < 20_000 else 0)
            while fed < due:
                log.record(outcome(made[fed % 1000]))
                fed += 1
            most = max(most, log.counts.waiting)
            time.sleep(0.001)
        log.flush(60)
        took = time.perf_counter() - start
        found, dropped = log.count()[0] - before, log.counts.dropped
    words = f"{rate:,} a second" if rate else "as fast as it goes"
    return f"{words}, {seconds} s | {found / took:,.0f} | {most:,} | {dropped:,}"


def _killed(url: str, spool: Path | None = None) -> str:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\n"
        "from log_bench.made import outcome\nfrom semroute.config import Log\n"
        "from semroute.outcomes.log import open_log\nspool = Path(sys.argv[3]) if sys.argv[3:] else None\n"
        "log = open_log(Log(url=sys.argv[1], spool=spool), {}, may_be_down=True)\nn = 0\n"
        "while True:\n    for _ in range(10): log.record(outcome())\n    n += 10\n    print(n, flush=True)\n"
        "    time.sleep(0.01)\n"
    )
    with open_log(Log(url=url, keep_days="forever"), {}) as log:
        before = log.count()[0]
    command = [sys.executable, "-c", code, url, str(SCRIPTS), *([] if spool is None else [str(spool)])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # its imports take seconds on a busy machine
    time.sleep(5)
    process.kill()
    recorded = int(re.findall(r"\d+(?=\n)", process.communicate()[0])[-1])
    with open_log(Log(url=url, keep_days="forever", spool=spool), {}) as log:
        return f"{recorded:,} at about 1,000 a second | {recorded - (log.count()[0] - before):,}"


def _spooled(url: str, spool: Path, rounds: int) -> str:
    """Measure the CPU time of all threads, in alternating blocks."""
    logs = [open_log(Log(url=url, keep_days="forever", spool=one), {}, may_be_down=True) for one in (None, spool)]
    spent: tuple[list[float], list[float]] = [], []
    for number in range(rounds * PAIRS + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            made = [outcome() for _ in range(BLOCK)]
            start = time.process_time()
            for one in made:
                logs[which].record(one)
            logs[which].flush()
            if number:  # the first opens files
                spent[which].append((time.process_time() - start) / BLOCK)
    for log in logs:
        log.close()
    more = sorted(1e6 * (b - a) for a, b in zip(*spent, strict=True))
    low, high = (more[int(len(more) * share)] for share in (0.25, 0.75))
    both = " and ".join(f"{1e6 * median(times):.0f}" for times in spent)
    return f"{both} | {median(more):+.0f} µs ({low:+.0f} to {high:+.0f}, {len(more)} pairs)"


def _routed(index: Path, url: str, rounds: int) -> str:
    """Measure in short alternating blocks, since the machine's speed drifts.

    The drift exceeds the difference to measure.
    """
    with open_log(Log(url=url, keep_days="forever"), {}) as log:
        routers = {"without": Router.load(index, log=False), "with": Router.load(index, log=log)}
        queries, spent = _queries(), dict[str, list[float]](without=[], **{"with": []})
        for number in range(rounds * PAIRS + 1):
            for name in sorted(routers, reverse=bool(number % 2)):
                start = time.perf_counter()
                for _ in range(BLOCK):
                    routers[name].route(next(queries))
                log.flush()  # outcomes of a block are written in its own time
                if number:  # the first warms up
                    spent[name].append((time.perf_counter() - start) / BLOCK)
        ratios = sorted(b / a for a, b in zip(spent["without"], spent["with"], strict=True))
    low, high = (ratios[int(len(ratios) * share)] - 1 for share in (0.25, 0.75))
    both = f"{1e3 * median(spent['without']):.2f} and {1e3 * median(spent['with']):.2f}"
    return f"{both} | {median(ratios) - 1:+.1%} ({low:+.1%} to {high:+.1%}, {len(ratios)} pairs)"


def _queries() -> Iterator[str]:
    """Yield new texts, which have no cached vector."""
    number = 0
    while True:
        yield f"{QUERIES[number % len(QUERIES)]} {number}"
        number += 1


if __name__ == "__main__":
    main()
