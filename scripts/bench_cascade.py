"""Compare cascades of two models on RouteLLM's GSM8K responses.

A learned check of the first answer decides on escalation:

    python scripts/bench_cascade.py --data DIR [--out results.md] [--plot cascade.png] [--folds 5]

DIR holds ``routellm/gsm8k.jsonl`` (github.com/lm-sys/RouteLLM, Apache-2.0) and ``prices.yaml``, in semroute's format
for outcomes. Whatever is learned is evaluated out-of-fold, and its settings are chosen inside the other folds. Costs
rest on tokens that are counted with the built-in encoder's tokenizer. About five minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import click
import numpy as np
from cascade_bench.contenders import contenders
from cascade_bench.figures import LEVELS, Figures, Pair, figures
from harness.outcomes import read_costs
from harness.report import DATA, OUT, head, publish, row, seed_and_resamples, with_interval

from semroute.evaluate.metrics import Interval, Resampling
from semroute.learn.answer_quality import judged_answers, train
from semroute.outcomes.table import OutcomeTable
from semroute.render.plots import COLOURS, GREY, new_figure, without_frame, write

WEAK, STRONG = "mixtral-8x7b", "gpt-4-1106-preview"


@click.command()
@DATA
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@seed_and_resamples
@OUT
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves, .svg or .png.")
def main(data: Path, folds: int, resamples: int, seed: int, out: Path | None, plot: Path | None) -> None:
    """Compare ways to escalate, and print Markdown."""
    costs, _ = read_costs(data, "gsm8k", responses=True)
    table = costs.table
    weak, strong = table.models.index(WEAK), table.models.index(STRONG)
    quality, cost = table.quality.astype(np.float64), costs.table.cost.astype(np.float64)
    pair = Pair(quality[:, weak], quality[:, strong], cost[:, weak], cost[:, strong])
    resampling = Resampling.draw(len(table), seed=seed, resamples=resamples)
    tell = _progress(time.monotonic())
    found = [
        figures(contender, pair, resampling)
        for contender in contenders(table, weak, strong, folds=folds, seed=seed, progress=tell)
    ]
    publish((*_table(found, pair, folds, resamples), "", _speed(table, weak)), out)
    if plot is not None:
        _draw(found, pair, plot)


def _progress(started: float) -> Callable[[str], None]:
    return lambda words: click.echo(f"{time.monotonic() - started:5.0f} s  {words}", err=True)


def _table(found: Sequence[Figures], pair: Pair, folds: int, resamples: int) -> Iterator[str]:
    weak, strong = pair.weak_cost.mean(), pair.strong_cost.mean()
    yield (
        f"{len(pair.weak_quality):,} queries, {folds} folds, {resamples:,} paired resamples, 95%. {WEAK} alone: "
        f"quality {pair.weak_quality.mean():.3f}, USD {1000 * weak:.3f} for 1,000; {STRONG} alone: "
        f"{pair.strong_quality.mean():.3f}, USD {1000 * strong:.3f}.\n"
    )
    levels = [f"cost at {level:.0%}" for level in LEVELS]
    yield from head("", "AUROC", "area over escalation", "area over cost", "over random mixing", *levels)
    for of in found:
        area = "" if of.auroc is None else f"{of.auroc:.3f}"
        areas = with_interval(of.area), with_interval(of.cost_area), with_interval(of.over_random, "+")
        yield row(of.name, area, *areas, *(_share(of.cost_at[level]) for level in LEVELS))


def _share(of: Interval) -> str:
    return "not reached" if of.value != of.value else f"{of.value:.0%} ({of.low:.0%} to {of.high:.0%})"


def _speed(table: OutcomeTable, weak: int) -> str:
    rows = judged_answers(table, [table.models[weak]], 0.5)
    classifier = train(rows, ("shape", "words")).classifier
    took = []
    for query, answer in zip(rows.queries[:500], rows.answers[:500], strict=True):
        started = time.perf_counter()
        classifier.probability(query, answer)
        took.append(time.perf_counter() - started)
    return f"One check takes {1000 * median(took):.2f} ms (p50), {1000 * float(np.quantile(took, 0.99)):.2f} ms (p99)."


def _draw(found: Sequence[Figures], pair: Pair, path: Path) -> None:
    figure = new_figure(9, 6)
    axes = figure.subplots()
    shown = [of for of in found if not of.name.startswith(" ")]
    for place, of in enumerate(shown):
        style = ":" if "oracle" in of.name or "random" in of.name else "-" if "cascade" in of.name else "--"
        colour = GREY if "random" in of.name else COLOURS[place % len(COLOURS)]
        axes.plot(1000 * of.cost, of.quality, style, color=colour, linewidth=2, label=of.name)
    ends = (WEAK, pair.weak_cost, pair.weak_quality), (STRONG, pair.strong_cost, pair.strong_quality)
    for name, cost, quality in ends:
        axes.plot(1000 * cost.mean(), quality.mean(), "ko", zorder=4)
        axes.annotate(name, (1000 * cost.mean(), quality.mean()), xytext=(5, -12), textcoords="offset points")
    axes.set(xlabel="USD for 1,000 queries", ylabel="share of right answers")
    without_frame(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    write(figure, path)


if __name__ == "__main__":
    main()
