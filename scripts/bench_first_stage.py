"""Measure a static encoder as a first stage before the transformer.

It answers when its margin is above the accept threshold; the transformer takes the rest.

    python scripts/bench_first_stage.py --data DIR [--out results.md]

DIR is as for ``scripts/bench_clinc.py``: CLINC150 (https://github.com/clinc/oos-eval, CC BY 3.0), ten domains. Two
indexes are built from ``train`` with thresholds from ``val``, ``oos_train`` and ``oos_val``, one with ``--first-stage``
and one without; the accept threshold comes from the same validation rows (:mod:`semroute.learn.first_stage`). Others
show the trade-off, with the category thresholds as built. ``test`` and ``oos_test`` are only for the figures. Needs the
extras "build" and "static"; about 5 minutes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from bench_clinc import rows, write_categories
from harness.report import DATA, OUT_JSON, head, publish
from numpy.typing import NDArray

from semroute.evaluate.routing import Evaluation, evaluate
from semroute.index import FirstStage
from semroute.index.scoring import margin_score
from semroute.learn.build import build_index
from semroute.router import Router
from semroute.router.load import LoadedIndex
from semroute.workflows.measure import score_by_stage

LABELS = "domains"
ALLOWED_LOSS = 0.002
"""Accuracy that the first stage may cost to be worth it."""
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of ``val`` above the accept threshold, for the rows of the table that show the trade-off."""
VALIDATION = ["val", "oos_train", "oos_val"]
TEST = ["test", "oos_test"]


@dataclass(frozen=True, slots=True)
class Stages:
    """Figures on the test rows at an accept threshold; shares from 0 to 1.

    ``bar`` is the threshold, None without a first stage.
    """

    bar: float | None
    answered_in_scope: float
    answered_out_of_scope: float
    accuracy_in_scope: float
    accuracy: float
    oos_auroc: float
    oos_recall: float
    false_rejection: float
    ece: float


@dataclass(frozen=True, slots=True)
class Times:
    """Wall time of a decision for in-scope queries, milliseconds."""

    p50: float
    p99: float
    mean: float


@dataclass(frozen=True, slots=True)
class Results:
    """Results of the transformer alone, and of a first stage."""

    alone: Stages
    together: Stages
    others: list[Stages]
    time_alone: Times
    time_together: Times


@click.command()
@DATA
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--queries", type=click.IntRange(1), default=1_000, show_default=True, help="In-scope queries a round.")
@OUT_JSON
def main(data: Path, rounds: int, queries: int, out: Path | None) -> None:
    """Build with and without a first stage, test, and print a Markdown table."""
    with TemporaryDirectory(prefix="semroute-bench-") as name:
        work = Path(name)
        write_categories(rows(data, ["train"], LABELS), work / "categories")
        validation = rows(data, VALIDATION, LABELS)
        for index, first_stage in (("alone", False), ("together", True)):
            build_index(work / "categories", work / index, first_stage=first_stage, validation=validation)
        results = measure(work, data, rounds, queries)
    publish([markdown(results)], out, asdict(results))


def measure(work: Path, data: Path, rounds: int, queries: int) -> Results:
    """Test and time the two indexes in ``work``."""
    alone, together = (Router.load(work / name).live for name in ("alone", "together"))
    first = together.first
    if first is None:
        raise click.ClickException("the build left the first stage out: it does not pay")
    texts = [row.query for row in rows(data, ["test"], LABELS)]
    chosen = np.random.default_rng(0).permutation(len(texts))[: rounds * queries]
    routers = [Router.load(work / name) for name in ("alone", "together")]  # opened again, with empty vector caches
    parts = [[texts[place] for place in part] for part in np.array_split(chosen, rounds)]
    time_alone, time_together = time_routers(routers, parts)
    return Results(
        alone=judge(alone, data),
        together=judge(together, data),
        others=[judge(replace(together, first=replace(first, bar=bar)), data) for bar in other_bars(first, data)],
        time_alone=time_alone,
        time_together=time_together,
    )


def other_bars(first: FirstStage, data: Path) -> list[float]:
    """Return the accept thresholds that :data:`SHARES` of ``val`` reach."""
    queries = [row.query for row in rows(data, ["val"], LABELS)]
    sure = margin_score(first.scorer.scores(first.encoder.encode(queries)))
    return [float(np.quantile(sure, 1 - share)) for share in SHARES]


def judge(live: LoadedIndex, data: Path) -> Stages:
    """Return the figures of an index on the test rows."""
    scored, first = score_by_stage(live, rows(data, TEST, LABELS))
    figures: Evaluation = evaluate(scored, live.semantic.thresholds)
    return Stages(
        bar=None if live.first is None else live.first.bar,
        answered_in_scope=float(first[scored.in_scope].mean()),
        answered_out_of_scope=float(first[~scored.in_scope].mean()),
        accuracy_in_scope=figures.accuracy_in_scope or 0.0,
        accuracy=figures.accuracy,
        oos_auroc=figures.oos_auroc or 0.0,
        oos_recall=figures.oos_recall or 0.0,
        false_rejection=figures.false_rejection or 0.0,
        ece=figures.ece or 0.0,
    )


def time_routers(routers: Sequence[Router], parts: Sequence[Sequence[str]]) -> list[Times]:
    """Return medians over rounds, in which the routers take turns."""
    found: list[list[NDArray[np.float64]]] = [[] for _ in routers]
    for part in parts:
        for router, rounds in zip(routers, found, strict=True):
            times = []
            for query in part:
                start = time.perf_counter()
                router.route(query)
                times.append((time.perf_counter() - start) * 1000.0)
            rounds.append(np.array([*np.percentile(times, [50, 99]), np.mean(times)]))
    return [Times(*np.median(values, axis=0).tolist()) for values in found]


def markdown(results: Results) -> str:
    """Return the table, and the verdict."""
    alone, both = results.alone, results.together
    before, after = results.time_alone, results.time_together
    lost, lost_in_scope = alone.accuracy - both.accuracy, alone.accuracy_in_scope - both.accuracy_in_scope
    pays = max(lost, lost_in_scope) <= ALLOWED_LOSS and after.p50 < before.p50
    lines = [
        *head(
            "",
            "answers first: in scope",
            "out of scope",
            "accuracy in scope",
            "accuracy with thresholds",
            "OOS AUROC",
            "OOS recall",
            "false rejection",
            "ECE",
            "p50",
            "p99",
            "mean",
        ),
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
        f"| {stages.accuracy_in_scope:.2%} | {stages.accuracy:.2%} | {stages.oos_auroc:.4f} | {stages.oos_recall:.1%} "
        f"| {stages.false_rejection:.1%} | {stages.ece:.4f} {timed}"
    )


if __name__ == "__main__":
    main()
