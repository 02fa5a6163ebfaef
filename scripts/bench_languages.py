"""Measure routing in sixteen languages, by encoder.

Builds an index of the category files with each encoder, and routes labelled queries of other languages and of English:

    python scripts/bench_languages.py [--categories DIR] [--queries FILE] [--english FILE] [--unknown FILE]
        [--fresh FILE] [--kinds FILE] [--encoders onnx,multilingual,joined] [--indexes DIR] [--out FILE]

Queries are JSON Lines with ``query``, ``category`` (null where it belongs to none) and, but for the English ones,
``language``. They are no translations of the examples, which are English. "Right" is a query of a category that was
routed to it; "wrongly accepted" is a query of no category that was routed to one. ``--unknown`` has queries in
languages that no encoder was trained on, which ought to go to the fallback. Two files on which nothing was chosen have
tables of their own (the encoders' gate and weights were chosen on ``--queries``): ``--fresh`` has queries in all
languages, ``--kinds`` has a ``kind`` of each (typos, one word, negation; conversations have ``messages``). Speed is
the encoder's own, of one short query, the encoders taking turns in one process on the same cores; on a busy machine
look at the multiple of the first encoder's time. Intervals are Wilson's, 95%. Needs the extras "build" and
"multilingual"; about 5 minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from harness.report import OUT, head, publish, row

from semroute.evaluate.metrics import wilson_interval
from semroute.index import open_artifact
from semroute.learn.build import EncoderChoice, build_index
from semroute.router import Router

ENCODERS = ("onnx", "multilingual", "joined")
SHORT = "my invoice charged me twice"
TURNS, CALLS = 40, 5
ENGLISH = "en"
QUERIES = click.Path(exists=True, dir_okay=False, path_type=Path)
SAMPLES = "tests/samples"


@dataclass(frozen=True, slots=True)
class Query:
    """Labelled query, a text or a conversation; None is no category."""

    text: str | list[dict[str, str]]
    category: str | None
    language: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Routed:
    """An encoder's index with the category that each query was routed to."""

    encoder: str
    megabytes: float
    chosen: Sequence[str | None]


