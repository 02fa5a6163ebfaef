"""Time the metrics of quality against cost, with bootstrap intervals.

The intervals are paired.

    python scripts/bench_metrics.py [--queries 100000] [--resamples 1000] [--rounds 5]

Synthetic outcomes of two models and of nine; the median of the rounds, in seconds. "Exact" is the figure alone, on
every threshold that separates queries. Nothing is read or written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import click
import numpy as np

from semroute.evaluate.comparison_results import Reference, curve_figures
from semroute.evaluate.curves import apgr, aurocs, calibration_errors, cpt, strong_share_curve, strong_share_curves
from semroute.evaluate.metrics import Resampling, interval
from semroute.evaluate.replay import tradeoff_curve, values


@click.command()
@click.option("--queries", type=click.IntRange(10), default=100_000, show_default=True)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(queries: int, resamples: int, rounds: int) -> None:
    """Time every group of metrics."""
    click.echo(f"{queries:,} queries, {resamples:,} resamples, median of {rounds}\n")
    for name, work in _works(queries, resamples).items():
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        click.echo(f"{name:<58} {median(times):7.3f} s")


def _works(n: int, resamples: int) -> dict[str, Callable[[], object]]:
    random = np.random.default_rng(0)
    score = random.random(n)
    weak = (random.random(n) < 0.6).astype(np.float32)
    strong = (random.random(n) < 0.6 + 0.3 * score).astype(np.float32)
    resampling = Resampling.draw(n, seed=0, resamples=resamples)
    pool = (random.random((n, 9)) < np.linspace(0.3, 0.8, 9)).astype(np.float32)
    cost = np.tile(np.geomspace(1e-5, 1e-3, 9), (n, 1)).astype(np.float32)
    guess = np.clip(0.3 * pool + 0.7 * random.random((n, 9)), 0, 1).astype(np.float32)
    grid = values(guess, cost)
    curve = tradeoff_curve(pool, cost, guess, cost, grid, resampling)

    def pair() -> None:
        curves = strong_share_curves(resampling, score, weak, strong)
        interval(apgr(*curves))
        for level in (0.2, 0.5, 0.8):
            interval(cpt(*curves, level))

    def exact() -> None:
        curves = strong_share_curve(score, weak, strong)
        apgr(*curves), cpt(*curves, 0.5)

    def figures() -> None:
        means = resampling.means(np.hstack([pool, cost]))
        best = resampling.means(np.column_stack([pool[:, -1], cost[:, -1]]))
        reference = Reference.of(means[:, :9], means[:, 9:], best)
        curve_figures(curve, reference, (curve.cost, curve.quality))

    return {
        "drawing the resamples": lambda: Resampling.draw(n, seed=0, resamples=resamples),
        "APGR and CPT, exact": exact,
        "APGR, CPT(20%), CPT(50%), CPT(80%) with intervals": pair,
        "AUROC with interval": lambda: interval(aurocs(resampling, score, strong > 0)),
        "ECE with interval": lambda: interval(calibration_errors(resampling, score, strong)),
        "AIQ, PerfGain, CostSave, ParetoDist, arena with intervals": figures,
        f"replaying nine models at {len(grid)} values": lambda: tradeoff_curve(
            pool, cost, guess, cost, grid, resampling
        ),
    }


if __name__ == "__main__":
    main()
