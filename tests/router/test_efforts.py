"""What an effort costs is learned from the log: each call has its effort, and a decision expects costs by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semroute.config import Config, Price
from semroute.evaluate.replay import MIN_OF_EFFORT, call_costs
from semroute.index import open_artifact
from semroute.learn.estimators import LinearEstimator, TrainingRows
from semroute.learn.query_quality import Setting, train_queries
from semroute.outcomes.costs import with_costs
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.log import open_log
from semroute.outcomes.log.reader import as_labelled, write_jsonl
from semroute.predictors.query_quality import CallCosts, read_query_classifier, write_query_classifier
from semroute.router import Router
from semroute.router.load import stage_encoder
from semroute.storage import json_line
from semroute.testing import FakeProvider, answer
from semroute.types import Request

PRICES = {"small": Price(input=0.0, output=1.0), "large": Price(input=0.0, output=10.0)}
ASK = "write a parser for dates"


def request(effort: str | None = None, **more: Any) -> Request:
    return Request(({"role": "user", "content": ASK},), reasoning_effort=effort, **more)


def rows_of(path: Path, lengths: Sequence[tuple[str, str | None, int, float]]) -> Path:
    """Write so many answers of a model at an effort, of a length each."""
    rows = list[dict[str, Any]]()
    for model, effort, count, tokens in lengths:
        cell = {"quality": 1.0, "input_tokens": 5, "output_tokens": tokens}
        cell |= {} if effort is None else {"effort": effort}
        rows += [{"query": f"query {number} of {model} {effort}", "outcomes": {model: cell}} for number in range(count)]
    path.write_text("".join(json_line(row) + "\n" for row in rows))
    return path


def learned(path: Path, lengths: Sequence[tuple[str, str | None, int, float]]) -> CallCosts:
    table = read_outcomes(rows_of(path, lengths))
    return call_costs(with_costs(table, PRICES, lambda texts: [5] * len(texts)))


def expected(costs: CallCosts, effort: str | None) -> dict[str, float]:
    usd = costs.expected([5], efforts=[[effort] * len(costs.models)])[0]
    return {model: round(value * 1e6, 6) for model, value in zip(costs.models, usd.tolist(), strict=True)}


def test_costs_are_expected_by_model_and_effort_where_enough_answers_tell(tmp_path: Path) -> None:
    enough = MIN_OF_EFFORT
    costs = learned(
        tmp_path / "o.jsonl",
        [("small", "low", enough, 100.0), ("small", "high", enough, 900.0), ("small", "medium", enough - 1, 70.0),
         ("large", None, 2 * enough, 200.0), ("large", "high", enough - 1, 2000.0)],
    )  # fmt: skip
    mean = costs.expected([5])[0] * 1e6
    assert expected(costs, "low")["small"] == pytest.approx(100.0, rel=0.01)
    assert expected(costs, "high")["small"] == pytest.approx(900.0, rel=0.01)
    assert expected(costs, "")["large"] == pytest.approx(2000.0, rel=0.01)
    # Too few answers, none at all, and an effort that is not known: the mean over all.
    assert expected(costs, "medium")["small"] == expected(costs, "xhigh")["small"] == pytest.approx(mean[0])
    assert expected(costs, None) == pytest.approx(dict(zip(costs.models, mean.tolist(), strict=True)))
    assert expected(costs, "high")["large"] == pytest.approx(mean[1])
    assert costs.knows_effort("small", "high")
    assert not costs.knows_effort("large", "high")


def test_without_efforts_nothing_changes(tmp_path: Path) -> None:
    costs = learned(tmp_path / "o.jsonl", [("small", None, 60, 100.0), ("large", "high", 60, 50.0)])
    assert costs.efforts == (), "a model with one effort alone tells no difference"
    assert expected(costs, "high") == expected(costs, None)
    assert "effort_share" not in costs.arrays()


@pytest.mark.slow
def test_every_call_has_the_effort_that_it_asked_for_and_so_has_its_row(
    routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    lacking = {"name": "plain-1", "model": "plain", "base_url": provider.base_url, "lacks": ["reasoning_effort"]}
    config = Config.model_validate({
        "deployments": [{"name": "small-1", "model": "small", "base_url": provider.base_url}, lacking],
        "log": {"url": f"sqlite:///{tmp_path}/log.db"},
    })  # fmt: skip
    asked = [
        (request("high"), "small"), (request(), "small"),
        (request("low", droppable=frozenset({"reasoning_effort"})), "plain"),
    ]  # fmt: skip
    with open_log(config.log, {}) as log, Router.load(routing_index, config=config, log=log) as router:
        for one, model in asked:
            provider.script(answer("done", output_tokens=20))
            due = one.reasoning_effort if model != "plain" else None
            assert router.complete(one, model=model).attempts[-1].effort == due
            log.flush()
            log.judge("last", 1.0)
        found = list(log.outcomes())
    assert [outcome.calls[-1].effort for outcome in found] == ["high", None, None]
    assert write_jsonl(filter(None, map(as_labelled, found)), tmp_path / "o.jsonl") == 3
    lengths = {(one.model, one.effort): one.answers for one in read_outcomes(tmp_path / "o.jsonl").efforts}
    assert lengths == {("small", "high"): 1, ("small", ""): 1}


@pytest.mark.slow
def test_a_request_at_high_effort_is_priced_as_such_and_the_reason_says_so(routing_index: Path, tmp_path: Path) -> None:
    costs = learned(
        tmp_path / "o.jsonl",
        [(model, effort, 60, tokens) for model in PRICES for effort, tokens in (("low", 10.0), ("high", 1000.0))],
    )
    artifact = open_artifact(routing_index)
    encoder = stage_encoder(artifact.main, artifact.folder)
    queries = [f"write the parser number {number}" for number in range(60)]
    quality = np.column_stack([np.arange(60) % 2, np.ones(60)]).astype(np.float64)
    setting = Setting(encoder.fingerprint, costs, np.zeros((0, encoder.dimensions), np.float32))
    rows = TrainingRows.of(queries, encoder.encode(queries), quality, costs.models, setting.categories)
    classifier = train_queries(rows, setting, heads={"linear": LinearEstimator()}).classifier
    write_query_classifier(replace(classifier, value=0.005), tmp_path / "c", report={})
    again = read_query_classifier(tmp_path / "c").costs
    assert again.efforts == costs.efforts
    assert np.array_equal(again.effort_share, costs.effort_share)

    section: dict[str, Any] = {
        "models": {name: {"price": price.model_dump()} for name, price in PRICES.items()},
        "strategies": ["classifier"],
        "classifier": {"folder": str(tmp_path / "c")},
    }
    router = Router.load(routing_index, config=Config.model_validate(section))
    low, high, other = (router.route(request(effort)) for effort in ("low", "high", "medium"))
    # Half a point of quality is worth USD 0.0025: the large model costs 0.0001 at low effort, and 0.01 at high.
    assert (low.model, high.model) == ("large", "small")
    assert "of large at low effort for USD 0.0001 " in low.reason
    assert "of small at high effort for USD 0.001 " in high.reason
    assert "effort" not in other.reason
    tiers = [{"use": "large", "effort": "high"}, {"use": "small", "effort": "high"}]
    by_tier = Config.model_validate({**section, "cascade": {"tiers": tiers, "start": "decided"}})
    router = Router.load(routing_index, config=by_tier)
    assert router.route(request()).model == "small", "the tier's effort is what would be called"
    assert router.route(request("low")).model == "large", "and the request's own goes before it"
