"""Does a static encoder pay as a first stage? It answers what it is sure of; the transformer takes the rest.

    python scripts/bench_first_stage.py --data DIR [--out results.md]

DIR is as for ``scripts/bench_clinc.py``: CLINC150 (https://github.com/clinc/oos-eval, CC BY 3.0), ten domains. Both
stages are indexes built from ``train`` with thresholds from ``val``, ``oos_train`` and ``oos_val``; the first one's
encoder is distilled from the other's model by model2vec. The first stage answers where its best score plus the lead
over the next reaches a bar, the lowest one with which, on those validation rows, the two together are as often right
in scope as the transformer alone, and hardly any out-of-scope query that the transformer rejects slips past it.
``test`` and ``oos_test`` are only for the figures. Needs the extras "build" and "static"; about 5 minutes.
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
KINDS: tuple[EncoderKind, EncoderKind] = ("static", "onnx")
"""The first stage and the second."""
ALLOWED_LOSS = 0.002
"""Accuracy that the first stage may cost for it to pay."""
ALLOWED_SLIPS = 0.01
"""Share of the out-of-scope validation queries that may slip past the transformer."""
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of ``val`` that the first stage is to answer, for the rows of the table that show the trade-off."""
VALIDATION = ("val", "oos_train", "oos_val")


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
class Stages:
    """Figures on the test rows, the first stage answering from ``bar`` on; shares between 0 and 1."""

    bar: float
    answered_in_scope: float
    answered_out_of_scope: float
    accuracy_in_scope: float
    accuracy: float
    oos_recall: float


@dataclass(frozen=True, slots=True)
class Times:
    """Wall time of a decision for in-scope queries, milliseconds."""

    p50: float
    p99: float
    mean: float


@dataclass(frozen=True, slots=True)
class Results:
    """The transformer alone, with the first stage at its bar, and at other bars."""

    alone: Stages
    together: Stages
    others: list[Stages]
    time_alone: Times
    time_together: Times


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
        for kind in KINDS:
            validation = rows(data, [*VALIDATION], LABELS)
            build_index(work / "categories", work / kind, encoder=EncoderChoice(kind), validation=validation)
        results = measure(work, data, rounds, queries)
    table = markdown(results)
    click.echo(table)
    if out is not None:
        out.write_text(table + "\n", encoding="utf-8")
        out.with_suffix(".json").write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def measure(work: Path, data: Path, rounds: int, queries: int) -> Results:
    """Set the bar and test, with the two indexes in ``work``."""
    routers = [Router.load(work / kind) for kind in KINDS]
    validation, test = _pair(routers, data, [*VALIDATION]), _pair(routers, data, ["test", "oos_test"])
    bar = lowest_bar(validation)
    sureness = validation.sureness[validation.first.in_scope]
    texts = [row.query for row in rows(data, ["test"], LABELS)]
    chosen = np.random.default_rng(0).permutation(len(texts))[: rounds * queries]
    first, second = (Router.load(work / kind) for kind in KINDS)  # anew: no vector is in their caches
    calls = [second.route, two_stages(first, second, bar)]
    alone, together = time_calls(calls, [[texts[place] for place in part] for part in np.array_split(chosen, rounds)])
    return Results(
        alone=judge(test, float("inf")),
        together=judge(test, bar),
        others=[judge(test, float(np.quantile(sureness, 1 - share))) for share in SHARES],
        time_alone=alone,
        time_together=together,
    )


def _pair(routers: Sequence[Router], data: Path, splits: list[str]) -> Pair:
    first, second = (score_rows(router.live, rows(data, splits, LABELS)) for router in routers)
    return Pair(first, second, decide(second.scores, routers[1].live.semantic.thresholds)[1])


