"""Compare agreement of two cheap models with random escalation.

    python scripts/bench_agreement.py --data DIR [--out results.md]

DIR holds ``zeroeval/outcomes.jsonl`` (github.com/WildEval/ZeroEval, Apache-2.0), ``mmlu_pro/outcomes.jsonl``
(github.com/TIGER-AI-Lab/MMLU-Pro, Apache-2.0) and ``prices.yaml``. A random half of the rows chooses the pair of cheap
models, the other half is reported; for the last two columns the pair is chosen without the row's task. Every call is
charged, at four characters to a token. About a minute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import click
import numpy as np
import yaml
from harness.report import DATA, OUT, head, publish, row
from numpy.typing import NDArray

from semroute.text.final_answer import FinalAnswer, final_answer

Floats = NDArray[np.float64]
RUNS = (
    ("zeroeval", "gpt-4o-2024-05-13", "gpt-4o-mini-2024-07-18"),
    ("zeroeval", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"),
    ("mmlu_pro", "gemini-1.5-pro-002", None),
)
"""Data set, strong model, and first cheap model; None chooses it too."""
WORTH = 0.2
"""Quality, relative to the strong model's, that its whole cost is worth when a pair is chosen."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Played:
    """Models' quality, cost in USD, and final answers, ``(n, models)`` each."""

    models: list[str]
    task: NDArray[np.str_]
    quality: Floats
    cost: Floats
    answers: list[list[FinalAnswer | None]]


def read(data: Path, name: str, strong: str) -> Played:
    """Read the outcomes of a strong model and of far cheaper ones.

    These cost a third of its price or less.
    """
    prices = yaml.safe_load((data / "prices.yaml").read_text(encoding="utf-8"))
    lines = (data / name / "outcomes.jsonl").read_text(encoding="utf-8").strip().split("\n")
    rows = [json.loads(line) for line in lines]
    models = [model for model in rows[0]["outcomes"] if model == strong or 3 * prices[model][1] < prices[strong][1]]
    quality, cost = np.zeros((2, len(rows), len(models)))
    answers = []
    for place, one in enumerate(rows):
        texts = [one["outcomes"][model].get("response") or "" for model in models]
        quality[place] = [one["outcomes"][model]["quality"] for model in models]
        tokens = [(len(one["query"]) / 4, len(text) / 4) for text in texts]
        cost[place] = [np.dot(tokens[at], prices[model]) / 1e6 for at, model in enumerate(models)]
        answers.append([final_answer(text, one["query"]) for text in texts])
    return Played(models, np.array([one["task"] for one in rows]), quality, cost, answers)


def agreed(data: Played, first: int, second: int) -> NDArray[np.bool_]:
    """Return ``(n,)``: whether two models give the same final answer."""
    pairs = ((one[first], one[second]) for one in data.answers)
    return np.array([a is not None and b is not None and a.agrees_with(b) for a, b in pairs])


def escalated(data: Played, pair: tuple[int, int], strong: int) -> tuple[Floats, Floats]:
    """Return ``(n,)`` quality and cost: the strong model, unless two agree."""
    kept = agreed(data, *pair)
    asked = data.cost[:, pair[0]] + data.cost[:, pair[1]]
    quality = np.where(kept, data.quality[:, pair[0]], data.quality[:, strong])
    return quality, asked + np.where(kept, 0.0, data.cost[:, strong])


def outcomes_of_pairs(data: Played, strong: int, first: str | None) -> dict[tuple[int, int], tuple[Floats, Floats]]:
    """Return :func:`escalated` of every pair of cheap models."""
    cheap = [at for at in range(len(data.models)) if at != strong]
    pairs = [pair for pair in permutations(cheap, 2) if first in (None, data.models[pair[0]])]
    return {pair: escalated(data, pair, strong) for pair in pairs}


