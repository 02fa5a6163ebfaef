from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from predictors.answer_quality.answer_heads import made

from semroute.errors import DataError, InputError
from semroute.learn.query_quality import matching_value
from semroute.predictors.answer_quality import read_classifier
from semroute.predictors.query_quality import read_query_classifier
from semroute.workflows.predict import predict_quality
from semroute.workflows.train import (
    TrainPlan,
    TrainSource,
    _cross_fitted,
    train_answer_classifier,
    train_query_classifier,
)
from semroute.workflows.workspace import Workspace


@pytest.fixture
def workspace(routing_index: Path) -> Workspace:
    return Workspace(routing_index)


@pytest.mark.slow
def test_a_classifier_is_trained_written_and_predicts(outcomes: Path, workspace: Workspace) -> None:
    steps = set[str]()
    source = TrainSource([outcomes], Path("prices.yaml"))
    made = train_query_classifier(
        source, Path("c"), workspace, TrainPlan(("linear",)), progress=lambda step, done, total: steps.add(step)
    )
    assert {"reading", "embedding", "training"} <= steps
    report = json.loads(json.dumps(made.to_dict()))
    assert (report["classifier"], report["left_out_queries"], report["trained"]["seed"]) == ("c", 0, 0)
    assert read_query_classifier(Path("c")).models == made.trained.classifier.models
    Path("queries.jsonl").write_text('{"query": "Tell me about cats"}\n{"query": " "}\n')
    warnings = list[str]()
    found = predict_quality(Path("queries.jsonl"), Path("c"), workspace, warn=warnings.append)
    assert len(found) == 1
    assert warnings == ["queries.jsonl:2: the query is empty: give some text to route; the row is left out"]
    (row,) = found
    assert row.model in row.quality
    assert set(row.quality) == {"small", "large"}
    assert json.loads(json.dumps(found.to_dict()))["predictions"][0]["query"] == "Tell me about cats"
    free = predict_quality(Path("queries.jsonl"), Path("c"), workspace, value=0.0)
    assert next(iter(free)).model == "small", "where quality is worth nothing, the cheapest is chosen"


def test_what_cannot_be_done_is_an_error_before_any_work(outcomes: Path, workspace: Workspace) -> None:
    with pytest.raises(InputError, match="needs a backbone"):
        train_query_classifier(TrainSource([outcomes]), Path("c"), workspace, TrainPlan(("tuned",)))
    with pytest.raises(InputError, match="exclude each other"):
        predict_quality(outcomes, Path("c"), workspace, value=1.0, max_cost=1.0)
    assert not Path("c").exists()


@pytest.mark.slow
def test_a_budget_below_the_cheapest_model_and_a_file_without_queries_are_errors(
    outcomes: Path, workspace: Workspace
) -> None:
    train_query_classifier(TrainSource([outcomes], Path("prices.yaml")), Path("c"), workspace, TrainPlan(("linear",)))
    with pytest.raises(InputError, match="not reachable"):
        predict_quality(outcomes, Path("c"), workspace, max_cost=1e-12)
    with pytest.raises(InputError, match='knows no model "tiny"'):
        predict_quality(outcomes, Path("c"), workspace, models=("tiny",))
    Path("none.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no queries"):
        predict_quality(Path("none.jsonl"), Path("c"), workspace)


@pytest.mark.slow
def test_a_classifier_of_answers_reaches_the_precision_or_says_that_it_cannot() -> None:
    rows = made(160, logprobs=True, noise=0.0)
    path = Path("answers.jsonl")
    with path.open("w") as file:
        for query, text, told, good in zip(rows.queries, rows.answers, rows.logprobs, rows.acceptable, strict=True):
            cell = {"quality": float(good), "response": text, "logprobs": list(told)}
            file.write(json.dumps({"query": query, "outcomes": {"small": cell}}) + "\n")
    found = train_answer_classifier([path], Path("checks"), precision=0.9, blocks=("shape",), folds=3)
    value = json.loads(json.dumps(found.to_dict()))
    (at,) = [one for one in value["validation"]["thresholds"] if one["threshold"] == value["threshold"]]
    assert at["right"]["value"] >= 0.9
    assert read_classifier(Path("checks")).threshold == value["threshold"]
    plain = Path("plain.jsonl")
    plain.write_text(path.read_text().replace("logprobs", "other"))
    with pytest.raises(InputError, match="log probabilities"):
        train_answer_classifier([plain], Path("more"), blocks=("tokens",))
    assert not Path("more").exists()


def test_quality_and_cost_of_a_value_are_read_on_rows_that_did_not_choose_it() -> None:
    """Of values without merit the luckiest matches the best model on its own rows, and less on others."""
    gains = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        quality = (random.random((200, 3)) < 0.75).astype(np.float64)
        predicted, paid = random.random((200, 3)), np.tile([1.0, 3.0, 10.0], (200, 1))
        own = matching_value(predicted, quality, paid, paid)
        assert own is not None
        crossed = _cross_fitted(own, predicted, quality, paid, paid, np.arange(200))
        assert (crossed.value, crossed.rows) == (own.value, 200)
        few = _cross_fitted(own, predicted, quality, paid, paid, np.arange(200) % 30)
        assert few == own, "thirty different queries are too few for folds"
        gains.append(own.quality - crossed.quality)
    assert np.mean(gains) > 0.01