def lowest_bar(pair: Pair) -> float:
    """The lowest bar that costs no accuracy in scope and lets hardly any query slip that is out of scope."""
    inside, labels, sureness = pair.first.in_scope, pair.first.labels, pair.sureness
    gained = (pair.first.scores.argmax(axis=1) == labels).astype(int) - (pair.second.scores.argmax(axis=1) == labels)
    order = np.argsort(-sureness[inside], kind="stable")
    harmless = np.flatnonzero(np.cumsum(gained[inside][order]) >= 0)
    if not len(harmless):
        return float("inf")
    slipping = np.sort(sureness[~inside & ~pair.second_accepts])[::-1]
    allowed = int(ALLOWED_SLIPS * np.count_nonzero(~inside))
    least = np.nextafter(slipping[allowed], np.inf) if len(slipping) > allowed else -np.inf
    return float(max(sureness[inside][order][harmless[-1]], least))


def judge(test: Pair, bar: float) -> Stages:
    """Figures with a bar; an infinite one leaves everything to the transformer."""
    inside, labels = test.first.in_scope, test.first.labels
    top, accepted = test.together(bar)
    answered = test.sureness >= bar
    return Stages(
        bar=bar,
        answered_in_scope=float(answered[inside].mean()),
        answered_out_of_scope=float(answered[~inside].mean()),
        accuracy_in_scope=float((top == labels)[inside].mean()),
        accuracy=float(np.where(inside, accepted & (top == labels), ~accepted).mean()),
        oos_recall=float((~accepted[~inside]).mean()),
    )


def two_stages(first: Router, second: Router, bar: float) -> Callable[[str], Decision]:
    """A ``route()`` that asks the first router, and the second where that one is not sure."""

    def route(query: str) -> Decision:
        decision = first.route(query)
        best, runner_up = decision.categories[:2]
        return decision if 2 * best.score - runner_up.score >= bar else second.route(query)

    return route


def time_calls(calls: Sequence[Callable[[str], Decision]], parts: Sequence[Sequence[str]]) -> list[Times]:
    """Medians over the rounds. The calls share a router and its cache, so each has its own queries of every round."""
    found: list[list[NDArray[np.float64]]] = [[] for _ in calls]
    for part in parts:
        for number, call in enumerate(calls):
            times = []
            for query in part[number :: len(calls)]:
                start = time.perf_counter()
                call(query)
                times.append((time.perf_counter() - start) * 1000.0)
            found[number].append(np.array([*np.percentile(times, [50, 99]), np.mean(times)]))
    return [Times(*np.median(values, axis=0).tolist()) for values in found]


def markdown(results: Results) -> str:
    """The table, and whether it pays."""
    alone, both = results.alone, results.together
    before, after = results.time_alone, results.time_together
    lost, lost_in_scope = alone.accuracy - both.accuracy, alone.accuracy_in_scope - both.accuracy_in_scope
    pays = max(lost, lost_in_scope) <= ALLOWED_LOSS and after.p50 < before.p50
    lines = [
        "| | answers first: in scope | out of scope | accuracy in scope | accuracy with thresholds | OOS recall "
        "| p50 | p99 | mean |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        _row("transformer alone", alone, before),
        _row(f"**static first, bar {both.bar:.3f}**", both, after),
        *(_row(f"bar {other.bar:.3f}", other, None) for other in results.others),
        "",
        f"{'It pays' if pays else 'It does not pay'}: the median takes {before.p50 - after.p50:.2f} ms less; accuracy "
        f"changes by {-100 * lost_in_scope:+.2f} points in scope and by {-100 * lost:+.2f} points with thresholds.",
    ]
    return "\n".join(lines)


def _row(name: str, stages: Stages, times: Times | None) -> str:
    timed = "| | | |" if times is None else f"| {times.p50:.2f} ms | {times.p99:.2f} ms | {times.mean:.2f} ms |"
    return (
        f"| {name} | {stages.answered_in_scope:.1%} | {stages.answered_out_of_scope:.1%} "
        f"| {stages.accuracy_in_scope:.2%} | {stages.accuracy:.2%} | {stages.oos_recall:.1%} {timed}"
    )


if __name__ == "__main__":
    main()
