"""Measure time and memory of ``evaluate-policy`` on a million outcomes.

    python scripts/bench_replay.py [--queries 500000] [--models 2] [--out replay.md]

Synthetic queries, answers of known quality, costs and predictions, written as JSON Lines before the clock starts.
``semroute evaluate-policy`` runs in a process of its own, with all its baselines that need no vectors, 1,000 resamples
and the check for near-duplicates. Two models and half a million queries are a million outcomes.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from harness.processes import semroute
from harness.report import OUT, head, publish, row

WORDS = ("how", "does", "the", "engine", "of", "a", "ship", "know", "which", "tax", "falls", "on", "old", "stars")
GOALS = "60 s and 2 GB"


@click.command()
@click.option("--queries", type=click.IntRange(100), default=500_000, show_default=True)
@click.option("--models", type=click.IntRange(2), default=2, show_default=True)
@OUT
def main(queries: int, models: int, out: Path | None) -> None:
    """Make the files, run the command, and print Markdown."""
    with TemporaryDirectory() as scratch:
        outcomes, predictions = Path(scratch) / "outcomes.jsonl", Path(scratch) / "predictions.jsonl"
        _write(outcomes, predictions, queries, models)
        taken = semroute("evaluate-policy", outcomes, "--predictions", predictions, "--json")
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = list(json.loads(taken.output)["policies"])
    figures = f"{queries * models:,}", ", ".join(found), f"{taken.wall:.0f} s", f"{peak_mb:,.0f} MB", GOALS
    publish([*head("outcomes", "policies", "time", "peak memory", "goal for 1,000,000"), row(*figures)], out)


def _write(outcomes: Path, predictions: Path, queries: int, models: int) -> None:
    """Write synthetic files: more expensive models are better.

    Predictions show the difficulty of a query, with noise.
    """
    random = np.random.default_rng(0)
    names = [f"model-{number}" for number in range(models)]
    with outcomes.open("w") as rows, predictions.open("w") as guesses:
        for number in range(queries):
            hard = random.random()
            chance = np.clip(np.linspace(0.6, 0.95, models) - 0.5 * (hard - 0.5), 0, 1)
            good = random.random(models) < chance
            said = np.clip(chance + random.normal(0, 0.1, models), 0, 1)
            query = f"{' '.join(random.choice(WORDS, 8))} {number}"
            cells = {
                name: {"quality": float(is_good), "cost_usd": 1e-4 * 10.0**place}
                for place, (name, is_good) in enumerate(zip(names, good.tolist(), strict=True))
            }
            rows.write(json.dumps({"query": query, "task": f"task {number % 7}", "outcomes": cells}) + "\n")
            quality = dict(zip(names, said.round(4).tolist(), strict=True))
            guesses.write(json.dumps({"query": query, "quality": quality}) + "\n")


if __name__ == "__main__":
    main()
