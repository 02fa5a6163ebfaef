from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from semroute.cli.main import cli, main
from semroute.index import open_artifact
from semroute.learn.artifact import with_thresholds
from semroute.router import Router


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["tune", *arguments], env={"COLUMNS": "100"})


@pytest.mark.slow
def test_thresholds_are_written_and_serve_and_pinned_ones_are_left_alone(own_index: Path, labelled: Path) -> None:
    with_thresholds(open_artifact(own_index), {"law": 0.0}, "file")
    done = run(str(labelled), "--index", str(own_index), "--oos-recall", "1", "--json")
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    assert value["pinned"] == ["law"]
    assert value["thresholds"]["law"] == {"old": 0.0, "new": 0.0}
    served = {c.category: c.threshold for c in Router.load(own_index).route("weather in Paris tomorrow").categories}
    assert served == {name: change["new"] for name, change in value["thresholds"].items()}
    assert served["code"] != 0.2


@pytest.mark.slow
def test_a_dry_run_shows_the_same_and_writes_nothing(own_index: Path, labelled: Path) -> None:
    before = (own_index / "manifest.json").read_bytes()
    done = run(str(labelled), "--index", str(own_index), "--dry-run")
    assert "nothing was written" in done.stdout
    assert "cross-fitted" in done.stdout
    assert "0.200" in done.stdout
    assert (own_index / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_a_threshold_that_the_configuration_overrides_is_pointed_out(
    own_index: Path, labelled: Path, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("categories: {code: {threshold: 0.5}}\n")
    done = run(str(labelled), "--index", str(own_index), "--config", str(config), "--dry-run")
    assert "sets the threshold of code" in done.stderr


def test_without_an_index_of_ones_own_nothing_is_tuned(
    tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMROUTE_INDEX", raising=False)
    assert main(["tune", str(labelled)]) == 1
    assert 'no index here; build one with "semroute build-index CATEGORIES"' in capsys.readouterr().err


def test_an_unknown_label_is_named_with_its_file(
    own_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"query": "hi", "category": "tax"}\n')
    assert main(["tune", str(path), "--index", str(own_index)]) == 2
    assert f'error: {path}: the index has no category "tax"' in capsys.readouterr().err


@pytest.mark.slow
def test_tuning_keeps_the_first_stage_and_its_bar(own_staged_index: Path, labelled: Path) -> None:
    before = open_artifact(own_staged_index).manifest
    done = CliRunner().invoke(cli, ["tune", str(labelled), "--index", str(own_staged_index), "--json"])
    assert done.exit_code == 0, done.exception
    after = open_artifact(own_staged_index).manifest
    assert after.first_stage == before.first_stage  # eight queries are too few to calibrate on
    assert {entry.threshold_from for entry in after.categories.values()} == {"out-of-scope"}
    assert after.files == before.files


@pytest.mark.slow
def test_queries_that_go_wrong_without_them_are_listed(own_index: Path, labelled: Path, tmp_path: Path) -> None:
    with labelled.open("a") as file:
        file.write('{"query": "how do I boil an egg", "category": "law"}\n{"query": " ", "category": "law"}\n')
    errors = tmp_path / "errors.jsonl"
    arguments = [str(labelled), "--index", str(own_index), "--dry-run"]
    done = run(*arguments, "--json", "--errors", str(errors))
    assert done.exit_code == 0, done.exception
    value = json.loads(done.stdout)
    wrong = [error for error in value["errors"] if error["query"] == "how do I boil an egg"]
    assert [(error["line"], error["true"], error["nearest"]["category"]) for error in wrong] == [(9, "law", "cooking")]
    right = value["after"]["n"] - len(value["errors"])
    assert value["after"]["accuracy"] == pytest.approx(right / value["after"]["n"])
    assert [json.loads(line) for line in errors.read_text().splitlines()] == value["errors"]
    assert "wrong queries" in run(*arguments).stdout
    assert f"{labelled}:10: a row without a query" in done.stderr
