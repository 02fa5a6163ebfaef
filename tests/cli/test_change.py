from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from semroute.cli.main import cli, main
from semroute.index import open_artifact
from semroute.learn.artifact import with_thresholds


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.slow
def test_texts_and_files_are_added_and_removed_again(own_index: Path, tmp_path: Path) -> None:
    index = ["--index", str(own_index)]
    (tmp_path / "sport.txt").write_text("who won the match\nbest running shoes\n")
    (tmp_path / "more.jsonl").write_text('{"query": "what is offside"}\n')
    words = [str(tmp_path / "sport.txt"), str(tmp_path / "more.jsonl"), "read the rules in main.txt"]
    done = run("add", "sport", *words, "--model", "tiny", "--model", "large", "--description", "games", *index)
    assert done.exit_code == 0, done.exception
    assert "4 added, 0 removed: sport has 4 examples" in done.stdout
    entry = open_artifact(own_index).manifest.categories["sport"]
    assert (entry.models, entry.description) == (("tiny", "large"), "games")
    removed = json.loads(run("remove", "sport", "--example", "what is offside", *index, "--json").stdout)
    assert removed["removed"] == 1
    assert removed["artifact"]["categories"]["sport"]["examples"] == 3
    assert "sport is gone" in run("remove", "sport", *index).stdout
    assert set(open_artifact(own_index).manifest.categories) == {"code", "cooking", "law"}


@pytest.mark.slow
def test_repeats_and_lost_thresholds_are_warnings(own_index: Path) -> None:
    with_thresholds(open_artifact(own_index), {"code": 0.6}, "out-of-scope")
    texts = ["is my lease binding", "recipe for carrot soup"]
    done = run("add", "law", *texts, "--index", str(own_index))
    assert '"is my lease binding" is an example of law already' in done.stderr
    assert '"recipe for carrot soup" is an example of cooking too' in done.stderr
    assert 'run "semroute tune" again' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "code", "nothing.txt"], "nothing.txt: no such file"),
        (["add", "code", " "], "blank"),
        (["add", "code", "x" * 5000 + ".txt"], "cannot be read"),
        (["add", "a\tb", "text"], "a category's name must be printable text"),
        (["remove", "tax"], 'no category "tax"'),
        (["remove", "cokking"], 'no category "cokking"; it has code, cooking, law; did you mean "cooking"?'),
        (["remove", "law", "--example", "none such"], "no example 'none such'"),
    ],
)
def test_what_cannot_be_done_is_one_error(
    own_index: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = (own_index / "manifest.json").read_bytes()
    assert main([*arguments, "--index", str(own_index)]) == 2
    assert message in capsys.readouterr().err
    assert (own_index / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_a_lost_first_stage_is_a_warning(own_staged_index: Path) -> None:
    artifact = open_artifact(own_staged_index)
    entry = artifact.manifest.first_stage
    assert entry is not None
    with_thresholds(artifact, {}, "in-scope", first_stage=replace(entry, floor=9.0))
    done = run("add", "law", "what is a tort", "--index", str(own_staged_index))
    assert done.exit_code == 0, done.exception
    assert "a first stage could answer only 0.0% of 19 held-out examples" in " ".join(done.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["R&D", "C++", "[red]", "Billing / Refunds", "reverted_card_payment?", "caf\u00e9 \u6cd5"]
)
def test_any_printable_name_is_added_shown_configured_routed_to_and_removed(
    own_index: Path, tmp_path: Path, name: str
) -> None:
    index = ["--index", str(own_index)]
    typed = unicodedata.normalize("NFD", name)  # as macOS hands it over
    assert run("add", typed, "who won the match", "best running shoes", *index).exit_code == 0
    assert name in open_artifact(own_index).manifest.categories
    assert name in run("inspect", *index).stdout
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"categories": {typed: {"models": ["sporty"], "threshold": 0.1}}}))
    done = run("route", "who won the match", *index, "--config", str(config), "--json")
    assert done.exit_code == 0, done.exception
    decision = json.loads(done.stdout)
    assert (decision["category"], decision["model"], decision["threshold"]) == (name, "sporty", 0.1)
    labelled = tmp_path / "l.csv"
    labelled.write_text(f'query,category\nwho won the match,"{typed}"\n', encoding="utf-8")
    assert json.loads(run("evaluate", str(labelled), *index, "--json").stdout)["per_category"][name]["n"] == 1
    assert f"{name} is gone" in run("remove", typed, *index).stdout


def test_a_file_of_another_format_is_no_example_and_is_pointed_on(own_index: Path, tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text("[]")
    (tmp_path / "more.csv").write_text("query,category\na,law\nb,code\n")
    for word in ("more.json", "more.csv"):
        done = run("add", "law", str(tmp_path / word), "--index", str(own_index))
        assert done.exit_code == 1
        assert "semroute import" in str(done.exception)
