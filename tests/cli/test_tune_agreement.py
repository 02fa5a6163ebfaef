from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from predictors.query_quality.query_heads import made

from semroute.evaluate.duplicates import duplicates
from semroute.learn.policy.agreement import ByAgreement, ByClassifierAndAgreement
from semroute.learn.policy.prepare import split
from semroute.learn.policy.search import Goal
from semroute.predictors.query_quality import write_query_classifier
from semroute.router import Router
from semroute.testing import FakeProvider, answer
from semroute.workflows.tune_policy import TuneSource, Tuning, tune_policy
from semroute.workflows.workspace import Workspace

pytestmark = [pytest.mark.usefixtures("chosen_index"), pytest.mark.slow]

PRICES = {"small": (2, 3), "small2": (3, 3), "large": (5, 15)}
SERVED = 40
"""Rows that are asked of the router."""
FREE_TEXT = "It depends on who was there when they were counted, and on the weather."


@pytest.fixture
def providers() -> Iterator[dict[str, FakeProvider]]:
    with ExitStack() as stack:
        yield {model: stack.enter_context(FakeProvider()) for model in PRICES}


def written() -> tuple[list[str], list[list[str]]]:
    """Write outcomes of three models; return the queries and the answers."""
    data, random = made(400, noise=0.02), np.random.default_rng(0)
    answers = []
    with Path("told.jsonl").open("w") as file:
        for number, (query, quality) in enumerate(zip(data.queries, data.quality.tolist(), strict=True)):
            right = (quality[0], float(random.random() < 0.7), quality[1])
            texts = [f"The answer is {number if well else number + place + 1}." for place, well in enumerate(right)]
            if number % 7 == 0:
                texts[number % 2] = FREE_TEXT
            answers.append(texts)
            cells = {
                model: {"quality": well, "response": text}
                for model, well, text in zip(PRICES, right, texts, strict=True)
            }
            file.write(json.dumps({"query": query, "outcomes": cells}) + "\n")
    Path("prices.yaml").write_text(yaml.safe_dump({model: list(price) for model, price in PRICES.items()}))
    return data.queries, answers


def called(
    sections: Any, queries: list[str], answers: list[list[str]], providers: dict[str, FakeProvider]
) -> list[Any]:
    """Return the models that the router asks for each query, and the one whose answer it returns."""
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "upstream_model": model}
        for model, provider in providers.items()
    ]
    models = {model: {"price": {"input": price[0], "output": price[1]}} for model, price in PRICES.items()}
    Path("semroute.yaml").write_text(yaml.safe_dump({**sections, "models": models, "deployments": places}))
    found = []
    with Router.load() as router:
        for query, texts in zip(queries, answers, strict=True):
            before = [len(provider.requests) for provider in providers.values()]
            for provider, text in zip(providers.values(), texts, strict=True):
                provider.always(answer(text))
            model = router.complete(query, log=False).model
            after = [len(provider.requests) for provider in providers.values()]
            found.append(([late - early for early, late in zip(before, after, strict=True)], model))
    return found


def played(family: Any, parameter: Any, found: Tuning, rows: int) -> list[Any]:
    """Return the same of the replay, whose costs and qualities are replaced by the names of the models."""
    held = found.prepared.held.take(np.arange(rows))
    names = np.tile(np.array([1, 2, 4], np.float32), (rows, 1))
    outcomes = family.play(parameter, replace(held, cost=names, quality=names))
    models = dict(zip((1, 2, 4), PRICES, strict=True))
    return [
        ([int(cost) >> place & 1 for place in range(3)], models[int(returned)])
        for cost, returned in zip(outcomes.cost, outcomes.quality, strict=True)
    ]


def test_the_router_asks_and_returns_what_the_policy_was_tested_with(providers: dict[str, FakeProvider]) -> None:
    queries, answers = written()
    source = TuneSource(
        [Path("told.jsonl")], Path("prices.yaml"), None, None, ["linear"], 0.5, 0.95, None, 0, None, Path("policy")
    )
    found = tune_policy(source, Goal(value=0.0015), Workspace())
    held = split(duplicates(queries, Workspace().vectors(queries, None, lambda *_: None)).group, 0.5, 0)[1][:SERVED]
    asked = [queries[row] for row in held.tolist()]
    told = [answers[row] for row in held.tolist()]
    points = found.tuned.points
    alone = next(point for point in points if isinstance(point.family, ByAgreement))
    ways = played(alone.family, alone.parameter, found, SERVED)
    assert {tuple(models) for models, _ in ways} == {(1, 1, 0), (1, 1, 1), (1, 0, 1)}
    assert called(alone.family.config(alone.parameter), asked, told, providers) == ways
    # One value at which some queries skip the cheap models, and others do not.
    both = [point for point in points if isinstance(point.family, ByClassifierAndAgreement)]
    skips = [sum(models == [0, 0, 1] for models, _ in played(p.family, p.parameter, found, SERVED)) for p in both]
    chosen = both[int(np.argmin(np.abs(np.array(skips) - SERVED / 2)))]
    ways = played(chosen.family, chosen.parameter, found, SERVED)
    assert {(0, 0, 1), (1, 1, 0)} <= {tuple(models) for models, _ in ways}
    config = chosen.family.config(chosen.parameter)
    write_query_classifier(found.prepared.classifier, Path(config["classifier"]["folder"]), report={})
    assert called(config, asked, told, providers) == ways
