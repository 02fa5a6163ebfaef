from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from semroute.cli.main import cli
from semroute.config import Config, load_config
from semroute.outcomes.log import open_log
from semroute.outcomes.log.reader import as_labelled
from semroute.router import Router
from semroute.testing import FakeProvider, fail
from semroute.types import LoggedOutcome

QUERIES = [f"how long should I boil {number} potatoes" for number in range(400)]
GOOD = {"small": 0.9, "tiny": 0.4}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def provider(here: Path) -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def configured(index: Path, provider: FakeProvider, share: float, *, tried: str = "tiny", **more: Any) -> Config:
    """``small`` serves questions of cooking; the policy on trial sends all to another model."""
    Path("policy.yaml").write_text(yaml.safe_dump({"strategies": ["rules"], "fallback": {"models": [tried]}}))
    places = [
        {"name": name, "model": name, "base_url": provider.base_url, "price": {"input": price, "output": price}}
        for name, price in (("tiny", 1.0), ("small", 5.0), ("large", 20.0))
    ]
    trial = {"policy": "policy.yaml", "share": share}
    document = {"index": str(index), "deployments": places, "trial": trial, "retries": {"same_place": 0}, **more}
    Path("semroute.yaml").write_text(yaml.safe_dump(document))
    return load_config(Path("semroute.yaml"))


def told(index: Path, config: Config, queries: list[str]) -> list[LoggedOutcome]:
    """The outcomes of answered queries as the log gives them back, each judged as good."""
    with open_log(config.log, {}) as log:
        running = Router.load(index, config=config, log=log)
        for query in queries:
            running.complete(query)
        log.flush()
        return [replace(outcome, feedback=1.0) for outcome in log.outcomes()]


def probability_of(outcome: LoggedOutcome) -> float | None:
    row = as_labelled(outcome)
    assert row is not None
    assert outcome.model is not None
    found: float | None = row["outcomes"][outcome.model].get("probability")
    return found


@pytest.mark.slow
def test_what_a_trial_logs_is_estimated_without_bias(routing_index: Path, provider: FakeProvider) -> None:
    config = configured(routing_index, provider, 0.3)
    random = np.random.default_rng(0)
    with open_log(config.log, {}) as log:
        running = Router.load(routing_index, config=config, log=log)
        for query in QUERIES:
            completion = running.complete(query)
            assert completion.outcome_id is not None
            log.flush()
            log.judge(completion.outcome_id, float(random.random() < GOOD[completion.model]))
    done = CliRunner().invoke(cli, ["log", "export", "--outcomes", "--out", "o.jsonl"], catch_exceptions=False)
    assert done.exit_code == 0
    cells = [cell for line in Path("o.jsonl").read_text().splitlines() for cell in json.loads(line)["outcomes"].items()]
    assert {(model, round(cell["probability"], 6)) for model, cell in cells} == {("small", 0.7), ("tiny", 0.3)}
    arguments = ["evaluate-policy", "o.jsonl", "--policy", "prompt-length", "--resamples", "300", "--json"]
    value = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)
    assert (value["method"], value["n"], value["left_out"]) == ("doubly robust", 400, 0)
    assert value["warnings"] == []
    for model, good in GOOD.items():
        found = value["models"][model]["quality"]
        assert found["low"] <= good <= found["high"], model
        assert found["high"] - found["low"] < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("share", "model"), [(0.0, "small"), (1.0, "tiny")])
def test_without_a_draw_a_model_is_certain(
    routing_index: Path, provider: FakeProvider, share: float, model: str
) -> None:
    outcomes = told(routing_index, configured(routing_index, provider, share), QUERIES[:3])
    assert [(outcome.model, probability_of(outcome)) for outcome in outcomes] == [(model, 1.0)] * 3


@pytest.mark.slow
def test_without_a_trial_a_model_is_certain(routing_index: Path, provider: FakeProvider) -> None:
    config = configured(routing_index, provider, 0.0).model_copy(update={"trial": Config().trial})
    assert [probability_of(outcome) for outcome in told(routing_index, config, QUERIES[:2])] == [1.0, 1.0]


@pytest.mark.slow
def test_a_model_that_both_policies_name_is_certain(routing_index: Path, provider: FakeProvider) -> None:
    outcomes = told(routing_index, configured(routing_index, provider, 0.5, tried="small"), QUERIES[:8])
    assert {said["kind"] for outcome in outcomes for said in outcome.opinions if said["strategy"] == "trial"} == {
        "decided", "passed",
    }  # fmt: skip
    assert {probability_of(outcome) for outcome in outcomes} == {1.0}


@pytest.mark.slow
def test_where_the_model_is_no_matter_of_the_share_alone_no_probability_is_told(
    routing_index: Path, provider: FakeProvider
) -> None:
    by_group = configured(routing_index, provider, 0.5, tried="pair", groups={"pair": ["tiny", "small"]})
    assert {probability_of(outcome) for outcome in told(routing_index, by_group, QUERIES[:8])} == {None}
    climbing = configured(
        routing_index, provider, 0.5, cascade={"tiers": ["tiny", "large"]}, log={"url": "sqlite:///c.db"}
    )
    assert {probability_of(outcome) for outcome in told(routing_index, climbing, QUERIES[:8])} == {None}


@pytest.mark.slow
def test_an_answer_of_another_model_than_the_first_has_no_probability(
    routing_index: Path, provider: FakeProvider
) -> None:
    config = configured(routing_index, provider, 0.0, categories={"cooking": {"models": ["small", "large"]}})
    provider.script(fail(500))
    (outcome,) = told(routing_index, config, QUERIES[:1])
    assert (outcome.model, probability_of(outcome)) == ("large", None)


@pytest.mark.slow
@pytest.mark.parametrize("trial", [True, False], ids=["trial", "no trial"])
def test_a_pinned_model_has_no_part_in_the_draw(routing_index: Path, provider: FakeProvider, trial: bool) -> None:
    config = configured(routing_index, provider, 0.5)
    config = config if trial else config.model_copy(update={"trial": Config().trial})
    with open_log(config.log, {}) as log:
        running = Router.load(routing_index, config=config, log=log)
        for query in QUERIES[:8]:
            running.complete(query, model="tiny")
        log.flush()
        assert {probability_of(replace(outcome, feedback=1.0)) for outcome in log.outcomes()} == {None}


@pytest.mark.slow
def test_the_pair_of_policies_is_told_from_others_by_what_decides_alone(
    routing_index: Path, provider: FakeProvider
) -> None:
    def policy(**more: Any) -> str:
        config = configured(routing_index, provider, 0.5, **more)
        draw = Router.load(routing_index, config=config).route(QUERIES[0]).opinions[-1].draw
        assert draw is not None
        assert draw.share == 0.5
        return draw.policy

    first = policy()
    assert policy(retries={"same_place": 1}) == first, "how it is called is no part of the policy"
    assert len({first, policy(tried="large"), policy(fallback={"models": ["tiny"]})}) == 3