def chosen(
    data: Played, strong: int, outcomes: dict[tuple[int, int], tuple[Floats, Floats]], rows: NDArray[np.bool_]
) -> tuple[int, int]:
    """Return the pair of cheap models that is best on ``rows``."""

    def value(pair: tuple[int, int]) -> float:
        quality, cost = outcomes[pair]
        relative = cost[rows].mean() / data.cost[rows, strong].mean()
        return float(quality[rows].mean() / data.quality[rows, strong].mean() - WORTH * relative)

    return max(outcomes, key=value)


def task_left_out(
    data: Played, strong: int, outcomes: dict[tuple[int, int], tuple[Floats, Floats]], half: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return ``(n,)`` quality and cost by the other tasks' best pair."""
    quality, cost = np.empty((2, len(data.task)))
    for task in np.unique(data.task):
        own = data.task == task
        found = outcomes[chosen(data, strong, outcomes, half & ~own)]
        quality[own], cost[own] = found[0][own], found[1][own]
    return quality, cost


def cells(data: Played, pair: tuple[int, int], strong: int, rows: NDArray[np.bool_]) -> list[str]:
    """Return quality and cost relative to the strong model, with controls."""
    quality, cost = (values[rows].mean() for values in escalated(data, pair, strong))
    best, most = data.quality[rows, strong].mean(), data.cost[rows, strong].mean()
    weak = data.quality[rows, pair[0]].mean()
    share = min(1.0, max(0.0, (cost - data.cost[rows, pair[0]].mean()) / most))
    gains = np.sort(data.quality[rows, strong] - data.quality[rows, pair[0]])[::-1]
    oracle = weak + gains[: int(share * len(gains))].clip(0.0).sum() / len(gains)
    figures = weak, quality, weak + share * (best - weak), oracle
    return [f"{best:.3f}", *(f"{figure / best:.1%}" for figure in figures), f"{cost / most:.1%}"]


def interval_by_task(data: Played, pair: tuple[int, int], strong: int, rows: NDArray[np.bool_]) -> str:
    """Return the 95% interval of relative quality, with whole tasks resampled."""
    random, quality = np.random.default_rng(0), escalated(data, pair, strong)[0]
    places = [np.flatnonzero(rows & (data.task == task)) for task in np.unique(data.task)]
    drawn = (np.concatenate([places[at] for at in random.integers(len(places), size=len(places))])
             for _ in range(RESAMPLES))  # fmt: skip
    low, high = np.percentile([quality[at].mean() / data.quality[at, strong].mean() for at in drawn], [2.5, 97.5])
    return f"{low:.1%} to {high:.1%} over {len(places)} tasks"


def lines(data: Path) -> Iterator[str]:
    """Yield the tables."""
    for name, model, first in RUNS:
        played = read(data, name, model)
        strong, half = played.models.index(model), np.random.default_rng(0).random(len(played.task)) < 0.5
        outcomes = outcomes_of_pairs(played, strong, first)
        pair = chosen(played, strong, outcomes, half)
        quality, cost = task_left_out(played, strong, outcomes, half)
        said = interval_by_task(played, pair, strong, ~half)
        yield f"\n{name}: {played.models[pair[0]]} and {played.models[pair[1]]} before {model}; quality {said}.\n"
        columns = ("strong", "weak", "agreement", "random, same cost", "oracle, same cost", "cost")
        yield from head("", "n", *columns, "pair of other tasks", "cost")
        for label in ("all", *np.unique(played.task)):
            rows = ~half if label == "all" else ~half & (played.task == label)
            best, most = played.quality[rows, strong].mean(), played.cost[rows, strong].mean()
            other_tasks = f"{quality[rows].mean() / best:.1%}", f"{cost[rows].mean() / most:.1%}"
            yield row(label, int(rows.sum()), *cells(played, pair, strong, rows), *other_tasks)


@click.command()
@DATA
@OUT
def main(data: Path, out: Path | None) -> None:
    """Compare agreement with its controls, and print Markdown."""
    publish(lines(data), out)


if __name__ == "__main__":
    main()
