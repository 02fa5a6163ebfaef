from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cli.runner import run

from semroute.cli.main import main
from semroute.router.experiment import trial_fingerprint, tried_config
from semroute.types import LoggedComparison
from semroute.workflows.workspace import Workspace


@pytest.fixture
def policy(routing_index: Path) -> Path:
    path = Path("policy.yaml")
    path.write_text("strategies: [rules]\nfallback: {models: [tiny]}\n")
    Path("semroute.yaml").write_text(yaml.safe_dump({"index": str(routing_index), "trial": {"policy": "policy.yaml"}}))
    return path


@pytest.mark.slow
def test_the_share_is_set_shown_and_followed(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert json.loads(run("route", "--json", "how to boil an egg").stdout)["model"] == "small"
    assert "decides 100% of the queries" in run("trial", "share", "1").stderr
    assert json.loads(run("route", "--json", "how to boil an egg").stdout)["model"] == "tiny"
    shown = run("trial", "status")
    assert "both name the same model for 0.0%" in " ".join(shown.stdout.split())
    assert max(map(len, shown.stdout.splitlines())) <= 80
    told = json.loads(run("trial", "status", "--json").stdout)
    assert [(one["share"], one["serving"]["queries"], one["trying"]["queries"]) for one in told["shares"]] == [
        (1.0, 0, 1), (0.0, 1, 0),
    ]  # fmt: skip
    assert (told["share"], told["others"], told["agreement"]["n"]) == (1.0, 0, 2)
    run("trial", "share", "0")
    assert json.loads(run("route", "--json", "how to boil an egg").stdout)["model"] == "small"


@pytest.mark.slow
def test_the_status_is_that_of_this_trial_alone_and_since_when_it_is_asked_for(policy: Path) -> None:
    def status(*more: str) -> tuple[int, int]:
        told = json.loads(run("trial", "status", "--json", *more).stdout)
        return sum(one["serving"]["queries"] for one in told["shares"]), told["others"]

    run("route", "how to boil an egg")
    assert status() == (1, 0)
    assert status("--since", "2099-01-01") == (0, 0)
    policy.write_text("strategies: [rules]\nfallback: {models: [other]}\n")
    assert status() == (0, 1)
    run("route", "how to boil an egg")
    assert status() == (1, 1)
    assert "1 queries of trials of other policies" in run("trial", "status").stderr


@pytest.mark.slow
def test_the_status_has_the_card_of_the_comparisons(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run("route", "how to boil an egg")
    workspace = Workspace(None, None)
    tried = tried_config(workspace.config)
    assert tried is not None
    pair, now = trial_fingerprint(workspace.config, tried), datetime.now(UTC)
    with workspace.open_log() as log:
        for number, result in enumerate(["won", "won", "tied", "lost"]):
            name = f"{number:032x}"
            row = LoggedComparison(name, now, pair, "f" * 32, "small", "tiny", "judge", 0.25, result)  # type: ignore[arg-type]
            assert log.reserve_comparison(row, 5.0)
            log.settle_comparison(row)
    done = run("trial", "status")
    shown = " ".join((done.stdout + done.stderr).split())
    for words in ("won 2", "tied 1", "lost 1", "no worse 75.0%", "won minus lost +25.0%", "paid USD 1.00"):
        assert words in shown
    assert "no worse in 75.0%" in shown
    told = json.loads(run("trial", "status", "--json").stdout)["compared"]
    assert (told["won"], told["tied"], told["lost"], told["usd"]) == (2, 1, 1, 1.0)


def test_what_cannot_be_done_is_said(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trial", "share", "1.5"]) == 2
    Path(".semroute").mkdir(exist_ok=True)
    Path(".semroute/trial.json").write_text("x")
    assert main(["trial", "status"]) == 2
    assert "semroute trial share 0" in capsys.readouterr().err
    Path("semroute.yaml").write_text("{}\n")
    for command in (["trial", "share", "1"], ["trial", "status"]):
        assert main(command) == 2
        assert "no policy is on trial" in capsys.readouterr().err