@click.command()
@click.option("--categories", type=click.Path(exists=True, path_type=Path), default="categories", show_default=True)
@click.option("--queries", type=QUERIES, default=f"{SAMPLES}/languages_held_out.jsonl", show_default=True)
@click.option("--english", type=QUERIES, default=f"{SAMPLES}/held_out.jsonl", show_default=True)
@click.option("--unknown", type=QUERIES, default=f"{SAMPLES}/languages_unknown.jsonl", show_default=True)
@click.option("--fresh", type=QUERIES, default=f"{SAMPLES}/languages_fresh.jsonl", show_default=True)
@click.option("--kinds", type=QUERIES, default=f"{SAMPLES}/languages_kinds.jsonl", show_default=True)
@click.option("--encoders", default=",".join(ENCODERS), show_default=True, help="Encoders to compare.")
@click.option("--indexes", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps the indexes.")
@OUT
def main(
    categories: Path,
    queries: Path,
    english: Path,
    unknown: Path,
    fresh: Path,
    kinds: Path,
    encoders: str,
    indexes: Path | None,
    out: Path | None,
) -> None:
    """Build, route, measure, and print Markdown tables."""
    labelled = [*read(english), *read(queries)]
    strange, new, of_kinds = read(unknown), read(fresh), read(kinds)
    with TemporaryDirectory(prefix="semroute-bench-") as work:
        folders = {name: index(categories, name, indexes or Path(work)) for name in encoders.split(",")}
        routed = [route(name, folder, [*labelled, *strange]) for name, folder in folders.items()]
        routed_new = [route(name, folder, new) for name, folder in folders.items()]
        routed_kinds = [route(name, folder, of_kinds) for name, folder in folders.items()]
        times = speed(folders)
    lines = [*tables(routed, labelled, strange, times), "", *fresh_table(routed_new, new)]
    publish([*lines, "", *kinds_table(routed_kinds, of_kinds)], out)


def read(path: Path) -> list[Query]:
    """Return the queries of a file; one without a language is English."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        Query(
            entry.get("query") or entry["messages"],
            entry.get("category"),
            entry.get("language", ENGLISH),
            entry.get("kind", ""),
        )
        for entry in rows
    ]


def index(categories: Path, encoder: str, folder: Path) -> Path:
    """Build the index of an encoder if it is missing; return its folder."""
    path = folder / encoder
    if not path.is_dir():
        build_index(categories, path, encoder=EncoderChoice(kind=encoder))  # type: ignore[arg-type]
    return path


def route(encoder: str, folder: Path, queries: Sequence[Query]) -> Routed:
    """Route the queries by an index."""
    size = sum(path.stat().st_size for path in open_artifact(folder).files.values())
    with Router.load(folder) as router:
        decisions = router.route_many([query.text for query in queries], log=False)
    return Routed(encoder, size / 1e6, [decision.category for decision in decisions])


def speed(folders: dict[str, Path]) -> dict[str, list[float]]:
    """Return milliseconds of encoding one short query, by encoder and turn."""
    encoders: dict[str, Any] = {name: Router.load(folder).live.encoder for name, folder in folders.items()}
    # Without the cache of recent vectors, which would answer from the second call on.
    plain = {name: getattr(encoder, "encoder", encoder) for name, encoder in encoders.items()}
    times: dict[str, list[float]] = {name: [] for name in plain}
    for _ in range(TURNS):
        for name, encoder in plain.items():
            encoder.encode([SHORT])
            start = time.perf_counter()
            for _ in range(CALLS):
                encoder.encode([SHORT])
            times[name].append((time.perf_counter() - start) * 1000 / CALLS)
    return times


def tables(
    routed: Sequence[Routed], labelled: Sequence[Query], strange: Sequence[Query], times: dict[str, list[float]]
) -> Iterator[str]:
    """Yield a table by encoder, and one by language."""
    count = len(labelled)
    languages = sorted({query.language for query in labelled} - {ENGLISH})
    yield from head(
        "encoder", "English right", "others right", "of English's", "wrongly accepted: English", "others",
        "unknown languages to the fallback", "short query", "as a multiple", "index",
    )  # fmt: skip
    base = np.array(times[routed[0].encoder])
    for result in routed:
        chosen = result.chosen[:count]
        right = {group: _right(chosen, labelled, group) for group in (True, False)}
        accepted = {group: _accepted(chosen, labelled, group) for group in (True, False)}
        taken = np.array(times[result.encoder])
        yield row(
            f"`{result.encoder}`",
            _share(*right[True]),
            _share(*right[False]),
            f"{_ratio(*right[False], *right[True]):.1%}",
            _share(*accepted[True]),
            _share(*accepted[False]),
            _share(sum(category is None for category in result.chosen[count:]), len(strange)),
            f"{np.median(taken):.2f} ms",
            f"{np.median(taken / base):.2f}",
            f"{result.megabytes:.0f} MB",
        )
    yield ""
    yield from head("language", *(f"`{result.encoder}`: right" for result in routed), "wrongly accepted")
    for language in (ENGLISH, *languages):
        rows = [place for place, query in enumerate(labelled) if query.language == language]
        group = [labelled[place] for place in rows]
        picked = [[result.chosen[place] for place in rows] for result in routed]
        cells = [_share(*_right(chosen, group)) for chosen in picked]
        yield row(language, *cells, _share(*_accepted(picked[-1], group)))


def fresh_table(routed: Sequence[Routed], queries: Sequence[Query]) -> Iterator[str]:
    """Yield a table of the queries that nothing was chosen on."""
    yield from head("encoder, fresh queries", "English right", "others right", "wrongly accepted: all")
    for result in routed:
        right = {group: _right(result.chosen, queries, group) for group in (True, False)}
        cells = _share(*right[True]), _share(*right[False]), _share(*_accepted(result.chosen, queries))
        yield row(f"`{result.encoder}`", *cells)


def kinds_table(routed: Sequence[Routed], queries: Sequence[Query]) -> Iterator[str]:
    """Yield a table by kind of query: right in English, and in the others."""
    yield from head("kind", *(f"`{result.encoder}`: {group}" for result in routed for group in ("English", "others")))
    for kind in dict.fromkeys(query.kind for query in queries):
        rows = [place for place, query in enumerate(queries) if query.kind == kind]
        group = [queries[place] for place in rows]
        picked = [[result.chosen[place] for place in rows] for result in routed]
        yield row(
            kind, *(_share(*_right(chosen, group, is_english)) for chosen in picked for is_english in (True, False))
        )


def _right(chosen: Sequence[str | None], queries: Sequence[Query], english: bool | None = None) -> tuple[int, int]:
    hits = [
        category == query.category
        for category, query in zip(chosen, queries, strict=True)
        if query.category is not None and english in (None, query.language == ENGLISH)
    ]
    return sum(hits), len(hits)


def _accepted(chosen: Sequence[str | None], queries: Sequence[Query], english: bool | None = None) -> tuple[int, int]:
    hits = [
        category is not None
        for category, query in zip(chosen, queries, strict=True)
        if query.category is None and english in (None, query.language == ENGLISH)
    ]
    return sum(hits), len(hits)


def _ratio(hits: int, n: int, other_hits: int, other_n: int) -> float:
    return hits / n / (other_hits / other_n) if n and other_hits else float("nan")


def _share(hits: int, n: int) -> str:
    if not n:
        return ""
    low, high = wilson_interval(hits, n)
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
