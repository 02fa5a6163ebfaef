"""Does a static encoder pay as a first stage? It answers what it is sure of; the transformer takes the rest.

    python scripts/bench_first_stage.py --data DIR [--out results.md]

DIR is as for ``scripts/bench_clinc.py``: CLINC150 (https://github.com/clinc/oos-eval, CC BY 3.0), ten domains. Both
stages are indexes built from ``train`` with thresholds from ``val``, ``oos_train`` and ``oos_val``; the first one's
encoder is distilled from the other's model by model2vec. The first stage answers where its best score plus the lead
over the next clears a bar: the lowest one at which, on ``val``, the two together are as often right as the transformer
alone. ``test`` and ``oos_test`` are only for the figures. Needs the extras "build" and "static"; about 5 minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from bench_clinc import rows, write_categories
from numpy.typing import NDArray

from semroute.evaluate.semantic import Scored, decide
from semroute.index.scoring import best_and_margin
from semroute.learn.pipeline import EncoderChoice, EncoderKind, build_index
from semroute.router import Router
from semroute.router.measure import score_rows
from semroute.types import Decision

LABELS = "domains"
ALLOWED_LOSS = 0.002
"""Accuracy that the first stage may cost for it to pay."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same queries as both stages see them: scores, and whether each stage accepts its best category."""

    first: Scored
    second: Scored
    second_accepts: NDArray[np.bool_]

    @property
    def sureness(self) -> NDArray[np.float64]:
        """``(n,)`` what the bar is compared with."""
        best, margin = best_and_margin(self.first.scores)
        return best + margin

    def together(self, bar: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Best category and whether it is accepted, when the first stage answers from ``bar`` on."""
        answered = self.sureness >= bar
        top = np.where(answered, self.first.scores.argmax(axis=1), self.second.scores.argmax(axis=1))
        return top, answered | self.second_accepts


@dataclass(frozen=True, slots=True)
class Stage:
    """Figures on the test rows; shares between 0 and 1, times in milliseconds."""

    bar: float | None
    answered_in_scope: float
    answered_out_of_scope: float
    accuracy_in_scope: float
    accuracy: float
    oos_recall: float
    p50: float
    p99: float
    mean: float


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--queries", type=click.IntRange(1), default=1_000, show_default=True, help="In-scope queries a round.")
@click.option("--out", type=click.Path(path_type=Path), help="Write this Markdown file, and JSON beside it.")
def main(data: Path, rounds: int, queries: int, out: Path | None) -> None:
    """Build both stages, set the bar, test, and print a Markdown table."""
    with TemporaryDirectory(prefix="semroute-bench-") as name:
        work = Path(name)
        write_categories(rows(data, ["train"], LABELS), work / "categories")
        first, second = _build(data, work, "static"), _build(data, work, "onnx")
        bar = lowest_bar(_pair(first, second, data, ["val"]))
        test = _pair(first, second, data, ["test", "oos_test"])
        texts = [row.query for row in rows(data, ["test"], LABELS)]
        chosen = np.random.default_rng(0).permutation(len(texts))[: rounds * queries]
        parts = [[texts[place] for place in part] for part in np.array_split(chosen, rounds)]
        calls = {None: second.route, bar: two_stages(first, second, bar)}
        times = time_calls(calls, parts)
        results = [_stage(test, bar, times[bar]) for bar in calls]
    table = _table(results)
    click.echo(table)
    if out is not None:
        out.write_text(table + "\n", encoding="utf-8")
        values = json.dumps([asdict(result) for result in results], indent=1)
        out.with_suffix(".json").write_text(values + "\n", encoding="utf-8")


def _build(data: Path, work: Path, kind: EncoderKind) -> Router:
    validation = rows(data, ["val", "oos_train", "oos_val"], LABELS)
    built = build_index(work / "categories", work / kind, encoder=EncoderChoice(kind), validation=validation)
    return Router.load(built.artifact.folder)


def _pair(first: Router, second: Router, data: Path, splits: list[str]) -> Pair:
    labelled = rows(data, splits, LABELS)
    scored = score_rows(second.live, labelled)
    _, accepted = decide(scored.scores, second.live.semantic.thresholds)
    return Pair(score_rows(first.live, labelled), scored, accepted)


def lowest_bar(pair: Pair) -> float:
    """The lowest bar from which on the two stages are together as often right as the second alone; in-scope rows."""
    labels, sureness = pair.first.labels, pair.sureness
    gained = (pair.first.scores.argmax(axis=1) == labels).astype(int) - (pair.second.scores.argmax(axis=1) == labels)
    order = np.argsort(-sureness, kind="stable")
    harmless = np.flatnonzero(np.cumsum(gained[order]) >= 0)
    return float(sureness[order][harmless[-1]]) if len(harmless) else float("inf")


def two_stages(first: Router, second: Router, bar: float) -> Callable[[str], Decision]:
    """A ``route()`` that asks the first router, and the second where that one is not sure."""

    def route(query: str) -> Decision:
        decision = first.route(query)
        best, runner_up = decision.categories[:2]
        return decision if 2 * best.score - runner_up.score >= bar else second.route(query)

    return route


def time_calls(
    calls: dict[float | None, Callable[[str], Decision]], parts: Sequence[Sequence[str]]
) -> dict[float | None, NDArray[np.float64]]:
    """Median over the rounds of p50, p99 and mean, milliseconds, by bar.

    Both calls share the second router and its cache of vectors, so each gets one half of a round's queries.
    """
    found: dict[float | None, list[NDArray[np.float64]]] = {bar: [] for bar in calls}
    for part in parts:
        for number, (bar, call) in enumerate(calls.items()):
            times = []
            for query in part[number :: len(calls)]:
                start = time.perf_counter()
                call(query)
                times.append((time.perf_counter() - start) * 1000.0)
            found[bar].append(np.array([*np.percentile(times, [50, 99]), np.mean(times)]))
    return {bar: np.median(values, axis=0) for bar, values in found.items()}


def _stage(test: Pair, bar: float | None, times: NDArray[np.float64]) -> Stage:
    edge = float("inf") if bar is None else bar
    inside = test.first.in_scope
    top, accepted = test.together(edge)
    answered = test.sureness >= edge
    right = np.where(inside, accepted & (top == test.first.labels), ~accepted)
    return Stage(
        bar=bar,
        answered_in_scope=float(answered[inside].mean()),
        answered_out_of_scope=float(answered[~inside].mean()),
        accuracy_in_scope=float((top == test.first.labels)[inside].mean()),
        accuracy=float(right.mean()),
        oos_recall=float((~accepted[~inside]).mean()),
        p50=float(times[0]),
        p99=float(times[1]),
        mean=float(times[2]),
    )


def _table(results: Sequence[Stage]) -> str:
    lines = [
        "| | answered first: in scope | out of scope | accuracy in scope | accuracy with thresholds | OOS recall "
        "| p50 | p99 | mean |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        name = "transformer alone" if r.bar is None else f"static first, bar {r.bar:.3f}"
        lines.append(
            f"| {name} | {r.answered_in_scope:.1%} | {r.answered_out_of_scope:.1%} | {r.accuracy_in_scope:.2%} "
            f"| {r.accuracy:.2%} | {r.oos_recall:.1%} | {r.p50:.2f} ms | {r.p99:.2f} ms | {r.mean:.2f} ms |"
        )
    alone, both = results
    lost = alone.accuracy - both.accuracy
    lost_in_scope = alone.accuracy_in_scope - both.accuracy_in_scope
    pays = max(lost, lost_in_scope) <= ALLOWED_LOSS and both.p50 < alone.p50
    lines += [
        "",
        f"{'It pays' if pays else 'It does not pay'}: the median takes {alone.p50 - both.p50:.2f} ms less; accuracy "
        f"changes by {-100 * lost_in_scope:+.2f} points in scope and by {-100 * lost:+.2f} points with thresholds.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
