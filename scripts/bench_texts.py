"""Compare two versions on hard texts.

These are near twins, small categories, empty texts, NFKC, chats and pasted documents.

    python scripts/bench_texts.py --before CHECKOUT [--rows development] [--set pasted] [--misses]

CHECKOUT is a working tree of the earlier version (``git worktree add CHECKOUT 2b43013``). The rows were written by hand
(``tests/samples/texts/held_out/README.md``). Each version runs in a process of its own. Needs the requirements of a
build in either version; about 5 minutes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from harness.processes import ROOT, environment, timed
from harness.report import BEFORE, head, row

from semroute.evaluate.metrics import Rate

SETS = {
    "twins": "1 every example with near twins: paraphrases accepted",
    "small_beside_large": "2 3 examples beside 2,430: paraphrases accepted",
    "tokenless": "3 no token: refused; none known: fallback",
    "width": "4 compatibility characters: the plain text's category",
    "conversations": "5 conversations: category of the last ask",
    "pasted": "6 question and pasted text: category of the question",
}
KINDS = {
    ("pasted", "alone"): "question alone",
    ("pasted", "after"): "question after a document",
    ("pasted", "before"): "question before a document",
    ("pasted", "code"): "question beside code",
    ("pasted", "vague"): "vague question: category of what is pasted",
    ("tokenless", "blank"): "no token",
    ("tokenless", "fallback"): "none known",
    ("twins", "none"): "without twins",
}
Rows = list[dict[str, Any]]


@click.command()
@BEFORE
@click.option("--rows", type=click.Choice(["held_out", "development"]), default="held_out", show_default=True)
@click.option("--set", "sets", type=click.Choice(list(SETS)), multiple=True, help="Only these sets.")
@click.option("--index", type=click.Path(path_type=Path), help="Index of the shipped categories, to be kept.")
@click.option("--before-index", type=click.Path(path_type=Path), help="The same by the earlier version.")
@click.option("--misses", is_flag=True, help="Print the rows that came out wrong.")
def main(
    before: Path | None,
    rows: str,
    sets: tuple[str, ...],
    index: Path | None,
    before_index: Path | None,
    misses: bool,
) -> None:
    """Print the table, before beside after, with 95% intervals."""
    folder, names = ROOT / "tests" / "samples" / "texts" / rows, sets or tuple(SETS)
    with TemporaryDirectory() as work:
        found = [measured(ROOT, folder, index or Path(work) / "after", names)]
        if before is not None:
            found.insert(0, measured(before, folder, before_index or Path(work) / "before", names))
    click.echo("\n".join(table(found, names)))
    if misses:
        for row in found[-1]:
            if not row["ok"]:
                click.echo(f"{row['set']} {row['kind']}: {row['row']}: {row['got']}")


def measured(checkout: Path, folder: Path, index: Path, sets: Sequence[str]) -> Rows:
    """Measure the semroute of a checkout on the rows, in a separate process."""
    command = [sys.executable, "-P", "-m", "texts_bench.measure", str(folder), str(index.resolve()), *sets]
    return [json.loads(line) for line in timed(command, cwd=folder, env=environment(checkout)).output.splitlines()]


def table(found: Sequence[Rows], sets: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table: sets, and their named parts."""
    versions = ["before", "after"][-len(found) :]
    lines = head("rows", "n", *versions)
    for name in sets:
        lines.append(_line(SETS[name], [_of(rows, name) for rows in found]))
        for (owner, kind), label in KINDS.items():
            if owner == name:
                parts = [[row for row in rows if row["set"] == name and row["kind"] == kind] for rows in found]
                lines.append(_line(f"&nbsp; {label}", parts))
        if name == "twins":
            for arrangement, label in (("beside", "beside the example"), ("instead", "in its place, twice")):
                parts = [[row for row in rows if row["kind"].endswith(arrangement)] for rows in found]
                lines.append(_line(f"&nbsp; {label}", parts))
            lines.append(_line("&nbsp; worst kind of twins", [_worst(_of(rows, name)) for rows in found]))
    return lines


def _of(rows: Rows, name: str) -> Rows:
    return [row for row in rows if row["set"] == name and (name, row["kind"]) != ("twins", "none")]


def _worst(rows: Rows) -> Rows:
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in dict.fromkeys(row["kind"] for row in rows)}
    return min(kinds.values(), key=lambda some: sum(row["ok"] for row in some), default=[])


def _line(label: str, parts: Sequence[Rows]) -> str:
    return row(label, len(parts[-1]), *map(_share, parts))


def _share(rows: Rows) -> str:
    """Return a share with its interval.

    It is Wilson's, or over the queries if each was asked several times.
    """
    if not rows:
        return "-"
    rate = Rate.of(sum(row["ok"] for row in rows), len(rows))
    low, high = rate.low, rate.high
    queries = {row["row"]: [one["ok"] for one in rows if one["row"] == row["row"]] for row in rows}
    if rows[0]["set"] == "twins" and len(queries) < len(rows):
        means = np.array([np.mean(values) for values in queries.values()])
        drawn = np.random.default_rng(0).choice(means, (2000, len(means))).mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{rate.hits} ({rate.value:.0%}, {low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main()
