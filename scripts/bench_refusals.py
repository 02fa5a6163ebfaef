"""Measure the accuracy of the refusal detector on labelled answers.

    python scripts/bench_refusals.py [FILE] [--part test]

FILE has rows of ``text``, ``kind`` (answer, refusal, non-answer), ``language`` and ``part``; the tests' own set by
default, whose part "test" was not tuned on. Prints a Markdown table with Wilson intervals (95%).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from harness.processes import ROOT
from harness.report import head, publish, row

from semroute.cascade.refusals import refusal_in
from semroute.evaluate.metrics import wilson_interval

OWN = ROOT / "tests" / "samples" / "refusals.jsonl"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=OWN)
@click.option("--part", default="test", show_default=True)
def main(file: Path, part: str) -> None:
    """Measure, and print."""
    with file.open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["part"] == part]
    publish(_table(rows), None)


def _table(rows: Sequence[Any]) -> Iterator[str]:
    yield from head("rows", "n", "precision", "recall")
    for name, chosen in (
        ("all", rows),
        ("English", [one for one in rows if one["language"] == "en"]),
        ("other languages", [one for one in rows if one["language"] != "en"]),
    ):
        yield row(name, len(chosen), *_shares(chosen))


def _shares(rows: Sequence[Any]) -> tuple[str, str]:
    said = [refusal_in(row["text"]) is not None for row in rows]
    wanted = [row["kind"] != "answer" for row in rows]
    right = sum(one and other for one, other in zip(said, wanted, strict=True))
    return _share(right, sum(said)), _share(right, sum(wanted))


def _share(hits: int, n: int) -> str:
    low, high = wilson_interval(hits, n)
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%})" if n else "-"


if __name__ == "__main__":
    main()
