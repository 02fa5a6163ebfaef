from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from semroute.errors import InputError
from semroute.evaluate.comparison_results import ComparisonPlan
from semroute.learn.policy.search import Goal
from semroute.workflows.compare_policies import BASELINES, ComparisonSource, check_targets, compare_policies
from semroute.workflows.tune_policy import TuneSource, tune_policy
from semroute.workflows.workspace import Workspace


@pytest.fixture
def workspace(routing_index: Path) -> Workspace:
    return Workspace(routing_index)


def source(outcomes: Path) -> TuneSource:
    return TuneSource([outcomes], Path("prices.yaml"), None, None, ["linear"], None, 0.9, None, 0, None, Path("policy"))


@pytest.mark.slow
def test_policies_are_compared_and_reported(outcomes: Path, workspace: Workspace) -> None:
    of = ComparisonSource([outcomes], Path("prices.yaml"))
    made = compare_policies(of, workspace, ComparisonPlan(folds=3, resamples=100), leave_tasks_out=True)
    found = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert (found["n"], found["cheapest"], found["strongest"]) == (200, "small", "large")
    assert tuple(found["policies"]) == BASELINES
    assert found["unseen_tasks"] is not None
    assert found["outcomes"] == "outcomes.jsonl"
    made.plot(Path("curve.svg"))
    made.write_page(Path("page.html"))
    assert Path("curve.svg").read_text().lstrip().startswith("<?xml")
    assert "outcomes.jsonl" in Path("page.html").read_text()


@pytest.mark.slow
def test_only_the_baselines_that_are_named_are_compared_and_nothing_is_embedded_for_others(outcomes: Path) -> None:
    of = ComparisonSource([outcomes], Path("prices.yaml"), baselines=frozenset({"oracle"}))
    assert not of.wants_vectors
    found = compare_policies(of, Workspace(), ComparisonPlan(folds=3, resamples=100)).to_dict()
    assert list(found["policies"]) == ["oracle"]  # type: ignore[call-overload]


def test_a_target_that_cannot_be_written_is_refused_before_the_work() -> None:
    with pytest.raises(InputError, match="there is no folder"):
        check_targets(Path("nowhere/page.html"), None)
    with pytest.raises(InputError, match=r"curve\.gif"):
        check_targets(None, Path("curve.gif"))


@pytest.mark.slow
def test_a_policy_that_keeps_the_floor_is_found_and_written(outcomes: Path, workspace: Workspace) -> None:
    found = tune_policy(source(outcomes), Goal(min_quality=0.7), workspace)
    assert not Path("policy").exists(), "the search writes nothing"
    value = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (value["goal"]["min_quality"], value["confidence"], value["strongest"]) == (0.7, 0.9, "large")
    assert value["promised"] >= 0.7
    assert (value["tuned_on"]["queries"], value["tuned_on"]["tested_on"]) == (200, 200)
    assert value["tuned_on"]["cross_fitted"] is True
    found.write(Path("policy"))
    text = Path("policy/policy.yaml").read_text()
    assert text.startswith("# at least 70.0% of the quality of large, with 90% confidence in the long run\n")
    assert yaml.safe_load(text) == value["config"]
    assert found.earlier(Path("policy")) == []
    found.plot(Path("choice.png"))
    assert Path("choice.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_goal_that_cannot_be_kept_is_an_error_when_it_is_written(outcomes: Path, workspace: Workspace) -> None:
    found = tune_policy(source(outcomes), Goal(max_cost=1e-9), workspace)
    assert found.to_dict()["chosen"] is None
    with pytest.raises(InputError, match="not reachable: the cheapest costs"):
        found.write(Path("policy"))
    assert not Path("policy").exists()
