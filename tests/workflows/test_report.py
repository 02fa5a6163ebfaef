from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from semroute.config import Config
from semroute.errors import ArtifactError, InputError, StateError
from semroute.learn.policy.search import Goal
from semroute.workflows.experiment import experiment_status, set_share
from semroute.workflows.outcome_log import describe_log, export_log, later_outcomes
from semroute.workflows.report import advise_on_cascades, report_traffic
from semroute.workflows.tune_policy import TuneSource, tune_policy
from semroute.workflows.workspace import Workspace

QUERIES = ("how do I boil an egg", "fix this python traceback", "is my lease binding")


@pytest.fixture
def workspace(routing_index: Path) -> Workspace:
    """A workspace whose log has three queries."""
    return routed(Workspace(routing_index), *QUERIES)


def routed(workspace: Workspace, *queries: str) -> Workspace:
    with workspace.logging_router() as router:
        for query in queries:
            router.route(query)
    return workspace


@pytest.mark.slow
def test_a_report_counts_the_logged_queries_and_is_written_as_a_page(workspace: Workspace) -> None:
    made = report_traffic(workspace)
    found = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert found["queries"] == 3
    assert "drift" not in found
    made.write_page(Path("report.html"))
    assert "all queries" in Path("report.html").read_text()
    assert report_traffic(workspace, category="law").report.queries == 1
    assert report_traffic(workspace, since=datetime.now(UTC) + timedelta(days=1)).report.queries == 0


@pytest.mark.slow
def test_drift_counts_the_queries_since_the_tuning(workspace: Workspace, outcomes: Path) -> None:
    source = TuneSource(
        [outcomes], Path("prices.yaml"), None, None, ["linear"], 0.5, 0.9, None, 0, None, Path("policy")
    )
    tune_policy(source, Goal(min_quality=0.7), workspace).write(Path("policy"))
    assert report_traffic(workspace, policy=Path("policy")).to_dict()["drift"]["queries"] == 0  # type: ignore[index]
    routed(workspace, "how do I bake bread")
    made = report_traffic(workspace, policy=Path("policy"))
    assert made.drift is not None
    assert (made.drift.found.queries, made.drift.found.same_index) == (1, True)
    with pytest.raises(InputError, match="leave out the category"):
        report_traffic(workspace, policy=Path("policy"), category="law")
    with pytest.raises(ArtifactError, match="no tuned policy is there"):
        report_traffic(workspace, policy=Path("nowhere"))


def test_without_a_cascade_there_is_nothing_to_advise(workspace: Workspace) -> None:
    assert advise_on_cascades(workspace).to_dict() == {"categories": [], "overrides": {}}


def test_without_a_log_every_reader_says_so(routing_index: Path) -> None:
    nothing = Workspace(routing_index)
    for read in (report_traffic, advise_on_cascades, describe_log):
        with pytest.raises(StateError):
            read(nothing)


@pytest.mark.slow
def test_a_log_is_described_exported_and_followed(workspace: Workspace) -> None:
    told = json.loads(json.dumps(describe_log(workspace).to_dict()))
    assert (told["outcomes"], told["dropped"], told["text"]) == (3, 0, "full")
    assert told["first"] <= told["last"]
    assert export_log(workspace, Path("log.jsonl")) == 3
    assert [json.loads(line)["query"] for line in Path("log.jsonl").read_text().splitlines()] == list(QUERIES)
    assert export_log(workspace, Path("judged.jsonl"), labelled=True) == 0
    with pytest.raises(InputError, match=r"an export is one of \.jsonl, \.parquet"):
        export_log(workspace, Path("log.csv"))
    with pytest.raises(InputError, match="JSONL"):
        export_log(workspace, Path("log.parquet"), labelled=True)
    with workspace.open_log() as log:
        shown = log.newest(3)
        routed(workspace, "explain git rebase")
        assert next(later_outcomes(log, shown)).query == "explain git rebase"


@pytest.mark.slow
def test_the_share_of_an_experiment_is_set_and_its_results_are_counted(routing_index: Path) -> None:
    Path("policy.yaml").write_text("strategies: [rules]\nfallback: {models: [tiny]}\n")
    Path("semroute.yaml").write_text(yaml.safe_dump({"index": str(routing_index), "trial": {"policy": "policy.yaml"}}))
    workspace = Workspace()
    assert set_share(workspace, 1.0) == Path("policy.yaml")
    with workspace.logging_router() as router:
        assert router.route("how do I boil an egg").model == "tiny"
    found = json.loads(json.dumps(experiment_status(workspace).to_dict(), allow_nan=False))
    assert (found["policy"], found["share"]) == ("policy.yaml", 1.0)
    assert [(one["share"], one["trying"]["queries"]) for one in found["shares"]] == [(1.0, 1)]
    with pytest.raises(InputError, match="0 to 1"):
        set_share(workspace, 1.5)
    with pytest.raises(InputError, match="no policy is on trial"):
        set_share(Workspace(routing_index, Config()), 1.0)
