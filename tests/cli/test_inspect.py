from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from semroute.cli.main import cli, main
from semroute.index import open_artifact


@pytest.mark.parametrize("columns", ["80", "120"])
def test_people_see_what_the_index_holds_and_what_overlaps(routing_index: Path, columns: str) -> None:
    done = CliRunner().invoke(cli, ["inspect", "--index", str(routing_index)], env={"COLUMNS": columns})
    assert done.exit_code == 0, done.exception
    for words in ("384 dimensions", "coder, large", "the fallback's", "validated on", "lie in", "nearest in"):
        assert words in done.stdout
    inside = [line for line in done.stdout.splitlines() if str(routing_index) not in line]
    assert max(map(len, inside)) <= int(columns)


def test_people_and_programs_learn_that_examples_are_few(routing_index: Path) -> None:
    shown = CliRunner().invoke(cli, ["inspect", "--index", str(routing_index)], env={"COLUMNS": "200"}).stdout
    assert "6 examples per category: thresholds are wide" in shown
    assert "6 names and descriptions count as examples" in shown
    assert open_artifact(routing_index).manifest.validation["few_examples"] == 6


def test_json_has_the_manifest_and_every_overlap(routing_index: Path) -> None:
    value = json.loads(CliRunner().invoke(cli, ["inspect", "--index", str(routing_index), "--json"]).stdout)
    manifest = open_artifact(routing_index).manifest
    assert value["dimensions"] == manifest.dimensions
    assert value["created"] == manifest.created
    assert {name: entry["examples"] for name, entry in value["categories"].items()} == {
        name: entry.examples for name, entry in manifest.categories.items()
    }
    for pair in value["overlaps"]:
        assert pair["count"] == round(pair["share"] * value["categories"][pair["category"]]["examples"])
        assert 1 <= len(pair["worst"]) <= 3
        assert all(example["similarity"] > example["own_similarity"] for example in pair["worst"])


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "semroute-index", "version": 99}'])
def test_a_damaged_foreign_or_newer_index_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "manifest.json").write_text(content)
    assert main(["inspect", "--index", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "manifest.json") in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_the_first_stage_is_shown_where_there_is_one(staged_index: Path, routing_index: Path) -> None:
    def inspected(index: Path, *options: str) -> str:
        return CliRunner().invoke(cli, ["inspect", "--index", str(index), *options], env={"COLUMNS": "120"}).stdout

    entry = open_artifact(staged_index).manifest.first_stage
    assert entry is not None
    shown = " ".join(inspected(staged_index).split())
    assert (
        "first stage static words (static, 128 dimensions); 100% similarity, 0% no head; answers 77.8% of 18" in shown
    )
    assert f"from a bar of {entry.bar:.3f} on" in shown
    assert "first stage" not in inspected(routing_index)
    value = json.loads(inspected(staged_index, "--json"))["first_stage"]
    assert (value["bar"], value["prototypes"]) == (entry.bar, dict(entry.prototypes))
    assert "probes" not in value
    assert json.loads(inspected(routing_index, "--json"))["first_stage"] is None
