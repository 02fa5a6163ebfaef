from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.config import Config
from semroute.errors import DataError
from semroute.index import open_artifact
from semroute.workflows.measure import evaluate_index
from semroute.workflows.tune import tune_thresholds, write_wrong_queries
from semroute.workflows.workspace import Workspace


def thresholds(index: Path) -> dict[str, float]:
    return {name: entry.threshold for name, entry in open_artifact(index).manifest.categories.items()}


@pytest.mark.slow
def test_tuned_thresholds_are_written_only_if_wanted(own_index: Path, labelled: Path) -> None:
    before = thresholds(own_index)
    dry = tune_thresholds(labelled, Workspace(own_index), oos_recall=1.0, write=False)
    assert thresholds(own_index) == before
    assert dry.to_dict()["written"] is False
    found = tune_thresholds(labelled, Workspace(own_index), oos_recall=1.0)
    after = {name: pair["new"] for name, pair in found.to_dict()["thresholds"].items()}  # type: ignore[attr-defined]
    assert thresholds(own_index) == pytest.approx(after)
    assert after != pytest.approx(before)


@pytest.mark.slow
def test_a_configuration_that_overrides_a_tuned_threshold_is_named(own_index: Path, labelled: Path) -> None:
    config = Config.model_validate({"categories": {"law": {"threshold": 0.5}}})
    assert tune_thresholds(labelled, Workspace(own_index, config), write=False).overridden == ("law",)


@pytest.mark.slow
def test_an_evaluation_counts_its_wrong_queries_and_finds_their_nearest_examples(
    routing_index: Path, labelled: Path
) -> None:
    found = evaluate_index(labelled, Workspace(routing_index), latency_queries=5)
    value = json.loads(json.dumps(found.to_dict()))
    assert (value["n"], value["latency_ms"]["n"]) == (8, 5)
    assert len(value["errors"]) == len(found.wrong) == round(8 * (1 - value["accuracy"]))
    Path("strict.yaml").write_text(
        "categories: {code: {threshold: 1.0}, cooking: {threshold: 1.0}, law: {threshold: 1.0}}"
    )
    strict = evaluate_index(labelled, Workspace(routing_index, Path("strict.yaml")), latency_queries=5)
    assert len(strict.wrong) == 6, "all in scope are rejected"
    (first,) = strict.wrong.to_dicts(1)
    assert (first["true"], first["decided"], first["nearest"]["category"]) == ("code", None, "code")
    write_wrong_queries(Path("wrong.jsonl"), strict.wrong.to_dicts())
    lines = [json.loads(line) for line in Path("wrong.jsonl").read_text().splitlines()]
    assert lines == strict.to_dict()["errors"]
    # Similarities of one text, and of several at once, are the same but for the last digit.
    nearest = {**first["nearest"], "similarity": pytest.approx(first["nearest"]["similarity"], rel=1e-5)}
    assert lines[0] == {**first, "nearest": nearest}


def test_an_unknown_label_is_refused(own_index: Path) -> None:
    Path("other.jsonl").write_text('{"query": "paint a fence", "category": "painting"}\n')
    with pytest.raises(DataError, match="painting"):
        tune_thresholds(Path("other.jsonl"), Workspace(own_index))
